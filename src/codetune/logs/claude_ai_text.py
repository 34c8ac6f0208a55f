"""Texts of claude.ai: artifacts and thinking inside answers, and attached files.

Until 2025 the assistant wrote documents between `<antArtifact …>` tags, which only that site
shows; everywhere else they are code blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_THINKING = re.compile(r"<antThinking>(.*?)</antThinking>\s*", re.S)
_ARTIFACT = re.compile(r"<antArtifact\b([^<>]*)>(.*?)(?:</antArtifact>|\Z)", re.S)
_FACT = re.compile(r"(\w+)\s*=\s*\"([^\"]*)\"")
_FENCES = re.compile(r"^\s*(`{3,})", re.M)
_LANGUAGES = {
    "application/vnd.ant.react": "jsx",
    "application/vnd.ant.mermaid": "mermaid",
    "image/svg+xml": "svg",
    "text/html": "html",
}


def said_by_assistant(text: str) -> tuple[str, str]:
    """(what the assistant wrote, with artifacts as code blocks; what it thought in tags)."""
    if "<ant" not in text:
        return text.strip(), ""
    thoughts = [thought.strip() for thought in _THINKING.findall(text)]
    text = _ARTIFACT.sub(_code_block, _THINKING.sub("", text))
    return text.strip(), "\n\n".join(thought for thought in thoughts if thought)


def attached(file: Any) -> str:
    """An attachment as it was shown to the assistant: its name and its text."""
    if not isinstance(file, Mapping):
        return ""
    name, text = file.get("file_name"), file.get("extracted_content")
    if not isinstance(text, str) or not text.strip():
        return ""
    return f"{name}:\n{_fenced(text, '')}" if isinstance(name, str) else _fenced(text, "")


def _code_block(match: re.Match[str]) -> str:
    facts = dict(_FACT.findall(match.group(1)))
    kind, body = facts.get("type", ""), match.group(2)
    if kind == "text/markdown":
        return body.strip()
    return _fenced(body, facts.get("language") or _LANGUAGES.get(kind, ""))


def _fenced(body: str, language: str) -> str:
    """`body` as a code block whose fence is longer than any in it."""
    longest = max((len(fence) for fence in _FENCES.findall(body)), default=2)
    fence = "`" * max(3, longest + 1)
    body = body.strip("\n")
    return f"{fence}{language}\n{body}\n{fence}"
