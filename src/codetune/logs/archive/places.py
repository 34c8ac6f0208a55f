"""Where assistants keep their sessions, and which files there are worth keeping."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codetune.errors import UserError
from codetune.logs.archive.identity import UUID
from codetune.logs.archive.index import Index, place_of

# What a writer leaves beside its target is swept away sooner or later, in an archive as well.
_TEMPORARY = re.compile(r"\..+\.(?:staging|tmp|old)-\d+-[^.]*", re.S)
_BESIDE_A_SESSION = frozenset(("subagents", "tool-results", "workflows"))


@dataclass(frozen=True, slots=True)
class Found:
    """A file to keep: `name` is its place below the archive."""

    name: str
    path: Path
    facts: os.stat_result


@dataclass(frozen=True, slots=True)
class Left:
    """A file or folder that is not kept, and why."""

    path: Path
    reason: str
    why: str = ""


@dataclass
class Source:
    """A root to keep files of, or a single file below it."""

    root: Path
    place: str
    starts: list[Path] = field(default_factory=list)


def usual_places(home: Path, environment: Mapping[str, str]) -> list[Path]:
    """Where the assistants of this machine keep sessions: those of these folders that exist."""
    settings = environment.get("XDG_CONFIG_HOME") or str(home / ".config")
    claude = [home / ".claude", Path(settings) / "claude"]
    claude += [
        Path(given).expanduser() for given in [environment.get("CLAUDE_CONFIG_DIR")] if given
    ]
    codex = Path(environment.get("CODEX_HOME") or home / ".codex").expanduser()
    places = [
        *(folder / "projects" for folder in claude),
        *(codex / "sessions", codex / "archived_sessions", home / ".gemini" / "tmp"),
    ]
    return list(dict.fromkeys(place.resolve() for place in places if place.is_dir()))


def is_session_file(parts: Sequence[str]) -> bool:
    """Whether the file with these parts of a path below a root belongs to a session.

    Lines of records; what Claude Code spills beside a session; Gemini's chats; exports.
    """
    name = parts[-1]
    if name.endswith((".jsonl", ".jsonl.zst", ".jsonl.gz")) or name == "conversations.json":
        return True
    if name.endswith(".json") and "chats" in parts[:-1]:
        return True
    pairs = zip(parts, parts[1:-1], strict=False)
    return any(UUID.fullmatch(one) and two in _BESIDE_A_SESSION for one, two in pairs)


def sources(
    asked: Iterable[str | Path], usual: Iterable[Path], index: Index, archive: Path
) -> list[Source]:
    """The roots of the files, folders and patterns `asked` for, or of the `usual` places.

    What lies below a root that is known already belongs to that root, so that no file is kept
    twice. UserError for a path that does not exist or that lies in the archive.
    """
    given = [_existing(one) for one in asked] if asked else [[place] for place in usual]
    known = {*index.roots.values(), *usual}
    made: dict[Path, Source] = {}
    for start in sorted({path.resolve() for paths in given for path in paths}):
        if start.is_relative_to(archive.resolve()):
            raise UserError(f"{start}: lies in the archive itself; give --src another folder")
        if not start.name:
            raise UserError(f"{start}: is the whole disk; give --src a folder with sessions")
        root = _deepest(start, known) or (start if start.is_dir() else start.parent)
        known.add(root)
        _start(made, root, start)
        for below in [one for one in known if start in one.parents and one.is_dir()]:
            _start(made, below, below)
    return list(made.values())


def _start(made: dict[Path, Source], root: Path, start: Path) -> None:
    starts = made.setdefault(root, Source(root, place_of(root))).starts
    if not any(start.is_relative_to(one) for one in starts):
        starts.append(start)


def scan(source: Source, known: Iterable[Path], archive: Path) -> Iterator[Found | Left]:
    """Every file below a source, in an order that its names decide.

    Links are not followed; `known` roots below it and the archive are passed over.
    """
    others = {root for root in known if source.root in root.parents} | {archive.resolve()}
    for start in source.starts:
        if start.is_dir():
            yield from _below(source, start, others)
        else:
            yield _judged(source, start, start.stat(follow_symlinks=False), explicit=True)


def _below(source: Source, start: Path, passed: set[Path]) -> Iterator[Found | Left]:
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as problem:
            yield Left(folder, "unreadable", problem.strerror or "")
            continue
        folders = [Path(one.path) for one in entries if one.is_dir(follow_symlinks=False)]
        waiting += [one for one in reversed(folders) if one not in passed]
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                continue
            try:
                facts = entry.stat(follow_symlinks=False)
            except OSError:
                yield Left(path, "vanished")
                continue
            yield _judged(source, path, facts, explicit=False)


def _judged(source: Source, path: Path, facts: os.stat_result, *, explicit: bool) -> Found | Left:
    below = path.relative_to(source.root)
    if stat.S_ISLNK(facts.st_mode):
        return Left(path, "link")
    if _TEMPORARY.fullmatch(path.name) or not (explicit or is_session_file(below.parts)):
        return Left(path, "not_a_session")
    if not stat.S_ISREG(facts.st_mode):
        return Left(path, "not_a_regular_file")
    return Found(f"{source.place}/{below.as_posix()}", path, facts)


def _existing(asked: str | Path) -> list[Path]:
    path = Path(asked).expanduser()
    if path.exists():
        return [path]
    # Path.glob cannot take an absolute pattern.
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    if not matches:
        raise UserError(f"{asked}: no such file or folder; give --src a path that exists")
    return [Path(match) for match in matches]


def _deepest(path: Path, roots: Iterable[Path]) -> Path | None:
    above = [root for root in roots if path.is_relative_to(root)]
    return max(above, key=lambda root: len(root.parts), default=None)
