"""The background thread of a run: it feeds the database and samples the process.

It is a daemon and it may fail: the journal holds everything, and whoever looks next catches up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from codetune import console
from codetune.errors import UserError
from codetune.runlog.store.database import Place, engine

FLUSH_SECONDS = 1.0
FLUSH_RECORDS = 500
SAMPLE_SECONDS = 5.0
_LONGEST_PAUSE = 60.0  # between attempts at a database that does not answer
_JOIN_SECONDS = 15.0


class Flusher:
    """Indexes `journal` once a second, and earlier when `wrote` has counted 500 records.

    `record` takes a sample of the load every few seconds. Call `start`, and `stop` at the end.
    """

    def __init__(
        self, place: Place, root: Path, journal: Path, record: Callable[[float, int], None]
    ) -> None:
        self._place, self._root, self._journal, self._record = place, root, journal, record
        self._engine: Any = None
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._unflushed = 0  # records since the last flush
        self._flushed = 0  # bytes of the journal that stand in the database
        self._pause, self._warned = FLUSH_SECONDS, False
        self._thread = threading.Thread(target=self._work, name="runlog", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wrote(self) -> None:
        """Says that one more record stands in the journal."""
        self._unflushed += 1
        if self._unflushed >= FLUSH_RECORDS:
            self._wake.set()

    def stop(self, *, flush: bool) -> None:
        """Ends the thread; with `flush` the database is brought up to the journal's end, or a
        warning says that it was not. A run that did nothing leaves that to the next reader.
        """
        self._stopping.set()
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            self._warn("it does not answer")
        elif flush or self._engine is not None:
            self._flush()

    def _work(self) -> None:
        import psutil

        process = psutil.Process()
        process.cpu_percent()  # the first call only starts the clock
        sampled, caught_up = time.monotonic(), False
        while not self._stopping.is_set():
            self._wake.wait(self._pause)
            self._wake.clear()
            if self._stopping.is_set():
                return
            if time.monotonic() - sampled >= SAMPLE_SECONDS:
                sampled = time.monotonic()
                self._sample(process)
            if self._flush() and not caught_up:
                caught_up = self._catch_up()

    def _sample(self, process: Any) -> None:
        load, rss = process.cpu_percent(), process.memory_info().rss
        with suppress(UserError, OSError):  # a full disk is for the run itself to tell
            self._record(load, rss)

    def _flush(self) -> bool:
        """Indexes what is new; False when the database did not take it."""
        from sqlalchemy.exc import DBAPIError

        from codetune.runlog.store.index import index_run

        self._unflushed = 0
        size = self._journal.stat().st_size
        if size == self._flushed:
            return True
        try:
            if self._engine is None:
                self._engine = engine(self._place)
            index_run(self._engine, self._journal)
        except DBAPIError as problem:
            self._warn(problem.orig)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            return False
        self._flushed, self._pause = size, FLUSH_SECONDS
        return True

    def _catch_up(self) -> bool:
        """Indexes what earlier runs of this checkout left to us; False when it has to wait."""
        from sqlalchemy.exc import DBAPIError

        from codetune.runlog.store.index import index_run, lagging

        try:
            for journal in lagging(self._engine, self._root):
                if self._stopping.is_set():
                    return False
                index_run(self._engine, journal)
        except DBAPIError:
            return False  # the run's own flush is the one that tells
        return True

    def _warn(self, problem: object) -> None:
        from codetune.runlog.store.revision import reason

        if not self._warned:
            self._warned = True
            console.warn(
                f"run database {self._place} lost ({reason(self._place, problem)}); the run goes "
                f"on, {self._journal} keeps everything and is indexed later"
            )
