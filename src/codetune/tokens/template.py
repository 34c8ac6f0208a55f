"""A model's chat template, rendered as transformers renders it, but in a sandbox of our own.

Source for the environment: `transformers.utils.chat_template_utils`, 5.23 (tests compare).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from codetune.errors import UserError
from codetune.tokens.errors import RowDropped

# Templates that print the date would give other tokens every day, and stale caches.
PINNED_DAY = datetime(2026, 1, 1)


class ChatTemplate:
    """Messages (and tools) to the text a model was trained on."""

    def __init__(self, source: str, names: Mapping[str, str], where: str) -> None:
        """`names` are the special tokens a template may ask for (bos_token, eos_token …)."""
        self.source = source
        self._names = dict(names)
        try:
            self._compiled = _environment().from_string(source)
        except jinja2.TemplateError as problem:
            raise UserError(f"{where}: the chat template does not compile: {problem}") from problem

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] = (),
        *,
        generate: bool = False,
    ) -> str:
        """The rendered text; with `generate`, up to where the assistant would start to write.

        Raises `RowDropped` ("template_refused") when the template cannot render these messages.
        """
        try:
            return self._compiled.render(
                messages=messages,
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=generate,
                **self._names,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as problem:
            raise RowDropped("template_refused", str(problem)) from problem


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = PINNED_DAY.strftime
    made.globals["dict"] = _dict
    made.globals["namespace"] = _Namespace
    return made


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja's own filter escapes HTML, which models have not been trained on
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    # a function, so that a template cannot reach the class and what hangs on it
    return dict(*args, **kwargs)


class _Namespace(Namespace):
    """jinja's namespace without underscored names, through which sandboxes have been left."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = dict(*args, **kwargs)
        for name in names:
            _check_name(name)
        super().__init__(names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a chat template may not set {name!r}")


class _Generation(Extension):
    """Lets `{% generation %}` blocks through as plain text: we find assistant spans ourselves."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's body, in a scope of its own as a macro call would give it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)
