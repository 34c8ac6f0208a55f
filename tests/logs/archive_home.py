"""A home folder with sessions, an archive of it, and a run of archive-logs without its script."""

import itertools
import json
import os
import uuid
from collections import Counter
from pathlib import Path

from codetune import artefact
from codetune.logs import archive
from codetune.logs.archive.index import superseded
from codetune.logs.archive.places import is_session_file

_clock = itertools.count(1)


def a_session(number):
    """A session id that is the same at every start."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"session {number}"))


def a_line(text, session="", **more):
    """A record as Claude Code writes it."""
    record = {"type": "user", "message": {"role": "user", "content": text}, "sessionId": session}
    return json.dumps({**record, "uuid": str(uuid.uuid4()), **more}).encode() + b"\n"


def settled(path):
    """Gives a file a time of its own in the past, as a file that nobody touches has."""
    when = 1_700_000_000 + next(_clock)
    os.utime(path, (when, when))


class Home:
    """`root` is ~/.claude/projects, `archive` the archive."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = folder / ".claude" / "projects"
        self.archive = folder / "work" / "data" / "archive"
        self.root.mkdir(parents=True)

    def write(self, name, data: bytes, *, add=False):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab" if add else "wb") as file:
            file.write(data)
        settled(path)
        return path

    def keep(self, *asked, usual=None):
        """What `archive-logs` does; returns what it did."""
        out = archive.checked(self.archive)
        with artefact.locked(out / archive.LOCK, 0, lambda: None):
            index = archive.Index(out)
            left_out = archive.forgotten(out)
            archive.repair(index, left_out)
            places = [self.root] if usual is None else usual
            listed = archive.listed(asked, places, index)
            kept = archive.keep_all(listed, index, left_out, lambda: None)
            index.close()
        return kept

    def outcomes(self):
        """The outcomes of a run as {outcome: files}."""
        return dict(sum((tally.outcomes for tally in self.keep().tallies), start=Counter()))

    def kept(self, name):
        """The bytes that the archive has of a file of the root; None when it has none."""
        path = self.archive / self.place / name
        return path.read_bytes() if path.is_file() else None

    def versions(self, name):
        """The bytes of all that was set aside for a file."""
        folder = (self.archive / self.place / name).parent
        last = name.rpartition("/")[2]
        return [p.read_bytes() for p in folder.iterdir() if superseded(p.name) == last]

    @property
    def place(self):
        return archive.place_of(self.root.resolve())

    def index(self):
        return archive.Index(self.archive)

    def wrong(self):
        """What --verify complains about."""
        return archive.verify(self.index())[1]

    def all_bytes(self):
        """Every byte in the archive, in no order."""
        return b"\0".join(p.read_bytes() for p in self.archive.rglob("*") if p.is_file())

    def equals_sources(self):
        """Whether all session files at the root are in the archive, byte by byte."""
        names = [p.relative_to(self.root) for p in self.root.rglob("*") if p.is_file()]
        kept = [name for name in names if is_session_file(name.parts)]
        return all((self.kept(n.as_posix()) or b"") == (self.root / n).read_bytes() for n in kept)
