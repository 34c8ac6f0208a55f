"""Fill-in-the-middle rows of a source tree, each with where it came from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from codetune.artefact import Counts
from codetune.code.selection import Limits, head, reason_by_content, reason_by_listing
from codetune.code.spans import Plan, Span, choose
from codetune.code.tree import Entry, SourceTree
from codetune.redaction import find_secrets
from codetune.sample import FimRow, digest

_SPDX = re.compile(r"SPDX-License-Identifier:\s*([A-Za-z0-9.+() -]*[A-Za-z0-9.+)])")


@dataclass
class Account:
    """What became of files and rows, for all trees together; `seen` are the blobs read so far."""

    files: Counts = field(default_factory=Counts)
    rows: Counts = field(default_factory=Counts)
    kinds: Counter[str] = field(default_factory=Counter)
    rejects: list[dict[str, str]] | None = None
    seen: set[str] = field(default_factory=set)

    def reject(self, tree: SourceTree, entry: Entry, reason: str) -> None:
        """Counts a file left out and, where `rejects` is a list, names it; never its content."""
        self.files.drop(reason)
        if self.rejects is not None:
            self.rejects.append({"repo": tree.name, "path": entry.path, "reason": reason})


def rows(
    tree: SourceTree, limits: Limits, plan: Plan, seed: int, account: Account
) -> Iterator[FimRow]:
    """The rows of every usable Python file of `tree`, in the order of its listing."""
    wanted = []
    for entry in tree.entries:
        reason = reason_by_listing(entry, limits) or _seen_before(entry, account)
        if reason is None:
            wanted.append(entry)
        else:
            account.reject(tree, entry, reason)
    for entry, data in tree.read(wanted):
        made = "missing" if data is None else file_rows(tree, entry, data, limits, plan, seed)
        if isinstance(made, str):
            account.reject(tree, entry, made)
            continue
        account.files.keep()
        account.rows.keep(len(made))
        account.kinds.update(row["meta"]["kind"] for row in made)
        yield from made


def file_rows(
    tree: SourceTree, entry: Entry, data: bytes, limits: Limits, plan: Plan, seed: int
) -> list[FimRow] | str:
    """The rows of one file, or the reason why there are none.

    prefix + middle + suffix of each is the file, byte for byte. A file with a secret is left out
    whole: redacting it would break exactly that.
    """
    reason = reason_by_content(data, limits)
    if reason is not None:
        return reason
    text = data.decode("utf-8")
    if find_secrets(text):
        return "secret"
    spans = choose(data, plan, f"{seed} {tree.identity} {entry.path} {entry.blob}")
    if spans is None:
        return "does_not_parse"
    if not spans:
        return "no_span"
    licence = _SPDX.search(head(text))
    origin = {"license": licence.group(1)} if licence else {}
    return [_row(tree, entry, data, span, origin) for span in spans]


def _seen_before(entry: Entry, account: Account) -> str | None:
    """One content gives rows once, whatever its paths and clones: groups are made of paths, so the
    split could put the second copy on the other side.
    """
    if entry.blob in account.seen:
        return "already_read"
    account.seen.add(entry.blob)
    return None


def _row(tree: SourceTree, entry: Entry, data: bytes, span: Span, origin: dict[str, str]) -> FimRow:
    where = f"{span.start}-{span.end}"
    return {
        "id": f"repo-{digest(tree.identity, entry.path, entry.blob)}-{where}",
        "task": "fim",
        "prefix": data[: span.start].decode("utf-8"),
        "middle": data[span.start : span.end].decode("utf-8"),
        "suffix": data[span.end :].decode("utf-8"),
        "meta": {
            "source": "repo",
            "group": f"{tree.identity}:{entry.path}",
            "repo": tree.name,
            "path": entry.path,
            "rev": tree.rev,
            "blob": entry.blob,
            "language": "python",
            "kind": span.kind,
            "start": span.start,
            "end": span.end,
            **origin,
        },
    }
