"""The verbs of `runs` that have scripts of their own, and what each does, for `--help`."""

from __future__ import annotations

from collections.abc import Mapping

ELSEWHERE: Mapping[str, str] = {
    "lineage": "what something was made from, or became",
    "tag": "words to find a run by",
    "note": "a note on a run",
    "rm": "remove runs from the run log; what they made stays",
    "prune": "which checkpoints of finished runs may go",
    "export": "records (json), points (csv) or a page (html)",
    "reindex": "make the database anew from the journals",
    "upgrade": "bring the database to this version, after a copy",
    "watch": "follow the records of runs as they are written",
}
