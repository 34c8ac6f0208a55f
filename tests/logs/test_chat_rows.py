"""Rows of data sets through the whole conversion."""

import json
import random

import pytest

from codetune.logs import chat_rows
from codetune.logs.memory import Memory
from tests.logs.claude_lines import shape
from tests.logs.conversions import check_rows, converted, fuzz_lines, sessions_of

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "sub", "parameters": {"type": "object"}}}


def said(role, content="", **more):
    return {"role": role, "content": content, **more}


def calling(name, arguments, call_id="c1"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def messages(*held, **more):
    return {"messages": list(held), **more}


OPENAI = messages(
    said("system", "You add."),
    said("user", "1+1?"),
    said("assistant", None, tool_calls=[calling("add", '{"a": 1, "b": null}')]),
    said("tool", "2", tool_call_id="c1"),
    said("assistant", "Two."),
    tools=[TOOL, OTHER],
)
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "1+1?"},
        {"from": "gpt", "value": "Let me see."},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "Two."},
        {"from": "human", "value": "2+2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": "{\\"a\\": 2}"}'},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "Four."},
    ],
    "system": "You add.",
    "tools": json.dumps([TOOL["function"]]),
}


def only(folder, *rows, **more):
    (session,), memory = sessions_of(folder, rows, chat_rows, **more)
    return shape(session)[0], session, memory


def test_openai_messages(tmp_path):
    found, session, memory = only(tmp_path, OPENAI)
    assert found == ["human: 1+1?", "step: add->2", "step: Two."]
    assert session.system == "You add." and session.tools == [TOOL, OTHER]
    assert session.steps()[0].calls[0].arguments == {"a": 1}
    assert memory.records.as_dict() == {"in": 1, "kept": 1, "dropped": {}}


def test_sharegpt_calls_have_ids_of_their_own(tmp_path):
    found, session, _ = only(tmp_path, SHAREGPT)
    assert found == [
        *("human: 1+1?", "step: Let me see. add->2", "step: Two."),
        *("human: 2+2?", "step: add->4", "step: Four."),
    ]
    assert session.system == "You add." and session.tools[0] == TOOL


def test_prompt_and_completion(tmp_path):
    assert only(tmp_path, {"prompt": "a", "completion": "b"})[0] == ["human: a", "step: b"]


def test_an_array_of_rows_is_read_too(tmp_path):
    sessions, _ = sessions_of(tmp_path, json.dumps([OPENAI, SHAREGPT]).encode(), chat_rows)
    assert len(sessions) == 2


def test_rows_keep_their_system_prompt_and_all_their_tools(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(OPENAI))
    rows, account, _ = converted(tmp_path, system_prompt="Ours.")
    check_rows(rows, account)
    (row,) = rows
    assert row["messages"][0]["content"] == "You add."
    assert [tool["function"]["name"] for tool in row["tools"]] == ["add", "sub"]
    assert row["tools"][0] == TOOL


def test_a_row_without_a_system_prompt_gets_ours(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}')
    rows, _, _ = converted(tmp_path, system_prompt="Ours.")
    assert rows[0]["messages"][0]["content"] == "Ours."


def test_schemas_of_one_row_are_not_those_of_the_next(tmp_path):
    def row(number, **facts):
        schema = {"type": "function", "function": {"name": "add", **facts}}
        call = said("assistant", "", tool_calls=[calling("add", {"a": number})])
        answer = said("tool", "x", tool_call_id="c1")
        asked = said("user", f"ask {number}")
        return messages(
            asked, call, answer, said("assistant", "ok"), **({"tools": [schema]} if facts else {})
        )

    lines = [row(1, description="one"), row(2), row(3, description="three")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows, _, _ = converted(tmp_path)
    told = [r["tools"][0]["function"].get("description") for r in rows]
    assert told == ["one", "The add tool.", "three"]


def test_what_is_not_to_be_trained_is_context(tmp_path):
    held = (said("user", "a"), said("assistant", "b", weight=0), said("user", "c"))
    found, _, _ = only(tmp_path, messages(*held, said("assistant", "d", weight=1)))
    assert found == ["human: a", "step: b [not_trained]", "human: c", "step: d"]


def test_results_without_a_call_and_calls_without_a_result(tmp_path):
    held = (
        said("user", "a"),
        said("assistant", "b", tool_calls=[calling("x", {}), calling("y", {}, "c2")]),
        said("tool", "Y", tool_call_id="c2"),
        said("tool", "Z", tool_call_id="c9"),
        said("assistant", "c"),
    )
    found, _, memory = only(tmp_path, messages(*held))
    assert found == ["human: a", "step: b y->Y [call_without_result]", "step: c"]
    assert memory.blocks == {"result:without_call": 1, "call:without_result": 1}


def test_answers_in_a_row_are_one(tmp_path):
    held = (said("user", "a"), said("assistant", "b"), said("assistant", "c"))
    assert only(tmp_path, messages(*held))[0] == ["human: a", "step: b\n\nc"]


def test_a_further_system_message_is_context(tmp_path):
    held = (said("system", "S"), said("user", "a"), said("system", "Be brief."))
    found, session, _ = only(tmp_path, messages(*held, said("assistant", "b")))
    assert found == ["human: a", "context: Be brief.", "step: b"] and session.system == "S"


def test_what_a_row_says_about_itself(tmp_path):
    meta = {"model": "gpt-4o", "provider": "openai", "group": "g", "project": "p"}
    rows = [messages(said("user", f"a{n}"), said("assistant", "b"), meta=meta) for n in range(2)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made, _, _ = converted(tmp_path)
    assert {(r["meta"]["model"], r["meta"]["provider"]) for r in made} == {("gpt-4o", "openai")}
    assert len({r["meta"]["group"] for r in made}) == 1 and len({r["id"] for r in made}) == 2


def test_rows_of_no_use_are_counted(tmp_path):
    memory = Memory()
    lines = [
        OPENAI,
        OPENAI,
        {"text": "plain"},
        {"prefix": "a", "middle": "b", "suffix": "c"},
        {"x": 1},
        messages(said("user", "a")),
        messages(said("wizard", "a")),
        messages(said("user", "a"), said("assistant", " ")),
    ]
    sessions_of(tmp_path, lines, chat_rows, memory=memory)
    assert memory.records.as_dict()["dropped"] == {
        "duplicate": 1,
        "no_answer": 1,
        "not_a_chat": 2,
        "row:bad_role": 1,
        "row:no_trained_message": 1,
        "unknown_shape": 1,
    }


@pytest.mark.parametrize(
    "tools", [None, "[", "7", 7, [7], [{}], [{"function": {"name": 3}}], {"a": 1}]
)
def test_tools_of_any_shape(tmp_path, tools):
    _, session, _ = only(tmp_path, {**OPENAI, "tools": tools})
    assert session.tools == []


def test_detection():
    assert chat_rows.detect([OPENAI]) == chat_rows.detect([SHAREGPT]) == 0.8
    assert chat_rows.detect([{"messages": [{"type": "user"}]}, {"messages": "x"}, {}]) == 0


def test_damaged_rows(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    held = (said("user", "a"), said("assistant", "b", weight=0), said("system", "x"))
    lines = [OPENAI, SHAREGPT, {"prompt": "a", "completion": "b"}, messages(*held)] * 6
    print(f"replay: fuzz_lines(folder, chat_rows, lines, 150, {seed})")
    fuzz_lines(tmp_path, chat_rows, [json.dumps(line).encode() for line in lines], 150, seed)
