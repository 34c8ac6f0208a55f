"""GPUs and the machine as a person reads them on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from codetune import console

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from codetune.machine.gpus import Gpu
    from codetune.machine.host import Host

_GIB = 2**30
# NVIDIA's GPUs begin to slow down between 83 and 90 deg C.
_HEAT = ((83, "bold red"), (75, "dark_orange"), (60, "yellow"), (0, "green"))
_FULL = ((95, "red"), (80, "yellow"), (0, "green"))  # percent


def gpu_table(gpus: Sequence[Gpu], *, bar: int = 8) -> Table:
    """One row a GPU: memory and utilisation with bars of so many characters, power, temperature."""
    from rich.text import Text

    table = plain_table(["", "GPU", "memory GiB", "", "busy", "", "power W", "temp"])
    title = f"driver {known(gpus[0].driver)}, CUDA up to {known(gpus[0].cuda)}"
    table.title = Text(console.clean(title))
    for gpu in gpus:
        share = None
        if gpu.memory_total and gpu.memory_used is not None:
            share = 100 * gpu.memory_used / gpu.memory_total
        heat = known(gpu.temperature, " C")
        table.add_row(
            str(gpu.index),
            Text(console.clean(short_name(gpu.name))),
            _bar(share, bar),
            f"{gib(gpu.memory_used)}/{gib(gpu.memory_total)}",
            _bar(gpu.utilisation, bar),
            known(gpu.utilisation, " %"),
            f"{_rounded(gpu.power)}/{_rounded(gpu.power_limit)}",
            _styled(heat, _HEAT, gpu.temperature),
        )
    return table


def host_line(host: Host) -> str:
    """Processor, memory, swap and disk in one line."""
    swap = f", swap {gib(host.swap_used)}/{gib(host.swap_total)}" if host.swap_total else ""
    return (
        f"CPU {host.cpu_percent:.0f} % of {host.cpus} cores, load {host.load:.1f}; "
        f"RAM {gib(host.memory_used)}/{gib(host.memory_total)} GiB{swap}; "
        f"disk {host.disk_free / _GIB:.0f} GiB free"
    )


def text_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, yielding: Collection[str]
) -> Table:
    """A table with one line a row; the columns `yielding` give way where a terminal is narrow."""
    from rich.text import Text

    table = plain_table(columns)
    for column, name in zip(table.columns, columns, strict=True):
        column.no_wrap = name not in yielding
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table


def plain_table(columns: Sequence[str]) -> Table:
    """A table in the style of `console.table`, for cells that are more than text."""
    from rich import box
    from rich.table import Table

    table = Table(title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def known(value: object, unit: str = "") -> str:
    """`value` with its unit, or "-" for what is not known."""
    return "-" if value is None else f"{value}{unit}"


def gib(size: int | None) -> str:
    """Bytes as GiB with one decimal."""
    return "-" if size is None else f"{size / _GIB:.1f}"


def short_name(name: str | None) -> str:
    """The name of a GPU without what all of them begin with."""
    return (name or "-").removeprefix("NVIDIA ").removeprefix("GeForce ")


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _bar(percent: float | None, width: int) -> RenderableType:
    from rich.progress_bar import ProgressBar

    if percent is None:
        return ""
    style = _style(_FULL, percent)
    return ProgressBar(100, percent, width, complete_style=style, finished_style=style)


def _styled(text: str, scale: tuple[tuple[int, str], ...], value: float | None) -> RenderableType:
    from rich.text import Text

    return Text(text, "" if value is None else _style(scale, value))


def _style(scale: tuple[tuple[int, str], ...], value: float) -> str:
    return next((style for least, style in scale if value >= least), "")
