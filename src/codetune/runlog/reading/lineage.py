"""What an artefact was made from, back to log files and commits; and what was made from it.

Runs are joined by the hashes of what they read and wrote, and by the path where a hash alone finds
nothing. Each run is told once, so that a circle of runs that made equal bytes ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from codetune.errors import UserError
from codetune.runlog.local import RunFile, RunRow
from codetune.runlog.reading.disk import DAMAGED, OK, asked_place, exists, state_of
from codetune.runlog.reading.lineage_stack import Call, returned
from codetune.runlog.reading.queries import find
from codetune.runlog.reading.record import brief
from codetune.runlog.reading.rows import rows_of
from codetune.runlog.store import schema

# So many sources of one kind (sessions, as a rule) are looked at on disk unless all are wanted.
LISTED = 6
_HASH = re.compile(r"[0-9a-fA-F]{8,64}")


@dataclass(frozen=True)
class Step:
    """A run on the way: its code, the knobs that mattered, and what it read (or made)."""

    run: RunRow
    commit: str | None = None
    diff_sha256: str | None = None
    knobs: dict[str, str] = field(default_factory=dict)
    files: tuple[Artefact, ...] = ()
    told_above: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return returned(self.told())

    def told(self) -> Call[dict[str, Any]]:
        """`as_dict`, as a call on a stack of our own."""
        code = {"commit": self.commit, "diff_sha256": self.diff_sha256}
        files = []
        for file in self.files:
            files.append((yield file.told()))
        above = {"told_above": True} if self.told_above else {}
        return {**brief(self.run), "code": code, "knobs": self.knobs, "files": files, **above}


@dataclass(frozen=True)
class Artefact:
    """A file or folder; `runs` made it, or (forward) read it.

    `state` says how what lies there now compares, "" where that was not looked at; `doubt` what
    is not sure about the runs.
    """

    file: RunFile
    state: str = ""
    doubt: str = ""
    runs: tuple[Step, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return returned(self.told())

    def told(self) -> Call[dict[str, Any]]:
        """`as_dict`, as a call on a stack of our own."""
        said = {"state": self.state or None, "doubt": self.doubt or None}
        runs = []
        for step in self.runs:
            runs.append((yield step.told()))
        kept = {name: value for name, value in asdict(self.file).items() if name != "role"}
        return {**kept, **said, "runs": runs}


def lineage(
    connection: Connection,
    root: Path,
    what: str,
    *,
    forward: bool = False,
    everything: bool = False,
) -> Step | Artefact:
    """The tree from a path, a hash or a run; UserError when the run log does not know it.

    `everything` looks at every source on disk, not only at the first few of each kind.
    """
    walk = _Walk(connection, root, forward=forward, everything=everything)
    asked = _on_disk(connection, root, what)
    if asked is None and _HASH.fullmatch(what):
        asked = _by_hash(connection, what.lower())
    if asked is not None:
        return returned(walk.artefact(asked, None))
    known = _recorded(connection, root, what)
    if known is not None:
        return returned(walk.artefact(Artefact(known, state_of(root, known)), None))
    try:
        return returned(walk.step(find(connection, what)))
    except UserError:
        if not exists(Path(what)):
            raise
        raise UserError(f"{what}: no recorded run made or read it; `runs list` has them") from None


class _Walk:
    """One walk; `seen` are the runs that were told already."""

    def __init__(
        self, connection: Connection, root: Path, *, forward: bool, everything: bool
    ) -> None:
        self._connection, self._root = connection, root
        self._forward, self._everything = forward, everything
        self._seen: set[str] = set()
        self._by_hash: dict[str, list[tuple[str, str, str]]] = {}
        self._by_path: dict[str, list[str]] = {}
        if not forward:
            self._read_outputs()

    def artefact(self, found: Artefact, reader: str | None) -> Call[Artefact]:
        """`found` with the run that made it before `reader` read it, or (forward) its readers."""
        if self._forward:
            runs, doubt = self._readers(found.file), ""
        else:
            maker, doubt = self._maker(found.file, reader)
            runs = [] if maker is None else [maker]
        steps = []
        for run_id in runs:
            steps.append((yield self.step(run_id)))
        return replace(found, runs=tuple(steps), doubt=doubt)

    def step(self, run_id: str) -> Call[Step]:
        """A run with what it read (forward: what it made), each file with its own runs."""
        run = schema.run
        row = rows_of(self._connection, select(run).where(run.c.id == run_id))[0]
        if run_id in self._seen:
            return Step(row, told_above=True)
        self._seen.add(run_id)
        code = select(run.c.git_commit, run.c.git_diff_sha256).where(run.c.id == run_id)
        commit, changes = self._connection.execute(code).one()
        files = row.outputs if self._forward else row.inputs
        told = []
        for file in self._looked_at(list(dict.fromkeys(files))):
            told.append((yield self.artefact(file, run_id)))
        return Step(row, commit, changes, self._knobs(row), tuple(told))

    def _looked_at(self, files: Sequence[RunFile]) -> Iterator[Artefact]:
        counted: dict[str, int] = {}
        for file in files:
            counted[file.kind] = counted.get(file.kind, 0) + 1
            looked_at = self._everything or counted[file.kind] <= LISTED
            state = state_of(self._root, file) if looked_at else ""
            yield Artefact(file, state)

    def _read_outputs(self) -> None:
        """Who made what: a run has few outputs, so all of them fit into one question."""
        io, run = schema.run_io.c, schema.run.c
        wanted = select(io.sha256, io.path, io.run_id, run.status).join_from(
            schema.run_io, schema.run
        )
        made = wanted.where(io.role == "out").order_by(io.run_id, io.seq)
        for sha256, path, run_id, status in self._connection.execute(made):
            if sha256:
                self._by_hash.setdefault(sha256, []).append((path, run_id, status))
            if status != "up to date":
                self._by_path.setdefault(path, []).append(run_id)

    def _maker(self, file: RunFile, reader: str | None) -> tuple[str | None, str]:
        """(the run that made a file before it was read, what is not sure about that)."""
        same = [
            (status != "up to date", path == file.path, run_id)
            for path, run_id, status in self._by_hash.get(file.sha256 or "", ())
            if reader is None or run_id < reader
        ]
        if same:
            worked, at_this_path, run_id = max(same)
            doubt = "" if worked else "the run that made it is gone, this one found it up to date"
            return run_id, doubt if at_this_path else doubt or "made at another path"
        earlier = [r for r in self._by_path.get(file.path, ()) if reader is None or r < reader]
        if not earlier:
            return None, ""
        return max(earlier), "by its path: the bytes are others than this run wrote"

    def _readers(self, file: RunFile) -> list[str]:
        io, run = schema.run_io.c, schema.run.c
        same = io.sha256 == file.sha256 if file.sha256 else io.path == file.path
        wanted = select(io.run_id).join_from(schema.run_io, schema.run).where(same, io.role == "in")
        wanted = wanted.where(run.status != "up to date").distinct().order_by(io.run_id)
        return list(self._connection.execute(wanted).scalars())

    def _knobs(self, row: RunRow) -> dict[str, str]:
        """Knobs that are not at their default; those that only name what the tree shows are out."""
        param = schema.param.c
        wanted = select(param.key, param.text).where(param.run_id == row.id, ~param.is_default)
        shown = {row.name, *(file.path for file in row.files)}
        found = sorted((key, text) for key, text in self._connection.execute(wanted))
        return {key: text for key, text in found if not _names(text, shown)}


def _names(text: str, shown: set[str]) -> bool:
    """Whether a knob's value is one of the places shown, or a list of nothing else."""
    words = re.findall(r'"([^"]*)"', text) if text.startswith("[") else [text]
    return bool(words) and all(
        any(path == w or path.endswith(f"/{w}") for path in shown) for w in words
    )


def _on_disk(connection: Connection, root: Path, what: str) -> Artefact | None:
    """What lies at a path, if the run log knows its bytes, or of what artefact it is a part."""
    for place, sha256, wrong in asked_place(root, what):
        known = _known(connection, schema.run_io.c.sha256 == sha256)
        if known is not None:
            shown = replace(known, path=place, role="")
            return Artefact(shown, f"{DAMAGED}: {wrong}" if wrong else OK)
    return None


def _recorded(connection: Connection, root: Path, what: str) -> RunFile | None:
    """What the newest run noted at a path, whatever lies there now."""
    place = Path(what).absolute()
    paths = {what.rstrip("/"), str(place)}
    if place.is_relative_to(root.absolute()):
        paths.add(place.relative_to(root.absolute()).as_posix())
    return _known(connection, schema.run_io.c.path.in_(sorted(paths)))


def _by_hash(connection: Connection, digits: str) -> Artefact | None:
    io = schema.run_io.c
    wanted = select(io.sha256).where(io.sha256.startswith(digits)).distinct().limit(2)
    found = list(connection.execute(wanted).scalars())
    if len(found) > 1:
        raise UserError(f"{digits}: more than one hash begins so; write more of it")
    known = _known(connection, io.sha256 == found[0]) if found else None
    return None if known is None else Artefact(known)


def _known(connection: Connection, condition: Any) -> RunFile | None:
    """The newest record of a file, one of a run that made it before one that read it."""
    io = schema.run_io.c
    wanted = select(io.role, io.kind, io.path, io.sha256).where(condition)
    row = connection.execute(wanted.order_by(io.role.desc(), io.run_id.desc()).limit(1)).first()
    return None if row is None else RunFile(*row)
