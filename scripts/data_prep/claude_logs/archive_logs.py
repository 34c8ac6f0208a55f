"""Keeps assistant logs for good: Claude Code deletes its sessions after 30 days.

In: the sessions of Claude Code, Codex and Gemini found on this machine, or --src. Read only.
Out: data/archive, a private copy that only grows. What grew is added, what was rewritten stays
beside its successor, what is deleted at its source stays; `sft --src data/archive` reads it like
the originals. Run it once a day; it is quick when little has changed.

  python scripts/data_prep/claude_logs/archive_logs.py
  python scripts/data_prep/claude_logs/archive_logs.py --verify
  python scripts/data_prep/claude_logs/archive_logs.py --forget ~/work/client
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, stage
from codetune.config import Config, knob
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.logs.archive import Index
    from codetune.runlog import Run


class ArchiveLogsConfig(Config):
    """Knobs of archive-logs."""

    src: list[Path] | None = knob(
        None, "files, folders or patterns instead of the usual places", aliases=("input",)
    )
    out: Path = knob(Path("data/archive"), "the archive", aliases=("output", "archive"))
    list_only: bool = knob(False, "list the places and what is new there, copy nothing")
    verify: bool = knob(False, "read the whole archive and compare it with its index")
    forget: str | None = knob(
        None, "a session (its id) or project (its path) to remove and leave out for good", text=True
    )
    yes: bool = knob(False, "forget without asking")
    wait: float = knob(300, "how long to wait for another archive-logs", unit="seconds", ge=0)


def run(config: ArchiveLogsConfig, _log: "Run") -> stage.Report:
    """Keeps, lists, verifies or forgets, one at a time."""
    from codetune import artefact
    from codetune.logs import archive

    if sum([config.list_only, config.verify, config.forget is not None]) > 1:
        raise UserError("--list_only, --verify and --forget exclude each other")
    out = archive.checked(config.out)
    if config.list_only:
        return _keep(config, archive.Index(out))
    if (config.verify or config.forget is not None) and not archive.is_archive(out):
        raise UserError(f"{out}: is no archive; run archive-logs first, or check --out")

    def waiting() -> None:
        console.say(f"{out}: another archive-logs is at work; waiting for it")

    with artefact.locked(out / archive.LOCK, config.wait, waiting):
        index = archive.Index(out)
        try:
            if config.verify:
                return _verify(index)
            if config.forget is not None:
                return _forget(index, config.forget, yes=config.yes)
            return _keep(config, index)
        finally:
            index.close()


def _keep(config: ArchiveLogsConfig, index: "Index") -> stage.Report:
    """Copies what is new at every source; with --list_only only tells of it."""
    from codetune.logs import archive
    from codetune.logs.archive import report

    left_out = archive.forgotten(index.archive)
    fixed = archive.Repaired() if config.list_only else archive.repair(index, left_out)
    usual = archive.usual_places(Path.home(), os.environ)
    listed = archive.listed(config.src or (), usual, index)
    with console.progress("sessions", sum(len(files) for _, files in listed)) as bar:
        kept = archive.keep_all(listed, index, left_out, bar.advance, only_look=config.list_only)
    if not config.list_only:
        index.tidy()
    for line in report.warnings(kept, fixed, index):
        console.warn(line)
    return stage.Report(
        report.headline(kept, index, only_look=config.list_only),
        status="up to date" if kept.total(*archive.KEPT) == kept.total("unchanged") else "done",
        outputs=() if config.list_only else (index.archive,),
        counts={"files": kept.files},
        metrics=report.metrics(kept, index),
        tables=report.tables(kept, index, Path.home()),
        details=report.details(kept),
    )


def _verify(index: "Index") -> stage.Report:
    """Reads everything again; exit code 3 when something is not as it was kept."""
    from codetune.artefact import Counts
    from codetune.logs import archive
    from codetune.logs.archive import report

    right, wrong = archive.verify(index)
    account = Counts(right)
    for name, what in wrong:
        account.drop(what)
        if name in index.entries:
            index.mark_damaged(name)
    again = "archive-logs copies again what is still at its source"
    return stage.Report(
        f"{right:,} files are as they were kept; {report.holding(index)} in all",
        counts={"files": account},
        tables=(console.table("not as kept", ["file", "what"], wrong),) if wrong else (),
        refused=f"{len(wrong):,} files are not as they were kept; {again}" if wrong else None,
    )


def _forget(index: "Index", wanted: str, *, yes: bool) -> stage.Report:
    """Shows what goes, asks, and removes it. No line and no log may keep its name."""
    from codetune.logs import archive
    from codetune.logs.archive import report

    archive.repair(index, archive.forgotten(index.archive))
    chosen = archive.select(index, wanted, Path.home())
    entries = chosen.entries(index)
    if not yes:
        console.show(report.selection(chosen, index))
        _ask()
    freed = archive.forget(index, chosen)
    sessions = len({entry.session for entry in entries})
    return stage.Report(
        f"forgotten: {sessions:,} sessions, {len(entries):,} files, {report.size(freed)}; "
        "the source is yours to delete, and sft must make its rows again",
        outputs=(index.archive,),
        metrics={"forgotten_files": len(entries), "forgotten_bytes": freed},
    )


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UserError("nothing was removed; add --yes to remove what is listed above")
    sys.stderr.write("Remove all of this from the archive, for good? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("nothing was removed")


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, ArchiveLogsConfig, run, stage="archive-logs", version=1))
