"""What the records of a journal stand for, as rows.

Journals are files that others may have written or damaged: a record that lacks something, or
holds what no column takes, is passed over like one of an unknown kind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, update

from codetune.runlog import events
from codetune.runlog.store import schema
from codetune.runlog.store.insert import insert
from codetune.runlog.store.series import Key, Points

_GPU = {"gpu_percent": float, "gpu_memory": int, "gpu_temperature": float, "gpu_power": float}
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL takes no NUL, UTF-8 no surrogate
_LONGEST_NAME = 500  # characters; PostgreSQL indexes at most 2,704 bytes
_INTEGERS, _SMALL = range(-(2**63), 2**63), range(-(2**31), 2**31)


class Stretch:
    """The rows that a stretch of a run's journal stands for."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._run: dict[str, Any] = {}
        self._environments: list[dict[str, Any]] = []
        self._plain: dict[Table, list[dict[str, Any]]] = {}
        self._tags: dict[str, bool] = {}  # whether it is there at the end
        self._points = Points(run_id)

    def add(self, record: events.Record) -> None:
        """Takes in one record."""
        try:
            self._take(record)
            if record.kind not in events.AMENDMENTS and "ts" in record.fields:
                self._run["heartbeat_at"] = _integer(record.fields["ts"])
        except (KeyError, TypeError, ValueError, AttributeError):
            pass  # damaged: what it was cannot be known
        self._run["indexed"] = record.end

    def write(self, connection: Connection) -> None:
        """Puts everything into the tables, and moves the run's mark."""
        insert(connection, schema.env_snapshot, self._environments)
        for table, rows in self._plain.items():
            insert(connection, table, rows)
        self._write_tags(connection)
        self._points.write(connection)
        where = schema.run.c.id == self.run_id
        connection.execute(update(schema.run).where(where).values(**self._run))

    def _take(self, record: events.Record) -> None:
        fields = record.fields
        match record.kind:
            case "started":
                self._started(fields)
            case "finished":
                self._run |= _ended(fields)
            case "define":
                self._points.definitions[_key(fields)] = _meaning(fields)
            case "metric":
                self._points.logged.append((_key(fields), _point(fields)))
            case "input" | "output":
                self._row(schema.run_io, seq=record.start, **_file(fields, record.kind))
            case "tag" | "untag":
                self._tags[name(fields["text"])] = record.kind == "tag"
            case "note":
                said = {"ts": _integer(fields["ts"]), "text": text(fields["text"])}
                self._row(schema.note, seq=record.start, **said)
            case "system":
                self._row(schema.system_sample, **_sample(fields))
            case "event":
                self._row(schema.event, seq=record.start, **_event(fields))

    def _started(self, fields: Mapping[str, Any]) -> None:
        params = [_param(key, value) for key, value in fields["params"].items()]
        environment = {"hash": name(fields["environment_hash"])}
        environment["facts"] = _json(fields["environment"])
        process = fields["process"]
        self._run |= {
            "status": "running",
            "started_at": _integer(fields["ts"]),
            "stage_version": _small(fields["version"]),
            "seed": _or_none(_integer, fields["seed"]),
            "argv": [text(word) for word in fields["argv"]],
            "machine": text(process["machine"]),
            "pid": _small(process["pid"]),
            "pid_started": _integer(process["started"]),
            "git_commit": _or_none(text, fields["commit"]),
            "git_diff_sha256": _or_none(text, fields["diff_sha256"]),
            "env_hash": environment["hash"],
        }
        self._environments.append(environment)
        for param in params:
            self._row(schema.param, **param)

    def _row(self, table: Table, **values: Any) -> None:
        self._plain.setdefault(table, []).append({"run_id": self.run_id, **values})

    def _write_tags(self, connection: Connection) -> None:
        gone = [tag for tag, there in self._tags.items() if not there]
        if gone:
            mine = schema.tag.c.run_id == self.run_id
            connection.execute(delete(schema.tag).where(mine, schema.tag.c.text.in_(gone)))
        rows = [{"run_id": self.run_id, "text": tag} for tag, on in self._tags.items() if on]
        insert(connection, schema.tag, rows)


def beginning(record: events.Record) -> dict[str, Any]:
    """The row of a run that was just created; ValueError for a record that begins no run."""
    fields = record.fields
    if record.kind != "created":
        raise ValueError(record.kind)
    try:
        same = {key: name(fields[key]) for key in ("id", "project", "stage")}
        same |= {key: text(fields[key]) for key in ("name", "task")}
        times = {"created_at": _integer(fields["ts"]), "heartbeat_at": _integer(fields["ts"])}
        parent = _or_none(name, fields["parent"])
    except (KeyError, TypeError) as problem:
        raise ValueError(str(problem)) from None
    return {**same, **times, "parent_id": parent, "status": "created", "indexed": 0}


def text(value: Any) -> str:
    """`value` as both engines can store it: without NUL and halves of surrogate pairs."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return _NOT_STORABLE.sub("\ufffd", value)


def name(value: Any) -> str:
    """A text that is indexed: a very long one is cut, and its hash tells it from others."""
    whole = text(value)
    if len(whole) <= _LONGEST_NAME:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: _LONGEST_NAME - 20]}... {digest}"


def _key(fields: Mapping[str, Any]) -> Key:
    return name(fields["key"]), _small(fields["version"])


def _point(fields: Mapping[str, Any]) -> dict[str, Any]:
    at = {"step": _integer(fields["step"]), "ts": _integer(fields["ts"])}
    return {**at, "value": _or_none(_number, fields["value"])}


def _meaning(fields: Mapping[str, Any]) -> dict[str, str]:
    if fields["direction"] not in schema.DIRECTIONS:
        raise ValueError("direction")
    return {"unit": text(fields["unit"]), "direction": fields["direction"]}


def _ended(fields: Mapping[str, Any]) -> dict[str, Any]:
    if fields["status"] not in schema.STATUSES:
        raise ValueError("status")
    said = {"status": fields["status"], "exit_reason": text(fields["reason"])}
    return {**said, "ended_at": _integer(fields["ts"])}


def _file(fields: Mapping[str, Any], kind: str) -> dict[str, Any]:
    said = {"role": "in" if kind == "input" else "out", "kind": text(fields["role"])}
    return {**said, "path": text(fields["path"]), "sha256": _or_none(name, fields["sha256"])}


def _sample(fields: Mapping[str, Any]) -> dict[str, Any]:
    own = {"cpu_percent": _number(fields["cpu_percent"]), "rss": _integer(fields["rss"])}
    of_gpu = {
        key: _or_none(_number if kind is float else _integer, fields.get(key))
        for key, kind in _GPU.items()
    }
    return {"ts": _integer(fields["ts"]), **own, **of_gpu}


def _event(fields: Mapping[str, Any]) -> dict[str, Any]:
    said = {"ts": _integer(fields["ts"]), "kind": text(fields["name"])}
    return {**said, "fields": _json(dict(fields["fields"]))}


def _param(key: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    num, default = _or_none(_number, value.get("num")), _or_none(text, value.get("default"))
    said = {"key": name(key), "text": text(value["text"]), "num": num}
    return {**said, "is_default": "default" not in value, "default_text": default}


def _integer(value: Any, allowed: range = _INTEGERS) -> int:
    if type(value) is not int or value not in allowed:  # True is an int, too
        raise ValueError("not an integer that the column holds")
    return value


def _small(value: Any) -> int:
    return _integer(value, _SMALL)


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float):
        raise TypeError("not a number")
    return events.finite(value)


def _or_none(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)


def _json(value: Any) -> Any:
    """`value` with every text in it storable."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float):
        return events.finite(value)
    if isinstance(value, Mapping):
        return {text(key): _json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_json(part) for part in value]
    return value
