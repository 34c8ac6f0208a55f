"""Conversations: guarded, rendered, cut into control tokens and text, and masked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from codetune.errors import UserError
from codetune.sample import ROLES
from codetune.tokens.control import Found, free_marker, unmark
from codetune.tokens.errors import RowDropped

if TYPE_CHECKING:
    from codetune.tokens.tokenizer import Tokenizer

Change = Callable[[str], str]


class Span(NamedTuple):
    """A trained answer in the rendered text: [start, turn_end) and the token that ends it."""

    start: int
    turn_end: int
    end: int


@dataclass(frozen=True)
class Rendered:
    """A rendered conversation: its marked text, the control tokens in it, and what is between.

    `pieces` holds the ids of the text before each control token and after the last one, so there
    is one more of them than there are control tokens.
    """

    text: str
    marker: str
    found: tuple[Found, ...]
    pieces: tuple[list[int], ...]
    messages: list[dict[str, Any]]
    tools: list[Any]

    @property
    def length(self) -> int:
        """Tokens of the whole conversation."""
        return len(self.found) + sum(map(len, self.pieces))


def render(row: Mapping[str, Any], tok: Tokenizer) -> Rendered:
    """The conversation of a chat row through the model's template.

    Raises `RowDropped` for a row that the template refuses, `UserError` for a model without one.
    """
    if tok.template is None:
        raise UserError(
            f"{tok.path}: no chat template (chat_template.jinja); use an Instruct model for chat"
        )
    marker = free_marker(json.dumps([row["messages"], row.get("tools")], ensure_ascii=False))
    if marker is None:
        raise RowDropped("no_free_marker")
    guard = partial(tok.control.guard, marker=marker)
    break_up = partial(tok.control.break_up, marker=marker)
    messages = [_message(m, guard, break_up) for m in row["messages"]]
    # Schemas and ids keep their ends, as templates compare these.
    tools = [_mapped(tool, break_up) for tool in row.get("tools") or ()]
    text = tok.template.render(messages, tools)
    found = tuple(tok.control.find(text))
    borders = zip([0, *(f.end for f in found)], [*(f.start for f in found), len(text)], strict=True)
    pieces = tuple(tok.encode(unmark(text[start:end], marker)) for start, end in borders)
    return Rendered(text, marker, found, pieces, messages, tools)


def trained_spans(row: Mapping[str, Any], rendered: Rendered, tok: Tokenizer) -> list[Span]:
    """Where the answers that carry loss stand in the rendered text, in order.

    Raises `UserError` for a template that is not prefix-stable on this conversation: what it
    renders up to and with an answer must be what stands there in the whole.
    """
    trained = [i for i, message in enumerate(row["messages"]) if _is_trained(message)]
    spans = [_span(rendered, i, tok) for i in trained]
    if any(one.end > two.start for one, two in itertools.pairwise(spans)):
        raise _unstable(tok)
    return spans


def ids_and_labels(
    rendered: Rendered, spans: Sequence[Span], tok: Tokenizer, ignored: int
) -> tuple[list[int], list[int]]:
    """Token ids of the whole conversation, and labels: ids in the spans, `ignored` elsewhere."""
    ids: list[int] = []
    labels: list[int] = []
    position, waiting = 0, list(reversed(spans))
    for piece, control in zip(rendered.pieces, (*rendered.found, None), strict=True):
        span = waiting[-1] if waiting else None
        end = control.start if control else len(rendered.text)
        untrained = _untrained(rendered, (position, end), span, piece, tok)
        ids += piece
        labels += [ignored] * untrained + piece[untrained:]
        if control is None:
            break
        inside = span is not None and span.start <= control.start
        ids.append(control.token_id)
        labels.append(control.token_id if inside else ignored)
        position = control.end
        if span is not None and control.end >= span.end:
            waiting.pop()
    return ids, labels


def prompt_ids(rendered: Rendered, span: Span, tok: Tokenizer) -> list[int]:
    """Token ids of everything before `span`: what the model sees when it is to answer."""
    ids: list[int] = []
    position = 0
    for piece, control in zip(rendered.pieces, rendered.found, strict=False):
        if control.end > span.start:
            break
        ids += [*piece, control.token_id]
        position = control.end
    return ids + tok.encode(unmark(rendered.text[position : span.start], rendered.marker))


def target(rendered: Rendered, span: Span) -> str:
    """The answer's text as the template wrote it, without the token that ends it."""
    return unmark(rendered.text[span.start : span.turn_end], rendered.marker)


def _is_trained(message: Mapping[str, Any]) -> bool:
    says = message.get("content") or message.get("tool_calls") or message.get("reasoning_content")
    return message["role"] == "assistant" and message.get("train") is True and bool(says)


def _message(message: Mapping[str, Any], guard: Change, break_up: Change) -> dict[str, Any]:
    """What the template gets to see of a message, every text of it guarded."""
    if message.get("role") not in ROLES:
        raise RowDropped("bad_role", str(message.get("role")))
    made: dict[str, Any] = {"role": message["role"]}
    for key in ("content", "tool_call_id", "name"):
        if isinstance(message.get(key), str):
            made[key] = guard(message[key])
    if isinstance(message.get("reasoning_content"), str):
        # transformers fills both names, since families read one or the other
        thought = guard(message["reasoning_content"])
        made |= {"reasoning_content": thought, "thinking": thought}
    if message.get("tool_calls"):
        made["tool_calls"] = [_call(call, guard, break_up) for call in message["tool_calls"]]
    return made


def _call(call: Mapping[str, Any], guard: Change, break_up: Change) -> dict[str, Any]:
    function = call["function"]
    made = {"name": guard(function["name"]), "arguments": _mapped(function["arguments"], guard)}
    known = {key: _mapped(call[key], break_up) for key in ("id", "type") if key in call}
    return {**known, "function": made}


def _mapped(value: Any, change: Change) -> Any:
    """`value` with every string and key changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(str(key)): _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value


def _span(rendered: Rendered, answer: int, tok: Tokenizer) -> Span:
    """Where the message at index `answer` stands, from after its role header to its end token.

    Both what comes before the answer and the answer itself must read as if nothing followed.
    """
    assert tok.template is not None
    prompt = tok.template.render(rendered.messages[:answer], rendered.tools, generate=True)
    start = len(prompt)
    ends = (f for f in rendered.found if f.start >= start and f.token_id == tok.end_of_turn_id)
    end = next(ends, None)
    if end is None or not rendered.text.startswith(prompt):
        raise _unstable(tok)
    if answer + 1 < len(rendered.messages):
        so_far = tok.template.render(rendered.messages[: answer + 1], rendered.tools)
        if not so_far.startswith(rendered.text[: end.end]):
            raise _unstable(tok)
    return Span(start, end.start, end.end)


def _unstable(tok: Tokenizer) -> UserError:
    return UserError(
        f"{tok.path}: its chat template is not prefix-stable on this conversation: an earlier "
        "turn is rendered differently once later ones follow (as templates do that drop old "
        "reasoning), so no loss mask can be right; use another template or single-turn rows"
    )


def _untrained(
    rendered: Rendered, border: tuple[int, int], span: Span | None, ids: list[int], tok: Tokenizer
) -> int:
    """How many tokens of the piece between `border` reach in front of `span`."""
    start, end = border
    if span is None or span.start >= end:
        return len(ids)
    if span.start <= start:
        return 0
    head = unmark(rendered.text[start : span.start], rendered.marker)
    known = tok.encode(head)
    if ids[: len(known)] == known:  # the usual case, without the slower offsets
        return len(known)
    whole = head + unmark(rendered.text[span.start : end], rendered.marker)
    return sum(begin < len(head) for begin in tok.starts(whole))
