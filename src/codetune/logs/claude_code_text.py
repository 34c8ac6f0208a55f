"""The marks that Claude Code leaves in texts, and what stands in their place.

Marks are removed from what people and tools said; what the assistant wrote is never touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from codetune.logs.session import PromptKind, Result

IMAGE = "[image omitted]"
# Only at the start of a line: in the source code of a log reader the same text is data.
_REMINDER = re.compile(r"(?:^|\n+)<system-reminder>.*?</system-reminder>[ \t]*(?=\n|$)", re.S)
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[@-Z\\^_]")
_IMAGE_NUMBER = re.compile(r"\[Image #\d+\]")
_IDE_NOISE = re.compile(r"<(ide_opened_file|ide_diagnostics|post-tool-use-hook)>.*?</\1>\s*", re.S)
_IDE_SELECTION = re.compile(r"<ide_selection>(.*?)</ide_selection>\s*", re.S)
_COMMAND = re.compile(r"<command-(name|message|args)>(.*?)</command-\1>", re.S)
_AGENT_TAGS = re.compile(
    r"</?(?:task-notification|teammate-message|cross-session-message)(?:\s[^<>]*)?>\n?"
)
_LOCAL = ("<local-command-", "Caveat: The messages below")
_BASH_MODE = ("<bash-input>", "<bash-stdout>", "<bash-stderr>")
_INTERRUPT = "[Request interrupted by user"
_CONTINUED = "This session is being continued from a previous conversation"
_REJECTED = ("The user doesn't want to proceed", "The user doesn't want to take this action")
_FEEDBACK = re.compile(
    r"(?:the user said:|provided the following reason for the rejection:)\s*(.+)", re.S
)
_TOOL_ERROR = re.compile(r"<tool_use_error>(.*?)</tool_use_error>", re.S)
_SPILLED = re.compile(r"</?persisted-output>\n?|\(?Full output saved to: [^\n)]*\)?\n*")
_AGENT_TAIL = re.compile(
    r"\n*agentId: \S+ \([^\n]*\)\s*(?:worktree\w+: [^\n]*\s*)*(?:<usage>.*?</usage>\s*)?$", re.S
)
# Instructions that the program adds to what people and tools said.
_ADDED = re.compile(
    r"\n*(?:NOTE: do any of the files above seem malicious\?[^\n]*"
    r"|If you need specific details from before (?:exiting plan mode|compaction)[^\n]*)\s*$"
)
# Refusals of the editing tools as they were worded before they had a tag.
_OLD_TOOL_ERRORS = (
    "String to replace not found",
    "File has not been read yet",
    "File has been modified since",
    "Found ",
    "No changes to make",
    "InputValidationError",
)
_BUILT_IN_COMMANDS = re.compile(
    r"/(?:add-dir|agents|bashes|branch|bug|clear|compact|config|context|cost|doctor|exit|export"
    r"|extra-usage|feedback|help|hooks|ide|install-github-app|log(?:in|out)|mcp|memory|model"
    r"|output-style|permissions|plan|plugin|privacy-settings|quit|release-notes|remote-env|rename"
    r"|resume|rewind|sandbox|skills|stats|status|statusline|tasks|terminal-setup|theme|todos"
    r"|upgrade|usage|vim)?"
)

Verdict = Literal["prompt", "command", "interrupt", "drop"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a user text turned out to be: a prompt, a command, an interrupt, or nothing to keep.

    `text` is the cleaned text, or the reason for "drop".
    """

    verdict: Verdict
    text: str = ""
    kind: PromptKind = "human"


def read_user_text(raw: str) -> Said:
    """What the text of a user record means."""
    text = plain(raw).strip()
    if not text:
        return Said("drop", "empty")
    if text.startswith(_INTERRUPT):
        return Said("interrupt")
    if text.startswith(_LOCAL):
        return Said("drop", "local_command")
    if text.startswith(_BASH_MODE):
        return Said("drop", "bash_mode")
    if text.startswith(("<command-name>", "<command-message>")):
        return _command(text)
    if text.startswith(_CONTINUED):
        return Said("prompt", summary(text), "summary")
    if _AGENT_TAGS.match(text):
        return Said("prompt", _AGENT_TAGS.sub("", text).strip(), "context")
    text = _IDE_SELECTION.sub(r"\1\n\n", _IDE_NOISE.sub("", text)).strip()
    text = _IMAGE_NUMBER.sub(IMAGE, text)
    return Said("prompt", text) if text else Said("drop", "empty")


def summary(text: str) -> str:
    """A compaction summary without the instructions around it."""
    body = text.partition("\n")[2] if text.startswith(_CONTINUED) else text
    cuts = (
        "If you need specific details from before compaction",
        "Please continue the conversation from where we left it off",
    )
    for cut in cuts:
        body = body.partition(cut)[0]
    return f"Summary of the conversation so far:\n{body.strip()}"


def read_result(raw: str, *, is_error: bool) -> Result:
    """A tool result as the assistant should see it, and how the call ended."""
    text = plain(raw)
    if text.startswith(_REJECTED) or text.startswith(_INTERRUPT):
        said = _FEEDBACK.search(text)
        more = f" The user said: {said.group(1).strip()}" if said else ""
        return Result("The user did not allow this call." + more, "rejected")
    refused = _TOOL_ERROR.search(text)
    if refused or (is_error and text.startswith(_OLD_TOOL_ERRORS)):
        return Result(_TOOL_ERROR.sub(r"\1", text), "error")
    text = _AGENT_TAIL.sub("", _SPILLED.sub("", text)) if _may_have_tail(text) else text
    return Result(text.strip("\n"), "failed" if is_error else "ok")


def plain(text: str) -> str:
    """`text` without system reminders, terminal codes and other control characters."""
    if "<system-reminder>" in text:
        text = _REMINDER.sub("", text)
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    return _ADDED.sub("", text).replace("\r\n", "\n").replace("\x00", "")


def text_of(content: Any) -> str:
    """The text of a content: a string, or a list of blocks in which pictures are replaced."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [_block_text(block) for block in content if isinstance(block, dict)]
    return "\n".join(part for part in parts if part)


def _block_text(block: dict[str, Any]) -> str:
    if block.get("type") in ("image", "document"):
        return IMAGE
    text = block.get("text")
    return text if isinstance(text, str) and block.get("type") == "text" else ""


def _command(text: str) -> Said:
    """A slash command: built-in ones act on the program, others stand for a prompt."""
    parts = {name: value.strip() for name, value in _COMMAND.findall(text)}
    name = parts.get("name", "")
    name = name if name.startswith("/") else f"/{name}"
    if _BUILT_IN_COMMANDS.fullmatch(name):
        return Said("drop", "local_command")
    return Said("command", f"{name} {parts.get('args', '')}".strip())


def _may_have_tail(text: str) -> bool:
    return "<persisted-output>" in text or "agentId: " in text[-2000:]
