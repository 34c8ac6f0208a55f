"""Conversations: guarded, rendered, cut into control tokens and text, and masked."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from codetune.errors import UserError
from codetune.sample import ROLES
from codetune.tokens.control import ControlTokens, Found, free_marker, unmark
from codetune.tokens.errors import RowDropped

if TYPE_CHECKING:
    from codetune.tokens.template import ChatTemplate
    from codetune.tokens.tokenizer import Tokenizer


class Span(NamedTuple):
    """A trained answer in the rendered text: [start, turn_end) and the token that ends it."""

    start: int
    turn_end: int
    end: int


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation: marked text, its control tokens, and the trained spans in order."""

    text: str
    marker: str
    found: tuple[Found, ...]
    spans: tuple[Span, ...]


class _Piece(NamedTuple):
    """Text between control tokens: characters before `trained_from` carry no loss."""

    text: str
    trained_from: int


def render(row: Mapping[str, Any], tok: Tokenizer) -> Rendered:
    """The conversation of a chat row through the model's template.

    Raises `RowDropped` for a row that the template refuses and `UserError` for a template that
    is not prefix-stable on it, because then no loss mask would be right.
    """
    template = tok.template
    if template is None:
        raise UserError(
            f"{tok.path}: no chat template (chat_template.jinja); use an Instruct model for chat"
        )
    marker = free_marker(orjson.dumps([row["messages"], row.get("tools")]).decode())
    if marker is None:
        raise RowDropped("no_free_marker")
    messages = [_message(m, tok.control, marker) for m in row["messages"]]
    tools = [_break_up(tool, tok.control, marker) for tool in row.get("tools") or ()]
    text = template.render(messages, tools)
    found = tuple(tok.control.find(text))
    trained = [i for i, message in enumerate(row["messages"]) if _is_trained(message)]
    starts = [_start(template, messages[:i], tools, text, tok) for i in trained]
    spans = tuple(_span(start, found, tok) for start in starts)
    if any(one.end > two.start for one, two in itertools.pairwise(spans)):
        raise _unstable(tok)
    return Rendered(text, marker, found, spans)


def ids_and_labels(rendered: Rendered, tok: Tokenizer, ignored: int) -> tuple[list[int], list[int]]:
    """Token ids of the whole text, and labels: ids within the spans, `ignored` elsewhere."""
    ids: list[int] = []
    labels: list[int] = []
    position = 0
    spans = iter(rendered.spans)
    span = next(spans, None)
    ends = Found(len(rendered.text), len(rendered.text), -1)
    for control in (*rendered.found, ends):
        piece = _piece(rendered, position, control.start, span)
        made = tok.encode(piece.text)
        untrained = _untrained(piece, made, tok)
        ids += made
        labels += [ignored] * untrained + made[untrained:]
        if control is ends:
            break
        inside = span is not None and span.start <= control.start
        ids.append(control.token_id)
        labels.append(control.token_id if inside else ignored)
        position = control.end
        if span is not None and control.end >= span.end:
            span = next(spans, None)
    return ids, labels


def prompt_ids(rendered: Rendered, span: Span, tok: Tokenizer) -> list[int]:
    """Token ids of everything before `span`: what the model sees when it is to answer."""
    cut = Rendered(
        text=rendered.text[: span.start],
        marker=rendered.marker,
        found=tuple(f for f in rendered.found if f.end <= span.start),
        spans=(),
    )
    return ids_and_labels(cut, tok, 0)[0]


def target(rendered: Rendered, span: Span) -> str:
    """The answer's text as the template wrote it, without the token that ends it."""
    return unmark(rendered.text[span.start : span.turn_end], rendered.marker)


def _is_trained(message: Mapping[str, Any]) -> bool:
    says = message.get("content") or message.get("tool_calls") or message.get("reasoning_content")
    return message["role"] == "assistant" and message.get("train") is True and bool(says)


def _message(message: Mapping[str, Any], control: ControlTokens, marker: str) -> dict[str, Any]:
    """What the template gets to see of a message, every text of it guarded."""
    if message.get("role") not in ROLES:
        raise RowDropped("bad_role", str(message.get("role")))
    made: dict[str, Any] = {"role": message["role"]}
    for key in ("content", "tool_call_id", "name"):
        if isinstance(message.get(key), str):
            made[key] = control.guard(message[key], marker)
    if isinstance(message.get("reasoning_content"), str):
        # transformers fills both names, since families read one or the other
        thought = control.guard(message["reasoning_content"], marker)
        made |= {"reasoning_content": thought, "thinking": thought}
    if message.get("tool_calls"):
        made["tool_calls"] = [_call(call, control, marker) for call in message["tool_calls"]]
    return made


def _call(call: Mapping[str, Any], control: ControlTokens, marker: str) -> dict[str, Any]:
    function = call["function"]
    made = {
        "name": control.guard(function["name"], marker),
        "arguments": _guard(function["arguments"], control, marker),
    }
    known = {key: _break_up(call[key], control, marker) for key in ("id", "type") if key in call}
    return {**known, "function": made}


def _guard(value: Any, control: ControlTokens, marker: str) -> Any:
    """A call's arguments with every string and key guarded."""
    if isinstance(value, str):
        return control.guard(value, marker)
    if isinstance(value, Mapping):
        pairs = value.items()
        return {control.guard(str(k), marker): _guard(v, control, marker) for k, v in pairs}
    if isinstance(value, list):
        return [_guard(item, control, marker) for item in value]
    return value


def _break_up(value: Any, control: ControlTokens, marker: str) -> Any:
    """Schemas and ids: control tokens broken up, ends left alone, as templates compare these."""
    if isinstance(value, str):
        return control.break_up(value, marker)
    if isinstance(value, Mapping):
        pairs = value.items()
        return {control.break_up(str(k), marker): _break_up(v, control, marker) for k, v in pairs}
    if isinstance(value, list):
        return [_break_up(item, control, marker) for item in value]
    return value


def _start(
    template: ChatTemplate,
    before: Sequence[Mapping[str, Any]],
    tools: Sequence[Any],
    text: str,
    tok: Tokenizer,
) -> int:
    """Where the answer after the messages `before` begins in the whole text."""
    prompt = template.render(before, tools, generate=True)
    if not text.startswith(prompt):
        raise _unstable(tok)
    return len(prompt)


def _span(start: int, found: Iterable[Found], tok: Tokenizer) -> Span:
    for control in found:
        if control.start >= start and control.token_id == tok.end_of_turn_id:
            return Span(start, control.start, control.end)
    raise _unstable(tok)


def _unstable(tok: Tokenizer) -> UserError:
    return UserError(
        f"{tok.path}: its chat template is not prefix-stable on this conversation: an earlier "
        "turn is rendered differently once later ones follow (as templates do that drop old "
        "reasoning), so no loss mask can be right; use another template or single-turn rows"
    )


def _piece(rendered: Rendered, start: int, end: int, span: Span | None) -> _Piece:
    """The text [start, end) without markers, and how much of it precedes the trained span."""
    before = end if span is None else min(max(span.start, start), end)
    head = unmark(rendered.text[start:before], rendered.marker)
    return _Piece(head + unmark(rendered.text[before:end], rendered.marker), len(head))


def _untrained(piece: _Piece, ids: Sequence[int], tok: Tokenizer) -> int:
    """How many of the piece's tokens reach into its untrained head."""
    if piece.trained_from in (0, len(piece.text)):
        return 0 if piece.trained_from == 0 else len(ids)
    head = tok.encode(piece.text[: piece.trained_from])
    if list(ids[: len(head)]) == head:  # the usual case, without the slower offsets
        return len(head)
    return sum(start < piece.trained_from for start in tok.starts(piece.text))
