"""Rows of any accepted form: ours, OpenAI messages, ShareGPT, prompt/completion, FIM keys, text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from codetune import sample

# ShareGPT and relatives spell the roles differently; function_call holds a JSON string.
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
    "function_call": "assistant",
}


def read_row(line: bytes) -> dict[str, Any]:
    """The valid row of one line, in our shape.

    Raises `sample.BadRow` with the reason of `sample.parse` or `sample.check`, or unknown_shape.
    """
    row = from_generic(sample.parse(line))
    reason = "unknown_shape" if row is None else sample.check(row)
    if row is None or reason:
        raise sample.BadRow(str(reason))
    return row


def from_generic(row: dict[str, Any]) -> dict[str, Any] | None:
    """A row of ours from OpenAI `messages`, ShareGPT, prompt/completion or FIM keys.

    Our own rows come back unchanged. None when the shape is unknown. Ids are content hashes;
    in generic chats every assistant message is trained.
    """
    if row.get("task") in sample.TASKS:
        return row
    made = _from_messages(row) or _from_sharegpt(row) or _from_prompt(row) or _from_plain(row)
    if made is None:
        return None
    used = {"messages", "conversations", "prompt", "completion", "system"}
    kept = {key: value for key, value in row.items() if key not in used and key not in made}
    row_id = kept.pop("id", None)
    meta = {"source": "generic", **(row["meta"] if isinstance(row.get("meta"), dict) else {})}
    kept.pop("meta", None)
    made = {**made, **kept, "meta": meta}
    made["id"] = row_id if isinstance(row_id, str) else "gen-" + sample.content_sha256(made)[:16]
    meta.setdefault("group", made["id"])
    return made


def _from_messages(row: dict[str, Any]) -> dict[str, Any] | None:
    messages = row.get("messages")
    if not isinstance(messages, list):
        return None
    return _chat(_open_message(m) if isinstance(m, dict) else m for m in messages)


def _open_message(message: dict[str, Any]) -> dict[str, Any]:
    """An OpenAI message in our shape: text content, arguments as an object, a train flag."""
    made = dict(message)
    made["content"] = _plain(message.get("content"))
    if isinstance(message.get("tool_calls"), list):
        made["tool_calls"] = [_open_call(c, i) for i, c in enumerate(message["tool_calls"])]
    elif "tool_calls" in made:
        del made["tool_calls"]
    if "weight" in made:
        made.setdefault("train", bool(made.pop("weight")))
    return made


def _open_call(call: Any, position: int) -> Any:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = dict(call["function"])
    function["arguments"] = _as_object(function.get("arguments"))
    return {"id": f"call_{position + 1}", "type": "function", **call, "function": function}


def _from_sharegpt(row: dict[str, Any]) -> dict[str, Any] | None:
    turns = row.get("conversations")
    if not isinstance(turns, list):
        return None
    messages: list[Any] = []
    if isinstance(row.get("system"), str) and row["system"]:
        messages.append({"role": "system", "content": row["system"]})
    messages.extend(_sharegpt_message(turn) for turn in turns)
    return _chat(messages)


def _sharegpt_message(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    kind, value = turn.get("from"), _plain(turn.get("value"))
    message: dict[str, Any] = {"role": _SHAREGPT_ROLES.get(str(kind), kind), "content": value}
    if kind == "function_call":
        call = _as_object(value)
        call = call if isinstance(call, dict) else {}
        function = {"name": call.get("name"), "arguments": _as_object(call.get("arguments"))}
        message["content"] = ""
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    return message


def _from_prompt(row: dict[str, Any]) -> dict[str, Any] | None:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        asked = {"role": "user", "content": prompt}
        return _chat([asked, {"role": "assistant", "content": completion}])
    if isinstance(prompt, list) and isinstance(completion, list):
        answers = [{**m, "train": True} for m in completion if isinstance(m, dict)]
        context = [{**m, "train": False} for m in prompt if isinstance(m, dict)]
        return _from_messages({"messages": [*context, *answers]})
    return None


def _from_plain(row: dict[str, Any]) -> dict[str, Any] | None:
    if all(isinstance(row.get(key), str) for key in ("prefix", "middle", "suffix")):
        return {"task": "fim", **{key: row[key] for key in ("prefix", "middle", "suffix")}}
    return {"task": "text", "text": row["text"]} if isinstance(row.get("text"), str) else None


def _chat(messages: Iterable[Any]) -> dict[str, Any]:
    made = [
        {**m, "train": m.get("train", m.get("role") == "assistant")} if isinstance(m, dict) else m
        for m in messages
    ]
    return {"task": "chat", "messages": made}


def _plain(content: Any) -> Any:
    """Text of OpenAI content: a string, null, or a list of parts; anything else is left."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return content


def _as_object(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return {} if value is None else value
