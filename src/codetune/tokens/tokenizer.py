"""A model folder's tokenizer, read with the `tokenizers` library alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers

from codetune.errors import UserError
from codetune.tokens.control import ControlTokens, is_control
from codetune.tokens.fim import FimFormat, detect
from codetune.tokens.template import ChatTemplate

# Part of every fingerprint: raise it when rows begin to give other ids or labels.
RULES_VERSION = 1
_CACHED_TEXTS = 512
_END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "<eos>", "</s>")
_PROBE = "PROBE"
_PIECES = ("a b\n c", "d")


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer whose `encode` never makes control tokens out of text.

    `bos_ids` are put before rows that no template renders; `end_of_turn_id` ends an assistant
    message, `end_of_text_id` a document (equal where a model has one only). `pad_id` may be a
    trained token too: mask padding by length, never by id. `fingerprint` is a sha256 over the
    tokenizer, its template and our rules.
    """

    path: Path
    fingerprint: str
    vocab_size: int
    bos_ids: tuple[int, ...]
    pad_id: int
    end_of_turn_id: int
    end_of_text_id: int
    fim: FimFormat | None
    template: ChatTemplate | None
    control: ControlTokens
    _inner: tokenizers.Tokenizer
    _cached: Callable[[str], tuple[int, ...]]

    def encode(self, text: str) -> list[int]:
        """The ids of ordinary text: a literal `<|im_end|>` comes out in pieces."""
        return list(self._cached(text))

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of every text, on all cores and past the cache."""
        encoded = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        return [one.ids for one in encoded]

    def starts(self, text: str) -> list[int]:
        """For each token of `encode(text)`, the character it starts at."""
        return [start for start, _ in self._inner.encode(text, add_special_tokens=False).offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens spelled out."""
        return self._inner.decode(list(ids), skip_special_tokens=False)

    def special(self, token: str) -> int:
        """The id of a control token, by its text. Raises `UserError` when it is not one id."""
        if token not in self.control.ids:
            raise UserError(f"{self.path}: {token} is not a single control token of this tokenizer")
        return self.control.ids[token]


def load(model_dir: Path) -> Tokenizer:
    """The tokenizer of a local model folder.

    Reads tokenizer.json, tokenizer_config.json and, where it exists, chat_template.jinja (it
    wins over the config's). Raises `UserError` when a file is missing or broken.
    """
    model_dir = Path(model_dir)
    blob = _read(model_dir / "tokenizer.json")
    config = _read_object(model_dir / "tokenizer_config.json")
    source = _template_source(model_dir, config)
    inner = _open(model_dir, blob)
    bos_ids = tuple(inner.encode("").ids)
    control = ControlTokens.of(inner.get_added_tokens_decoder().items())
    whole = _probe_pieces(inner, control, model_dir)
    inner = _as_plain_text_encoder(inner)
    names = {key: _text_of(value) for key, value in config.items() if _names_a_token(key, value)}
    template = ChatTemplate(source, names, str(model_dir)) if source is not None else None
    end_of_turn = _end_of_turn(template, control, model_dir) if template else None
    end_of_text = _end_of_text(control, names.get("eos_token"), end_of_turn, model_dir)
    _check_pieces(inner, whole, control, model_dir)
    return Tokenizer(
        path=model_dir,
        fingerprint=_fingerprint(blob, config, source),
        vocab_size=1 + max(inner.get_vocab(with_added_tokens=True).values()),
        bos_ids=tuple(i for i in bos_ids if i == control.ids.get(names.get("bos_token", ""))),
        pad_id=control.ids.get(names.get("pad_token", ""), end_of_text),
        end_of_turn_id=end_of_text if end_of_turn is None else end_of_turn,
        end_of_text_id=end_of_text,
        fim=detect(control.ids.__contains__),
        template=template,
        control=control,
        _inner=inner,
        _cached=lru_cache(maxsize=_CACHED_TEXTS)(_encoder(inner)),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UserError(
            f"{path}: cannot be read ({problem.strerror}); give a local model folder that has "
            "tokenizer.json and tokenizer_config.json"
        ) from problem


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path))
    except ValueError as problem:
        raise UserError(f"{path}: not valid JSON: {problem}") from problem
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def _open(model_dir: Path, blob: bytes) -> tokenizers.Tokenizer:
    try:
        inner = tokenizers.Tokenizer.from_buffer(blob)
    except ValueError as problem:  # what the library raises for every fault in the file
        raise UserError(f"{model_dir}/tokenizer.json: {problem}") from problem
    inner.no_truncation()
    inner.no_padding()
    return inner


def _as_plain_text_encoder(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A tokenizer that reads every control token as text.

    The library's switch spares only tokens flagged special, and families differ in what they
    flag (`<tool_call>` mostly is not), so the flag is set for all of them first.
    """
    added = inner.get_added_tokens_decoder().values()
    if any(is_control(token) and not token.special for token in added):
        state = json.loads(inner.to_str())
        names = {token.content for token in added if is_control(token)}
        for entry in state["added_tokens"]:
            entry["special"] = entry["special"] or entry["content"] in names
        inner = tokenizers.Tokenizer.from_str(json.dumps(state))
    inner.encode_special_tokens = True
    return inner


def _encoder(inner: tokenizers.Tokenizer) -> Callable[[str], tuple[int, ...]]:
    return lambda text: tuple(inner.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def _template_source(model_dir: Path, config: Mapping[str, Any]) -> str | None:
    beside = model_dir / "chat_template.jinja"
    if beside.exists():
        try:
            return _read(beside).decode("utf-8")
        except UnicodeDecodeError as problem:
            raise UserError(f"{beside}: not UTF-8: {problem}") from problem
    inside = config.get("chat_template")
    if isinstance(inside, list):  # several named templates
        named = {e.get("name"): e.get("template") for e in inside if isinstance(e, dict)}
        inside = named.get("default")
    return inside if isinstance(inside, str) else None


def _names_a_token(key: str, value: object) -> bool:
    return key.endswith("_token") and bool(_text_of(value))


def _text_of(value: object) -> str:
    """A token of the config: its text, or an object that holds it as content."""
    inner = value.get("content") if isinstance(value, Mapping) else value
    return inner if isinstance(inner, str) else ""


def _end_of_turn(template: ChatTemplate, control: ControlTokens, model_dir: Path) -> int:
    """The control token that the template writes after an assistant's answer."""
    asked = [{"role": "user", "content": "Hello"}]
    prompt = template.render(asked, generate=True)
    text = template.render([*asked, {"role": "assistant", "content": _PROBE}])
    if prompt == template.render(asked) or not text.startswith(prompt):
        raise UserError(
            f"{model_dir}: its chat template is not prefix-stable: what it renders before an "
            "answer (add_generation_prompt) is not what stands there in the whole conversation, "
            "so no loss mask can be right; use another template"
        )
    answered = text.rfind(_PROBE)
    after = [found for found in control.find(text) if found.start >= answered]
    if answered < len(prompt) or not after:
        raise UserError(f"{model_dir}: its chat template ends an answer with no control token")
    return after[0].token_id


def _end_of_text(
    control: ControlTokens, eos: str | None, end_of_turn: int | None, model_dir: Path
) -> int:
    """What ends a document: the eos token, unless an Instruct config made that the turn's end."""
    eos_id = control.ids.get(eos or "")
    if eos_id is not None and eos_id != end_of_turn:
        return eos_id
    known = (control.ids[token] for token in _END_OF_TEXT if token in control.ids)
    found = next(known, eos_id)
    if found is None:
        raise UserError(f"{model_dir}: the tokenizer names no end-of-text token (eos_token)")
    return found


def _probe_pieces(
    inner: tokenizers.Tokenizer, control: ControlTokens, model_dir: Path
) -> list[int]:
    """How the tokenizer itself encodes texts between control tokens."""
    if not control.ids:
        raise UserError(f"{model_dir}: the tokenizer has no control tokens")
    token = next(iter(control.ids))
    return inner.encode(token.join(("", *_PIECES)), add_special_tokens=False).ids


def _check_pieces(
    inner: tokenizers.Tokenizer, whole: list[int], control: ControlTokens, model_dir: Path
) -> None:
    """Texts between control tokens must be encoded the same alone as in place.

    Not so for some SentencePiece conversions, which begin only the first piece with a space.
    """
    token_id = next(iter(control.ids.values()))
    pieces = [inner.encode(piece, add_special_tokens=False).ids for piece in _PIECES]
    if whole != [token_id, *pieces[0], token_id, *pieces[1]]:
        raise UserError(
            f"{model_dir}: this tokenizer encodes text differently after a control token; "
            "such tokenizers are not supported"
        )


def _fingerprint(blob: bytes, config: Mapping[str, Any], source: str | None) -> str:
    """A hash of what decides ids and labels; not of paths, limits or class names."""
    names = {key: _text_of(value) for key, value in config.items() if _names_a_token(key, value)}
    parts = {
        "rules": RULES_VERSION,
        "tokenizer": hashlib.sha256(blob).hexdigest(),
        "names": names,
        "template": source,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
