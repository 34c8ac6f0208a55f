"""Stages run one after the other, each as a process of its own, timed and measured.

Whoever starts them hands over the environment and the scripts; this module knows neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune import console
from codetune.errors import RefusedError, ToldError, UserError
from codetune.signals import Terminated
from codetune.stage import REFUSED, USER

# getrusage counts kilobytes, on macOS bytes.
_RSS_UNITS_PER_MIB = 1 << 20 if sys.platform == "darwin" else 1 << 10


@dataclass(frozen=True)
class Done:
    """A stage that ended: its exit code, its report (empty on failure), and what it cost."""

    stage: str
    code: int
    seconds: float
    peak_rss_mib: float
    report: Mapping[str, Any]

    @property
    def status(self) -> str:
        """How it ended, for a person."""
        return str(self.report.get("status", "failed"))

    @property
    def headline(self) -> str:
        """The line its report begins with."""
        return str(self.report.get("headline", f"exit code {self.code}"))


def execute(
    stage: str, script: Path, arguments: Sequence[str], environment: Mapping[str, str]
) -> Done:
    """Runs one stage to its end. Its report is captured, what it says meanwhile stays visible.

    When this process is told to stop, the stage is told too, and has the time to save.
    """
    command = [sys.executable, str(script), *arguments, "--json"]
    started = time.monotonic()
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen(command, stdout=answer, env=dict(environment))
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt as signalled:
            if isinstance(signalled, Terminated):  # Ctrl-C reaches the stage by itself
                process.send_signal(signalled.number)
            process.wait()
            raise
        answer.seek(0)
        text = answer.read()
    exit_code = process.returncode = os.waitstatus_to_exitcode(status)
    return Done(
        stage,
        exit_code if exit_code >= 0 else 128 - exit_code,
        time.monotonic() - started,
        usage.ru_maxrss / _RSS_UNITS_PER_MIB,
        json.loads(text) if text.strip() else {},
    )


def failure(done: Done) -> BaseException:
    """What to raise for a stage that did not end well, so that its exit code stays."""
    if done.code == REFUSED:
        return RefusedError(f"stage {done.stage}: {done.report.get('refused') or 'see above'}")
    if done.code == USER:
        return UserError(f"stage {done.stage} stopped the pipeline; its reason is above")
    if done.code in (130, 143):
        text = f"stopped in stage {done.stage}; run the same command again to go on"
        return Terminated(text) if done.code == 143 else KeyboardInterrupt(text)
    return ToldError(f"stage {done.stage} ended with exit code {done.code}; see above")


def costs(ended: Sequence[Done]) -> console.Table:
    """What each stage took and said."""
    rows = [
        [done.stage, done.status, f"{done.seconds:.1f} s", _mib(done.peak_rss_mib), done.headline]
        for done in ended
    ]
    seconds, peak = sum(d.seconds for d in ended), max(d.peak_rss_mib for d in ended)
    rows.append(["all", "", f"{seconds:.1f} s", _mib(peak), ""])
    return console.table("stages", ["stage", "status", "time", "peak memory", "result"], rows)


def places(name: str, data: Path = Path("data")) -> console.Table:
    """Where everything lies that a pipeline of this name has made, its rows in `data`."""
    out = f"outputs/{name}"
    rows = [
        ["rows", f"{data}/train.{name}.jsonl, {data}/eval.{name}.jsonl"],
        ["proof that they share nothing", f"{data}/split.{name}.json"],
        ["token lengths", f"{out}/lengths/lengths.png"],
        ["adapter", f"{out}/adapter"],
        ["loss curve", f"{out}/loss.png"],
        ["base against tuned", f"{out}/report/compare.html"],
        ["merged model", f"{out}/merged"],
        ["every run", "./scripts.sh runs list"],
    ]
    return console.table("where everything lies", ["what", "where"], rows)


def _mib(mib: float) -> str:
    return f"{mib:,.0f} MiB"
