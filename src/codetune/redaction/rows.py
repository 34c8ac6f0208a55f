"""Redaction of one row: consistent within the row, and a function of the row alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import re2

from codetune.redaction.guess import words
from codetune.redaction.identity import GENERIC, Identity
from codetune.redaction.secrets import find_secrets

# Shorter values stand for too many other things to be replaced outside the place they were found.
_SHORTEST_EVERYWHERE = 8
_EMAIL = re2.compile(
    r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4})"
)
_TOP_LEVEL = words("""
    com org net edu gov mil int info biz name pro io dev app ai tech cloud xyz online site email
    software systems solutions digital agency studio design blog page wiki zone world today
""")
# Two-letter domains that are far more often file endings.
_FILE_ENDINGS = words("py js ts md rs sh cc so hs ml pm vb cs kt mk")
_OPEN_DOMAINS = ("example.com", "example.org", "example.net", "example.edu", "test.com")
_OPEN_NAMES = ("noreply", "no-reply", "git", "donotreply")
# Keys of messages and calls that hold structure, not text; below the open ones all is a person's.
_STRUCTURE = frozenset(("role", "type", "id", "tool_call_id", "name", "train"))
_OPEN = ("arguments", "parameters")
# `Author: First Last <address>` of git; programs sign with such lines too.
_SIGNED = re.compile(
    r"\b(?:Author|Commit|Committer|Signed-off-by|Co-authored-by|Reviewed-by): "
    r"([^\n<>@\\]{3,60}?) <[^\s<>@]{1,64}@",
    re.IGNORECASE,
)
_NOBODY = re.compile(r"(?i)claude|copilot|codex|gemini|\bbot\b|\[bot\]|example|test|your name")
_HOMES = ("/home/", "/Users/", "Users\\")
_HOME_USER = re.compile(
    r"(?:(?<![A-Za-z0-9_.~/-])(?:/home|/Users)/|(?<![A-Za-z])[A-Za-z]:\\{1,2}Users\\{1,2})"
    r"([A-Za-z][A-Za-z0-9._-]*)(?=[/\\])"
)


def redact_row(row: Mapping[str, Any], identity: Identity) -> tuple[dict[str, Any], Counter[str]]:
    """(the row with secrets, e-mail addresses and account names replaced, findings per rule).

    A value gets one placeholder in the whole row (`<SECRET_1>`, `user1@example.com`, `user1`),
    numbered by kind and first appearance, in call arguments and results alike. Touches `messages`
    and `tools` of chats and `text` of texts; secrets of FIM rows are the repository stage's.
    """
    parts = {key: row[key] for key in ("messages", "tools", "text") if key in row}
    ledger = _Ledger(identity)
    for text in _texts(parts):
        ledger.note(text)
    return {**row, **_mapped(parts, ledger.clean)}, ledger.counts


def redact_text(text: str, identity: Identity | None = None) -> tuple[str, Counter[str]]:
    """(`text` redacted by itself, findings per rule)."""
    ledger = _Ledger(identity or Identity())
    ledger.note(text)
    return ledger.clean(text), ledger.counts


class _Ledger:
    """The placeholders of one row."""

    def __init__(self, identity: Identity) -> None:
        self.counts: Counter[str] = Counter()
        self._identity = identity
        self._secrets: dict[str, str] = {}
        self._emails: dict[str, str] = {}
        self._users: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._everywhere: re.Pattern[str] | None = None

    def note(self, text: str) -> None:
        """Gives every secret and every signed name of `text` its placeholder."""
        for name in _SIGNED.findall(text) if " <" in text else ():
            if not _NOBODY.search(name):
                self._names.setdefault(name, f"Person {len(self._names) + 1}")
        for hit in find_secrets(text):
            self.counts[hit.rule] += 1
            value = text[hit.start : hit.end]
            self._secrets.setdefault(value, f"<SECRET_{len(self._secrets) + 1}>")
        self._everywhere = None

    def clean(self, text: str) -> str:
        """`text` with everything replaced."""
        text = self._without_secrets(text)
        for name, shown in self._names.items():
            self.counts["person_name"] += text.count(name)
            text = text.replace(name, shown)
        if "@" in text:
            text = _EMAIL.sub(self._email, text)
        if any(place in text for place in _HOMES):
            text = _HOME_USER.sub(self._home_user, text)
        if self._identity.is_in(text):
            text = self._identity.pattern.sub(lambda match: self._user(match.group(0)), text)
        return text

    def _without_secrets(self, text: str) -> str:
        if not self._secrets:
            return text
        for hit in reversed(find_secrets(text)):
            text = text[: hit.start] + self._secrets[text[hit.start : hit.end]] + text[hit.end :]
        if self._everywhere is None:
            known = sorted(self._secrets, key=len, reverse=True)
            long = [re.escape(value) for value in known if len(value) >= _SHORTEST_EVERYWHERE]
            self._everywhere = re.compile("|".join(long) or r"(?!)")
        return self._everywhere.sub(lambda match: self._secrets[match.group(0)], text)

    def _email(self, match: Any) -> str:
        address, domain = match.group(0), match.group(1).lower()
        if not _is_address(address, domain):
            return str(address)
        self.counts["email"] += 1
        number = len(self._emails) + 1
        return self._emails.setdefault(address.lower(), f"user{number}@example.com")

    def _home_user(self, match: re.Match[str]) -> str:
        whole, name = match.group(0), match.group(1)
        if name.lower() in GENERIC:
            return whole
        return whole[: -len(name)] + self._user(name)

    def _user(self, name: str) -> str:
        if name in self._users.values():
            return name
        self.counts["account_name"] += 1
        return self._users.setdefault(name.lower(), f"user{len(self._users) + 1}")


def _is_address(address: str, domain: str) -> bool:
    """False for what is no address (`icon@2x.png`) and for addresses that name nobody."""
    name, top = address.rpartition("@")[0].lower(), domain.rpartition(".")[2]
    if name in _OPEN_NAMES or "noreply" in name or domain.endswith(_OPEN_DOMAINS):
        return False
    return top in _TOP_LEVEL or (len(top) == 2 and top.isalpha() and top not in _FILE_ENDINGS)


def _texts(value: Any) -> Iterator[str]:
    """Every string a model would see, in order."""
    seen: list[str] = []

    def note(text: str) -> str:
        seen.append(text)
        return text

    _mapped(value, note)
    return iter(seen)


def _mapped(
    value: Any, change: Callable[[str], str], structure: frozenset[str] = _STRUCTURE
) -> Any:
    """`value` with every text changed; what stands at keys in `structure` is kept as it is.

    Inside call arguments and their schemas nothing is structure: a key such as `name` is the
    person's own there, and keys are texts too.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change, structure) for item in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key if structure else change(key): item
        if key in structure
        else _mapped(item, change, frozenset() if key in _OPEN else structure)
        for key, item in value.items()
    }
