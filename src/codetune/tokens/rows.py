"""One row to token ids and labels: the only way that text becomes tokens in this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codetune.errors import UserError
from codetune.tokens import chat
from codetune.tokens.errors import RowDropped
from codetune.tokens.fim import FimFormat, why_none

if TYPE_CHECKING:
    from codetune.tokens.tokenizer import Tokenizer

# What torch's cross entropy leaves out by default.
IGNORED = -100
# Where a file has to be cut, this part of the room goes to the suffix (llama.cpp: 256 : 64 lines).
_SUFFIX_SHARE = 0.25
# The name llama.cpp's editors send for every repository.
_UNNAMED_REPO = "myproject"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row for training: `labels` equal `input_ids` where there is loss, else `IGNORED`."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens carry loss."""
        return len(self.labels) - self.labels.count(IGNORED)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A row for generation: what the model sees, what it should write, what it should stop at."""

    input_ids: list[int]
    target: str
    stop_ids: list[int]


def tokenise(row: Mapping[str, Any], tok: Tokenizer, max_length: int | None = None) -> Tokens:
    """Ids and labels of a row of any task.

    Loss is on trained assistant messages and their end-of-turn token; on a FIM row's middle and
    its end token; on all of a text row. FIM rows are cut to `max_length` at their far ends,
    never in the middle; other rows are not cut. Raises `RowDropped` with reason too_long,
    no_trained_token, template_refused, bad_role, no_free_marker or unknown_task, and `UserError`
    when the model cannot take rows of this task.
    """
    task = row.get("task")
    if task == "chat":
        tokens = _chat(row, tok, max_length)
    elif task == "fim":
        tokens = _fim(row, tok, max_length)
    elif task == "text":
        tokens = _text(row, tok, max_length)
    else:
        raise RowDropped("unknown_task", str(task))
    if not tokens.trained:
        raise RowDropped("no_trained_token")
    _fits(len(tokens.input_ids), max_length)
    return tokens


def prompt(row: Mapping[str, Any], tok: Tokenizer, max_length: int | None = None) -> Prompt:
    """What to generate from, and the text that stood there.

    A chat row is cut before its last trained answer; a FIM row is cut as for training, after
    its middle token. Raises as `tokenise`, and `RowDropped` ("not_generative") for text rows.
    """
    if row.get("task") == "chat":
        rendered = chat.render(row, tok)
        spans = chat.trained_spans(row, rendered, tok)
        if not spans:
            raise RowDropped("no_trained_token")
        last = spans[-1]
        ids = chat.prompt_ids(rendered, last, tok)
        _fits(len(ids), max_length)
        return Prompt(ids, chat.target(rendered, last), stop_ids(tok))
    if row.get("task") == "fim":
        tokens = tokenise(row, tok, max_length)
        before = len(tokens.input_ids) - tokens.trained
        return Prompt(tokens.input_ids[:before], row["middle"], stop_ids(tok))
    raise RowDropped("not_generative", str(row.get("task")))


def question(text: str, tok: Tokenizer) -> Prompt:
    """A person's question as a prompt, through the chat template where there is one."""
    if tok.template is None:
        return Prompt([*tok.bos_ids, *tok.encode(text)], "", stop_ids(tok))
    # The stand-in answer is cut off again: a prompt ends where the answer would begin.
    answer = {"role": "assistant", "content": "-", "train": True}
    messages = [{"role": "user", "content": text}, answer]
    return prompt({"id": "question", "task": "chat", "messages": messages, "meta": {}}, tok)


def stop_ids(tok: Tokenizer) -> list[int]:
    """Where generation ends: end of turn, end of text, and every FIM token of the family."""
    family = tok.fim.tokens if tok.fim else ()
    ids = [tok.end_of_turn_id, tok.end_of_text_id, *map(tok.special, family)]
    return list(dict.fromkeys(ids))


def _fits(length: int, max_length: int | None) -> None:
    if max_length is not None and length > max_length:
        raise RowDropped("too_long", f"{length} tokens, at most {max_length}")


def _chat(row: Mapping[str, Any], tok: Tokenizer, max_length: int | None) -> Tokens:
    rendered = chat.render(row, tok)
    _fits(rendered.length, max_length)  # before the spans, whose cost grows with the turns
    spans = chat.trained_spans(row, rendered, tok)
    return Tokens(*chat.ids_and_labels(rendered, spans, tok, IGNORED))


def _fim(row: Mapping[str, Any], tok: Tokenizer, max_length: int | None) -> Tokens:
    family = _family(tok)
    prefix, middle, suffix = tok.encode_many([row["prefix"], row["middle"], row["suffix"]])
    ask = [tok.special(t) for t in (family.prefix, family.suffix, family.middle)]
    answer = [*middle, tok.special(family.end)]
    fixed = len(tok.bos_ids) + len(ask) + len(answer)
    _fits(fixed, max_length)
    room = None if max_length is None else max_length - fixed
    head = _repository(row, tok, None if room is None else room - len(prefix) - len(suffix))
    if room is not None:
        prefix, suffix = _cut(prefix, suffix, room - len(head))
    before = [*tok.bos_ids, *head, ask[0], *prefix, ask[1], *suffix, ask[2]]
    return Tokens([*before, *answer], [IGNORED] * len(before) + answer)


def _text(row: Mapping[str, Any], tok: Tokenizer, max_length: int | None) -> Tokens:
    body = [*tok.encode(row["text"]), tok.end_of_text_id]
    room = None if max_length is None else max_length - len(tok.bos_ids) - len(body)
    head = _repository(row, tok, room)
    before = [*tok.bos_ids, *head]
    return Tokens([*before, *body], [IGNORED] * len(before) + body)


def _family(tok: Tokenizer) -> FimFormat:
    if tok.fim is None:
        why = why_none(tok.control.ids.__contains__)
        raise UserError(f"{tok.path}: cannot take FIM rows: {why}; leave FIM rows out")
    return tok.fim


def _cut(prefix: list[int], suffix: list[int], room: int) -> tuple[list[int], list[int]]:
    """The tokens nearest to the gap, `room` of them at most."""
    after = min(len(suffix), max(int(room * _SUFFIX_SHARE), room - len(prefix)))
    return prefix[max(0, len(prefix) - (room - after)) :], suffix[:after]


def _repository(row: Mapping[str, Any], tok: Tokenizer, room: int | None) -> list[int]:
    """The row's other files and its own path in the family's repository form.

    Files are left out from the first on until the rest fits into `room` tokens; without one
    left, or without a known form, the row stands alone. None of this carries loss.
    """
    family = tok.fim
    files = row.get("context") or ()
    if not files or family is None or not family.repo:
        return []
    meta = row.get("meta") or {}
    names = [f"{meta.get('repo') or _UNNAMED_REPO}\n", f"{meta.get('path') or 'untitled'}\n"]
    texts = [f"{file['path']}\n{file['text']}".removesuffix("\n") + "\n" for file in files]
    name, own, *others = tok.encode_many([*names, *texts])
    separator = tok.special(family.file)
    head, tail = [tok.special(family.repo), *name], [separator, *own]
    left = None if room is None else room - len(head) - len(tail)
    blocks: list[list[int]] = []
    for other in reversed(others):  # the last file stands nearest
        block = [separator, *other]
        if left is not None and len(block) > left:
            break
        left = None if left is None else left - len(block)
        blocks.insert(0, block)
    return [*head, *(i for block in blocks for i in block), *tail] if blocks else []
