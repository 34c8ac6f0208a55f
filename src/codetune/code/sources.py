"""Opens what a user points at: a git repository at a revision, or a plain folder."""

from __future__ import annotations

from pathlib import Path

from codetune.code.folder import FolderTree
from codetune.code.git import GitTree, find_repository
from codetune.code.tree import SourceTree
from codetune.errors import UserError


def open_source(path: Path, rev: str = "HEAD") -> SourceTree:
    """The tree at `path`.

    A folder inside a repository that holds nothing tracked (an ignored one, say) is read as a
    plain folder. Raises UserError when there is no such folder, commit, or a revision is asked
    of a folder without git.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a git repository or a folder of code")
    place = path.resolve()
    found = find_repository(place)
    if found is not None:
        tree = GitTree(place, *found, rev=rev)
        if tree.entries or not found[1]:
            return tree
    if rev != "HEAD":
        raise UserError(f"{path}: no git repository, so there is no revision {rev!r}")
    return FolderTree(place)
