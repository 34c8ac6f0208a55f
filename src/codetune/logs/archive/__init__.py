"""Keeping session files: a private, verified copy that grows with them and outlives them.

Assistants delete their logs (Claude Code after 30 days). An archive holds the bytes as they were,
in folders that the readers of logs take like the originals. See docs/archive_logs.md.
"""

from codetune.logs.archive.copying import KEPT
from codetune.logs.archive.forgetting import Selection, folder_of, forget, select
from codetune.logs.archive.identity import Forgotten, forgotten
from codetune.logs.archive.index import LOCK, Index, is_archive, place_of
from codetune.logs.archive.keeping import Kept, checked, keep_all, listed
from codetune.logs.archive.places import usual_places
from codetune.logs.archive.repair import Repaired, repair, verify

__all__ = [
    "KEPT",
    "LOCK",
    "Forgotten",
    "Index",
    "Kept",
    "Repaired",
    "Selection",
    "checked",
    "folder_of",
    "forget",
    "forgotten",
    "is_archive",
    "keep_all",
    "listed",
    "place_of",
    "repair",
    "select",
    "usual_places",
    "verify",
]
