"""What figures mean whose stage did not say it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from codetune.runlog import meaning, open_run
from codetune.runlog.reading.queries import reading
from codetune.runlog.store import schema


@pytest.mark.parametrize(
    ("key", "unit", "direction"),
    [
        ("tokens_per_second", "tokens/s", "higher"),
        ("train_seconds", "s", "lower"),
        ("check-lengths_peak_rss_mib", "MiB", "lower"),
        ("eval_loss_best", "nats/token", "lower"),
        ("parity_mean_kl", "nats", "lower"),
        ("trained_steps", "count", "none"),
        ("eval_fill", "share", "none"),
        ("glossy", "", "none"),
        ("milliseconds_of_fame", "", "none"),
    ],
)
def test_a_name_tells_unit_and_direction(key: str, unit: str, direction: str) -> None:
    assert meaning.of(key) == (unit, direction)


def test_what_a_stage_says_itself_wins(tmp_path: Path) -> None:
    run = open_run(tmp_path, stage="train", config={})
    run.define("train_seconds", "minutes", "none")
    run.metric("train_seconds", 1.0)
    run.metric("eval_seconds", 1.0)
    run.finish("finished")
    with reading(tmp_path) as connection:
        found = connection.execute(select(schema.metric_key).order_by(schema.metric_key.c.key))
        defined = [(row.key, row.unit, row.direction) for row in found]
    assert defined == [("eval_seconds", "s", "lower"), ("train_seconds", "minutes", "none")]
