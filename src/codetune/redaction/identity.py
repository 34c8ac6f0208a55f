"""Who the person behind the logs is, as far as their paths tell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from codetune.redaction.guess import words

# /home/x, /Users/x, C:\Users\x, and the same with separators turned into dashes.
_HOME = re.compile(
    r"(?:^|[^A-Za-z0-9_.~])(?:/home/|/Users/|[A-Za-z]:\\{1,2}Users\\{1,2}|-home-|-Users-)"
    r"([A-Za-z0-9._]+(?:-[A-Za-z0-9._]+)*)"
)
# Account names that say nothing about a person, and words too common in code to be replaced.
GENERIC = words("""
    user users username root home admin administrator ubuntu debian ec2-user runner vscode node app
    apps dev developer test tester guest shared public default build builder ci docker work
    workspace code data src git www www-data nobody me you name main agent claude project projects
    demo example someone codespace gitpod coder jovyan sandbox linuxbrew
""")
_SHORTEST = 3


@dataclass(frozen=True)
class Identity:
    """The account names, in lower case, to replace wherever they stand as a word."""

    users: tuple[str, ...] = ()

    def is_in(self, text: str) -> bool:
        """True when a name may stand in `text`; far cheaper than the pattern."""
        lowered = text.lower()
        return any(name in lowered for name in self.users)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches any of the names as a word, whatever its case."""
        names = "|".join(re.escape(name) for name in sorted(self.users, key=len, reverse=True))
        return re.compile(rf"(?<![A-Za-z0-9])(?:{names})(?![A-Za-z0-9])", re.IGNORECASE)


def learn(paths: Iterable[str]) -> Identity:
    """The identity that working directories betray: `/home/<name>/…` and the like."""
    names: set[str] = set()
    for path in paths:
        for match in _HOME.finditer(path):
            # In a dashed path the name ends at the first dash.
            dashed = match.group(0).lstrip("/").startswith("-") or "-Users-" in match.group(0)
            name = match.group(1).split("-")[0] if dashed else match.group(1)
            if len(name) >= _SHORTEST and name.lower() not in GENERIC:
                names.add(name.lower())
    return Identity(tuple(sorted(names)))
