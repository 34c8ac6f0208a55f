"""`compare` as a user runs it: better, worse, no-op, gate, questions, up to date, bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from codetune import artefact, models, runlog, sample
from tests.evaluation import tiny

Run = Callable[..., CompletedProcess[str]]
SCRIPT = "testing/compare_baseline_vs_lora.py"
FAST = ("--dtype", "float32", "--device", "cpu", "--max_new_tokens", 16, "--generate_items", 8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, four adapters on it, and held-out rows in 20 groups."""
    folder = tmp_path_factory.mktemp("compare")
    base = tiny.make_base(folder / "base")
    rows, noise = tiny.house_rows(), tiny.noise_rows()
    for name, corpus, steps in (("good", rows, 12), ("noop", rows, 0), ("wrong", noise, 12)):
        tiny.make_adapter(base, folder / "outputs" / name / "adapter", corpus, steps)
    tiny.write_rows(folder / "eval.jsonl", tiny.house_rows(40, first=100))
    return folder


@pytest.fixture
def compare(place: Path, run_here: Run) -> Run:
    """Runs the stage on one of the adapters."""

    def run(adapter: str, *flags: object) -> CompletedProcess[str]:
        folder = place / "outputs" / adapter / "adapter"
        rows = place / "eval.jsonl"
        return run_here(SCRIPT, "--adapter", folder, "--eval_file", rows, *FAST, *flags)

    return run


def document(tmp_path: Path, run: str) -> dict:
    return json.loads((tmp_path / "outputs" / run / "report" / "compare.json").read_bytes())


def test_a_tuned_4bit_model_is_better_and_the_report_says_so(
    place: Path, run_script: Run, tmp_path: Path
) -> None:
    """As typed in a shell, in a process of its own."""
    adapter, rows = place / "outputs" / "good" / "adapter", place / "eval.jsonl"
    flags = ("--adapter", adapter, "--eval_file", rows, *FAST, "--gate", "--json")
    done = run_script(SCRIPT, *flags)
    assert done.returncode == 0, done.stderr
    found = document(tmp_path, "good")
    assert found["verdict"] == "better"
    assert (found["n_rows"], found["n_groups"]) == (40, 30)
    assert found["metrics"]["loss"]["ci_high"] < 0
    assert found["metrics"]["fim_exact_match"]["delta"] > 0
    assert found["metrics"]["fim_exact_match"]["n"] == 8
    assert found["settings"]["quantisation"] == "4bit"
    assert set(found["per_task"]) == {"chat", "fim"}
    shown = json.loads(done.stdout)
    assert shown["verdict"] == "better" and shown["metrics"]["loss_delta"] < 0
    assert shown["counts"]["eval rows"] == {"in": 40, "kept": 40, "dropped": {}}
    folder = tmp_path / "outputs" / "good" / "report"
    for name in ("compare.html", "compare.json", "compare.md", "rows.jsonl"):
        assert artefact.verify(folder / name) is None
    assert len((folder / "rows.jsonl").read_bytes().splitlines()) == 40
    assert "title()" in (folder / "compare.html").read_text()


def test_the_run_log_knows_every_metric(compare: Run, tmp_path: Path) -> None:
    assert compare("good").returncode == 0
    row = runlog.latest(tmp_path, "compare")
    assert row is not None
    found = document(tmp_path, "good")["metrics"]
    assert row.metrics["loss_delta"] == pytest.approx(found["loss"]["delta"])
    assert {"fim_exact_match_tuned", "perplexity_base"} <= set(row.metrics)
    assert len(row.outputs) == 4 and len(row.inputs) == 4


@pytest.mark.parametrize(
    ("adapter", "verdict", "code"), [("noop", "inconclusive", 4), ("wrong", "worse", 3)]
)
def test_a_no_op_and_the_wrong_corpus_are_not_better(
    compare: Run, tmp_path: Path, adapter: str, verdict: str, code: int
) -> None:
    done = compare(adapter, "--gate", "--quant", "none")
    assert done.returncode == code, done.stderr
    assert document(tmp_path, adapter)["verdict"] == verdict
    again = compare(adapter, "--quant", "none")
    assert again.returncode == 0 and "up to date" in again.stderr
    assert compare(adapter, "--gate", "--quant", "none").returncode == code
    if adapter == "noop":
        loss = document(tmp_path, adapter)["metrics"]["loss"]
        assert loss["delta"] == loss["ci_low"] == loss["ci_high"] == 0


def test_other_rows_seeds_or_a_touched_report_are_measured_again(
    compare: Run, tmp_path: Path
) -> None:
    few = ("--quant", "none", "--generate_items", 0)
    assert "up to date" not in compare("good", *few).stderr
    assert "up to date" in compare("good", *few).stderr
    assert "up to date" not in compare("good", *few, "--seed", 1).stderr
    page = tmp_path / "outputs" / "good" / "report" / "compare.html"
    page.write_text("forged")
    assert "up to date" not in compare("good", *few, "--seed", 1).stderr
    assert "forged" not in page.read_text()


def test_a_subset_is_said_aloud_and_counted(compare: Run, tmp_path: Path) -> None:
    done = compare("good", "--quant", "none", "--generate_items", 0, "--max_items", 10)
    assert done.returncode == 0
    assert "seeded subset of 10 rows" in done.stderr and "30 are left out" in done.stderr
    assert document(tmp_path, "good")["n_rows"] == 10


def test_the_newest_finished_run_is_the_default_and_said(
    place: Path, run_here: Run, tmp_path: Path
) -> None:
    log = runlog.open_run(tmp_path, stage="train", config={}, name="evening")
    log.output(place / "outputs" / "good" / "adapter", "adapter")
    log.finish("finished")
    rows = tmp_path / "data" / "eval.jsonl"
    rows.parent.mkdir()
    rows.write_bytes((place / "eval.jsonl").read_bytes())
    done = run_here(SCRIPT, *FAST, "--quant", "none", "--generate_items", 0)
    assert done.returncode == 0, done.stderr
    assert "newest finished run, evening" in done.stderr
    assert str(place / "base") in done.stderr
    assert document(tmp_path, "good")["verdict"] == "better"


def test_own_questions_are_answered_by_both_and_nothing_is_scored(
    compare: Run, tmp_path: Path
) -> None:
    (tmp_path / "q.txt").write_text("how do I get a line?\n---\nhow do I get a key?\n")
    done = compare(
        "good", "--quant", "none", "--prompt", "how do I get a row?", "--prompt-file", "q.txt",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)["answers"]
    assert [answer["question"] for answer in answers][1:] == [
        "how do I get a line?",
        "how do I get a key?",
    ]
    assert all("title" in answer["tuned"] for answer in answers)
    assert any("title" not in answer["base"] for answer in answers)
    assert "[tuned]" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_base_numbers_are_those_of_the_base_measured_alone(
    place: Path, compare: Run, run_here: Run, tmp_path: Path
) -> None:
    assert compare("good").returncode == 0
    alone = run_here(
        "testing/baseline.py", "--model_name_or_path", place / "base", "--eval_file",
        place / "eval.jsonl", *FAST, "--json",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    metrics = document(tmp_path, "good")["metrics"]
    for name, value in json.loads(alone.stdout)["metrics"].items():
        assert metrics[name]["base"] == pytest.approx(value, abs=1e-6)


BAD = {
    "no adapter at all": (("--adapter", "nowhere"), "no such adapter folder"),
    "no rows": (("--eval_file", "nowhere.jsonl"), "nowhere.jsonl"),
    "another base": (("--model_name_or_path", "nowhere"), "no such model folder"),
    "unknown flag": (("--generate_itms", "3"), "did you mean generate_items"),
    "question file": (("--prompt_file", "nowhere.txt"), "cannot be read"),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_leaves_nothing(
    compare: Run, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    done = compare("good", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_without_a_training_run_the_stage_says_what_to_do(run_here: Run) -> None:
    done = run_here(SCRIPT)
    assert done.returncode == 2
    assert re.search(r"no finished training run.*--adapter", done.stderr)


def test_an_adapter_of_another_base_is_refused_before_anything_is_loaded(
    place: Path, compare: Run, tmp_path: Path
) -> None:
    other = tiny.make_base(tmp_path / "other", steps=0)
    facts = {
        "base_path": str(place / "base"),
        "base_sha256": models.inspect_model(place / "base").weights_sha256,
    }
    note = place / "outputs" / "good" / "adapter" / "codetune.json"
    note.write_text(json.dumps(facts))
    try:
        done = compare("good", "--model_name_or_path", other)
    finally:
        note.unlink()
    assert done.returncode == 2
    assert "another base" in done.stderr and "computing in" not in done.stderr


def test_rows_that_cannot_be_read_are_counted_in_the_document(
    place: Path, compare: Run, tmp_path: Path
) -> None:
    rows = tmp_path / "some.jsonl"
    rows.write_bytes((place / "eval.jsonl").read_bytes() + b"{torn\n")
    row = tiny.fim_row(900, "f", "    found = 1")
    row["middle"] = ""
    rows.write_bytes(rows.read_bytes() + sample.dump(row) + b"\n")
    done = compare("good", "--quant", "none", "--generate_items", 0, "--eval_file", rows)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "good" / "report"
    counts = artefact.read_manifest(folder / "compare.json")["counts"]["rows"]
    assert counts["in"] == 42 and counts["kept"] == 40
    assert sum(counts["dropped"].values()) == 2
