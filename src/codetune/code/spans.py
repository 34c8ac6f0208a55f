"""Where the gap of a fill-in-the-middle row may lie: spans on syntax boundaries, and of lines.

Offsets are bytes of the file, never decoded characters, so that a file can be cut and joined again
exactly. Spans of one file never overlap, never are blank, and never cut a word.

Whole syntax nodes teach more than random cuts (AST-FIM, arXiv 2506.00204), and cuts inside a word
hurt (FIM-SE, arXiv 2405.17103); line spans are there because an editor's cursor knows no syntax.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from codetune.sample import draw

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Pair = tuple[int, int]
T = TypeVar("T")

# Relative weights of the syntax kinds; `Plan.line_share` says how many spans are of lines instead.
_SYNTAX_WEIGHTS = {
    "function_body": 1.0,
    "block": 2.5,
    "statement": 1.5,
    "arguments": 0.5,
    "expression": 0.5,
}
# of the line spans: whole lines, and the rest of a line from a word on
_LINE_WEIGHTS = {"lines": 0.4, "line_rest": 0.6}
_MAX_LINES = 5
# A draw may fall on something too small, too large or taken; then the next one is tried.
_TRIES = 24
_EXPRESSIONS = frozenset(
    (
        *("attribute", "await", "binary_operator", "boolean_operator"),
        *("call", "comparison_operator", "concatenated_string", "conditional_expression"),
        *("dictionary", "dictionary_comprehension", "generator_expression", "lambda"),
        *("list", "list_comprehension", "not_operator", "parenthesized_expression"),
        *("set", "set_comprehension", "subscript", "tuple"),
    )
)
_STATEMENTS = frozenset(("class_definition", "decorated_definition", "function_definition"))
_OPAQUE = frozenset(("string", "comment"))
_WORD = re.compile(rb"[A-Za-z0-9_\x80-\xff]")
_TOKENS = re.compile(rb"[A-Za-z0-9_\x80-\xff]+|[^\sA-Za-z0-9_\x80-\xff]+")


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (exclusive) of a file, and what they are."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Plan:
    """How many spans a file gives and how long they are.

    Lengths are bytes: a token of source code is about four. A file gives one span per
    `bytes_per_span` bytes, at least one, at most `per_file`.
    """

    per_file: int = 6
    min_bytes: int = 32
    max_bytes: int = 800
    line_share: float = 0.25
    bytes_per_span: int = 2_048


def choose(source: bytes, plan: Plan, key: str) -> list[Span] | None:
    """The spans of a Python file in file order; None when it does not parse.

    The choice depends on `source`, `plan` and `key` alone.
    """
    root = _parser().parse(source).root_node
    if root.has_error:
        return None
    pools = _syntax_spans(root, plan)
    lines = _line_starts(source)
    chosen: list[Span] = []
    for k in range(_how_many(source, plan)):
        of_lines = draw(f"{key} {k}", "lines or syntax") < plan.line_share
        for attempt in range(_TRIES):
            tried = f"{key} {k} {attempt}"
            if of_lines:
                span = _draw_lines(source, lines, plan, tried)
            else:
                span = _draw_syntax(pools, tried)
            if span is not None and _fits(source, span, plan) and _is_free(span, chosen):
                chosen.append(span)
                break
    return sorted(chosen, key=lambda span: span.start)


def cuts_word(source: bytes, offset: int) -> bool:
    """Whether a cut at `offset` has a letter, digit, underscore or non-ASCII byte on both sides."""
    return bool(
        0 < offset < len(source) and _WORD.match(source, offset - 1) and _WORD.match(source, offset)
    )


@cache
def _parser() -> Parser:
    import tree_sitter_python
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_python.language()))


def _how_many(source: bytes, plan: Plan) -> int:
    return max(1, min(plan.per_file, len(source) // plan.bytes_per_span))


def _syntax_spans(root: Node, plan: Plan) -> dict[str, list[Pair]]:
    """Candidates by kind. Subtrees smaller than the shortest span are never entered."""
    pools: dict[str, list[Pair]] = {kind: [] for kind in _SYNTAX_WEIGHTS}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        is_function = node.type == "function_definition"
        for child in node.children:
            start, end = child.start_byte, child.end_byte
            if end - start < plan.min_bytes:
                continue
            kind = _span_kind(child.type)
            if kind == "opaque":
                continue
            waiting.append(child)
            if kind == "arguments":  # without the parentheses
                start, end = start + 1, end - 1
            elif kind == "block" and is_function:
                kind = "function_body"
            if kind and end - start <= plan.max_bytes and not _is_docstring(child):
                pools[kind].append((start, end))
    return pools


@cache
def _span_kind(node_type: str) -> str:
    """The kind of span that a syntax node gives; "" for none, "opaque" for none inside either."""
    if node_type in _OPAQUE:
        return "opaque"
    if node_type in _EXPRESSIONS:
        return "expression"
    if node_type in _STATEMENTS or node_type.endswith("_statement"):
        return "statement"
    return {"block": "block", "argument_list": "arguments"}.get(node_type, "")


def _is_docstring(node: Node) -> bool:
    """A string that stands alone: prose, which the code around it does not determine."""
    if node.type != "expression_statement" or node.child_count != 1:
        return False
    only = node.child(0)
    return only is not None and only.type == "string"


def _line_starts(source: bytes) -> list[int]:
    starts = [0]
    starts.extend(found.end() for found in re.finditer(rb"\n", source))
    return starts


def _draw_syntax(pools: dict[str, list[Pair]], key: str) -> Span | None:
    there = {kind: weight for kind, weight in _SYNTAX_WEIGHTS.items() if pools[kind]}
    if not there:
        return None
    kind = _weighted(there, draw(key, "kind"))
    return Span(*_pick(pools[kind], draw(key, "span")), kind)


def _draw_lines(source: bytes, lines: list[int], plan: Plan, key: str) -> Span | None:
    """One to five whole lines from the first one's indentation on, or the rest of one line.

    Both end before the white space at the end of the last line.
    """
    kind = _weighted(_LINE_WEIGHTS, draw(key, "kind"))
    first = int(draw(key, "line") * len(lines))
    count = 1 + int(draw(key, "count") * _MAX_LINES) if kind == "lines" else 1
    stop = lines[first + count] if first + count < len(lines) else len(source)
    end = lines[first] + len(source[lines[first] : stop].rstrip())
    tokens = (found.start() for found in _TOKENS.finditer(source, lines[first], end))
    starts = [start for start in tokens if end - start >= plan.min_bytes]
    if not starts:
        return None
    start = starts[0] if kind == "lines" else _pick(starts, draw(key, "column"))
    return Span(start, end, kind)


def _fits(source: bytes, span: Span, plan: Plan) -> bool:
    return (
        plan.min_bytes <= span.end - span.start <= plan.max_bytes
        and not source[span.start : span.end].isspace()
        and not cuts_word(source, span.start)
        and not cuts_word(source, span.end)
    )


def _is_free(span: Span, chosen: list[Span]) -> bool:
    return all(span.end <= other.start or other.end <= span.start for other in chosen)


def _weighted(weights: dict[str, float], where: float) -> str:
    kinds, borders, total = list(weights), [], 0.0
    for weight in weights.values():
        total += weight
        borders.append(total)
    return kinds[min(bisect_right(borders, where * total), len(kinds) - 1)]


def _pick(items: list[T], where: float) -> T:
    return items[min(int(where * len(items)), len(items) - 1)]
