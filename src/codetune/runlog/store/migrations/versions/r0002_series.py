"""Points belong to a series, which also knows where its extremes are; notes; GPU samples."""

import sqlalchemy as sa
from alembic import op

from codetune.runlog.store.migrations import one_way

revision = "0002"
down_revision = "0001"
RENAMED = {"metric_summary": "series"}  # tables whose rows stand elsewhere afterwards


def upgrade() -> None:
    """Moves summaries into series, points to their series, and adds what is new."""
    _create_series()
    _fill_series()
    _move_points()
    op.drop_table("metric_summary")
    _create_notes()
    _add_gpu_samples()


def downgrade() -> None:
    """Refuses."""
    one_way(revision, down_revision)


def _create_series() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("first", sa.Double(), nullable=True),
        sa.Column("last", sa.Double(), nullable=True),
        sa.Column("min", sa.Double(), nullable=True),
        sa.Column("max", sa.Double(), nullable=True),
        sa.Column("min_step", sa.BigInteger(), nullable=True),
        sa.Column("max_step", sa.BigInteger(), nullable=True),
        sa.Column("steps", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["key_id"], ["metric_key.id"], name=op.f("fk_series_key_id_metric_key")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_series_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("run_id", "key_id", name=op.f("uq_series_run_id_key_id")),
    )


def _fill_series() -> None:
    """A point that was logged again lost its old value: then its step is not known (NULL)."""
    step_of = (
        "(SELECT m.step FROM metric m WHERE m.run_id = s.run_id AND m.key_id = s.key_id "
        "AND m.value = s.{} ORDER BY m.ts, m.step LIMIT 1)"
    )
    kept = 'run_id, key_id, first, last, "min", "max", steps, "count"'
    op.execute(
        f"INSERT INTO series ({kept}, min_step, max_step) "  # noqa: S608 - no data in it
        f"SELECT {kept}, {step_of.format('min')}, {step_of.format('max')} "
        "FROM metric_summary s ORDER BY run_id, key_id"
    )


def _move_points() -> None:
    op.rename_table("metric", "metric_0001")
    if op.get_context().dialect.name == "postgresql":  # names of indexes are shared by a schema
        op.execute("ALTER TABLE metric_0001 RENAME CONSTRAINT pk_metric TO pk_metric_0001")
    op.create_table(
        "metric",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["series_id"],
            ["series.id"],
            name=op.f("fk_metric_series_id_series"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("series_id", "step", name=op.f("pk_metric")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO metric (series_id, step, value, ts) SELECT s.id, m.step, m.value, m.ts "
        "FROM series s JOIN metric_0001 m ON m.run_id = s.run_id AND m.key_id = s.key_id "
        "ORDER BY s.id, m.step"
    )
    op.drop_table("metric_0001")


def _create_notes() -> None:
    op.create_table(
        "note",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_note_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_note")),
    )


def _add_gpu_samples() -> None:
    op.add_column("system_sample", sa.Column("gpu_percent", sa.Double(), nullable=True))
    op.add_column("system_sample", sa.Column("gpu_memory", sa.BigInteger(), nullable=True))
    op.add_column("system_sample", sa.Column("gpu_temperature", sa.Double(), nullable=True))
    op.add_column("system_sample", sa.Column("gpu_power", sa.Double(), nullable=True))
