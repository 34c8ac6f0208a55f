"""What the items of a Codex rollout mean: texts, calls, outputs, and what the program put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from codetune.logs.claude_code_text import IMAGE, plain
from codetune.logs.session import Result

CALLS = ("function_call", "custom_tool_call", "local_shell_call")
OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
# Run by the service: their results never reach the log.
SERVER_SIDE = ("web_search_call", "image_generation_call", "tool_search_call", "file_search_call")
BOOKKEEPING = frozenset(
    (
        *("ghost_snapshot", "token_count", "compaction", "compaction_trigger"),
        *("context_compaction", "tool_search_output"),
    )
)
# Texts in the user's name that no user wrote, as whole blocks.
_INJECTED = re.compile(
    r"\s*<(environment_context|user_instructions|permissions instructions|collaboration_mode"
    r"|apps_instructions|skills_instructions|plugins_instructions|personality_spec|model_switch"
    r"|turn_aborted|user_shell_command|recommended_plugins|hook_prompt|skill|INSTRUCTIONS"
    r"|realtime_conversation|multi_agent_mode|token_budget)\b[^<>]*>.*</\1>\s*",
    re.S,
)
_AGENTS_MD = re.compile(r"\s*# AGENTS\.md instructions\b.*", re.S)
_IMAGE_MARKS = re.compile(r"\s*(?:<image(?: [^<>]*)?>|</image>)\s*")
_IDE = re.compile(
    r"\s*# (?:Context from my IDE setup|Files mentioned by the user):.*?## My request for Codex:",
    re.S,
)
_HANDED_OVER = "Another language model started to solve this problem"
_AGENT_NOTE = re.compile(r"\s*<(subagent_notification|inter_agent_message)>(.*)</\1>\s*", re.S)
_EXIT = re.compile(
    r"(?:Exit code: (-?\d+)\n|(?:Chunk ID: [^\n]*\n)?(?:Wall time: [^\n]*\n)?"
    r"Process exited with code (-?\d+)\n|(?:command )?failed with exit code (-?\d+))"
)
_REJECTED = re.compile(
    r"(?:exec command|patch|apply_patch|command|tool call|MCP tool call)? ?"
    r"(?:was )?rejected by (?:the )?user|user (?:rejected|cancelled|denied)|rejected\(",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:failed to parse function arguments|unsupported (?:custom tool )?call|unknown tool"
    r"|apply_patch verification failed|patch verification failed|invalid patch"
    r"|local_shell call without|tool .{1,60} not found)",
    re.IGNORECASE,
)
_ABORTED = re.compile(
    r"aborted(?: by user)?(?: after [\d.]+s)?\s*$|Wall time: [^\n]*\naborted by user"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The text of a message, and why it is dropped when nothing of it is left."""

    text: str
    reason: str = ""
    context: bool = False


def user_text(content: Any) -> Spoken:
    """What a person said in a user message: each block is judged by itself."""
    said, reason, context = [], "empty", True
    for block in _blocks(content):
        if block == IMAGE:
            said.append(IMAGE)
            context = False
            continue
        text, why, is_note = _user_block(plain(block))
        if text:
            said.append(text)
            context = context and is_note
        elif why != "empty":
            reason = why
    return Spoken("\n".join(said), "" if said else reason, bool(said) and context)


def _user_block(text: str) -> tuple[str, str, bool]:
    if not text.strip() or _IMAGE_MARKS.fullmatch(text):
        return "", "empty", False
    injected = _INJECTED.fullmatch(text)
    if injected:
        return "", f"injected:{injected.group(1).split()[0]}", False
    if _AGENTS_MD.fullmatch(text):
        return "", "injected:AGENTS_md", False
    if text.startswith(_HANDED_OVER):
        return "", "injected:summary", False
    note = _AGENT_NOTE.fullmatch(text)
    if note:
        return note.group(2).strip(), "", True
    return _IDE.sub("", text, count=1).strip(), "", False


def assistant_text(content: Any) -> str:
    """What the assistant wrote."""
    return "\n\n".join(block for block in _blocks(content) if block.strip())


def reasoning_text(item: Mapping[str, Any]) -> str:
    """The summary of a reasoning item, or its text where it is not encrypted."""
    whole = "\n\n".join(_blocks(item.get("content")))
    return whole or "\n\n".join(_blocks(item.get("summary")))


def summary_of(item: Mapping[str, Any]) -> str:
    """What a compaction put in place of the history: a summary, or what users said when sealed."""
    text = _text(item, "message").strip()
    if text.startswith(_HANDED_OVER):
        text = text.partition("\n")[2].strip() or text
    history = item.get("replacement_history")
    if text or not isinstance(history, list):
        return text
    users = [i for i in history if isinstance(i, dict) and i.get("role") == "user"]
    said = [user_text(user.get("content")).text for user in users]
    return "\n\n".join(text for text in said if text)


def call_of(item: Mapping[str, Any]) -> tuple[str, str, Any, bool]:
    """(id, name, arguments, whether the arguments were broken) of a call."""
    call_id = _text(item, "call_id") or _text(item, "id")
    if item.get("type") == "local_shell_call":
        action = item.get("action")
        action = action if isinstance(action, dict) else {}
        return call_id, "local_shell", {k: v for k, v in action.items() if k != "type"}, False
    if item.get("type") == "custom_tool_call" and "input" in item:
        return call_id, _text(item, "name"), {"input": _text(item, "input")}, False
    given = item.get("arguments")
    if isinstance(given, dict):
        return call_id, _text(item, "name"), given, False
    text = given if isinstance(given, str) else ""
    held = _object(text) if text.strip() else {}
    if held is None:
        return call_id, _text(item, "name"), {"input": text}, True
    return call_id, _text(item, "name"), held, False


def result_of(output: Any) -> tuple[Result, bool]:
    """The result of a call, and whether the user broke it off."""
    exit_code: Any = None
    if isinstance(output, dict):
        success, output = output.get("success"), output.get("content", output.get("output"))
        exit_code = 1 if success is False else None
    text = "\n".join(_blocks(output)) if isinstance(output, list) else output
    text = text if isinstance(text, str) else ""
    if text.startswith("{") and (held := _object(text)) and isinstance(held.get("output"), str):
        facts = held.get("metadata")
        exit_code = facts.get("exit_code") if isinstance(facts, dict) else held.get("exit_code")
        text = held["output"]
    text = plain(text)
    aborted = _ABORTED.match(text) is not None
    if _REJECTED.match(text):
        return Result("The user did not allow this call.", "rejected"), aborted
    if _REFUSED.match(text):
        return Result(text, "error"), aborted
    shown = _EXIT.match(text)
    if shown and not isinstance(exit_code, int):
        exit_code = int(next(code for code in shown.groups() if code is not None))
    return Result(text.strip("\n"), "failed" if exit_code else "ok"), aborted


def _blocks(content: Any) -> list[str]:
    """The texts of a content, pictures replaced."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [text for block in content if isinstance(block, dict) and (text := _block(block))]


def _block(block: Mapping[str, Any]) -> str:
    if block.get("type") in ("input_image", "image", "output_image"):
        return IMAGE
    return _text(block, "text")


def _object(text: str) -> dict[str, Any] | None:
    try:
        held = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return held if isinstance(held, dict) else None


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""
