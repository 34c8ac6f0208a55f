"""Claude Code deletes its sessions after 30 days by default: how many, when, and what keeps them.

Source: https://code.claude.com/docs/en/settings (cleanupPeriodDays), .../claude-directory. What
counts is when a file was last changed; the deletion happens when Claude Code starts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune.doctor.finding import Finding

DEFAULT_DAYS = 30.0
LONG_DAYS = 36500
DAY = 86400.0
SETTING = "cleanupPeriodDays"
KEEP = "./scripts.sh archive-logs"  # copies new and grown sessions to data/archive
_SOON = 7.0  # days
_SETTINGS = ("settings.local.json", "settings.json")  # what stands first wins
# What an administrator sets, wins over both.
MANAGED = (
    Path("/etc/claude-code/managed-settings.json"),
    Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
)


@dataclass(frozen=True)
class Kept:
    """For how many days sessions are kept, and the file that says so; `problem` is in the way."""

    days: float
    file: Path | None = None
    problem: str = ""


def claude_sessions(
    home: Path, config_dir: str | None, *, managed: Sequence[Path] = MANAGED
) -> Iterator[Finding]:
    """The sessions of Claude Code, and how to keep those that are about to be deleted. Read-only.

    `config_dir` is the value of CLAUDE_CONFIG_DIR; without it, ~/.claude is looked at.
    """
    folder = Path(config_dir).expanduser() if config_dir else home / ".claude"
    ages = sorted(ages_of_sessions(folder / "projects"))
    if not ages:
        yield Finding("Claude Code", "no sessions", f"in {_shown(folder / 'projects', home)}")
        return
    yield Finding(
        "sessions",
        f"{len(ages):,} files, the oldest {ages[-1]:.0f} days",
        f"in {_shown(folder / 'projects', home)}",
    )
    kept = retention(folder, managed)
    change = f'set "{SETTING}": {LONG_DAYS} in {_shown(folder / "settings.json", home)}'
    source = f"set in {_shown(kept.file, home)}" if kept.file else "the default"
    todo = change if kept.problem else ""
    yield Finding(SETTING, kept.problem or f"{kept.days:g} days", source, todo)
    due = sum(age >= kept.days for age in ages)
    soon = sum(age >= kept.days - _SOON for age in ages)
    todo = f"{KEEP}\n{change}" if soon else ""
    meaning = f"{due:,} of them at the next start of Claude Code" if due else ""
    yield Finding("deleted in a week", f"{soon:,} files", meaning, todo)


def ages_of_sessions(projects: Path) -> Iterator[float]:
    """Days since each session file below `projects` was last changed. Follows no links."""
    now = time.time()
    for folder, _, names in os.walk(projects):
        for name in names:
            if name.endswith(".jsonl"):
                try:
                    changed = (Path(folder) / name).lstat().st_mtime
                except FileNotFoundError:  # deleted while we look
                    continue
                yield max(0.0, (now - changed) / DAY)


def retention(folder: Path, managed: Sequence[Path]) -> Kept:
    """The setting in force: the administrator's, the local one, the user's, or the default."""
    for file in [*managed, *(folder / name for name in _SETTINGS)]:
        try:
            settings = json.loads(file.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError):
            return Kept(DEFAULT_DAYS, file, "the settings cannot be read")
        if isinstance(settings, dict) and SETTING in settings:
            return _judged(settings[SETTING], file)
    return Kept(DEFAULT_DAYS)


def _judged(value: Any, file: Path) -> Kept:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return Kept(DEFAULT_DAYS, file, "not a number of days")
    if value == 0:
        return Kept(0.0, file, "0: older versions keep no session, newer ones refuse it")
    return Kept(float(value), file)


def _shown(path: Path, home: Path) -> str:
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
