"""Exports of claude.ai: hand-made conversations, archives, and the samples."""

import json
import random
import zipfile

import pytest

from codetune.logs import claude_ai
from codetune.logs.claude_ai_text import attached, said_by_assistant
from codetune.logs.memory import Memory
from tests.logs.claude_lines import shape
from tests.logs.conversions import check_twice, converted, fuzz_document, sessions_of

ACCOUNT = "b0c1d2e3-0000-4000-8000-0123456789ab"


def message(number, sender, *blocks, **more):
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    facts = {"uuid": f"m{number}", "sender": sender, "text": "FLAT", "content": content}
    return {**facts, "created_at": f"2026-01-01T00:00:{number:02d}Z", **more}


def human(number, *blocks, **more):
    return message(number, "human", *blocks, **more)


def reply(number, *blocks, **more):
    return message(number, "assistant", *blocks, **more)


def chat(*messages, uuid="c-1", **more):
    account = {"uuid": ACCOUNT}
    return {"uuid": uuid, "name": "T", "account": account, "chat_messages": [*messages], **more}


def use(name="repl", **given):
    return {"type": "tool_use", "name": name, "input": given}


def result(text, **more):
    return {"type": "tool_result", "content": [{"type": "text", "text": text}], **more}


def read(folder, *chats, **more):
    return sessions_of(folder, json.dumps(chats).encode(), claude_ai, **more)


def only(folder, *messages, **more):
    (session,), memory = read(folder, chat(*messages, **more))
    return shape(session)[0], memory


def test_blocks_and_not_the_flat_text(tmp_path):
    thinking = {"type": "thinking", "thinking": "Hm.", "summaries": []}
    (session,), memory = read(tmp_path, chat(human(1, "hello"), reply(2, thinking, "hi")))
    assert shape(session) == [["human: hello", "step: hi"]]
    assert session.steps()[0].reasoning == "Hm."
    assert (session.provider, session.id) == ("anthropic", "c-1")
    assert memory.records.as_dict() == {"in": 2, "kept": 2, "dropped": {}}


def test_calls_without_ids_are_paired_in_order_within_their_message(tmp_path):
    found, _ = only(
        tmp_path,
        human(1, "go"),
        reply(2, "First.", use(code="a"), use("web_search", query="b"), result("A"), result("B")),
        human(3, "again"),
        reply(4, use(code="c"), result("C", is_error=True), "Then.", use(code="d"), result("D")),
        reply(5, "End."),
    )
    assert found == [
        "human: go",
        "step: First. repl->A web_search->B",
        "human: again",
        "step: repl->C",
        "step: Then. repl->D",
        "step: End.",
    ]


def test_calls_with_ids_are_paired_by_them(tmp_path):
    one, two = {**use(code="a"), "id": "x"}, {**use(code="b"), "id": "y"}
    answers = (result("Y", tool_use_id="y"), result("X", tool_use_id="x"))
    stray = result("Z", tool_use_id="z")
    found, memory = only(tmp_path, human(1, "go"), reply(2, one, two, *answers, stray))
    assert found == ["human: go", "step: repl->X repl->Y"]
    assert memory.blocks["result:without_call"] == 1


def test_a_call_without_a_result_is_left_out(tmp_path):
    found, memory = only(tmp_path, human(1, "go"), reply(2, "Let me.", use(code="a")))
    assert found == ["human: go", "step: Let me. [call_without_result]"]
    assert memory.blocks["call:without_result"] == 1


def test_attachments_and_files(tmp_path):
    paper = {"file_name": "a.py", "extracted_content": "x = 1\n```", "file_size": 5}
    empty = {"file_name": "b.bin", "extracted_content": ""}
    files = [{"file_name": "a.png"}, {"file_kind": "document", "file_name": "b.pdf"}]
    asked = human(1, "see", attachments=[paper, empty], files=files)
    found, _ = only(tmp_path, asked, reply(2, "Seen."))
    expected = "a.py:\n````\nx = 1\n```\n````\n\nsee\n\n[image omitted]\n\n[file omitted]"
    assert found[0] == f"human: {expected}"


def test_messages_without_blocks_use_the_flat_text(tmp_path):
    found, memory = only(
        tmp_path,
        human(1, text="old", content=None),
        reply(2, text="style", content=[]),
        human(3, content="a string"),
        reply(4, content=[{"type": "text", "text": None}], text="flat"),
        human(5, text="", content=[]),
        reply(6, {"type": "flag", "x": 1}, text="no"),
    )
    assert found == ["human: old", "step: style", "human: a string", "step: flat"]
    assert memory.records.dropped == {"empty": 2}


@pytest.mark.parametrize("more", [{"truncated": True}, {"stop_reason": "user_canceled"}])
def test_answers_that_were_cut_off_are_context(tmp_path, more):
    found, _ = only(tmp_path, human(1, "go"), reply(2, "One tw", **more))
    assert found == ["human: go", "step: One tw [cut_off]"]


def test_only_the_branch_that_was_shown_last(tmp_path):
    root = "00000000-0000-4000-8000-000000000000"
    messages = (
        human(1, "go", parent_message_uuid=root),
        reply(2, "bad", parent_message_uuid="m1"),
        reply(3, "good", parent_message_uuid="m1"),
        human(4, "why", parent_message_uuid="m2"),
        human(5, "thanks", parent_message_uuid="m3"),
        reply(6, "sure", parent_message_uuid="m5"),
    )
    found, memory = only(tmp_path, *messages, current_leaf_message_uuid="m6")
    assert found == ["human: go", "step: good", "human: thanks", "step: sure"]
    assert memory.records.dropped == {"abandoned_branch": 2}
    found, _ = only(tmp_path, *messages)
    assert found[-1] == "step: sure"


def test_broken_links_cost_nothing(tmp_path):
    messages = (human(1, "a"), reply(2, "b", parent_message_uuid="lost"), human(3, "c"))
    found, _ = only(tmp_path, *messages, reply(4, "d", parent_message_uuid="m3"))
    assert len(found) == 4


def test_a_later_export_of_the_same_chat_trains_what_is_new(tmp_path):
    early = chat(human(1, "a"), reply(2, "b"))
    late = chat(human(1, "a"), reply(2, "b"), human(3, "c"), reply(4, "d"))
    memory = Memory()
    read(tmp_path, early, memory=memory)
    (session,), _ = read(tmp_path, late, memory=memory)
    assert shape(session) == [["human: a", "step: b [copied]", "human: c", "step: d"]]
    assert read(tmp_path, late, memory=memory)[0] == []
    assert memory.records.dropped == {"duplicate": 4}


def test_two_exports_that_went_on_differently_lose_nothing(tmp_path):
    for name, answer in (("a", "one"), ("b", "two")):
        said = (human(1, "a"), reply(2, "b"), human(3, f"{answer}?", uuid=f"h-{name}"))
        made = chat(*said, reply(4, answer, uuid=f"r-{name}"))
        (tmp_path / f"{name}.json").write_text(json.dumps([made]))
    rows, account, _ = converted(tmp_path)
    assert [row["messages"][-1]["content"] for row in rows] == ["b", "one", "two"]
    assert account.rows.dropped == {} and len({row["id"] for row in rows}) == 3


def test_account_ids_are_nowhere(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([chat(human(1, "hello"), reply(2, "hi"))]))
    rows, _, rejected = converted(path)
    assert len(rows) == 1 and ACCOUNT not in json.dumps([rows, rejected])


def test_an_export_as_it_is_downloaded(tmp_path):
    chats = [chat(human(1, "hello"), reply(2, "hi"), uuid=f"c-{n}") for n in range(3)]
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as export:
        export.writestr("conversations.json", json.dumps(chats))
        export.writestr("users.json", json.dumps([{"uuid": ACCOUNT, "full_name": "Mira"}]))
        export.writestr("projects.json", "[]")
    rows, account, _ = converted(tmp_path / "data.zip")
    assert len(rows) == 3
    assert account.files.as_dict()["dropped"] == {"unknown_format": 2}


def test_artifacts_become_code_blocks():
    facts = 'identifier="x" type="application/vnd.ant.code" language="python" title="T"'
    text = f"<antThinking>Plan.</antThinking>Here:\n\n<antArtifact {facts}>\nx = 1\n</antArtifact>"
    assert said_by_assistant(text) == ("Here:\n\n```python\nx = 1\n```", "Plan.")
    note = '<antArtifact type="text/markdown" title="T"># Hi\n</antArtifact> Bye.'
    assert said_by_assistant(note) == ("# Hi Bye.", "")
    assert said_by_assistant('<antArtifact type="text/html"><p>') == ("```html\n<p>\n```", "")


@pytest.mark.parametrize("file", [None, 3, {}, {"extracted_content": 3}, {"file_name": "x"}])
def test_attachments_without_text(file):
    assert attached(file) == ""


def test_what_is_no_conversation_is_counted(tmp_path):
    data = json.dumps([{"a": 1}, chat(human(1, "a"), reply(2, "b"), 7, {"sender": "x"})]).encode()
    _, memory = sessions_of(tmp_path, data, claude_ai)
    assert memory.records.dropped == {
        "not_a_conversation": 1,
        "not_an_object": 1,
        "unknown:sender": 1,
    }


def damage_source():
    return [
        chat(
            human(1, "go", attachments=[{"file_name": "a", "extracted_content": "b"}]),
            reply(2, {"type": "thinking", "thinking": "t"}, use(code="a"), result("A"), "Then."),
            human(3, "more", files=[{"file_name": "a.png"}], parent_message_uuid="m2"),
            reply(
                4, {**use(q={"a": [1]}), "id": "x"}, result("B", tool_use_id="x"), "<antArtifact>"
            ),
            current_leaf_message_uuid="m4",
        ),
        chat(human(5, "a"), reply(6, "b"), uuid="c-2"),
    ]


def test_damaged_exports(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay: fuzz_document(folder, claude_ai, damage_source(), 1500, {seed})")
    fuzz_document(tmp_path, claude_ai, damage_source(), 1500, seed)


def test_samples(shared):
    rows, account = check_twice(shared / "data/logs/claude-ai")
    assert account.made.steps.kept == 11 and account.files.dropped == {"no_conversation": 1}
    assert {row["meta"]["provider"] for row in rows} == {"anthropic"}
    assert not any("<ant" in m["content"] for row in rows for m in row["messages"])
    assert "claude-3-5-sonnet-20240620" in {row["meta"]["model"] for row in rows}
