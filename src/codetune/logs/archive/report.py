"""What a run of archive-logs tells: lines, figures and tables."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from codetune.console import Table, table
from codetune.logs.archive.copying import KEPT
from codetune.logs.archive.forgetting import Selection, folder_of
from codetune.logs.archive.index import Index
from codetune.logs.archive.keeping import Kept
from codetune.logs.archive.repair import Repaired

_NAMED = 5
_DROPS = ("forgotten", "unreadable")
_ALWAYS = ("new", "grown", "unchanged")


def headline(kept: Kept, index: Index, *, only_look: bool) -> str:
    """The line that says it all."""
    new, grown = kept.total("new"), kept.total("grown")
    other = kept.total("rewritten", "repaired")
    changes = f"{new:,} new, {grown:,} grown" + (f", {other:,} replaced" if other else "")
    if only_look:
        return f"{changes} files at the sources; nothing was copied"
    if not new + grown + other:
        return f"nothing new; {index.archive} holds {holding(index)}"
    return f"{changes} files, {size(kept.added)} added; {index.archive} holds {holding(index)}"


def warnings(kept: Kept, fixed: Repaired, index: Index) -> list[str]:
    """What somebody should look at, one line each."""
    lines = []
    if index.unreadable:
        lines.append(f"{index.path}: {index.unreadable} lines were damaged; files were read anew")
    if fixed.adopted:
        lines.append(f"{fixed.adopted:,} files were kept by a run that did not end; found again")
    for reason, group in groupby(sorted(kept.problems, key=lambda p: p.reason), lambda p: p.reason):
        problems = list(group)
        named = ", ".join(f"{p.path} ({p.why})" for p in problems[:_NAMED])
        more = f" and {len(problems) - _NAMED:,} more" if len(problems) > _NAMED else ""
        lines.append(f"not kept, {reason}: {named}{more}")
    rewritten = kept.total("rewritten")
    if rewritten and index.versions:
        lines.append(
            f"{rewritten:,} files were written anew at their source; what was there before stays "
            "beside them as <name>.superseded-<hash>"
        )
    for name in sorted(index.damaged)[:_NAMED]:
        lines.append(f"{index.archive / name}: differs from what was kept and is not at its source")
    return lines


def metrics(kept: Kept, index: Index) -> dict[str, float]:
    """The figures of a run."""
    return {
        **{f"files_{outcome}": kept.total(outcome) for outcome in (*KEPT, *_DROPS)},
        "bytes_added": kept.added,
        "archived_files": len(index.entries),
        "archived_bytes": sum(entry.bytes for entry in index.entries.values()),
        "gone_files": kept.gone,
        "gone_bytes": kept.gone_bytes,
    }


def details(kept: Kept) -> dict[str, object]:
    """For a machine: every source with all that was counted there, and what was not kept."""
    sources = [
        {
            "path": str(tally.source.root),
            "bytes": tally.bytes,
            "bytes_added": tally.added,
            **{outcome: tally.outcomes[outcome] for outcome in (*KEPT, *_DROPS)},
            **tally.outcomes,
        }
        for tally in kept.tallies
    ]
    problems = [{"path": str(p.path), "reason": p.reason, "why": p.why} for p in kept.problems]
    return {"sources": sources, "problems": problems}


def tables(kept: Kept, index: Index, home: Path) -> tuple[Table, ...]:
    """The sources, and what the archive holds; rare outcomes are shown where there are any."""
    shown = [one for one in (*KEPT, *_DROPS) if one in _ALWAYS or kept.total(one)]
    rows = []
    for tally in kept.tallies:
        root = tally.source.root
        short = f"~/{root.relative_to(home)}" if root.is_relative_to(home) else str(root)
        cells = [f"{tally.outcomes[outcome]:,}" for outcome in shown]
        rows.append([short, *cells, size(tally.bytes), size(tally.added)])
    columns = ["source", *shown, "size", "added"]
    started = min((e.started for e in index.entries.values() if e.started), default="")
    facts = [
        ["kept", holding(index)],
        ["oldest session", started[:10] or "none"],
        ["gone at the source, kept here", f"{kept.gone:,} files, {size(kept.gone_bytes)}"],
    ]
    if index.versions:
        facts.append(["earlier versions", f"{len(index.versions):,}"])
    if index.damaged:
        facts.append(["damaged", f"{len(index.damaged):,}"])
    return table("sources", columns, rows), table("archive", ["what", "how much"], facts)


def selection(chosen: Selection, index: Index) -> Table:
    """What goes when this is forgotten, one row a session."""
    rows = []
    for session, group in groupby(chosen.entries(index), key=lambda entry: entry.session):
        entries = list(group)
        first = entries[0]
        started = min((e.started for e in entries if e.started), default="")
        place = next((e.cwd for e in entries if e.cwd), "") or folder_of(first.name)
        why = "copy of its records" if first.name in chosen.copies else ""
        total = size(sum(entry.bytes for entry in entries))
        rows.append([session, place, started[:10], f"{len(entries):,}", total, why])
    columns = ["session", "project", "started", "files", "size", ""]
    return table("to be forgotten", columns, rows)


def size(number: int) -> str:
    """Bytes as people read them."""
    if number < 1000:
        return f"{number} B"
    return f"{number / 1e3:,.1f} kB" if number < 1e6 else f"{number / 1e6:,.1f} MB"


def holding(index: Index) -> str:
    """How much an archive holds."""
    sessions = len({entry.session for entry in index.entries.values()})
    total = sum(entry.bytes for entry in index.entries.values())
    return f"{sessions:,} sessions in {len(index.entries):,} files, {size(total)}"
