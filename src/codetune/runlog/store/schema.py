"""The tables. Ids, numbers and hashes only: texts of samples stay in files under `outputs/`.

All times are integer milliseconds UTC. Every change here needs a migration in `migrations/` and a
new `revision.HEAD`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

STATUSES = (
    "created",
    "running",
    "finished",
    "up to date",
    "failed",
    "refused",
    "interrupted",
)
DIRECTIONS = ("lower", "higher", "none")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_json = JSON().with_variant(JSONB, "postgresql")


def _of_run() -> Column[str]:
    return Column("run_id", Text, ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)


project = Table("project", metadata, Column("name", Text, primary_key=True))

env_snapshot = Table(
    "env_snapshot",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("facts", _json, nullable=False),
)

run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),  # ULID: sorts by time, merges across machines
    Column("name", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("project", Text, ForeignKey("project.name"), nullable=False),
    Column("stage", Text, nullable=False),
    Column("stage_version", Integer),
    Column("status", Text, nullable=False),
    Column("exit_reason", Text),
    Column("parent_id", Text),  # no foreign key: a parent may be indexed after its child
    Column("seed", BigInteger),
    Column("argv", _json),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column(
        "heartbeat_at", BigInteger, nullable=False
    ),  # last sign of life: amendments do not count
    Column("machine", Text),  # hash of boot and process namespace, no host name
    Column("pid", Integer),
    Column("pid_started", BigInteger),
    Column("git_commit", Text),
    Column("git_diff_sha256", Text),  # NULL when the code is exactly the commit
    Column("env_hash", Text, ForeignKey("env_snapshot.hash")),
    Column("indexed", BigInteger, nullable=False),  # bytes of events.jsonl that stand in the tables
    CheckConstraint(f"status IN ({', '.join(repr(s) for s in STATUSES)})", name="status"),
)
Index("ix_run_stage_id", run.c.stage, run.c.id)
Index("ix_run_parent_id", run.c.parent_id)

param = Table(
    "param",
    metadata,
    _of_run(),
    Column("key", Text, primary_key=True),
    Column("num", Double),
    Column("text", Text, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("default_text", Text),
)

metric_key = Table(
    "metric_key",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("unit", Text, nullable=False),
    Column("direction", Text, nullable=False),
    UniqueConstraint("key", "version"),
    CheckConstraint(f"direction IN ({', '.join(repr(d) for d in DIRECTIONS)})", name="direction"),
)

series = Table(  # one metric of one run, over all its points in the order they were logged
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("key_id", Integer, ForeignKey("metric_key.id"), nullable=False),
    Column("first", Double),
    Column("last", Double),
    Column("min", Double),
    Column("max", Double),
    Column("min_step", BigInteger),  # of the first point that was as low, and as high
    Column("max_step", BigInteger),
    Column("steps", BigInteger, nullable=False),  # the highest step
    Column("count", BigInteger, nullable=False),
    UniqueConstraint("run_id", "key_id"),
)

metric = Table(  # keyed by a small number: a point costs about 27 bytes
    "metric",
    metadata,
    Column("series_id", Integer, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("value", Double),  # NULL is "not a finite number"
    Column("ts", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

system_sample = Table(
    "system_sample",
    metadata,
    _of_run(),
    Column("ts", BigInteger, primary_key=True),
    Column("cpu_percent", Double, nullable=False),  # of one core, all threads of the process
    Column("rss", BigInteger, nullable=False),  # bytes
    # Over the GPUs that the run can see; NULL where there is none.
    Column("gpu_percent", Double),  # mean utilisation
    Column("gpu_memory", BigInteger),  # bytes in use, by whomever, summed
    Column("gpu_temperature", Double),  # degrees Celsius, of the hottest
    Column("gpu_power", Double),  # watts, summed
    sqlite_with_rowid=False,
)

run_io = Table(
    "run_io",
    metadata,
    _of_run(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # place in events.jsonl
    Column("role", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("sha256", Text),
    CheckConstraint("role IN ('in', 'out')", name="role"),
)
Index("ix_run_io_sha256", run_io.c.sha256)

tag = Table("tag", metadata, _of_run(), Column("text", Text, primary_key=True))

note = Table(
    "note",
    metadata,
    _of_run(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # place in events.jsonl
    Column("ts", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    _of_run(),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),  # place in events.jsonl
    Column("ts", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("fields", _json, nullable=False),
)
