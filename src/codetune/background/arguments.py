"""Which words of a command line are ours, and which go to `train` as they are."""

from __future__ import annotations

from collections.abc import Sequence

from codetune.errors import UserError

OWN = frozenset({"--attach", "--detach", "--replace", "--name", "--help", "-h"})
# They make no run, or are set here.
NOT_HERE = frozenset({"--dry_run", "--schema", "--run_id"})


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(ours, those for `train`). Ours may stand anywhere before a `--`, which is dropped.

    Raises UserError for flags that make no sense in the background.
    """
    own: list[str] = []
    handed_on: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            handed_on += rest
            break
        if word.partition("=")[0] not in OWN:
            handed_on.append(word)
        elif word == "--name" and rest:
            own.append(f"--name={rest.pop(0)}")
        else:
            own.append(word)
    wrong = [word for word in handed_on if _flag(word) in NOT_HERE]
    if wrong:
        raise UserError(f"{wrong[0]}: not for a run in the background; use ./scripts.sh train")
    return own, handed_on


def _flag(word: str) -> str:
    """The flag that a word is, spelled as stages do: `--dry-run=x` is `--dry_run`."""
    name = word.partition("=")[0]
    return f"--{name[2:].replace('-', '_')}" if name.startswith("--") else name
