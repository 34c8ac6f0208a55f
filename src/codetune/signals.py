"""Ctrl-C, SIGTERM and a terminal that goes away, as exceptions that unwind the work."""

from __future__ import annotations

import signal

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_came: list[int] = []  # since `listen`


class Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP when a terminal went away, raised where Ctrl-C would be."""

    def __init__(self, text: str = "", number: int = signal.SIGTERM) -> None:
        super().__init__(*([text] if text else []))
        self.number = number


def listen() -> None:
    """Makes the signals exceptions. One that is ignored stays so: `nohup` means it."""
    _came.clear()
    for number in NUMBERS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _take)


def heed() -> None:
    """Raises for a signal that came before and was lost: Python drops what is raised while a
    library cleans up, as happens when a model is loaded. To be called before long work begins.
    """
    if _came:
        raise exception(_came[-1])


def exception(number: int, text: str = "") -> KeyboardInterrupt:
    """What a signal becomes."""
    if number == signal.SIGINT:
        return KeyboardInterrupt(*([text] if text else []))
    return Terminated(text, number)


def name(signalled: KeyboardInterrupt) -> str:
    """What ended the work, for a record of it."""
    if isinstance(signalled, Terminated):
        return signal.Signals(signalled.number).name
    return "Ctrl-C"


def _take(number: int, _frame: object) -> None:
    again = number == signal.SIGHUP and number in _came
    _came.append(number)
    if not again:  # the terminal tells of its end, and so may the pipeline that we are part of
        heed()
