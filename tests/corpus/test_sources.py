"""Which named files are read, and which are left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codetune import artefact
from codetune.artefact import Origin
from codetune.corpus import sources
from codetune.errors import UserError

OTHER, OWN = Origin("fim", 1, "0" * 64), Origin(sources.STAGE, 1, "0" * 64)


def rows(path: Path, origin: Origin | None = None) -> Path:
    if origin is None:
        path.write_bytes(b"{}\n")
    else:
        artefact.write_rows(path, [b"{}"], origin)
    return path


def test_decides_by_manifest_not_by_name(tmp_path: Path) -> None:
    from_fim = rows(tmp_path / "train.fim.jsonl", OTHER)
    plain = rows(tmp_path / "train.clean.jsonl")
    own = rows(tmp_path / "anything.jsonl", OWN)
    chosen = sources.choose([own, from_fim, plain], [])
    assert chosen.files == (plain, from_fim)
    assert chosen.left_out == ((own, "made by this stage"),)


def test_leaves_out_manifests_targets_and_repeats(tmp_path: Path) -> None:
    a, target = rows(tmp_path / "a.jsonl"), rows(tmp_path / "train.jsonl")
    manifest = tmp_path / "a.jsonl.manifest.json"
    manifest.write_text("{}")
    link = tmp_path / "b.jsonl"
    link.symlink_to(a)
    chosen = sources.choose([a, manifest, target, link], [tmp_path / "train.jsonl"])
    assert chosen.files == (a,)
    assert [why for _, why in chosen.left_out] == [
        "a manifest, no rows",
        "about to be written",
        "named twice",
    ]


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.zst", "c.jsonl.gz"])
def test_row_files_by_suffix(tmp_path: Path, name: str) -> None:
    file = rows(tmp_path / name)
    assert sources.choose([file], []).files == (file,)
    assert sources.find(tmp_path) == [file]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.jsonl", "no such file"),
        ("*.jsonl", "no file matches"),
        ("notes.txt", "no row file"),
        ("folder", "is a folder"),
    ],
)
def test_what_is_no_row_file_is_a_user_error(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=said):
        sources.choose([tmp_path / name], [])


def test_nothing_left_says_why(tmp_path: Path) -> None:
    own = rows(tmp_path / "train.jsonl", OWN)
    with pytest.raises(UserError, match=r"1 left out, such as .*made by this stage"):
        sources.choose([own], [])
    with pytest.raises(UserError, match="no row files; name some"):
        sources.choose([], [])


def test_order_of_naming_does_not_matter(tmp_path: Path) -> None:
    files = [rows(tmp_path / f"{name}.jsonl") for name in "cab"]
    assert sources.choose(files, []).files == tuple(sorted(files))


def test_damaged_manifest_is_a_user_error(tmp_path: Path) -> None:
    file = rows(tmp_path / "a.jsonl")
    artefact.manifest_path(file).write_bytes(b"{")
    with pytest.raises(UserError, match="damaged"):
        sources.choose([file], [])


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(UserError, match="is no regular file"):
        sources.choose([tmp_path / "pipe.jsonl"], [])
