"""The exceptions that are meant for the person at the keyboard.

Everything else that escapes a stage is a bug and keeps its traceback.
"""


class UserError(Exception):
    """The input cannot be used. Shown as one line saying what to do; exit code 2."""


class RefusedError(Exception):
    """A check refused to go on (preflight, certificate, gate, parity). Exit code 3."""


class ToldError(Exception):
    """A bug of a program that we started, whose traceback has been shown: exit code 1."""
