"""Whether a value that stands where a secret would stand is a real one.

Names, placeholders, references to variables and default passwords of examples are left alone:
replacing them would damage code and teach a model that it is full of placeholders.
"""

from __future__ import annotations

import math
import re
from collections import Counter

_REFERENCE = re.compile(
    r"^[$<{%*]|\$\{|\$\(|\{\{|%\(|process\.env|os\.environ|getenv|import\.meta|secrets\.|\(\)|^[*.xX•-]+$"
)
_PLACEHOLDER = re.compile(
    r"(?i)example|sample|placeholder|dummy|redacted|changeme|change_me|change-me|your[-_]?|<|>"
    r"|\.\.\.|xxxx|0000000|1234567890123|abcdefgh|not[-_]?real|fake|foobar|insert|replace|secret_\d"
)
_DOTTED_NAME = re.compile(r"^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$")
_WORDS = re.compile(r"^[A-Za-z]+(?:[_.:/-][A-Za-z]+)*$")
_WORDS_AND_NUMBERS = re.compile(
    r"^[a-z]{2,}\d{0,3}(?:[_.:/-][a-z]{2,}\d{0,3})*(?:[_.-]v?\d{1,4})?$"
)
_CAMEL = re.compile(r"^(?:[A-Z]?[a-z]{2,}\d{0,2}){1,6}$")


def words(text: str) -> frozenset[str]:
    """The words of `text`, for tables that read better as a paragraph."""
    return frozenset(text.split())


_DEFAULTS = words("""
    password passwd passw0rd password1 password123 pass secret postgres root admin admin123 guest
    test test123 testpass testpassword user mysql redis rabbitmq minio minioadmin docker demo none
    null true false string undefined token hunter2 123456 12345678 qwerty letmein optional required
""")


def entropy(value: str) -> float:
    """Shannon entropy of the characters of `value`, in bits a character."""
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values())


def is_real_value(value: str) -> bool:
    """False for references to variables, placeholders and the passwords of tutorials."""
    if _REFERENCE.search(value) or _PLACEHOLDER.search(value):
        return False
    return value.lower().strip("\"'") not in _DEFAULTS and len(set(value)) > 2


def is_password(value: str) -> bool:
    """True for what a person or a generator would choose; false for names and types."""
    if not is_real_value(value) or _is_name(value):
        return False
    kinds = sum(
        bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", r"\d", r"[^A-Za-z0-9_.]")
    )
    return kinds >= 2 and re.search(r"[\d!@#$%^&*?]", value) is not None


def is_random_token(value: str) -> bool:
    """True for random-looking values: letters with digits, long, and not words joined."""
    return is_credential(value) and not _DOTTED_NAME.match(value)


def is_credential(value: str) -> bool:
    """As `is_random_token`, where the place leaves no doubt: dots do not make it a name."""
    if not is_real_value(value) or len(value) < 12:
        return False
    if any(name.match(value) for name in (_WORDS, _CAMEL, _WORDS_AND_NUMBERS)):
        return False
    return entropy(value) >= 3.0 and bool(re.search(r"\d", value) and re.search("[A-Za-z]", value))


def _is_name(value: str) -> bool:
    return any(name.match(value) for name in (_WORDS, _CAMEL, _DOTTED_NAME))
