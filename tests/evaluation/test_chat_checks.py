"""Remarks on chat answers: tool calls in every spelling seen, loops, and cut answers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune.evaluation import chat

CALL = {"name": "read_file", "arguments": {"path": "a.py"}}

SPELLINGS = {
    "tagged": '<tool_call>\n{"name": "read_file", "arguments": {"path": "a.py"}}\n</tool_call>',
    "tag left open": '<tool_call>\n{"name": "read_file", "arguments": {"path": "a.py"}}',
    "json block": 'Sure.\n```json\n{"name": "read_file", "arguments": {"path": "a.py"}}\n```\n',
    "plain block": '```\n{"name": "read_file", "arguments": {"path": "a.py"}}\n```',
    "bare": '{"name": "read_file", "arguments": {"path": "a.py"}}',
    "in prose": 'I will call {"name": "read_file", "arguments": {"path": "a.py"}} now.',
    "parameters": '{"name": "read_file", "parameters": {"path": "a.py"}}',
    "wrapped": '{"type": "function", "function": {"name": "read_file", "arguments": '
    '{"path": "a.py"}}}',
    "in a list": '[{"name": "read_file", "arguments": {"path": "a.py"}}]',
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_call_is_found_in_every_spelling(spelling: str) -> None:
    assert chat.tool_calls(spelling) == [CALL]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words",
        "def f(): return {1: 2}",
        '{"name": "x"}',
        '{"name": 3, "arguments": {}}',
        '{"name": "x", "arguments": "not an object"}',
        "```json\n{broken\n```",
        "[" * 5000,
    ],
)
def test_what_is_no_call_is_none(text: str) -> None:
    assert chat.tool_calls(text) == []


def test_several_calls_keep_their_order() -> None:
    text = "\n".join(
        f"<tool_call>{json.dumps({'name': name, 'arguments': {}})}</tool_call>" for name in "bac"
    )
    assert [call["name"] for call in chat.tool_calls(text)] == ["b", "a", "c"]


@given(st.text())
def test_any_text_can_be_checked(text: str) -> None:
    chat.remarks(text, text, stopped=True)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("ab cd ef " * 4, True),
        ("the same line\n" * 3, True),
        ("one\ntwo\nthe same line\nthe same line\nthe same line", True),
        ("the same line\nthe same line", False),
        ("0, 0, 0, 0", False),
        ("a normal answer that says one thing and then another", False),
        ("", False),
    ],
)
def test_loops_are_noticed_and_short_runs_are_not(text: str, loops: bool) -> None:
    assert chat.repeats(text) is loops


@pytest.mark.parametrize(
    ("answer", "expected", "stopped", "remarks"),
    [
        ("fine", "fine", True, []),
        ("  ", "fine", True, ["empty"]),
        ("fine", "fine", False, ["cut off at the token limit"]),
        (SPELLINGS["json block"], SPELLINGS["tagged"], True, ["the right tool"]),
        ("words", SPELLINGS["tagged"], True, ["no tool call where one was made"]),
        (SPELLINGS["bare"], "words", True, ["a tool call where none was made"]),
        (
            SPELLINGS["bare"].replace("read_file", "write_file"),
            SPELLINGS["tagged"],
            True,
            ["another tool"],
        ),
    ],
)
def test_remarks(answer: str, expected: str, stopped: bool, remarks: list[str]) -> None:
    assert chat.remarks(answer, expected, stopped=stopped) == remarks
