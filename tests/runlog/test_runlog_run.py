"""A run as a stage sees it: what is recorded, and what happens when something is in the way."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from codetune import artefact
from codetune.artefact import Input, Origin, append_record
from codetune.config import Config, config_sha256, knob
from codetune.errors import UserError
from codetune.runlog import Run, active_runs, create_run, disabled, events, latest, open_run

ORIGIN = Origin("test", 1, "0" * 64)


class SmallConfig(Config):
    rate: float = knob(0.1, "how fast")
    src: Path = knob(Path("a"), "where from")


def opened(root: Path, **more: Any) -> Run:
    config = {"lr": 0.5, "lora": {"r": 8, "targets": ["q", "v"]}, "model": "m", "fast": True}
    settings: dict[str, Any] = {
        "stage": "train",
        "config": config,
        "differences": {"lr": {"default": 0.1, "value": 0.5}},
        "argv": ["train.py", "--lr", "0.5"],
        "seed": 7,
        "version": 3,
    }
    return open_run(root, **{**settings, **more})


def records(root: Path, run: Run) -> list[dict[str, Any]]:
    return list(artefact.read_journal(events.journal_path(root, run.id)))


def table(root: Path, name: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(root / "logs/runs.db")
    connection.row_factory = sqlite3.Row
    found = [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
    connection.close()
    return found


def test_a_run_is_in_its_journal_and_in_the_database(tmp_path: Path) -> None:
    run = opened(tmp_path, name="first")
    (tmp_path / "rows.jsonl").write_bytes(b"{}\n")
    made = artefact.write_text(tmp_path / "out.txt", "x", ORIGIN)
    run.input(tmp_path / "rows.jsonl", "train_file")
    run.output(made, "report")
    run.define("loss", "nats", "lower")
    for step, loss in enumerate((3.0, 1.0, 2.0)):
        run.metric("loss", loss, step)
    run.event("resumed", step=2)
    run.tag("reference")
    run.finish("finished", "all steps done")

    kinds = [record["kind"] for record in records(tmp_path, run)]
    assert kinds == [
        *("created", "started", "input", "output", "define", "metric", "metric", "metric"),
        *("event", "tag", "finished"),
    ]
    (row,) = table(tmp_path, "run")
    assert (row["id"], row["name"], row["status"]) == (run.id, "first", "finished")
    assert (row["exit_reason"], row["seed"], row["stage_version"]) == ("all steps done", 7, 3)
    assert (row["task"], row["project"]) == ("language-model", "default")
    assert json.loads(row["argv"]) == ["train.py", "--lr", "0.5"]
    assert row["created_at"] <= row["started_at"] <= row["ended_at"] == row["heartbeat_at"]
    assert row["pid"] == os.getpid()
    assert row["indexed"] == events.journal_path(tmp_path, run.id).stat().st_size
    (summary,) = table(tmp_path, "series")
    values = [summary[name] for name in ("first", "last", "min", "max", "steps", "count")]
    assert values == [3.0, 2.0, 1.0, 3.0, 2, 3]
    (key,) = table(tmp_path, "metric_key")
    assert (key["key"], key["unit"], key["direction"], key["version"]) == (
        "loss",
        "nats",
        "lower",
        1,
    )
    assert [(io["role"], io["kind"], io["path"]) for io in table(tmp_path, "run_io")] == [
        ("in", "train_file", "rows.jsonl"),
        ("out", "report", "out.txt"),
    ]
    assert table(tmp_path, "run_io")[1]["sha256"] == artefact.sha256_file(made)
    assert [(e["kind"], e["fields"]) for e in table(tmp_path, "event")] == [
        ("resumed", '{"step": 2}')
    ]
    assert [t["text"] for t in table(tmp_path, "tag")] == ["reference"]


def test_params_are_flat_and_say_what_differs_from_the_default(tmp_path: Path) -> None:
    opened(tmp_path).finish("finished")
    found = {p["key"]: p for p in table(tmp_path, "param")}
    assert {key: p["text"] for key, p in found.items()} == {
        "lr": "0.5",
        "lora.r": "8",
        "lora.targets": '["q", "v"]',
        "model": "m",
        "fast": "true",
    }
    assert found["lr"]["num"] == 0.5
    assert (found["lr"]["is_default"], found["lr"]["default_text"]) == (0, "0.1")
    assert all(p["is_default"] for key, p in found.items() if key != "lr")
    assert found["model"]["num"] is None


def test_not_a_number_becomes_null_and_raises_one_event(tmp_path: Path) -> None:
    run = opened(tmp_path)
    for step, value in enumerate((1.0, math.nan, math.inf, 0.5)):
        run.metric("loss", value, step)
    run.finish("failed", "diverged")
    assert [m["value"] for m in table(tmp_path, "metric")] == [1.0, None, None, 0.5]
    text = events.journal_path(tmp_path, run.id).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (told,) = table(tmp_path, "event")
    assert (told["kind"], json.loads(told["fields"])) == ("not_finite", {"key": "loss", "step": 1})
    (summary,) = table(tmp_path, "series")
    assert (summary["min"], summary["max"], summary["count"]) == (0.5, 1.0, 4)


def test_a_step_that_is_logged_twice_keeps_the_last_value(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.metric("loss", 2.0, 5)
    run.metric("loss", 1.0, 5)
    run.finish("finished")
    assert [(m["step"], m["value"]) for m in table(tmp_path, "metric")] == [(5, 1.0)]


def test_a_changed_definition_is_another_metric(tmp_path: Path) -> None:
    for version in (1, 2):
        run = opened(tmp_path)
        run.define("exact_match", "%", "higher", version)
        run.metric("exact_match", 10.0 * version)
        run.finish("finished")
    assert [(k["version"], k["unit"]) for k in table(tmp_path, "metric_key")] == [
        (1, "%"),
        (2, "%"),
    ]
    assert len({m["series_id"] for m in table(tmp_path, "metric")}) == 2


def test_origin_is_what_decides_an_artefact() -> None:
    config, source = SmallConfig(rate=0.2), Input("a.jsonl", "1" * 64)
    origin = disabled("sft", 4).origin(config, [source])
    assert origin == Origin("sft", 4, config_sha256(config), (source,))


def test_a_folder_as_input_is_known_by_its_manifest(tmp_path: Path) -> None:
    run = disabled()
    with artefact.staged_directory(tmp_path / "adapter", ORIGIN) as staging:
        (staging / "w").write_bytes(b"1")
    before = run.input(tmp_path / "adapter", "adapter")
    with artefact.staged_directory(tmp_path / "adapter", ORIGIN) as staging:
        (staging / "w").write_bytes(b"2")
    assert before.sha256 != run.input(tmp_path / "adapter", "adapter").sha256
    (tmp_path / "loose").mkdir()
    with pytest.raises(UserError, match="no manifest"):
        run.input(tmp_path / "loose")


def test_an_output_folder_without_a_manifest_has_no_hash(tmp_path: Path) -> None:
    run = opened(tmp_path)
    (tmp_path / "runs").mkdir()
    run.output(tmp_path / "runs", "tensorboard")
    run.finish("finished")
    assert [(f.path, f.sha256) for f in latest(tmp_path, "train").outputs] == [("runs", None)]


def test_a_disabled_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = disabled("sft")
    run.define("a")
    run.metric("a", 1.0)
    run.event("b")
    run.finish("finished")
    assert list(tmp_path.iterdir()) == []


def test_a_run_can_be_created_ahead_and_started_once(tmp_path: Path) -> None:
    run_id = create_run(tmp_path, stage="train", name="queued", project="images", task="vision")
    assert latest(tmp_path, "train", "created").id == run_id
    assert active_runs(tmp_path) == []
    run = opened(tmp_path, run_id=run_id.lower())
    assert (run.id, run.name) == (run_id, "queued")
    run.finish("finished")
    (row,) = table(tmp_path, "run")
    assert (row["project"], row["task"], row["status"]) == ("images", "vision", "finished")
    with pytest.raises(UserError, match="started before"):
        opened(tmp_path, run_id=run_id)


@pytest.mark.parametrize("tail", [b"", b'{"ts":1,"kind":"no\n', b'{"ts":1,"kind":"no'])
def test_tags_and_notes_keep_no_created_run_from_its_start(tmp_path: Path, tail: bytes) -> None:
    run_id = create_run(tmp_path, stage="train", name="queued")
    journal = events.journal_path(tmp_path, run_id)
    for kind in ("tag", "note", "untag"):
        append_record(journal, {"ts": 1, "kind": kind, "text": "best"})
    with journal.open("ab") as out:
        out.write(tail)
    run = opened(tmp_path, run_id=run_id)
    run.finish("finished")
    assert latest(tmp_path, "train").id == run_id
    with pytest.raises(UserError, match="started before"):
        opened(tmp_path, run_id=run_id)


@pytest.mark.parametrize("content", ["", '{"ts":1,"kind":"tag","text":"x"}\n', "{}\n"])
def test_a_run_without_a_beginning_is_refused(tmp_path: Path, content: str) -> None:
    run_id = create_run(tmp_path, stage="train")
    events.journal_path(tmp_path, run_id).write_text(content)
    with pytest.raises(UserError, match="has no beginning"):
        opened(tmp_path, run_id=run_id)


def test_a_run_id_of_another_stage_or_shape_is_refused(tmp_path: Path) -> None:
    run_id = create_run(tmp_path, stage="merge")
    with pytest.raises(UserError, match="is for merge, not for train"):
        opened(tmp_path, run_id=run_id)
    for wrong in ("", "../../etc", "x" * 26):
        with pytest.raises(UserError, match="not a run id"):
            opened(tmp_path, run_id=wrong)


def test_a_new_run_id_may_be_given(tmp_path: Path) -> None:
    run = opened(tmp_path, run_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    run.finish("finished")
    assert run.id == "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_without_a_name_it_is_stage_and_end_of_id(tmp_path: Path) -> None:
    run = opened(tmp_path, stage="fim")
    run.finish("finished")
    assert run.name == f"fim-{run.id[-5:].lower()}"


def test_finish_counts_once_and_later_calls_are_silent(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.finish("refused", "worse\nthan its \x1b[31mbase")
    run.finish("finished")
    run.metric("loss", 1.0)
    (row,) = table(tmp_path, "run")
    assert (row["status"], row["exit_reason"]) == ("refused", "worse than its base")
    assert table(tmp_path, "metric") == []


def test_a_full_disk_is_told_once_and_finish_does_not_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path)

    def full(self: artefact.Journal, record: object) -> None:
        raise UserError(f"{self.path}: the disk is full")

    monkeypatch.setattr(artefact.Journal, "append", full)
    with pytest.raises(UserError, match="disk is full"):
        run.metric("loss", 1.0)
    run.finish("failed", "the disk is full")
    assert "could not be recorded" in capsys.readouterr().err


def test_an_up_to_date_run_leaves_its_rows_to_the_next_one(tmp_path: Path) -> None:
    opened(tmp_path).finish("up to date")
    assert table(tmp_path, "run") == []
    assert latest(tmp_path, "train", "up to date") is not None


def test_a_name_means_the_run_that_did_something(tmp_path: Path) -> None:
    from tests.runlog.asking import get_run

    done = open_run(tmp_path, stage="train", name="mine", config={})
    done.finish("finished")
    open_run(tmp_path, stage="train", name="mine", config={}).finish("up to date")
    assert get_run(tmp_path, "mine").row.id == done.id


def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    opened(tmp_path).finish("finished")
    for path in [tmp_path / "logs", *(tmp_path / "logs").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_no_secret_of_argv_config_or_environment_is_kept(tmp_path: Path) -> None:
    secret = "s3cr3t-value"
    run = opened(
        tmp_path,
        argv=["x.py", "--hf_token", secret, f"--api-key={secret}", f"--db=pg://u:{secret}@h/d"],
        config={"hf_token": secret, "max_new_tokens": 5, "url": f"https://me:{secret}@host/x"},
        variables={"HF_TOKEN": secret, "OMP_NUM_THREADS": "2", "DATABASE_URL": secret},
    )
    run.finish("finished")
    everything = b"".join(p.read_bytes() for p in (tmp_path / "logs").rglob("*") if p.is_file())
    assert secret.encode() not in everything
    assert {p["key"]: p["text"] for p in table(tmp_path, "param")}["max_new_tokens"] == "5"
    (env,) = table(tmp_path, "env_snapshot")
    assert json.loads(env["facts"])["variables"] == {"OMP_NUM_THREADS": "2"}


def test_long_texts_stay_out(tmp_path: Path) -> None:
    question = "why " * 1000
    run = opened(tmp_path, argv=["x.py", "--prompt", question], config={"prompt": question})
    run.finish("finished")
    assert "why why" not in events.journal_path(tmp_path, run.id).read_text()
    assert table(tmp_path, "param")[0]["text"] == "<4000 characters>"


def test_a_run_is_active_while_it_runs(tmp_path: Path) -> None:
    run = opened(tmp_path)
    assert [row.id for row in active_runs(tmp_path)] == [run.id]
    assert latest(tmp_path, "train") is None
    run.finish("interrupted", "Ctrl-C")
    assert active_runs(tmp_path) == []
    assert latest(tmp_path, "train") is None
    assert latest(tmp_path, "train", "interrupted").reason == "Ctrl-C"


def test_latest_is_the_newest_of_its_stage_and_knows_its_outputs(tmp_path: Path) -> None:
    for name in ("old", "new"):
        run = opened(tmp_path, name=name)
        run.output(artefact.write_text(tmp_path / f"{name}.txt", name, ORIGIN), "adapter")
        run.metric("eval_loss", 1.5)
        run.finish("finished")
    opened(tmp_path, stage="merge").finish("finished")
    opened(tmp_path).finish("failed")
    found = latest(tmp_path, "train")
    assert found.name == "new"
    assert found.output("adapter") == Path("new.txt")
    assert found.output("merged") is None
    assert found.metrics == {"eval_loss": 1.5}
    assert latest(tmp_path, "export") is None


def test_paths_inside_the_project_are_relative(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.input(Input(str(tmp_path / "data/a.jsonl"), "0" * 64), "a")
    run.input(Input("repo:codetune", "1" * 64), "b")
    run.input(Input("/elsewhere/model", "2" * 64), "c")
    run.finish("finished")
    paths = [file.path for file in latest(tmp_path, "train").inputs]
    assert paths == ["data/a.jsonl", "repo:codetune", "/elsewhere/model"]
