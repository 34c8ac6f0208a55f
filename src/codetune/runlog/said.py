"""What a run said to people, kept in its console log."""

from __future__ import annotations

import faulthandler
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codetune import console
from codetune.artefact import TextLog
from codetune.errors import UserError


@contextmanager
def kept(file: Path) -> Iterator[None]:
    """Copies to `file` what is said meanwhile: our own lines, the warnings of the libraries below
    us, which become lines of ours, and the last words of a native crash.
    """
    try:
        copy = TextLog(file)
    except UserError as problem:
        console.warn(f"what is said is not kept: {problem}")
        yield
        return
    libraries = _Libraries(logging.WARNING)
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
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a faulty call of theirs is no reason to stop
            text = str(record.msg)
        tell(f"{record.name}: {text}")


def _warned(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    console.warn(f"{category.__name__}: {message}")


# Their messages are about the machine; those of others may hold the text of a row.
_TELLING = (OSError, RuntimeError, MemoryError, ImportError)


def trace_of(bug: BaseException, *, whole: bool) -> str:
    """The traceback of a bug, without secrets; its message only if `whole`, or harmless."""
    from codetune.redaction import redact_text

    parts: list[str] = []
    seen: BaseException | None = bug
    while seen is not None:
        message = f": {seen}" if whole or isinstance(seen, _TELLING) else ""
        frames = "".join(traceback.format_tb(seen.__traceback__))
        head = "Traceback (most recent call last):\n"
        parts.append(f"{head}{frames}{type(seen).__qualname__}{message}")
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return redact_text("\n\nwhile handling this came:\n\n".join(reversed(parts)))[0]
