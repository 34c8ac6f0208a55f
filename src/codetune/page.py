"""Self-contained HTML pages from templates of this package.

What stands on a page is untrusted text: jinja2 escapes all of it, and control characters and
bidirectional overrides are stripped.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from markupsafe import Markup

from codetune import console


def rendered(package: str, template: str, **values: Any) -> str:
    """The page of a template that lies in `package`; a value that it lacks is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = resources.files(package).joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def _harmless(value: Any) -> Any:
    """Text without control characters; markup of our own making as it is."""
    foreign = isinstance(value, str) and not isinstance(value, Markup)
    return console.clean(value) if foreign else value
