"""The run log: what was run, with which code, config, data and environment, and what came out.

Each run appends to its own `logs/runs/<run id>/events.jsonl`, which is the truth. A database
(SQLite `logs/runs.db`, or PostgreSQL) is an index over those journals: a background thread feeds
it (`store/`), and questions to it are answered in `reading/`. Importing this package loads no
database library.
"""

from codetune.runlog.local import RunFile, RunRow, active_runs, latest, newest_adapter
from codetune.runlog.run import Run, create_run, disabled, open_run

__all__ = [
    "Run",
    "RunFile",
    "RunRow",
    "active_runs",
    "create_run",
    "disabled",
    "latest",
    "newest_adapter",
    "open_run",
]
