"""Conversations that are trees: the way from the start to the message shown last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def path_to(leaf: str, parents: Mapping[str, str]) -> list[str] | None:
    """The ids from a root to `leaf`; `parents` maps each id to the one above, "" above a root.

    None when the way is broken: an id that is not there, or a circle.
    """
    path: list[str] = []
    seen: set[str] = set()
    while leaf:
        if leaf not in parents or leaf in seen:
            return None
        seen.add(leaf)
        path.append(leaf)
        leaf = parents[leaf]
    return path[::-1] or None


def first_new(names: Sequence[str], known: Sequence[bool]) -> str:
    """The id by which copies of a conversation differ: that of its first message not known yet.

    Two copies that went on differently must not share the ids of their rows.
    """
    pairs = zip(names, known, strict=True)
    return next((name for name, is_known in pairs if not is_known), "")
