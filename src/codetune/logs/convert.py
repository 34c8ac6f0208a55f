"""All log files to redacted rows, in two passes: first learn, then make.

The first pass learns what depends on everything (whose logs these are, which sessions belong
together, which tools there are), the second makes rows; neither holds more than one file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from codetune import sample
from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs.discover import LogFile
from codetune.logs.memory import Kin, Memory
from codetune.logs.rows import Reject, RowCounts, RowMaker, RowOptions
from codetune.logs.sources import Source, source_of
from codetune.logs.tool_schemas import Catalogue
from codetune.redaction import Identity, learn, redact_row


def _nothing() -> None:
    """Tells nobody that a file was read."""


@dataclass
class Survey:
    """What the first pass learned; `readable` are the files that a reader knows."""

    readable: list[tuple[LogFile, Source]] = field(default_factory=list)
    identity: Identity = field(default_factory=Identity)
    catalogue: Catalogue = field(default_factory=Catalogue)
    kin: Kin = field(default_factory=Kin)


@dataclass
class Account:
    """The accounts of a conversion, one a unit; `redacted` counts findings by rule."""

    files: Counts = field(default_factory=Counts)
    memory: Memory = field(default_factory=Memory)
    made: RowCounts = field(default_factory=RowCounts)
    rows: Counts = field(default_factory=Counts)
    redacted: Counter[str] = field(default_factory=Counter)

    def by_unit(self) -> dict[str, Counts]:
        """The accounts by the name of their unit."""
        return {
            "files": self.files,
            "records": self.memory.records,
            "turns": self.made.turns,
            "steps": self.made.steps,
            "rows": self.rows,
        }


def survey(
    files: Sequence[LogFile],
    files_count: Counts,
    *,
    subagents: bool,
    on_file: Callable[[], None] = _nothing,
) -> Survey:
    """The first pass. Raises UserError for a file asked for by name that no reader knows."""
    learned = Survey()
    memory = Memory()
    for file in files:
        on_file()
        source = source_of(file)
        if source is None:
            _refuse(file, files_count)
            continue
        learned.readable.append((file, source))
        held = False
        for session in source.read(file, memory):
            held = True
            if subagents or not session.agent:
                learned.catalogue.observe(call for step in session.steps() for call in step.calls)
        if held:
            files_count.keep()
        else:
            files_count.drop("no_conversation")
    learned.identity, learned.kin = learn(memory.places), memory.kin
    return learned


def convert(
    learned: Survey,
    options: RowOptions,
    account: Account,
    *,
    subagents: bool,
    reject: Reject,
    on_file: Callable[[], None] = _nothing,
) -> Iterator[dict[str, Any]]:
    """The second pass: redacted rows in the order of the files.

    `reject` is given what did not become a row, redacted as well, and the reason.
    """

    def refuse(raw: dict[str, Any], reason: str) -> None:
        reject(redact_row(raw, learned.identity)[0], reason)

    maker = RowMaker(options, learned.catalogue, account.made, refuse)
    seen: set[str] = set()
    for file, source in learned.readable:
        on_file()
        for session in source.read(file, account.memory):
            if session.agent and not subagents:
                account.made.turns.drop("subagent")
                continue
            group = sample.digest(learned.kin.root(session.id))
            for raw in maker.rows(session, group):
                row, found = redact_row(raw, learned.identity)
                reason = "duplicate" if row["id"] in seen else sample.check(row)
                if reason:
                    account.rows.drop(reason)
                    reject(row, reason)
                    continue
                seen.add(row["id"])
                account.rows.keep()
                account.redacted.update(found)
                yield row


def _refuse(file: LogFile, counts: Counts) -> None:
    if file.explicit:
        raise UserError(
            f"{file.path}: is no log of an assistant that is known here; give --src a session "
            "file, an export or a folder of them"
        )
    counts.drop("unknown_format")
