"""What a run said to people, kept in its console log."""

from __future__ import annotations

import faulthandler
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codetune import console
from codetune.artefact import TextLog


@contextmanager
def kept(file: Path) -> Iterator[None]:
    """Copies to `file` what is said meanwhile: our own lines, the warnings of the libraries below
    us, which become lines of ours, and the last words of a native crash.
    """
    copy, libraries = TextLog(file), _Libraries(logging.WARNING)
    shown, warnings.showwarning = warnings.showwarning, _warned
    logging.getLogger().addHandler(libraries)
    ours = not faulthandler.is_enabled()
    if ours:
        faulthandler.enable(copy.fileno())
    try:
        with console.copied_to(copy.write):
            yield
    finally:
        if ours:
            faulthandler.disable()
        logging.getLogger().removeHandler(libraries)
        warnings.showwarning = shown
        copy.close()


class _Libraries(logging.Handler):
    """What libraries log, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        tell = console.fail if record.levelno >= logging.ERROR else console.warn
        tell(f"{record.name}: {record.getMessage()}")


def _warned(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    console.warn(f"{category.__name__}: {message}")
