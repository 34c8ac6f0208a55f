"""Chat messages as they stand in a row: built from steps, measured, joined and renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from codetune.logs.session import Step
from codetune.logs.shorten import shorten
from codetune.logs.windows import Unit

# What a message costs beside its text: role marks of a template.
PER_MESSAGE = 24
Message = dict[str, Any]


def step_messages(step: Step, max_tool_chars: int, *, reasoning: bool) -> list[Message]:
    """The assistant message of a step and the tool messages that answer its calls."""
    said: Message = {"role": "assistant", "content": step.text}
    if step.reasoning and reasoning:
        said["reasoning_content"] = step.reasoning
    if step.calls:
        said["tool_calls"] = [_call(c.id, c.name, c.arguments) for c in step.calls]
    answers = [
        {
            "role": "tool",
            "content": shorten(step.results[call.id].text, max_tool_chars, call.name),
            "tool_call_id": call.id,
            "name": call.name,
        }
        for call in step.calls
    ]
    return [said, *answers]


def _call(call_id: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def cost(messages: Iterable[Mapping[str, Any]]) -> int:
    """The size of messages in characters."""
    total = 0
    for message in messages:
        total += PER_MESSAGE + len(message["content"]) + len(message.get("reasoning_content", ""))
        for call in message.get("tool_calls", ()):
            total += PER_MESSAGE + len(call["function"]["name"])
            total += len(orjson.dumps(call["function"]["arguments"]).decode())
    return total


def flat(units: Iterable[Unit], *, train: bool) -> list[Message]:
    """The messages of units; with `train`, steps that are not masked carry loss."""
    return [
        {**message, "train": train and unit.trained and message["role"] == "assistant"}
        for unit in units
        for message in unit.messages
    ]


def joined(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """No two user messages in a row: what was said twice is one message."""
    made: list[dict[str, Any]] = []
    for message in messages:
        if made and message["role"] == made[-1]["role"] == "user":
            made[-1] = {**made[-1], "content": f"{made[-1]['content']}\n\n{message['content']}"}
        else:
            made.append({"train": False, **message})
    return made


def with_own_names(row: dict[str, Any]) -> dict[str, Any]:
    """Call ids counted within the row, and connector names that tell nothing of an employer."""
    ids: dict[str, str] = {}
    servers: dict[str, str] = {}

    def tool(name: str) -> str:
        if not name.startswith("mcp__"):
            return name
        server, _, action = name[5:].partition("__")
        return f"mcp__{servers.setdefault(server, f'server{len(servers) + 1}')}__{action}"

    def message(old: dict[str, Any]) -> dict[str, Any]:
        made = dict(old)
        if "tool_calls" in old:
            made["tool_calls"] = [
                _call(
                    ids.setdefault(call["id"], f"call_{len(ids) + 1}"),
                    tool(call["function"]["name"]),
                    call["function"]["arguments"],
                )
                for call in old["tool_calls"]
            ]
        if "tool_call_id" in old:
            made["tool_call_id"], made["name"] = ids[old["tool_call_id"]], tool(old["name"])
        return made

    made = {**row, "messages": [message(old) for old in row["messages"]]}
    if "tools" in row:
        made["tools"] = [_renamed(schema, tool) for schema in row["tools"]]
    return made


def _renamed(schema: dict[str, Any], tool: Callable[[str], str]) -> dict[str, Any]:
    function = schema["function"]
    name = tool(function["name"])
    if name == function["name"]:
        return schema
    return {**schema, "function": {**function, "name": name, "description": f"The {name} tool."}}
