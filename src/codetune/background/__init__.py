"""Runs that go on when nobody looks: in tmux, or without it as a detached process.

A *session* is one training run at work in the background. tmux sessions of ours are known by the
options that we set on them, detached processes by a record under `logs/background/`; never by a
name alone. What a session's run does is read from its journal.
"""

from codetune.background.ending import Patience
from codetune.background.places import Places
from codetune.background.sessions import Session, choose, session_name
from codetune.background.status import as_dict, status_lines

__all__ = [
    "Patience",
    "Places",
    "Session",
    "as_dict",
    "choose",
    "session_name",
    "status_lines",
]
