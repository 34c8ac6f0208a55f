"""What files take on the disk: once each, never behind a link, also while they come and go."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

from codetune.machine.storage import size_on_disk

MIB = 2**20


def test_sizes_count_each_file_once_and_follow_no_links(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "full", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        (place / "deep/er").mkdir(parents=True)
        (place / "deep/er/a").write_bytes(b"x" * MIB)
    os.link(folder / "deep/er/a", folder / "b")
    (folder / "link").symlink_to(elsewhere)
    (folder / "loop").symlink_to(tmp_path)
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(100 * MIB)
    assert MIB <= size_on_disk(folder) < 1.1 * MIB
    assert MIB <= size_on_disk(folder / "b") < 1.1 * MIB
    assert size_on_disk(folder / "link") < 0.1 * MIB
    assert size_on_disk(tmp_path / "nothing") == 0


def test_what_goes_while_we_look_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"x" * MIB)
    ended = threading.Event()

    def rotate() -> None:
        number = 0
        while not ended.is_set():
            place = tmp_path / f"checkpoint-{number}"
            place.mkdir()
            for name in range(10):
                (place / str(name)).write_bytes(b"x")
            shutil.rmtree(place)
            number += 1

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        for _ in range(300):
            assert size_on_disk(tmp_path) >= MIB
    finally:
        ended.set()
        thread.join()
