"""The background thread of a run: it feeds the database and samples the machine.

It is a daemon and it may fail: the journal holds everything, and whoever looks next catches up.
It works in small pieces and rests between them, because a thread that computes keeps the
interpreter from the loop that trains.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import console
from codetune.errors import UserError
from codetune.runlog.store.database import Place, engine

if TYPE_CHECKING:
    from codetune.machine import Load, Sampler

FLUSH_SECONDS = 1.0
FLUSH_RECORDS = 500
SAMPLE_SECONDS = 5.0
_PIECE = 200  # records: some milliseconds of work
_REST = 9.0  # times as long as a piece took is the pause after it
_LONGEST_PAUSE = 60.0  # between attempts at a database that does not answer
_JOIN_SECONDS = 15.0


class Flusher:
    """Indexes `journal` once a second, and earlier when `wrote` has counted 500 records.

    `record` takes a sample of the load every few seconds; `visible` is CUDA_VISIBLE_DEVICES.
    Call `start`, and `stop` at the end.
    """

    def __init__(
        self,
        place: Place,
        root: Path,
        journal: Path,
        record: Callable[[Load], None],
        visible: str | None = None,
    ) -> None:
        self._place, self._root, self._journal = place, root, journal
        self._record, self._visible = record, visible
        self._engine: Any = None
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._unflushed = 0  # records since the last flush
        self._flushed = 0  # bytes of the journal that stand in the database
        self._behind: list[Path] | None = None  # other runs' journals; None: not looked yet
        self._pause, self._next_try, self._warned = FLUSH_SECONDS, 0.0, False
        self._flush_at_end = False
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

        The thread does it, so that a signal can end the wait for a database that is locked.
        """
        self._flush_at_end = flush or self._engine is not None
        self._stopping.set()
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            self._warn("it does not answer")

    def _work(self) -> None:
        sampler, sampled = self._sampler(), time.monotonic()
        while not self._stopping.is_set():
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            if self._stopping.is_set():
                break
            if sampler is not None and time.monotonic() - sampled >= SAMPLE_SECONDS:
                sampled = time.monotonic()
                with suppress(UserError, OSError):  # a full disk is for the run itself to tell
                    self._record(sampler.sample())
            if self._flush(in_pieces=True):
                self._catch_up()
        if self._flush_at_end:
            self._next_try = 0.0
            self._flush(in_pieces=False)

    def _sampler(self) -> Sampler | None:
        """None where the process table cannot be read, in some sandboxes."""
        import psutil

        from codetune.machine import Sampler

        try:
            return Sampler(self._visible)
        except (psutil.Error, OSError):
            return None

    def _flush(self, *, in_pieces: bool) -> bool:
        """Indexes what is new; False when the database did not take it, or not all of it."""
        from sqlalchemy.exc import SQLAlchemyError

        self._unflushed = 0
        if time.monotonic() < self._next_try:
            return False
        try:
            size = self._journal.stat().st_size
            if size == self._flushed:
                return True
            if self._engine is None:
                self._engine = engine(self._place)
            done = self._index(self._journal, in_pieces=in_pieces)
        except (SQLAlchemyError, UserError, OSError) as problem:
            self._warn(getattr(problem, "orig", None) or problem)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._next_try = time.monotonic() + self._pause
            return False
        self._flushed = size if done else 0
        self._pause = FLUSH_SECONDS
        return done

    def _index(self, journal: Path, *, in_pieces: bool) -> bool:
        """Brings a journal into the tables; in pieces for a second at most. True when all is in."""
        from codetune.runlog.store.index import index_run, index_some

        if not in_pieces:
            index_run(self._engine, journal)
            return True
        until = time.monotonic() + FLUSH_SECONDS
        while time.monotonic() < until:
            began = time.thread_time()
            if index_some(self._engine, journal, _PIECE) < _PIECE:
                return True
            if self._stopping.wait(_REST * (time.thread_time() - began)):
                break
        return False

    def _catch_up(self) -> None:
        """Indexes for a while what earlier runs of this checkout left to us."""
        from sqlalchemy.exc import SQLAlchemyError

        from codetune.runlog.store.index import lagging

        until = time.monotonic() + FLUSH_SECONDS
        with suppress(SQLAlchemyError, OSError):  # the run's own flush is the one that tells
            if self._behind is None:
                self._behind = lagging(self._engine, self._root) if self._engine else None
            while self._behind and time.monotonic() < until and not self._stopping.is_set():
                journal = self._behind.pop()
                if not self._index(journal, in_pieces=True):
                    self._behind.append(journal)

    def _warn(self, problem: object) -> None:
        from codetune.runlog.store.revision import reason

        if self._warned:
            return
        self._warned = True
        if isinstance(problem, FileNotFoundError):
            console.warn(
                f"{self._journal} is gone; the run goes on, but what it records is lost until "
                "that file is back"
            )
            return
        console.warn(
            f"run database {self._place} lost ({reason(self._place, problem)}); the run goes "
            f"on, {self._journal} keeps everything and is indexed later"
        )
