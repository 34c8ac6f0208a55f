"""What a figure means by its name, where its stage did not say: names here tell their unit."""

from __future__ import annotations

import re
from typing import Literal

Direction = Literal["lower", "higher", "none"]
_MEANINGS: tuple[tuple[str, str, Direction], ...] = (
    (r"(^|_)tokens?_per_second$", "tokens/s", "higher"),
    (r"_per_second$", "1/s", "higher"),
    (r"(^|_)(seconds|s)$", "s", "lower"),
    (r"(^|_)mib$", "MiB", "lower"),
    (r"(^|_)bytes$", "bytes", "lower"),
    (r"(^|_)loss(_best|_base|_tuned)?$", "nats/token", "lower"),
    (r"(^|_)kl$", "nats", "lower"),
    (r"(^|_)(share|fill|agreement)$", "share", "none"),
    (r"(^|_)(tokens|rows|files|groups|steps|sequences|redacted)$", "count", "none"),
)


def of(key: str) -> tuple[str, Direction]:
    """(unit, better direction) of a metric called `key`; nothing is said of unknown ones."""
    fitting = ((unit, way) for pattern, unit, way in _MEANINGS if re.search(pattern, key))
    return next(fitting, ("", "none"))
