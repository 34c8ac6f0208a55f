"""Reads a commit through git plumbing, in an environment where nothing of the repository can run.

What is read is what is committed at a revision. The work tree is not looked at: asking git which
of its files changed would run the repository's own clean filters (`filter.<name>.clean`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from codetune.code.tree import Entry, Kind, fingerprint
from codetune.errors import UserError

_SECONDS = 600
# As many requests (41 bytes each) as fit into the smallest pipe: nobody waits for the other side.
_ASKED_AT_ONCE = 96
_IDENTITY_DIGITS = 12
_KINDS: dict[str, Kind] = {"120000": "symlink", "160000": "submodule"}
# Command-line settings win over the repository's own. Each names a way to make git run a program
# or reach out of the machine; safe.directory lets a clone of another user be read, which is sound
# exactly because nothing of it can run.
_SETTINGS = (
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    f"core.hooksPath={os.devnull}",
    f"core.attributesFile={os.devnull}",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.askPass=false",
    "protocol.allow=never",
    "credential.helper=",
    "submodule.recurse=false",
    "safe.directory=*",
)
_ENVIRONMENT = {
    "LC_ALL": "C",
    "HOME": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    # git before 2.45 does not know GIT_NO_LAZY_FETCH: an allow-list with no real protocol stops
    # the fetch of a partial clone's missing objects, whose URL may be a command (ext::).
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
}


class GitError(Exception):
    """git refused; the text is its last line."""


class GitTree:
    """The files of one commit, below one folder of the repository (its root as a rule)."""

    def __init__(self, place: Path, name: str, prefix: str, rev: str) -> None:
        self._place = place
        self.name = name
        self.rev: str | None = _commit(place, rev)
        self.identity = _identity(place, self.rev)
        self.entries = _entries(place, self.rev, prefix)
        self.fingerprint = fingerprint(self.entries)

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes | None]]:
        """Each entry with its blob's bytes, unfiltered; None for an object that is missing."""
        with _started(self._place, "cat-file", "--batch") as git:
            stdin, stdout = git.stdin, git.stdout
            if stdin is None or stdout is None:
                raise GitError("no pipe to git")
            waiting = iter(entries)
            while asked := list(islice(waiting, _ASKED_AT_ONCE)):
                stdin.write(b"".join(entry.blob.encode() + b"\n" for entry in asked))
                stdin.flush()
                for entry in asked:
                    yield entry, _reply(stdout)
            stdin.close()


def find_repository(path: Path) -> tuple[str, str] | None:
    """(name, folder inside the repository with a final slash or "") or None outside of git.

    Takes a work tree, a folder in one, a `.git` folder or a bare repository.
    """
    if shutil.which("git") is None:
        if (path / ".git").exists() or (path / "objects").is_dir():
            raise UserError(f"{path}: git is not installed, and this is a git repository")
        return None
    try:
        answer = _git(path, "rev-parse", "--is-inside-work-tree", "--absolute-git-dir")
    except GitError:
        return None
    inside, _, folder = answer.decode("utf-8", "surrogateescape").rstrip("\n").partition("\n")
    if inside == "true":
        shown = _git(path, "rev-parse", "--show-prefix")
        prefix = shown.decode("utf-8", "surrogateescape").rstrip("\n")
        top = path.parents[prefix.count("/") - 1] if prefix else path
        return top.name, prefix
    git_dir = Path(folder)
    name = git_dir.parent.name if git_dir.name == ".git" else git_dir.name.removesuffix(".git")
    return name, ""


def _commit(place: Path, rev: str) -> str:
    try:
        found = _git(place, "rev-parse", "--verify", "--end-of-options", f"{rev}^{{commit}}")
    except GitError:
        if rev == "HEAD":
            raise UserError(f"{place}: has no commit yet; commit the code first") from None
        raise UserError(f"{place}: no commit {rev!r}; see `git log` for what there is") from None
    return found.decode().strip()


def _identity(place: Path, commit: str) -> str:
    """The same for every clone: the root commit, the smallest of them where there are several."""
    roots = _listing(place, "rev-list", "--max-parents=0", commit)
    return min(roots.decode().split())[:_IDENTITY_DIGITS]


def _entries(place: Path, commit: str, prefix: str) -> tuple[Entry, ...]:
    inside = ("--", prefix) if prefix else ()
    # --full-tree: paths from the repository's root, whatever folder we were started in
    listing = _listing(place, "ls-tree", "-r", "-l", "-z", "--full-tree", commit, *inside)
    return tuple(_entry(line) for line in listing.split(b"\0") if line)


def _entry(line: bytes) -> Entry:
    facts, _, raw_path = line.partition(b"\t")
    mode, _, blob, size = facts.decode("ascii").split()
    kind = _KINDS.get(mode, "file")
    try:
        path = raw_path.decode("utf-8")
    except UnicodeDecodeError:
        path, kind = raw_path.decode("utf-8", "backslashreplace"), "bad_name"
    return Entry(path, kind, int(size) if size.isdigit() else -1, blob)


def _reply(stdout: IO[bytes]) -> bytes | None:
    """One answer of `cat-file --batch`: a header line, the bytes, a newline."""
    header = stdout.readline().split()
    if not header:
        raise GitError("git ended while blobs were read")
    if len(header) != 3 or header[1] != b"blob":
        return None
    data = stdout.read(int(header[2]) + 1)
    return data[:-1]


def _listing(place: Path, *arguments: str) -> bytes:
    """Output of a command that only fails on a damaged or partial repository."""
    try:
        return _git(place, *arguments)
    except GitError as problem:
        raise UserError(
            f"{place}: git cannot read it ({problem}); is the clone partial or damaged?"
        ) from None


def _git(place: Path, *arguments: str) -> bytes:
    with _started(place, *arguments) as git:
        try:
            output, errors = git.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            git.kill()
            raise GitError(f"no answer in {_SECONDS} s") from None
    if git.returncode:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        raise GitError(lines[-1] if lines else f"exit status {git.returncode}")
    return output


def _started(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    program = shutil.which("git")
    if program is None:
        raise UserError("git is not installed")
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    return subprocess.Popen(
        [program, "--no-pager", "--literal-pathspecs", *settings, *arguments],
        cwd=place,
        env={"PATH": f"{Path(program).parent}{os.pathsep}{os.defpath}", **_ENVIRONMENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # a long-running reader whose errors nobody reads must not fill the pipe
        stderr=subprocess.DEVNULL if "--batch" in arguments else subprocess.PIPE,
    )
