"""Forgetting: finding all that is left of a session or project, and removing it for good."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from codetune.errors import UserError
from codetune.logs.archive.identity import UUID, identify, remember
from codetune.logs.archive.index import Entry, Index
from codetune.logs.archive.repair import remove

_SHORTEST = 6
_CHUNK = 1 << 20
_RECORD_ID = re.compile(rb'"uuid"\s*:\s*"([0-9a-fA-F-]{36})"')
_LONGEST_ID = 64


@dataclass
class Selection:
    """What goes: files by name, and what will be known again. `copies` hold copied records."""

    files: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)
    sessions: set[str] = field(default_factory=set)
    projects: set[str] = field(default_factory=set)

    def entries(self, index: Index) -> list[Entry]:
        """The entries of all that goes, in order of session and name."""
        chosen = [index.entries[name] for name in self.files | self.copies]
        return sorted(chosen, key=lambda entry: (entry.session, entry.name))


def select(index: Index, wanted: str, home: Path) -> Selection:
    """What a session id or its beginning, the folder of a project or its path stands for.

    UserError, which repeats no name, when that is nothing or several things.
    """
    chosen = Selection()
    if not wanted.strip():
        raise UserError("--forget: is empty; give a session id or the path of a project")
    if "/" in wanted:
        _select_path(index, Path(wanted).expanduser(), home, chosen)
    else:
        _select_name(index, wanted, chosen)
    _with_copies(index, chosen)
    return chosen


def forget(index: Index, chosen: Selection) -> int:
    """Remembers the hashes first, then removes the files; how many bytes were freed."""
    remember(index.archive, sorted(chosen.sessions), sorted(chosen.projects))
    return remove(index, chosen.files | chosen.copies)


def _select_name(index: Index, wanted: str, chosen: Selection) -> None:
    entries = index.entries.values()
    exact = {e.session for e in entries} & {wanted}
    folders = {folder_of(e.name) for e in entries} & {wanted}
    begun = {e.session for e in entries if e.session.startswith(wanted)}
    places = {e.cwd for e in entries if PurePosixPath(e.cwd).name == wanted}
    found = exact or folders or (begun if len(wanted) >= _SHORTEST else set()) or places
    if len(found) > 1:
        raise UserError(f"--forget: {len(found)} are called so; give more of the name")
    if found and found is folders:
        _select_project(index, folders, wanted, chosen)
    elif found and found is places:
        place = found.pop()
        _select_project(index, _spellings(Path(place)), place, chosen)
    elif found or UUID.fullmatch(wanted):
        _select_session(index, found.pop() if found else wanted, chosen)
    else:
        raise UserError(
            f"--forget: no such session or project in {index.archive}; give a whole session id or "
            "the path of a project"
        )


def _select_path(index: Index, path: Path, home: Path, chosen: Selection) -> None:
    place = Path(os.path.abspath(path))  # noqa: PTH100 - the project may be gone, or be a link
    if place.is_file():
        _select_session(index, identify(place, f"{place.parent.name}/{place.name}").session, chosen)
        return
    if home.is_relative_to(place):
        raise UserError("--forget: every project lies in that folder; name one of them")
    below_a_root = any(root in place.parents for root in index.roots.values())
    folders = _spellings(place) | ({place.name} if below_a_root else set())
    _select_project(index, folders, str(place), chosen)


def _select_session(index: Index, session: str, chosen: Selection) -> None:
    chosen.sessions.add(session)
    chosen.files |= {name for name, entry in index.entries.items() if entry.session == session}


def _select_project(index: Index, folders: set[str], place: str, chosen: Selection) -> None:
    """All files of a project: by the folder they lie in, or by where the assistant worked."""
    for name, entry in index.entries.items():
        worked = PurePosixPath(entry.cwd)
        if folder_of(name) in folders or (entry.cwd and worked.is_relative_to(place)):
            chosen.files.add(name)
            chosen.sessions.add(entry.session)
    chosen.projects |= folders | {place}


def folder_of(name: str) -> str:
    """The folder of a project that a kept file lies in; "" for one that has none."""
    parts = name.split("/")[2:-1]
    return parts[0] if parts and not parts[0].isdigit() else ""


def _spellings(path: Path) -> set[str]:
    """How assistants call the folder of a project at `path`."""
    text = str(path)
    return {re.sub(r"[^A-Za-z0-9]", "-", text), hashlib.sha256(os.fsencode(text)).hexdigest()}


def _with_copies(index: Index, chosen: Selection) -> None:
    """Adds resumed and branched copies: sessions that begin with records of what goes."""
    records: set[str] = set()
    earlier = [v.name for v in index.versions.values() if v.of in chosen.files]
    for name in [*earlier, *chosen.files]:
        if ".jsonl" in name and (index.archive / name).is_file():
            records |= _record_ids(index.archive / name)
        if name.endswith(".jsonl") and (index.archive / name).is_file():
            chosen.sessions |= set(identify(index.archive / name, name).marks)
    copies = set()
    for name, entry in index.entries.items():
        path = index.archive / name
        if entry.session not in chosen.sessions and name.endswith(".jsonl") and path.is_file():
            who = identify(path, name)
            if not records.isdisjoint(who.ids):
                copies.add(who.session)
                chosen.sessions |= set(who.marks)
    chosen.copies = {n for n, e in index.entries.items() if e.session in copies} - chosen.files


def _record_ids(path: Path) -> set[str]:
    found, before = set(), b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found |= {one.decode() for one in _RECORD_ID.findall(before + chunk)}
            before = chunk[-_LONGEST_ID:]
    return found
