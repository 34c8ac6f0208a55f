"""Runs side by side, and as lines of a patch: what differs, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from codetune.artefact import Input
from codetune.errors import UserError
from codetune.runlog import capture, open_run
from codetune.runlog.reading import answers
from codetune.runlog.reading.comparison import as_json, compared, comparison_lines, named
from codetune.runlog.reading.details import RunDetails
from codetune.runlog.reading.queries import reading
from tests.runlog.asking import get_run
from tests.runlog.example_runs import HOSTILE, training


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three training runs: other knobs and data, and one that shares its name with another."""
    training(tmp_path, "low").finish("finished")
    training(tmp_path, "high", rate=0.004, losses=(3.0, 1.5, 2.5), data="cd").finish("failed")
    training(tmp_path, "flat", losses=(3.0, 3.0, float("nan"))).finish("finished")
    return tmp_path


def ask(root: Path, verb: str, **flags: Any) -> answers.Answer:
    """The answer of a verb, with everything that needs the database already read."""
    with reading(root) as connection:
        answer = answers.QUESTIONS[verb](answers.Log(connection, root), **flags)
        lines, pieces = list(answer.lines(100)), list(answer.pieces())
    return answers.Answer(lambda _: lines, lambda: pieces, answer.notes)


def compare(root: Path, *runs: str, everything: bool = False, **more: Any) -> answers.Answer:
    flags = {"metric": [], "png": None, **more}
    return ask(root, "compare", runs=runs, everything=everything, **flags)


def told(answer: answers.Answer) -> dict[str, Any]:
    found = json.loads("".join(answer.pieces()))
    assert isinstance(found, dict)
    return found


def text(answer: answers.Answer) -> str:
    return "\n".join(str(line) for line in answer.lines(100))


def test_only_what_differs_is_told(project: Path) -> None:
    found = told(compare(project, "low", "high"))
    assert [run["name"] for run in found["runs"]] == ["low", "high"]
    assert found["knobs"] == {
        "learning_rate": {"values": ["0.001", "0.004"], "same": False, "winners": []}
    }
    assert set(found["run"]) | {"seconds"} == {"status", "command", "seconds"}  # may be equal
    assert list(found["data"]) == ["train"]
    assert [file["sha256"][:4] for file in found["data"]["train"]["values"]] == ["abab", "cdcd"]
    assert (found["code"], found["environment"]) == ({}, {})


def test_with_all_equal_lines_are_told_too(project: Path) -> None:
    found = told(compare(project, "low", "high", everything=True))
    assert found["knobs"]["max_steps"] == {"values": ["20", "20"], "same": True, "winners": []}
    assert found["run"]["seed"]["values"] == [42, 42]
    assert found["environment"]["packages.torch"]["same"]
    assert "max_steps" in text(compare(project, "low", "high", everything=True))
    assert "max_steps" not in text(compare(project, "low", "high"))


def test_the_best_is_marked_by_the_direction_of_the_metric(project: Path) -> None:
    metrics = told(compare(project, "low", "high", "flat"))["metrics"]
    assert metrics["exact.best"]["winners"] == [0]  # higher is better
    assert metrics["exact.last"] == {"values": [90.0, 75.0, None], "same": False, "winners": [0]}
    assert metrics["exact.best"]["values"] == [90.0, 85.0, 70.0]


def test_the_loss_of_one_batch_is_told_by_its_last_value_and_nobody_wins(project: Path) -> None:
    metrics = told(compare(project, "low", "high", "flat"))["metrics"]
    assert metrics["train_loss.last"] == {"values": [1.0, 2.5, None], "same": False, "winners": []}
    assert set(metrics) == {"train_loss.last", "exact.best", "exact.last", "tokens_per_second"}


def test_a_loss_over_all_rows_has_its_best(tmp_path: Path) -> None:
    for name, losses in (("a", (3.0, 1.0, 2.0)), ("b", (3.0, 1.5, 1.5))):
        run = open_run(tmp_path, stage="train", config={}, name=name)
        run.define("eval_loss", "nats/token", "lower")
        for step, loss in enumerate(losses):
            run.metric("eval_loss", loss, step)
        run.finish("finished")
    metrics = told(compare(tmp_path, "a", "b"))["metrics"]
    assert {key: line["winners"] for key, line in metrics.items()} == {
        "eval_loss.best": [0],
        "eval_loss.last": [1],
    }


def test_a_series_without_a_direction_says_that_its_last_value_is_compared(tmp_path: Path) -> None:
    for name, norms in (("a", (3.0, 1.0, 2.0)), ("b", (3.0, 1.5, 0.5))):
        run = open_run(tmp_path, stage="train", config={}, name=name)
        run.define("grad_norm", "1", "none")
        for step, norm in enumerate(norms):
            run.metric("grad_norm", norm, step)
        run.finish("finished")
    assert told(compare(tmp_path, "a", "b"))["metrics"] == {
        "grad_norm.last": {"values": [2.0, 0.5], "same": False, "winners": []}
    }


def test_commands_are_told_with_all_and_to_machines_only(project: Path) -> None:
    assert "train_qlora.py" not in text(compare(project, "low", "high"))
    assert "train_qlora.py" in text(compare(project, "low", "high", everything=True))
    assert told(compare(project, "low", "high"))["run"]["command"]["same"] is False
    runs = [details(project, name) for name in ("low", "high")]
    command = [line for line in compared(runs)["run"] if line.is_long]
    lines = comparison_lines(runs, {"run": command}, 80, everything=False)
    assert [line.plain for line in lines][-1] == "run: only the command differs; --all shows it"
    knob = open_run(project, stage="train", config={"command": "x"}, name="knob")
    knob.finish("finished")
    assert re.search("^command .* x$", text(compare(project, "low", "knob")), re.M)


def test_figures_stand_beside_their_difference_to_the_first_run(project: Path) -> None:
    lines = text(compare(project, "high", "low", "flat")).splitlines()
    row = next(line for line in lines if line.startswith("exact.best"))
    assert row.split() == ["exact.best", "85", "90", "*", "(+5)", "70", "(-15)"]
    row = next(line for line in lines if line.startswith("train_loss.last"))
    assert row.split() == ["train_loss.last", "2.5", "1", "(-1.5)", "-"]
    assert "* best; in brackets the difference to the first run" in lines
    assert "environment: the same" in lines
    assert lines[-1].split() == [".", "high", "o", "low", "+", "flat"]


def test_equal_content_is_the_same_data_wherever_it_lies(tmp_path: Path) -> None:
    for name, path in (("a", "here/x.jsonl"), ("b", "there/x.jsonl")):
        run = open_run(tmp_path, stage="train", config={}, name=name)
        run.input(Input(path, "ee" * 32), "train")
        run.finish("finished")
    assert told(compare(tmp_path, "a", "b"))["data"] == {}
    assert "data: the same" in text(compare(tmp_path, "a", "b"))


def test_several_files_of_a_role_are_compared_one_by_one(tmp_path: Path) -> None:
    for name, hashes in (("a", ("11", "22")), ("b", ("11", "33", "44"))):
        run = open_run(tmp_path, stage="sft", config={}, name=name)
        for number, sha in enumerate(hashes):
            run.input(Input(f"logs/{number}.jsonl", sha * 32), "session")
        run.finish("finished")
    found = told(compare(tmp_path, "a", "b"))["data"]
    assert set(found) == {"session logs/1.jsonl", "session logs/2.jsonl"}
    assert found["session logs/2.jsonl"]["values"][0] is None
    many = open_run(tmp_path, stage="sft", config={}, name="many")
    for number in range(100):
        many.input(Input(f"logs/{number}.jsonl", "55" * 32), "session")
    many.finish("finished")
    assert "and 70 more; --json tells all" in text(compare(tmp_path, "a", "many"))
    assert len(told(compare(tmp_path, "a", "many"))["data"]) == 100


def test_runs_of_one_name_are_told_apart_by_their_ids(project: Path) -> None:
    again = training(project, "low")
    again.finish("finished")
    old = next(r for r in runs_of(project, "low", "high") if r.row.name == "low")
    assert old.row.id == again.id  # the newest of that name
    first = named([details(project, "high"), *runs_of(project, "low")])
    assert first == ["high", "low"]
    both = told(compare(project, again.id, "low"))["runs"]
    assert [run["id"] for run in both] == [again.id, again.id]
    assert text(compare(project, again.id, "low")).splitlines()[0].split() == [
        *("low", again.id[-8:]),
        *("low", again.id[-8:]),
    ]


def details(root: Path, name: str) -> RunDetails:
    return get_run(root, name)


def runs_of(root: Path, *names: str) -> list[RunDetails]:
    return [details(root, name) for name in names]


@pytest.mark.parametrize("count", [0, 1, 9])
def test_two_to_eight_runs_stand_side_by_side(project: Path, count: int) -> None:
    with pytest.raises(UserError, match=f"compare takes 2 to 8 runs, not {count}"):
        compare(project, *["low"] * count)


@pytest.mark.parametrize("width", [80, 120])
def test_eight_hostile_runs_fit_a_terminal(tmp_path: Path, width: int) -> None:
    for number in range(2):
        training(tmp_path, f"{number} {HOSTILE}", rate=0.001 * (number + 1)).finish("finished")
    runs = [run for _ in range(4) for run in runs_of(tmp_path, *ids(tmp_path))]
    lines = list(comparison_lines(runs, compared(runs), width, everything=False))
    assert [line.plain for line in lines if line.cell_len > max(width, 9 * 8 + 8 * 2)] == []
    assert not any(set(line.plain) & set("\x1b\n\u202e") for line in lines)
    assert json.dumps(as_json(runs, compared(runs), everything=True))


def ids(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "logs/runs").iterdir())


def test_a_picture_of_the_comparison(project: Path) -> None:
    answer = compare(project, "low", "high", png=str(project / "both.png"), metric=["exact"])
    assert answer.notes == [f"curves: {project / 'both.png'}"]
    assert (project / "both.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="ends in .png"):
        compare(project, "low", "high", png="both.txt")


# ---------------------------------------------------------------------------- diff


def diff(root: Path, *runs: str) -> answers.Answer:
    return ask(root, "diff", runs=runs)


def test_two_runs_differ_line_by_line(project: Path) -> None:
    lines = text(diff(project, "low", "high")).splitlines()
    assert lines[0].startswith("--- low 01")
    assert lines[1].startswith("+++ high 01")
    changed = [line for line in lines[2:] if line[0] in "+-"]
    assert changed == [
        f"-data.train: data/train.jsonl sha256:{'ab' * 6}",
        f"+data.train: data/train.jsonl sha256:{'cd' * 6}",
        "-knobs.learning_rate: 0.001",
        "+knobs.learning_rate: 0.004",
        "-run.command: train_qlora.py --learning_rate 0.001",
        "+run.command: train_qlora.py --learning_rate 0.004",
    ]
    assert " knobs.lora.r: 8" in lines
    found = told(diff(project, "low", "high"))["differences"]
    assert found["knobs.learning_rate"] == ["0.001", "0.004"]
    assert len(found) == 3


def test_a_difference_has_its_colours(project: Path) -> None:
    styles = {str(line)[:1]: str(line.style) for line in diff(project, "low", "high").lines(80)}  # type: ignore[union-attr]
    assert (styles["+"], styles["-"], styles["@"], styles[" "]) == ("green", "red", "cyan", "")


def test_equal_runs_have_no_difference(project: Path) -> None:
    training(project, "twin").finish("finished")
    answer = diff(project, "low", "twin")
    assert text(answer) == ""
    assert told(answer)["differences"] == {}
    assert answer.notes == ["no difference in code, knobs, data and environment"]


def test_what_was_not_committed_is_shown_with_the_patch(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = b"diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+\x1b[31mnew\n"
    code = capture.CodeVersion("c" * 40, patch)
    monkeypatch.setattr(capture, "code_version", lambda *_: code)
    run = training(project, "changed", rate=0.004)
    run.finish("finished")
    monkeypatch.undo()
    lines = text(diff(project, "changed")).splitlines()
    assert any(f"logs/diffs/{code.diff_sha256}.patch" in line for line in lines)
    assert lines[-2:] == ["-old", "+new"]
    assert "+learning_rate: 0.004" in lines
    found = told(diff(project, "changed"))
    assert found["patch"] == patch.decode()
    assert found["knobs"] == {"learning_rate": {"value": "0.004", "default": "0.0001"}}
    (project / found["file"]).unlink()
    gone = diff(project, "changed")
    assert "but the patch was not kept here" in " ".join(text(gone).split())
    assert told(gone)["patch"] is None
    assert told(gone)["diff_sha256"] == code.diff_sha256


@pytest.mark.parametrize(
    ("commit", "said"), [("c" * 40, "the code was exactly the commit"), (None, "not known")]
)
def test_a_run_without_changes_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, commit: str | None, said: str
) -> None:
    clean = capture.CodeVersion(commit, b"")
    monkeypatch.setattr(capture, "code_version", lambda *_: clean)
    open_run(project, stage="sft", config={}, name="clean").finish("finished")
    assert said in text(diff(project, "clean"))


def test_without_a_run_it_is_the_newest(project: Path) -> None:
    assert told(diff(project))["run"]["name"] == "flat"


def test_three_runs_are_not_a_difference(project: Path) -> None:
    with pytest.raises(UserError, match="diff takes one run or two, not 3"):
        diff(project, "low", "high", "flat")
