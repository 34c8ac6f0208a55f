"""The hash by which a place is noted is the one by which it is found again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from codetune import artefact
from codetune.artefact import Input, Origin
from codetune.errors import UserError
from codetune.runlog import events, open_run
from codetune.runlog.content import content_of
from codetune.runlog.local import read_run

ORIGIN = Origin("train", 1, "recipe")


def adapter(place: Path, weights: str = "weights") -> Path:
    with artefact.staged_directory(place, ORIGIN) as staging:
        artefact.write_plain(staging / "adapter_model.safetensors", weights)
    return place


def test_an_artefact_folder_is_noted_as_an_input_as_it_was_as_an_output(tmp_path: Path) -> None:
    place = adapter(tmp_path / "outputs/a/adapter")
    maker = open_run(tmp_path, stage="train", config={})
    maker.output(place, "adapter")
    maker.finish("finished")
    user = open_run(tmp_path, stage="compare", config={})
    assert user.source("adapter", place, "of the weights") == Input("adapter", "of the weights")
    user.finish("finished")
    (made,) = row(tmp_path, maker.id).outputs
    (used,) = row(tmp_path, user.id).inputs
    assert (made.path, made.kind) == (used.path, used.kind) == ("outputs/a/adapter", "adapter")
    assert made.sha256 == used.sha256 == artefact.sha256_file(place / "manifest.json")


def test_a_foreign_model_is_noted_by_its_fingerprint_and_a_role(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    run = open_run(tmp_path, stage="model-testing", config={})
    run.source("model:x", tmp_path / "model", "f" * 64, "model")
    run.finish("finished")
    (used,) = row(tmp_path, run.id).inputs
    assert (used.path, used.sha256, used.kind) == ("model", "f" * 64, "model")


def test_a_folder_without_manifest_is_its_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a").write_text("text")
    assert content_of(one).sha256 == content_of(two).sha256
    (two / "link").symlink_to("/etc/passwd")  # named nowhere, and never followed
    assert content_of(one).sha256 == content_of(two).sha256
    (two / "sub" / "b").write_text("")
    more = content_of(two).sha256
    assert content_of(one).sha256 != more
    (two / "sub" / "b").rename(two / "sub" / os.fsdecode(b"b\xff"))  # a name that is no UTF-8
    assert content_of(two).sha256 not in {content_of(one).sha256, more}


def test_a_file_is_its_bytes_and_one_that_is_missing_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}\n")
    assert content_of(file) == Input(str(file), artefact.sha256_file(file))
    with pytest.raises(UserError, match="no such file"):
        content_of(tmp_path / "b.jsonl")


def test_outputs_are_noted_with_what_they_are(tmp_path: Path) -> None:
    rows, rejects = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    for file in (rows, rejects):
        artefact.write_rows(file, [b"{}"], ORIGIN)
    run = open_run(tmp_path, stage="sft", config={})
    run.outputs({rows: "chat", rejects: "rejects"})
    run.finish("up to date")
    made = [(f.path, f.kind, f.sha256) for f in row(tmp_path, run.id).outputs]
    digest = artefact.sha256_file(rows)
    assert made == [("a.jsonl", "chat", digest), ("r.jsonl", "rejects", digest)]


def test_ten_thousand_sessions_cost_a_second_at_most(tmp_path: Path) -> None:
    """Bar of this part: every session is noted, also of a large history (0.35 s when measured)."""
    run = open_run(tmp_path, stage="claude2sft", config={})
    sessions = [tmp_path / f"projects/p/{n:036}.jsonl" for n in range(10_000)]
    started = time.process_time()
    for n, session in enumerate(sessions):
        run.source(f"log:{n:016}", session, f"{n:064x}", "session")
    spent = time.process_time() - started
    run.finish("finished")
    journal = events.journal_path(tmp_path, run.id)
    assert len(row(tmp_path, run.id).inputs) == 10_000
    assert journal.stat().st_size < 3_000_000
    assert spent < 3, json.dumps({"seconds": spent})


def row(root: Path, run_id: str):
    found = read_run(events.journal_path(root, run_id))
    assert found is not None
    return found
