"""The demo: its last screen, how it ends, and (slowly) the whole of it for real."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codetune import artefact, pipeline, runlog, sample
from codetune.errors import RefusedError, UserError
from codetune.evaluation.comparison import compare
from codetune.evaluation.items import Scored
from codetune.evaluation.statistics import paired_effect
from codetune.models import demo_corpus

ROOT = Path(__file__).resolve().parents[2]


def load_script(place: str) -> Any:
    name = Path(place).stem + "_script"
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks its annotations up there
    spec.loader.exec_module(module)
    return module


demo = load_script("runs/demo.py")


def scored(number: int, loss: float, answer: str = "return 1") -> Scored:
    return Scored(
        id=f"row-{number}",
        task="fim",
        source="repo",
        group=f"group-{number}",
        n_trained=7,
        scores={"loss": loss},
        prompt_tail="def f():\n    ",
        expected="return x\n",
        answer=answer,
    )


def found(verdict: str) -> dict[str, Any]:
    """What compare.json holds when the tuned model has done so."""
    change = {"better": -0.5, "worse": 0.5, "inconclusive": 0.0}[verdict]
    base = [scored(i, 3.0 + i / 10) for i in range(24)]
    tuned = [scored(i, 3.0 + i / 10 + change, f"return {i}") for i in range(24)]
    document = compare(base, tuned).as_dict()
    assert document["verdict"] == verdict
    return json.loads(json.dumps(document))


def done(name: str, status: str = "done") -> pipeline.Done:
    return pipeline.Done(name, 0, 1.5, 321.0, {"status": status, "headline": f"{name} is well"})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compared(verdict: str) -> None:
    folder = Path("outputs/demo/report")
    folder.mkdir(parents=True)
    (folder / "compare.json").write_text(json.dumps(found(verdict)))


# ---------------------------------------------------------------------------- the last screen


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("better", "the tuned model is better than its base"),
        ("inconclusive", "the tuned model is NOT shown to be better than its base"),
        ("worse", "the tuned model is WORSE than its base"),
    ],
)
def test_it_says_whether_the_tuned_model_is_better(project: Path, verdict: str, said: str) -> None:
    compared(verdict)
    made = demo.report(demo.DemoConfig(), [done("demo-base")])
    assert made.headline.startswith(said)
    assert made.details == {"verdict": verdict, "groups": 24}


def test_the_screen_shows_costs_a_completion_differences_and_places(project: Path) -> None:
    compared("better")
    made = demo.report(demo.DemoConfig(), [done("demo-base"), done("train")])
    costs, completion, differences, places = made.tables
    assert [row["stage"] for row in costs.as_dicts()] == ["demo-base", "train", "all"]
    assert costs.rows[-1][2:4] == ("3.0 s", "321 MiB")
    assert [row[0] for row in completion.rows][:2] == ["...", "really there"]
    assert completion.rows[2][0].startswith("base (loss ")
    assert completion.rows[3][0].startswith("tuned (loss ")
    shown = differences.as_dicts()[0]
    assert shown["difference"].startswith("-0.5")
    assert shown["groups"] == "24"
    assert "outputs/demo/report/compare.html" in {row[1] for row in places.rows}


def test_it_is_up_to_date_when_every_stage_is(project: Path) -> None:
    compared("better")
    old = [done("demo-base", "up to date"), done("train", "up to date")]
    assert demo.report(demo.DemoConfig(), old).status == "up to date"
    assert demo.report(demo.DemoConfig(), [*old, done("merge")]).status == "done"


def test_a_gap_is_shown_before_a_chat() -> None:
    chat = {"task": "chat", "base_loss": 9.0, "tuned_loss": 1.0, "id": "chat"}
    small = {"task": "fim", "base_loss": 3.0, "tuned_loss": 2.9, "id": "small"}
    large = {"task": "fim", "base_loss": 3.0, "tuned_loss": 2.0, "id": "large"}
    assert demo.telling([chat, small, large])["id"] == "large"
    assert demo.telling([chat])["id"] == "chat"
    assert demo.telling([]) is None


def test_without_a_completion_the_screen_leaves_it_out(project: Path) -> None:
    compared("better")
    place = Path("outputs/demo/report/compare.json")
    place.write_text(json.dumps({**json.loads(place.read_text()), "samples": []}))
    assert len(demo.report(demo.DemoConfig(), [done("train")]).tables) == 3


def test_long_answers_are_cut_aloud() -> None:
    assert demo.cut("a\nb") == "a\nb"
    assert demo.cut("\n".join("abcdefghijk")).splitlines()[-1] == "... 3 more lines"


def test_what_a_model_wrote_cannot_reach_the_terminal(project: Path) -> None:
    sample = {"id": "x", "prompt_tail": "\x1b[2Ja", "expected": "b", "base": "\x1b]52;c;eA==\x07c"}
    sample |= {"tuned": "[/bold]", "base_loss": 1.0, "tuned_loss": 1.0}
    table = demo.before_and_after(sample)
    assert not any("\x1b" in cell for row in table.rows for cell in row)


# ---------------------------------------------------------------------------- how it ends

FAILING = """
    import sys
    print("error: it says why", file=sys.stderr)
    sys.exit({code})
"""


@pytest.mark.parametrize(("code", "error"), [(2, UserError), (3, RefusedError)])
def test_a_failing_stage_ends_it_as_it_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    script = project / "scripts" / "training" / "make_demo_base.py"
    script.parent.mkdir(parents=True)
    script.write_text(textwrap.dedent(FAILING).format(code=code))
    monkeypatch.setattr(demo, "SCRIPTS", project / "scripts")
    with pytest.raises(error, match="demo-base"):
        demo.run(demo.DemoConfig(), runlog.disabled())


def test_its_pipeline_file_is_one() -> None:
    from codetune.config import resolve

    script = load_script("runs/pipeline.py")
    config, notes = resolve(script.PipelineConfig, ROOT / "configs" / "pipeline" / "demo.yaml", {})
    assert notes == []
    assert config.model_name_or_path == "outputs/demo-base"
    assert (ROOT / config.train_config).is_file()
    assert [ROOT / place for place in config.logs if (ROOT / place).is_dir()] != []


# ---------------------------------------------------------------------------- for real


@dataclass(frozen=True)
class Finished:
    """A checkout in which the demo has run, and what it told."""

    place: Path
    told: dict[str, Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The files of this repository that the demo needs, with a small history of their own."""
    place = tmp_path_factory.mktemp("demo") / "checkout"
    for name in ("configs", "scripts", "src", "data/staging"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    author = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *author, *words], cwd=place, env=environment, check=True)
    yield Finished(place, go(place, "runs/demo.py"))
    shutil.rmtree(place)


def go(checkout: Path, script: str, *arguments: object) -> dict[str, Any]:
    """What a stage told as JSON; it must end well."""
    command = [sys.executable, f"scripts/{script}", *map(str, arguments), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "COLUMNS": "120"}
    environment.pop("OMP_NUM_THREADS", None)
    ended = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_the_demo_for_real(finished: Finished) -> None:
    """Bar: better than its base with an interval that excludes zero, under 4 GiB."""
    assert (finished.told["status"], finished.told["verdict"]) == ("done", "better")
    assert finished.told["groups"] >= 20
    peaks = [row["peak memory"] for row in finished.told["tables"]["stages"]]
    assert all(float(peak.replace(",", "").split()[0]) < 4096 for peak in peaks)
    for name in ("demo-base", "demo/adapter", "demo/merged"):
        assert artefact.verify(finished.place / "outputs" / name) is None


@pytest.mark.slow
def test_sessions_and_code_are_both_held_out(finished: Finished) -> None:
    held_out = (finished.place / "data" / "demo" / "eval.demo.jsonl").read_text().splitlines()
    assert {json.loads(line)["task"] for line in held_out} == {"chat", "fim"}


@pytest.mark.slow
def test_a_second_demo_is_up_to_date_in_seconds(finished: Finished) -> None:
    """Bar: under 20 s."""
    started = time.monotonic()
    assert go(finished.place, "runs/demo.py")["status"] == "up to date"
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_it_beats_a_control_trained_as_long_on_more_of_the_library(finished: Finished) -> None:
    """Bar: what the adapter has learnt is the user's code, not merely more Python."""
    place = finished.place
    write_control_rows(place / "data" / "control.jsonl")
    rows = ("--train_file", "data/control.jsonl", "--eval_file", "data/demo/eval.demo.jsonl")
    go(place, "training/train_qlora.py", "--config", "configs/train/demo.yaml", *rows,
       "--run_name", "control")  # fmt: skip
    compared = ("--eval_file", "data/demo/eval.demo.jsonl", "--adapter", "outputs/control/adapter")
    go(place, "testing/compare_baseline_vs_lora.py", *compared, "--max_length", 1024)
    ours, control = losses(place, "demo"), losses(place, "control")
    assert ours.keys() == control.keys()
    differences = [ours[row][0] - control[row][0] for row in ours]
    effect = paired_effect(differences, [group for _, group in ours.values()])
    assert effect.excludes_zero
    assert effect.mean < 0


def write_control_rows(file: Path) -> None:
    """Pieces of the standard library that fill a row; the base has read a third of it."""
    sources = demo_corpus.standard_library(3_000_000)
    pieces = [
        {"id": f"{s.name}:{start}", "task": "text", "text": s.text[start : start + 2_500]}
        for s in sources[len(sources) // 2 :]
        for start in range(0, len(s.text) - 2_500, 2_500)
    ]
    assert len(pieces) >= 400  # 120 steps of two rows and some to spare
    origin = artefact.Origin("control", 1, "0" * 64)
    lines = (sample.dump({**piece, "meta": {"source": "library"}}) for piece in pieces)
    artefact.write_rows(file, lines, origin)


def losses(checkout: Path, run: str) -> dict[str, tuple[float, str]]:
    """The tuned model's loss on each held-out row, and the row's group."""
    lines = (checkout / "outputs" / run / "report" / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line)["tuned"] for line in lines]
    return {row["id"]: (row["scores"]["loss"], row["group"]) for row in rows}
