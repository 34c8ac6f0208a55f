"""Which checkpoint is gone on from, whatever happened to the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from codetune import artefact
from codetune.artefact import Input, Origin
from codetune.errors import UserError
from codetune.training.checkpoints import all_checkpoints, checkpoint_dir, newest_valid, prune

ORIGIN = Origin("train", 1, "recipe", (Input("train", "rows"), Input("base", "weights")))
FILES = ("adapter_model.safetensors", "trainer.safetensors", "trainer_state.json", "manifest.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (2, 10, 4):
        make(tmp_path, step)
    return tmp_path


def make(folder: Path, step: int, origin: Origin = ORIGIN) -> Path:
    final = checkpoint_dir(folder, step)
    with artefact.staged_directory(final, origin) as staging:
        for name in FILES[:-1]:
            artefact.write_plain(staging / name, f"{name} of {step}\n" * 50)
    return final


def test_newest_by_number_not_by_name(folder: Path) -> None:
    assert [p.name for p in all_checkpoints(folder)] == [f"checkpoint-{n}" for n in (2, 4, 10)]
    assert newest_valid(folder, ORIGIN) == folder / "checkpoint-10"


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["delete", "empty", "half", "flip", "zeros"])
def test_a_damaged_checkpoint_is_passed_over_aloud(
    folder: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = folder / "checkpoint-10" / file
    whole = target.read_bytes()
    if damage == "delete":
        target.unlink()
    else:
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        changes = {"empty": b"", "half": whole[: len(whole) // 2], "flip": flipped}
        target.write_bytes(changes.get(damage, bytes(len(whole))))
    assert newest_valid(folder, ORIGIN) == folder / "checkpoint-4"
    assert "checkpoint-10" in capsys.readouterr().err
    assert not (folder / "checkpoint-10").exists(), "it must not stand in the way of a new one"


def test_an_extra_file_is_damage_too(folder: Path) -> None:
    artefact.write_plain(folder / "checkpoint-10" / "extra.bin", "x")
    assert newest_valid(folder, ORIGIN) == folder / "checkpoint-4"


def test_none_where_nothing_is(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "absent", ORIGIN) is None
    (tmp_path / "checkpoint-x").mkdir()
    assert newest_valid(tmp_path, ORIGIN) is None


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (Origin("train", 1, "other", ORIGIN.inputs), "the recipe changed"),
        (Origin("train", 1, "recipe", (Input("train", "new"), ORIGIN.inputs[1])), "train changed"),
        (Origin("train", 1, "recipe", (ORIGIN.inputs[0], Input("base", "x"))), "base changed"),
        (Origin("train", 2, "recipe", ORIGIN.inputs), "the program's version changed"),
    ],
)
def test_checkpoints_of_another_run_are_refused(folder: Path, other: Origin, named: str) -> None:
    with pytest.raises(UserError, match=named):
        newest_valid(folder, other)
    assert len(all_checkpoints(folder)) == 3


NEW_ROWS = Origin("train", 1, "recipe", (Input("train", "new"), ORIGIN.inputs[1]))


def make_adapter(place: Path, origin: Origin) -> Path:
    with artefact.staged_directory(place, origin) as staging:
        artefact.write_plain(staging / "adapter_model.safetensors", "tuned\n")
    return place


def test_those_of_a_finished_run_give_way_to_a_new_one(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = make_adapter(tmp_path_factory.mktemp("run") / "adapter", ORIGIN)
    assert newest_valid(folder, NEW_ROWS, adapter) is None
    assert not folder.exists()
    assert "finished run are removed" in capsys.readouterr().err


@pytest.mark.parametrize("adapter", ["missing", "of an older run", "damaged"])
def test_those_of_an_unfinished_run_are_kept(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, adapter: str
) -> None:
    place = tmp_path_factory.mktemp("run") / "adapter"
    if adapter != "missing":
        older = Origin("train", 1, "recipe", (Input("train", "old"), ORIGIN.inputs[1]))
        make_adapter(place, ORIGIN if adapter == "damaged" else older)
    if adapter == "damaged":
        (place / "adapter_model.safetensors").write_text("half")
    with pytest.raises(UserError, match="train changed"):
        newest_valid(folder, NEW_ROWS, place)
    assert len(all_checkpoints(folder)) == 3


def test_leftovers_of_a_killed_save_are_swept(folder: Path) -> None:
    left = folder / f".checkpoint-12.staging-{2**22 + 1}-abc"
    left.mkdir()
    (left / "half").write_text("x")
    assert newest_valid(folder, ORIGIN) == folder / "checkpoint-10"
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint-10",
        "checkpoint-2",
        "checkpoint-4",
    ]


def test_prune_keeps_the_newest_and_the_best(folder: Path) -> None:
    prune(folder, 1, folder / "checkpoint-2")
    assert [p.name for p in all_checkpoints(folder)] == ["checkpoint-2", "checkpoint-10"]
    prune(folder, 1, None)
    assert [p.name for p in all_checkpoints(folder)] == ["checkpoint-10"]
