"""GPUs as drawn: figures, bars and colours."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from codetune.machine import Gpu, Host, picture

GIB = 2**30
GPU = Gpu(
    index=3,
    uuid="GPU-1",
    name="NVIDIA GeForce RTX 3090",
    memory_used=6 * GIB,
    memory_total=24 * GIB,
    utilisation=87,
    power=287.5,
    power_limit=350.0,
    temperature=71,
    capability=(8, 6),
    driver="550.54",
    cuda="12.4",
    processes=(),
)
UNKNOWN = Gpu(0, *([None] * 12))
HOST = Host(
    cpus=16,
    cpu_percent=52.4,
    load=3.21,
    memory_used=20 * GIB,
    memory_total=128 * GIB,
    swap_used=0,
    swap_total=0,
    disk_free=900 * GIB,
    disk_total=1000 * GIB,
)


def drawn(gpu: Gpu, *, colours: bool = False, width: int = 80, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    system = "truecolor" if colours else None
    screen = Console(file=file, width=width, force_terminal=colours, color_system=system)
    screen.print(picture.gpu_table([gpu]))
    file.seek(0)
    return file.read()


def test_every_figure_stands_in_its_row() -> None:
    row = drawn(GPU).splitlines()[-2]
    assert " ".join(row.split()) == "3 RTX 3090 ━━ 6.0/24.0 ━━━━━━╸ 87 % 288/350 71 C"
    assert "driver 550.54, CUDA up to 12.4" in drawn(GPU)


def test_what_is_not_known_is_a_dash_and_has_no_bar() -> None:
    shown = drawn(UNKNOWN)
    assert shown.splitlines()[-2].split() == ["0", "-", "-/-", "-", "-/-", "-"]
    assert "driver -, CUDA up to -" in shown and "None" not in shown


@pytest.mark.parametrize(
    ("temperature", "colour"),
    [(40, "\x1b[32m"), (60, "\x1b[33m"), (75, "\x1b[38;5;208m"), (83, "\x1b[1;31m")],
)
def test_the_temperature_goes_from_green_to_red(temperature: int, colour: str) -> None:
    assert f"{colour}{temperature} C" in drawn(replace(GPU, temperature=temperature), colours=True)


@pytest.mark.parametrize("used", [0, 1, 12 * GIB, 24 * GIB, 30 * GIB])
def test_a_bar_stays_in_its_place(used: int) -> None:
    row = drawn(replace(GPU, memory_used=used, utilisation=0)).splitlines()[-2]
    assert len(row) <= 80
    assert row.count("━") == min(8, round(8 * used / (24 * GIB)))


def test_a_terminal_without_line_characters_gets_plain_ones() -> None:
    shown = drawn(GPU, encoding="ascii")
    assert shown.isascii() and "6.0/24.0" in shown


def test_names_are_no_markup_and_no_escape_sequences() -> None:
    shown = drawn(replace(GPU, name="[red]x[/]\x1b[2J", driver="[b]1\x07"), colours=True)
    assert "[red]x[/]" in shown and "\x1b[2J" not in shown and "\x07" not in shown


def test_the_machine_takes_one_line() -> None:
    assert picture.host_line(HOST) == (
        "CPU 52 % of 16 cores, load 3.2; RAM 20.0/128.0 GiB; disk 900 GiB free"
    )
    swapping = replace(HOST, swap_used=GIB, swap_total=8 * GIB)
    assert "GiB, swap 1.0/8.0; disk" in picture.host_line(swapping)
