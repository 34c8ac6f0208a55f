"""Watch the GPUs: how full, busy and hot they are, and which run and process holds each.

    gpu.py                      anew every two seconds, until Ctrl-C
    gpu.py --interval 0.5
    gpu.py --once               one look, as it is also in a pipe
    gpu.py --json | jq .gpus

In: the NVIDIA driver (NVML), the process table and the run log under logs/. Out: tables on
standard output. Without a GPU: one line that says why, then processor, memory and active runs.
A process that belongs to no run shows as (its program). Inside a container the driver may tell
process numbers of the host; such a process shows as "-".
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codetune import console, signals, stage
from codetune.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from codetune.doctor.holders import Holder, Look, Watch

_FIRST_SECONDS = 0.1  # so long the processor is watched for the first figure
_WIDE = 100  # columns
_LONGEST_NAME, _SHORT_ID = 40, 8  # characters
_COLUMNS = ("gpu", "run", "id", "stage", "step", "pid", "user", "GiB", "RAM")


def main() -> int:
    """Shows what was asked for; returns the exit code."""
    parser = stage.question(__doc__)
    parser.add_argument("--once", action="store_true", help="one look instead of many")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between looks (2)")
    parser.add_argument("--json", action="store_true", help="one look as JSON on standard output")
    parser.set_defaults(act=_act)
    return stage.answer(parser)


def _act(options: argparse.Namespace) -> None:
    from codetune.doctor.holders import Watch

    if not 0.1 <= options.interval <= 3600:
        raise UserError(f"--interval: {options.interval} s; choose 0.1 to 3600")
    watch = Watch(Path.cwd())
    if options.json:
        console.emit(json.dumps(asdict(watch.look(wait=_FIRST_SECONDS)), indent=1))
    elif options.once or not sys.stdout.isatty():
        screen = console.stdout()
        screen.print(_drawn(watch.look(wait=_FIRST_SECONDS), screen.width), soft_wrap=False)
    else:
        _watch(watch, options.interval)


def _watch(watch: "Watch", interval: float) -> None:
    """Draws again and again in the same place. Ctrl-C is how it ends."""
    from rich.live import Live

    screen = console.stdout()
    screen.soft_wrap = False
    try:
        with Live(console=screen, auto_refresh=False) as live:
            wait: float | None = _FIRST_SECONDS
            while True:
                live.update(_drawn(watch.look(wait=wait), screen.width), refresh=True)
                wait = None
                time.sleep(interval)
    except signals.Terminated:
        raise
    except KeyboardInterrupt:
        return


def _drawn(seen: "Look", width: int) -> "RenderableType":
    """GPUs, the line of the machine, then processes and runs, for a terminal so wide."""
    from rich.console import Group
    from rich.text import Text

    from codetune.machine import picture

    bar = 16 if width >= _WIDE else 8
    gpus = picture.gpu_table(seen.gpus, bar=bar) if seen.gpus else Text(f"no GPU: {seen.reason}")
    parts: list[RenderableType] = [gpus, Text(picture.host_line(seen.machine))]
    if seen.processes:
        held = [_cells(holder) for holder in seen.processes]
        parts.append(picture.text_table(_COLUMNS, held, yielding=("run", "stage", "user")))
    else:
        parts.append(Text("no active run, and no process on a GPU"))
    return Group(*parts)


def _cells(holder: "Holder") -> list[str]:
    from codetune.machine.picture import gib, known

    held_by = holder.run or (f"({holder.command})" if holder.command else "-")
    name = " ".join(console.clean(held_by).split())
    short = known(holder.id)[-_SHORT_ID:]
    run = [name[:_LONGEST_NAME], short, known(holder.stage), known(holder.step)]
    process = [known(holder.pid), known(holder.user), gib(holder.gpu_memory), gib(holder.rss)]
    return [console.clean(cell) for cell in [known(holder.gpu), *run, *process]]


if __name__ == "__main__":
    raise SystemExit(main())
