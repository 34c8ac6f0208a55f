"""The rows on disk: chat, FIM and text samples, one JSON object a line.

Rows are plain dictionaries so that unknown keys survive; this module knows their shape, checks
them, and writes them in one canonical order. The formats of other tools are read by `generic`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import orjson

ROLES = ("system", "user", "assistant", "tool")
TASKS = ("chat", "fim", "text")
# The order on disk; unknown keys follow the known ones.
_ROW_KEYS = (
    *("id", "task", "messages", "tools"),
    *("prefix", "middle", "suffix", "text"),
    *("context", "meta"),
)
_MESSAGE_KEYS = (
    *("role", "content", "reasoning_content", "tool_calls"),
    *("tool_call_id", "name", "train"),
)
# orjson reads 1,024 levels and writes 254: a row that is kept must be writable.
_DEEPEST_WRITABLE = 250


class Function(TypedDict):
    """What is called: `arguments` is an object, never a string."""

    name: str
    arguments: dict[str, Any]


class ToolCall(TypedDict):
    """One call of an assistant message, answered by a tool message with the same id."""

    id: str
    type: str
    function: Function


class Message(TypedDict):
    """One chat message; `train` says whether the whole message carries loss."""

    role: str
    content: str
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    train: NotRequired[bool]


class ChatRow(TypedDict):
    """A conversation (`task` is "chat")."""

    id: str
    task: str
    messages: list[Message]
    tools: NotRequired[list[dict[str, Any]]]
    meta: dict[str, Any]


class FimRow(TypedDict):
    """A gap in a file (`task` is "fim"): prefix + middle + suffix is the file."""

    id: str
    task: str
    prefix: str
    middle: str
    suffix: str
    context: NotRequired[list[dict[str, str]]]
    meta: dict[str, Any]


class TextRow(TypedDict):
    """Plain text (`task` is "text")."""

    id: str
    task: str
    text: str
    context: NotRequired[list[dict[str, str]]]
    meta: dict[str, Any]


class BadRow(ValueError):
    """A line that is no row; `reason` is the slug it is counted under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse(line: bytes) -> dict[str, Any]:
    """The object of one line.

    Raises `BadRow` with reason bad_utf8, too_deep, not_json or not_an_object.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        raise BadRow(_why_unreadable(line, str(problem))) from None
    if not isinstance(row, dict):
        raise BadRow("not_an_object")
    if line.count(b"[") + line.count(b"{") > _DEEPEST_WRITABLE:
        _encoded(row, "too_deep")
    return row


def dump(row: Mapping[str, Any]) -> bytes:
    """`row` as one line of UTF-8 JSON without newline: known keys first, unknown ones kept."""
    ordered = _ordered(row, _ROW_KEYS)
    if isinstance(row.get("messages"), list):
        ordered["messages"] = [_ordered(m, _MESSAGE_KEYS) for m in row["messages"]]
    return _encoded(ordered, "not_writable")


def check(row: Mapping[str, Any]) -> str | None:
    """None for a valid row, else the reason slug it is dropped under."""
    if not isinstance(row.get("id"), str) or not row["id"]:
        return "no_id"
    if not isinstance(row.get("meta"), dict):
        return "no_meta"
    task = row.get("task")
    if task == "chat":
        return _check_chat(row)
    if task == "fim":
        return _check_fim(row)
    if task == "text":
        text = row.get("text")
        return None if isinstance(text, str) and text.strip() else "empty_text"
    return "unknown_task"


def content_sha256(row: Mapping[str, Any]) -> str:
    """A hash of what the model sees: not of the id or meta."""
    seen = {key: row[key] for key in row if key not in ("id", "meta")}
    return hashlib.sha256(orjson.dumps(seen, option=orjson.OPT_SORT_KEYS)).hexdigest()


def digest(*parts: str, n: int = 12) -> str:
    """The first `n` hex digits of a hash over `parts`; borders between parts count."""
    joined = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        joined.update(len(data).to_bytes(8, "big") + data)
    return joined.hexdigest()[:n]


def draw(row_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the row and the purpose alone."""
    return int(digest(row_id, purpose, n=13), 16) / 16**13


def _encoded(row: Any, reason: str) -> bytes:
    try:
        return orjson.dumps(row)
    except orjson.JSONEncodeError:
        raise BadRow(reason) from None


def _why_unreadable(line: bytes, message: str) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "bad_utf8"
    return "too_deep" if "depth limit" in message else "not_json"


def _ordered(item: Any, known: tuple[str, ...]) -> Any:
    """`item` with the known keys first, in their order, and unknown keys after them."""
    if not isinstance(item, Mapping):
        return item
    head = [key for key in known if key in item]
    return {key: item[key] for key in [*head, *(k for k in item if k not in known)]}


def _check_chat(row: Mapping[str, Any]) -> str | None:
    messages = row.get("messages")
    if not isinstance(messages, list) or not messages:
        return "no_messages"
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            return "bad_role"
        if not isinstance(message.get("content"), str):
            return "content_not_text"
        if not isinstance(message.get("train", False), bool):
            return "bad_train_flag"
        if not all(_is_call(call) for call in message.get("tool_calls") or ()):
            return "bad_tool_call"
    return None if any(_is_trained(m) for m in messages) else "no_trained_message"


def _check_fim(row: Mapping[str, Any]) -> str | None:
    if not all(isinstance(row.get(key), str) for key in ("prefix", "middle", "suffix")):
        return "fim_part_not_text"
    return None if row["middle"].strip() else "empty_middle"


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return (
        isinstance(function, dict)
        and isinstance(function.get("name"), str)
        and isinstance(function.get("arguments"), dict)
    )


def _is_trained(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and message.get("train") is True
