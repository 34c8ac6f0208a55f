"""Texts of ChatGPT: content of many types, arguments of tools, and marks only its page can show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

import orjson

from codetune.logs.claude_code_text import IMAGE

FILE = "[file omitted]"
_PICTURES = ("image_asset_pointer", "video_container_asset_pointer")
# Citations: 【12†source】 of the browsing tool, and since 2025 marks between private characters,
# which some tools that save conversations leave out.
_CITATION = re.compile(
    r" ?(?:【\d+(?::\d+)?†[^】]{0,200}】|\ue200[^\ue200\ue201]{0,400}\ue201"
    r"|(?:file)?cite(?:turn\d{1,4}[a-z]{3,10}\d{1,4})+)"
)
_PRIVATE_MARKS = re.compile(r"[\ue200-\ue206]")


def text_of_content(content: Mapping[str, Any]) -> str:
    """The text of a message's content, whatever its type; pictures are replaced."""
    parts = content.get("parts")
    if isinstance(parts, list):
        texts = [_part(part) for part in parts]
        return "\n\n".join(text for text in texts if text)
    title, source = content.get("title"), content.get("url")
    body = next((content[key] for key in ("text", "result") if _filled(content.get(key))), "")
    quoted = content.get("content_type") == "tether_quote"
    pieces = [title, source, body] if quoted else [body]
    return "\n".join(piece for piece in pieces if isinstance(piece, str) and piece)


def _filled(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if part.get("content_type") in _PICTURES:
        return IMAGE
    text = part.get("text")
    return text if isinstance(text, str) else FILE


def attachments_of(facts: Mapping[str, Any]) -> list[str]:
    """A sign for each file that was sent along; of pictures the content tells already."""
    held = facts.get("attachments")
    files = [file for file in held if isinstance(file, dict)] if isinstance(held, list) else []
    kinds = [file.get("mime_type") or file.get("mimeType") for file in files]
    return [FILE for kind in kinds if not (isinstance(kind, str) and kind.startswith("image/"))]


def found_by_search(facts: Mapping[str, Any]) -> str:
    """What a search tool found, of which the export keeps only titles, addresses and snippets."""
    groups = facts.get("search_result_groups")
    entries = [
        entry
        for group in (groups if isinstance(groups, list) else [])
        if isinstance(group, dict) and isinstance(group.get("entries"), list)
        for entry in group["entries"]
        if isinstance(entry, dict)
    ]
    shown = ([entry.get(key) for key in ("title", "url", "snippet")] for entry in entries)
    texts = ("\n".join(part.strip() for part in parts if _filled(part)) for parts in shown)
    return "\n\n".join(text for text in texts if text)


def thoughts_of(content: Mapping[str, Any]) -> str:
    """The reasoning that a message of thoughts shows."""
    thoughts = content.get("thoughts")
    held = [t for t in thoughts if isinstance(t, dict)] if isinstance(thoughts, list) else []
    texts = [thought.get("content") or thought.get("summary") for thought in held]
    return "\n\n".join(text.strip() for text in texts if isinstance(text, str) and text.strip())


def arguments_of(tool: str, text: str) -> dict[str, Any]:
    """What a tool was given: a JSON object, or the text itself under one name."""
    if text.lstrip().startswith("{"):
        try:
            held = orjson.loads(text)
        except orjson.JSONDecodeError:
            held = None
        if isinstance(held, dict):
            return held
    return {"code" if tool == "python" else "input": text}


def written(text: str) -> str:
    """What the assistant wrote, without citations that point at nothing outside the page."""
    if "†" in text or "\ue200" in text or "citeturn" in text:
        text = _PRIVATE_MARKS.sub("", _CITATION.sub("", text))
    return text.strip()
