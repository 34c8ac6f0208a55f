"""Which checkpoints may go, over every way a training run can stand; and that nothing else goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codetune import artefact
from codetune.artefact import Input, Origin
from codetune.runlog import open_run
from codetune.runlog.keeping.checkpoints import Choice, best_step, free, plan

ROOT = Path(__file__).resolve().parents[2]


def origin(recipe: str = "recipe") -> Origin:
    return Origin("train", 1, recipe, (Input("train", "a" * 64),))


def saved(run_dir: Path, step: int, best: int | None, recipe: str = "recipe") -> Path:
    """A checkpoint as the trainer leaves it."""
    final = run_dir / "checkpoints" / f"checkpoint-{step}"
    with artefact.staged_directory(final, origin(recipe), step=step) as staging:
        artefact.write_plain(staging / "trainer.safetensors", "x" * 1000)
        state = {"global_step": step, "best_global_step": best}
        artefact.write_plain(staging / "trainer_state.json", json.dumps(state))
    return final


def published(run_dir: Path, recipe: str = "recipe") -> Path:
    with artefact.staged_directory(run_dir / "adapter", origin(recipe)) as staging:
        artefact.write_plain(staging / "adapter_model.safetensors", "weights")
    return run_dir / "adapter"


def trained(root: Path, name: str = "mine", status: Any = "finished", **knobs: Any) -> Path:
    """A run with checkpoints at 10, 20, 30 and 40 of which 20 is best; returns its directory."""
    knobs = {"run_name": name, "output_dir": None, **knobs}
    run = open_run(root, stage="train", name=name, config=knobs)
    run_dir = root / (knobs["output_dir"] or f"outputs/{name}")
    for step in (10, 20, 30, 40):
        saved(run_dir, step, best=10 if step == 10 else 20)
    run.output(published(run_dir), "adapter")
    if status != "running":
        run.finish(status)
    return run_dir


def going(choices: list[Choice]) -> list[str]:
    return [choice.path.name for choice in choices if not choice.keep]


def why(choices: list[Choice]) -> set[str]:
    return {choice.why for choice in choices}


@pytest.mark.parametrize(
    ("keep_last", "gone"),
    [(0, [10, 30, 40]), (1, [10, 30]), (2, [10]), (3, [10]), (4, []), (9, [])],
)
def test_the_best_and_the_newest_stay(tmp_path: Path, keep_last: int, gone: list[int]) -> None:
    run_dir = trained(tmp_path)
    choices = plan(tmp_path, keep_last)
    assert going(choices) == [f"checkpoint-{step}" for step in gone]
    assert all(choice.size > 1000 and choice.run.startswith("mine (") for choice in choices)
    assert choices[1].why == "best"
    freed = free(tmp_path, choices)
    assert freed == sum(choice.size for choice in choices if not choice.keep)
    left = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert left == [f"checkpoint-{s}" for s in (10, 20, 30, 40) if s not in gone]
    for name in left:
        assert artefact.verify(run_dir / "checkpoints" / name) is None
    assert artefact.verify(run_dir / "adapter") is None
    assert going(plan(tmp_path, keep_last)) == []


def test_looking_changes_nothing(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    before = sorted(run_dir.rglob("*"))
    plan(tmp_path, 1)
    assert sorted(run_dir.rglob("*")) == before


@pytest.mark.parametrize("status", ["failed", "interrupted", "refused"])
def test_a_run_that_may_resume_keeps_all(tmp_path: Path, status: str) -> None:
    trained(tmp_path, status=status)
    assert why(plan(tmp_path, 1)) == {f"run is {status}"}


def test_only_the_newest_run_of_a_directory_counts(tmp_path: Path) -> None:
    trained(tmp_path)
    config = {"run_name": "mine", "output_dir": None}
    again = open_run(tmp_path, stage="train", name="mine", config=config)
    again.finish("up to date")
    assert len(going(plan(tmp_path, 1))) == 2
    open_run(tmp_path, stage="train", name="mine", config=config).finish("failed", "full disk")
    assert why(plan(tmp_path, 1)) == {"run is failed"}
    # Another stage of the same name says nothing about the checkpoints.
    open_run(tmp_path, stage="compare", name="mine", config=config).finish("finished")
    assert why(plan(tmp_path, 1)) == {"run is failed"}


def test_a_run_at_work_keeps_all_also_when_a_newer_one_finished(tmp_path: Path) -> None:
    trained(tmp_path, status="running")  # by this process, which is alive
    trained(tmp_path)
    assert why(plan(tmp_path, 1)) == {"a run is at work in it"}
    assert free(tmp_path, plan(tmp_path, 1)) == 0


def test_a_crashed_run_keeps_all(tmp_path: Path) -> None:
    trained(tmp_path)
    code = (
        "import os; from pathlib import Path; from codetune.runlog import open_run;"
        "open_run(Path(), stage='train', config={'run_name': 'mine'}, name='mine'); os._exit(9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert why(plan(tmp_path, 1)) == {"run is crashed"}


def test_a_run_that_began_after_the_plan_keeps_all(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    choices = plan(tmp_path, 1)
    run = open_run(tmp_path, stage="train", config={"run_name": "mine"}, name="mine")
    assert free(tmp_path, choices) == 0
    run.finish("interrupted")
    assert len(list((run_dir / "checkpoints").iterdir())) == 4


def test_a_checkpoint_that_is_being_written_is_never_touched(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    written = run_dir / "checkpoints" / f".checkpoint-50.staging-{os.getppid()}-x"  # it lives
    written.mkdir()
    (written / "half").write_text("")
    assert free(tmp_path, plan(tmp_path, 1)) > 0
    assert (written / "half").exists()


def test_a_damaged_adapter_keeps_all(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    (run_dir / "adapter/adapter_model.safetensors").write_text("other")
    (reason,) = why(plan(tmp_path, 1))
    assert reason.startswith("the adapter does not verify: ")
    shutil.rmtree(run_dir / "adapter")
    assert why(plan(tmp_path, 1)) == {"the adapter does not verify: adapter: missing"}
    assert free(tmp_path, plan(tmp_path, 1)) == 0


def test_damage_in_what_would_stay_keeps_all(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    (run_dir / "checkpoints/checkpoint-20/trainer.safetensors").write_text("other")
    (reason,) = why(plan(tmp_path, 1))
    assert reason.startswith("what would stay is damaged: checkpoints/checkpoint-20")


@pytest.mark.parametrize("state", ["", "{", "[]", '{"best_global_step": "20"}', "{}"])
def test_without_a_known_best_all_stay(tmp_path: Path, state: str) -> None:
    run_dir = trained(tmp_path)
    (run_dir / "checkpoints/checkpoint-40/trainer_state.json").write_text(state)
    assert best_step(run_dir / "checkpoints/checkpoint-40") is None
    assert why(plan(tmp_path, 1)) == {"the best one is not known"}


def test_a_best_one_that_is_gone_is_not_known(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    shutil.rmtree(run_dir / "checkpoints/checkpoint-20")
    assert why(plan(tmp_path, 1)) == {"the best one is not known"}


def test_checkpoints_of_another_recipe_keep_all(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    saved(run_dir, 50, best=20, recipe="other")
    assert why(plan(tmp_path, 1)) == {
        "some belong to another recipe, base or rows than the adapter"
    }


def test_folders_without_a_recorded_run_are_told_and_kept(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    shutil.rmtree(tmp_path / "logs/runs")
    assert why(plan(tmp_path, 1)) == {"no run is recorded for it"}
    assert free(tmp_path, plan(tmp_path, 1)) == 0 and run_dir.exists()


def test_output_dir_is_followed_inside_outputs_and_not_outside(tmp_path: Path) -> None:
    trained(tmp_path, "inside", output_dir="outputs/deep/er")
    assert len(going(plan(tmp_path, 1))) == 2
    trained(tmp_path, "outside", output_dir="elsewhere/x")
    outside = [c for c in plan(tmp_path, 1) if c.run.startswith("outside")]
    assert why(outside) == {"outside of outputs/, or a link"}


def test_links_out_of_outputs_are_never_followed(tmp_path: Path) -> None:
    run_dir = trained(tmp_path)
    treasure = tmp_path / "treasure"
    (run_dir / "checkpoints").rename(treasure)
    (run_dir / "checkpoints").symlink_to(treasure)
    assert why(plan(tmp_path, 1)) == {"outside of outputs/, or a link"}
    assert free(tmp_path, plan(tmp_path, 0)) == 0
    (run_dir / "checkpoints").unlink()
    treasure.rename(run_dir / "checkpoints")
    inner = run_dir / "checkpoints/checkpoint-10"
    inner.rename(tmp_path / "moved")
    inner.symlink_to(tmp_path / "moved")
    assert why(plan(tmp_path, 1)) == {"outside of outputs/, or a link"}
    assert len(list((tmp_path / "moved").iterdir())) == 3


def test_links_to_the_checkpoints_of_another_run_free_nothing_of_it(tmp_path: Path) -> None:
    linked, other = trained(tmp_path, "a"), trained(tmp_path, "b", status="running")
    shutil.rmtree(linked / "checkpoints")
    (linked / "checkpoints").symlink_to("../b/checkpoints")
    choices = plan(tmp_path, 1)
    assert {(c.path.parent.parent.name, c.why) for c in choices} == {
        ("a", "a run is at work in it"), ("b", "a run is at work in it"),
    }  # fmt: skip
    assert free(tmp_path, choices) == 0
    assert len(list((other / "checkpoints").iterdir())) == 4
    trained(tmp_path, "c")
    (linked / "checkpoints").unlink()
    (linked / "checkpoints").symlink_to("../c/checkpoints")
    assert [c.why for c in plan(tmp_path, 1)[:4]] == ["outside of outputs/, or a link"] * 4


def test_a_run_at_work_that_writes_through_a_link_keeps_all(tmp_path: Path) -> None:
    run_dir = trained(tmp_path, "a")
    (tmp_path / "outputs/b").mkdir()
    (tmp_path / "outputs/b/checkpoints").symlink_to("../a/checkpoints")
    choices = plan(tmp_path, 1)
    assert len(going(choices)) == 2
    run = open_run(tmp_path, stage="train", config={"run_name": "b"}, name="b")
    assert {c.why for c in plan(tmp_path, 1) if c.path.parent.parent == run_dir} == {
        "a run is at work in it"
    }
    assert free(tmp_path, choices) == 0
    run.finish("finished")


def test_each_journal_is_read_a_few_times_however_many_runs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was once for each other run directory: 200 of them took 95 seconds."""
    from codetune.runlog import events

    for n in range(20):
        config = {"run_name": f"n{n}"}
        open_run(tmp_path, stage="train", config=config, name=f"n{n}").finish("finished")
        (tmp_path / f"outputs/n{n}/checkpoints/checkpoint-1").mkdir(parents=True)
    opened: list[Path] = []
    read = events.read

    def counted(journal: Path, start: int = 0) -> Iterator[events.Record]:
        opened.append(journal)
        return read(journal, start)

    monkeypatch.setattr(events, "read", counted)
    choices = plan(tmp_path, 1)
    assert len(choices) == 20 and len(opened) <= 20 * 4
    opened.clear()
    free(tmp_path, [replace(choice, keep=False) for choice in choices])
    assert len(opened) <= 20 * 3
    assert not list(tmp_path.glob("outputs/*/checkpoints/*"))


def test_outputs_itself_may_be_a_link_to_a_large_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    trained(tmp_path)
    assert len(going(plan(tmp_path, 1))) == 2
    assert free(tmp_path, plan(tmp_path, 1)) > 0


@pytest.mark.crash
def test_a_removal_that_is_killed_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = trained(tmp_path)
    code = (
        "import os, shutil; from pathlib import Path;"
        "from codetune.runlog.keeping import checkpoints as c;"
        "shutil.rmtree = lambda place: os._exit(9);"
        "c.free(Path(), c.plan(Path(), 1))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 9
    names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert [name for name in names if not name.startswith(".")] == [
        f"checkpoint-{step}" for step in (20, 30, 40)
    ]
    assert len(names) == 4  # the one that was on its way, out of sight
    assert free(tmp_path, plan(tmp_path, 1)) > 0
    left = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert left == ["checkpoint-20", "checkpoint-40"]
