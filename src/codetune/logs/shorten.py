"""Long tool outputs, cut in the middle."""

from __future__ import annotations

# Where the end tells more than the beginning: test runs and builds.
_MOSTLY_TAIL = ("Bash", "BashOutput", "exec_command", "run_shell_command", "shell")
_SLACK = 0.25


def shorten(text: str, limit: int, tool: str = "") -> str:
    """`text` with at most `limit` characters kept from its head and tail.

    Cuts fall on line ends where one is near, and else between words, so that no key or token is
    left in half (and unrecognisable to the redaction).
    """
    if len(text) <= limit:
        return text
    head_room = int(limit * (0.3 if tool in _MOSTLY_TAIL else 0.6))
    head = text[: _head(text, head_room)].rstrip()
    tail = text[len(text) - _head(text[::-1], limit - head_room) :].lstrip()
    omitted = len(text) - len(head) - len(tail)
    return f"{head}\n... [{omitted:,} characters omitted] ...\n{tail}"


def _head(text: str, room: int) -> int:
    """How many of the first `room` characters to keep."""
    near = text.rfind("\n", int(room * (1 - _SLACK)), room)
    if near >= 0:
        return near + 1
    place = room
    while place > 0 and not text[place - 1].isspace():
        place -= 1
    return place
