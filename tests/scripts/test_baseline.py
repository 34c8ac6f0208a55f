"""`baseline` as a user runs it: measured once, kept by model and rows, questions answered."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from codetune import artefact, models, runlog
from tests.evaluation import tiny

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    tiny.make_base(folder / "base")
    tiny.write_rows(folder / "eval.jsonl", tiny.general_rows(12))
    return folder


@pytest.fixture
def bare(run_here: Run) -> Run:
    """The stage run from an empty project."""
    return partial(run_here, "testing/baseline.py")


@pytest.fixture
def baseline(place: Path, bare: Run) -> Run:
    def run(*flags: object) -> CompletedProcess[str]:
        given = ("--model_name_or_path", place / "base", "--eval_file", place / "eval.jsonl")
        fast = ("--dtype", "float32", "--device", "cpu", "--max_new_tokens", 16)
        return bare(*given, *fast, *flags)

    return run


def test_results_are_kept_under_the_models_and_the_rows_hash(
    place: Path, baseline: Run, tmp_path: Path
) -> None:
    done = baseline("--generate_items", 6)
    assert done.returncode == 0, done.stderr
    model = models.inspect_model(place / "base").weights_sha256[:12]
    rows = artefact.sha256_file(place / "eval.jsonl")[:12]
    folder = tmp_path / "outputs" / "baseline" / f"{model}-{rows}"
    found = json.loads((folder / "summary.json").read_bytes())
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]
    assert found["n_rows"] == len(lines) == 24
    metrics = found["metrics"]
    mean = sum(line["scores"]["loss"] for line in lines) / 24
    assert metrics["loss"]["value"] == pytest.approx(mean)
    assert metrics["perplexity"]["value"] == pytest.approx(math.exp(mean))
    assert metrics["fim_exact_match"]["n"] == 6
    answered = [line for line in lines if line["answer"] is not None]
    assert [line["task"] for line in answered].count("chat") == 6
    assert "fim_exact_match" in done.stderr
    assert artefact.verify(folder / "summary.json") is None


def test_nothing_is_measured_twice_and_other_settings_are(baseline: Run, tmp_path: Path) -> None:
    quick = ("--quant", "none", "--generate_items", 0)
    assert "up to date" not in baseline(*quick).stderr
    again = baseline(*quick)
    assert again.returncode == 0 and "up to date" in again.stderr
    assert "up to date" not in baseline(*quick, "--max_items", 5).stderr
    row = runlog.latest(tmp_path, "baseline")
    assert row is not None and row.metrics["loss"] > 0


def test_the_predecessors_flag_is_read_with_a_note(place: Path, bare: Run) -> None:
    done = bare("--base_model", place / "base", "--dry_run")
    assert done.returncode == 0
    assert "base_model is read as model_name_or_path" in done.stderr


def test_a_question_is_answered_and_nothing_is_written(baseline: Run, tmp_path: Path) -> None:
    done = baseline("--quant", "none", "--prompt", "how do I get a row?", "--json")
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["answers"]
    assert answer["question"] == "how do I get a row?"
    assert answer["base"].startswith("use ")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_name_or_path", "nowhere"), "no such model folder"),
        (("--eval_file", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--max_items", "0"), "max_items"),
    ],
)
def test_bad_input_is_one_line(
    baseline: Run, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    done = baseline(*flags)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_the_model_must_be_named(bare: Run) -> None:
    done = bare()
    assert done.returncode == 2
    assert "--model_name_or_path is required" in done.stderr


def test_help_answers_from_a_shell_and_names_every_knob(run_script: Run) -> None:
    done = run_script("testing/baseline.py", "--help")
    assert done.returncode == 0
    for flag in ("--model_name_or_path", "--eval_file", "--quant", "--prompt_file", "--max_items"):
        assert flag in done.stdout
