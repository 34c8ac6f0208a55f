"""Gemini CLI sessions: hand-made ones of both layouts, and the real samples."""

import json
import random

import pytest

from codetune.logs import gemini
from codetune.logs.memory import Memory
from tests.logs.claude_lines import shape
from tests.logs.conversions import check_twice, converted, fuzz_document, fuzz_lines, sessions_of

HEADER = {
    "sessionId": "s-1",
    "projectHash": "h",
    "startTime": "2026-01-01T00:00:00Z",
    "directories": ["/home/mira/work"],
}


def user(number, content):
    return {"id": f"m{number}", "type": "user", "content": content, "timestamp": f"t{number}"}


def reply(number, content="", *calls, **more):
    made = {"id": f"m{number}", "type": "gemini", "content": content, "model": "gemini-2.5-pro"}
    return {**made, **({"toolCalls": list(calls)} if calls else {}), **more}


def call(name="read_file", output="ok", status="success", **arguments):
    answer = {"functionResponse": {"name": name, "response": {"output": output}}}
    return {"id": name, "name": name, "args": arguments, "result": [answer], "status": status}


def document(*messages, **more):
    return json.dumps({**HEADER, "messages": list(messages), **more}, indent=2).encode()


def only(folder, *messages, **more):
    (session,), memory = sessions_of(folder, document(*messages), gemini, **more)
    return shape(session)[0], memory


def test_one_message_holds_calls_and_results(tmp_path):
    thoughts = [{"subject": "Plan", "description": "\\n\\n\n\nRead it."}]
    messages = (
        user(1, "go"),
        reply(2, "Reading.", call(path="a", n=None), call("glob", "b"), thoughts=thoughts),
        reply(3, "Done."),
    )
    (session,), memory = sessions_of(tmp_path, document(*messages), gemini)
    assert shape(session) == [["human: go", "step: Reading. read_file->ok glob->b", "step: Done."]]
    first = session.steps()[0]
    assert first.reasoning == "Plan\nRead it." and first.calls[0].arguments == {"path": "a"}
    assert (session.id, session.project, session.provider) == ("s-1", "h", "google")
    assert memory.places == {"/home/mira/work"}
    assert memory.records.as_dict() == {"in": 4, "kept": 3, "dropped": {"meta:session": 1}}


@pytest.mark.parametrize(
    ("made", "status", "text"),
    [
        (call("run_shell_command", "Output: x\nExit Code: 0"), "ok", "Output: x\nExit Code: 0"),
        (call("run_shell_command", "Output: x\nExit Code: 2"), "failed", None),
        (call("read_file", "Exit Code: 2"), "ok", "Exit Code: 2"),
        (call("replace", "0 occurrences found", "error"), "error", "0 occurrences found"),
        (call("write_file", "x", "cancelled"), "rejected", "The user did not allow this call."),
        ({**call(), "result": "plain"}, "ok", "plain"),
        ({**call(), "result": [{"text": "a"}, {"inlineData": {}}]}, "ok", "a\n[image omitted]"),
        ({**call(), "result": {"functionResponse": {"response": {"x": 1}}}}, "ok", '{"x":1}'),
    ],
)
def test_results(tmp_path, made, status, text):
    (session,), _ = sessions_of(tmp_path, document(user(1, "go"), reply(2, "", made)), gemini)
    (result,) = session.steps()[0].results.values()
    assert result.status == status and text in (None, result.text)


def test_a_call_without_a_result_is_left_out(tmp_path):
    running = {"id": "x", "name": "read_file", "args": {}, "status": "executing"}
    found, memory = only(tmp_path, user(1, "go"), reply(2, "Reading.", running))
    assert found == ["human: go", "step: Reading. [call_without_result]"]
    assert memory.blocks["call:without_result"] == 1


@pytest.mark.parametrize(
    "text", ["System: Please continue.", "<session_context>\nx\n</session_context>", "/quit", ""]
)
def test_what_no_person_asked_the_assistant(tmp_path, text):
    found, _ = only(tmp_path, user(1, "go"), reply(2, "", call()), user(3, text), reply(4, "Done."))
    assert found == ["human: go", "step: read_file->ok", "step: Done."]


def test_a_path_is_no_command(tmp_path):
    assert only(tmp_path, user(1, "/home/x is full"), reply(2, "Yes."))[0][0].endswith("is full")


def test_parts_and_pictures(tmp_path):
    found, _ = only(tmp_path, user(1, [{"text": "see"}, {"inlineData": {}}]), reply(2, ["Seen."]))
    assert found == ["human: see\n[image omitted]", "step: Seen."]


def test_a_cancelled_request_masks_what_was_cut_short(tmp_path):
    note = {"id": "m3", "type": "info", "content": "Request cancelled."}
    found, memory = only(tmp_path, user(1, "go"), reply(2, "One tw"), note)
    assert found == ["human: go", "step: One tw [interrupted]"]
    assert memory.records.dropped == {"meta:info": 1, "meta:session": 1}


def test_a_session_of_lines(tmp_path):
    lines = [
        {**HEADER, "kind": "main"},
        user(1, "go"),
        reply(2, "Rea"),
        reply(2, "Reading.", call()),
        {"$set": {"lastUpdated": "x"}},
        user(3, "wrong"),
        reply(4, "bad"),
        {"$rewindTo": "m3"},
        user(5, "right"),
        reply(6, "good"),
        {"x": 1},
    ]
    (session,), memory = sessions_of(tmp_path, lines, gemini)
    assert shape(session) == [
        ["human: go", "step: Reading. read_file->ok", "human: right", "step: good"]
    ]
    assert memory.records.in_ == len(lines)
    assert memory.records.dropped == {
        "meta:rewind": 1,
        "meta:session": 1,
        "meta:set": 1,
        "no_type": 1,
        "superseded": 1,
        "taken_back": 2,
    }


def test_messages_set_as_a_whole_replace_all_before(tmp_path):
    lines = [HEADER, user(1, "old"), {"$set": {"messages": [user(2, "go"), reply(3, "Done.")]}}]
    (session,), _ = sessions_of(tmp_path, lines, gemini)
    assert shape(session) == [["human: go", "step: Done."]]


def test_subagents(tmp_path):
    lines = [{**HEADER, "kind": "subagent"}, user(1, "go"), reply(2, "Done.")]
    (session,), _ = sessions_of(tmp_path, lines, gemini)
    assert session.agent == "s-1"


def test_a_snapshot_with_a_running_call_takes_nothing_from_the_whole_session(tmp_path):
    memory, running = Memory(), {"id": "x", "name": "read_file", "args": {}}
    sessions_of(
        tmp_path, document(user(1, "go"), reply(2, "Reading.", running)), gemini, memory=memory
    )
    whole = (user(1, "go"), reply(2, "Reading.", call()), user(3, "more"), reply(4, "Done."))
    found, _ = only(tmp_path, *whole, memory=memory)
    assert found == ["human: go", "step: Reading. read_file->ok", "human: more", "step: Done."]
    assert sessions_of(tmp_path, document(*whole), gemini, memory=memory)[0] == []
    longer = (*whole, user(5, "x"), reply(6, "y"))
    found, _ = only(tmp_path, *longer, memory=memory)
    assert found[1:4:2] == ["step: Reading. read_file->ok [copied]", "step: Done. [copied]"]
    assert found[5] == "step: y"


def test_unknown_messages_are_counted(tmp_path):
    odd = [7, {"id": "x", "type": "dream"}, {"id": "y", "type": ["z"]}, reply(8)]
    _, memory = only(tmp_path, user(1, "go"), reply(2, "Done."), *odd)
    assert memory.records.dropped == {
        "empty": 1,
        "meta:session": 1,
        "not_an_object": 1,
        "unknown:type": 2,
    }


MESSAGES = (
    user(1, [{"text": "see"}, {"inlineData": {}}]),
    reply(2, "Reading.", call(path="a"), call("run_shell_command", "Exit Code: 1")),
    reply(3, "Done.", thoughts=[{"subject": "S", "description": "d"}]),
    user(4, "more"),
    reply(5, "", call("replace", "no", "error")),
    {"id": "m6", "type": "info", "content": "Request cancelled."},
    reply(7, "End."),
)


def test_damaged_documents(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay: fuzz_document(folder, gemini, the document of MESSAGES, 1500, {seed})")
    fuzz_document(tmp_path, gemini, json.loads(document(*MESSAGES)), 1500, seed)


def test_damaged_lines(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    lines = [HEADER, *MESSAGES, {"$rewindTo": "m4"}, {"$set": {"messages": list(MESSAGES)}}]
    print(f"replay: fuzz_lines(folder, gemini, lines, 300, {seed}, by_record=False)")
    data = [json.dumps(line).encode() for line in lines]
    fuzz_lines(tmp_path, gemini, data, 300, seed, by_record=False)


def test_real_sessions(shared):
    rows, account = check_twice(shared / "data/logs/gemini-cli")
    assert account.files.dropped == {"no_conversation": 1} and len(rows) >= 2
    assert {row["meta"]["provider"] for row in rows} == {"google"}
    assert {row["meta"]["model"] for row in rows} == {"gemini-2.5-flash"}
    texts = " ".join(m["content"] for row in rows for m in row["messages"])
    assert "Successfully created and wrote to new file" in texts


def test_a_home_folder_named_only_in_outputs_is_replaced(tmp_path):
    made = call("write_file", "Wrote /Users/mirela/x.txt\n-rw-r--r-- 1 mirela staff x.txt")
    (tmp_path / "a.json").write_bytes(
        document(user(1, "go"), reply(2, "", made), reply(3, "Done."))
    )
    rows, _, _ = converted(tmp_path)
    assert "mirela" not in json.dumps(rows)
