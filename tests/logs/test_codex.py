"""Codex rollouts: hand-made ones for each kind of item, and the real samples."""

import json
import random

import pytest

from codetune.logs import codex
from codetune.logs.codex_items import result_of, user_text
from codetune.logs.memory import Memory
from tests.logs.conversions import (
    check_twice,
    converted,
    fuzz_lines,
    sessions_of,
    shape_of,
)


def at(second):
    return f"2026-01-01T10:{second // 60:02d}:{second % 60:02d}.000Z"


class Rollout:
    """A rollout under construction; each line is ten seconds after the one before."""

    def __init__(self, session="s-1", **meta):
        self.lines, self.second, self.pace = [], 0, 10
        self.session = session
        self.meta(session, **meta)

    def meta(self, session, **more):
        payload = {"id": session, "timestamp": at(self.second), "cwd": "/home/mira/work"}
        facts = {"cli_version": "0.58.0", "model_provider": "openai", **more}
        self.line("session_meta", {**payload, **facts})

    def line(self, kind, payload):
        self.lines.append({"timestamp": at(self.second), "type": kind, "payload": payload})
        self.second += self.pace

    def item(self, kind, **more):
        self.line("response_item", {"type": kind, **more})

    def event(self, kind, **more):
        self.line("event_msg", {"type": kind, **more})

    def user(self, *texts):
        content = [{"type": "input_text", "text": text} for text in texts]
        self.item("message", role="user", content=content)

    def says(self, text):
        content = [{"type": "output_text", "text": text}]
        self.item("message", role="assistant", content=content)

    def calls(self, call_id, name="shell", **arguments):
        self.item("function_call", name=name, arguments=json.dumps(arguments), call_id=call_id)

    def result(self, call_id, output):
        self.item("function_call_output", call_id=call_id, output=output)

    def turn(self, number):
        self.user(f"ask {number}")
        self.calls(f"{self.session}-{number}", command=["ls"])
        self.result(f"{self.session}-{number}", "a")
        self.says(f"done {number}")


@pytest.fixture
def log():
    return Rollout()


def only(log, folder, **more):
    return shape_of(folder, log.lines, codex, **more)


def test_one_turn_with_its_mirrors(log, tmp_path):
    log.line("turn_context", {"cwd": "/home/mira/work", "model": "gpt-5.1-codex"})
    log.user("hello")
    log.event("user_message", message="hello")
    log.event("agent_reasoning", text="**Thinking**")
    log.item("reasoning", summary=[{"type": "summary_text", "text": "**Thinking**"}])
    log.calls("c1", command=["bash", "-lc", "ls"], workdir=None)
    log.result("c1", json.dumps({"output": "a\nb\n", "metadata": {"exit_code": 0}}))
    log.event("agent_message", message="Two files.")
    log.says("Two files.")
    (session,), memory = sessions_of(tmp_path, log.lines, codex)
    first, second = session.steps()
    assert (first.reasoning, first.model) == ("**Thinking**", "gpt-5.1-codex")
    assert first.calls[0].arguments == {"command": ["bash", "-lc", "ls"]}
    assert first.results["c1"].text == "a\nb" and second.text == "Two files."
    assert (session.provider, session.version, session.id) == ("openai", "0.58.0", "s-1")
    assert memory.places == {"/home/mira/work"}
    assert memory.records.as_dict() == {
        "in": 10,
        "kept": 5,
        "dropped": {
            "meta:session_meta": 1,
            "meta:turn_context": 1,
            "mirror:agent_message": 1,
            "mirror:agent_reasoning": 1,
            "mirror:user_message": 1,
        },
    }


def test_parallel_calls_are_one_message(log, tmp_path):
    log.user("go")
    log.says("Looking.")
    log.calls("c1", command="a")
    log.calls("c2", command="b")
    log.result("c2", "B")
    log.result("c1", "A")
    log.says("Done.")
    assert only(log, tmp_path)[0] == [
        ["human: go", "step: Looking. shell->A shell->B", "step: Done."]
    ]


def test_calls_of_every_kind(log, tmp_path):
    log.user("go")
    log.item("custom_tool_call", name="apply_patch", input="*** Begin Patch", call_id="c1")
    log.item("custom_tool_call_output", call_id="c1", output="Success.")
    action = {"type": "exec", "command": ["ls"], "timeout_ms": None}
    log.item("local_shell_call", call_id="c2", status="completed", action=action)
    log.result("c2", "x")
    log.item("function_call", name="exec", arguments="{not json", call_id="c3")
    log.result("c3", [{"type": "input_text", "text": "one"}, {"type": "input_image"}])
    log.says("Done.")
    (session,), memory = sessions_of(tmp_path, log.lines, codex)
    patch, shell, broken, done = session.steps()
    assert patch.calls[0].arguments == {"input": "*** Begin Patch"}
    assert (shell.calls[0].name, shell.calls[0].arguments) == ("local_shell", {"command": ["ls"]})
    assert broken.calls[0].arguments == {"input": "{not json"}
    assert broken.masked == {"malformed_call"} and not done.masked
    assert broken.results["c3"].text == "one\n[image omitted]"
    assert memory.blocks["call:arguments_not_json"] == 1


@pytest.mark.parametrize(
    ("output", "status", "text"),
    [
        ('{"output":"x\\n","metadata":{"exit_code":0}}', "ok", "x"),
        ('{"output":"x","metadata":{"exit_code":2}}', "failed", "x"),
        ('{"output":"x","metadata":null}', "ok", "x"),
        ('{"outputs":"x"}', "ok", '{"outputs":"x"}'),
        ("Exit code: 1\nWall time: 0.1 s\nOutput:\nno", "failed", None),
        ("Exit code: 0\nWall time: 0.1 s\nOutput:\nyes", "ok", None),
        ("Chunk ID: a1\nWall time: 1 s\nProcess exited with code 3\nOutput:\n", "failed", None),
        ({"content": "bad", "success": False}, "failed", "bad"),
        ({"content": "good", "success": True}, "ok", "good"),
        ("exec command rejected by user", "rejected", "The user did not allow this call."),
        ("patch rejected by user", "rejected", "The user did not allow this call."),
        ("failed to parse function arguments: x", "error", None),
        ("apply_patch verification failed: no such line", "error", None),
        (None, "ok", ""),
        (7, "ok", ""),
        ("\x1b[31mred\x1b[0m", "ok", "red"),
    ],
)
def test_outputs(output, status, text):
    result, _ = result_of(output)
    assert result.status == status
    assert text is None or result.text == text


@pytest.mark.parametrize(
    "text",
    [
        "<environment_context>\n  <cwd>/x</cwd>\n</environment_context>",
        "<user_instructions>\nBe good.\n</user_instructions>",
        "<permissions instructions>\nAsk.\n</permissions instructions>",
        "# AGENTS.md instructions for /x\n\n<INSTRUCTIONS>\nBe good.\n</INSTRUCTIONS>",
        "<turn_aborted>\nThe user stopped.\n</turn_aborted>",
        "<user_shell_command>\nls\n</user_shell_command>",
    ],
)
def test_what_the_program_says_in_the_users_name_is_dropped(log, tmp_path, text):
    log.item("message", role="developer", content=[{"type": "input_text", "text": "Rules."}])
    log.user(text)
    log.user(text, "the real thing")
    log.says("Done.")
    found, memory = only(log, tmp_path)
    assert found == [["human: the real thing", "step: Done."]]
    injected = {k: n for k, n in memory.records.dropped.items() if k.startswith("injected:")}
    assert sum(injected.values()) == 2 and injected["injected:system"] == 1


def test_a_tag_that_a_person_wrote_about_is_a_prompt():
    text = "what does <environment_context> mean in my log?"
    assert user_text([{"type": "input_text", "text": text}]).text == text


def test_the_request_out_of_the_context_of_an_editor():
    text = (
        "# Context from my IDE setup:\n\n## Open tabs:\n- a.py\n\n## My request for Codex:\nfix it"
    )
    assert user_text(text).text == "fix it"


def test_pictures(log, tmp_path):
    content = [
        {"type": "input_text", "text": "<image name=[Image #1]>"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_text", "text": "</image>"},
        {"type": "input_text", "text": "what is it?"},
    ]
    log.item("message", role="user", content=content)
    log.says("A cat.")
    assert only(log, tmp_path)[0] == [["human: [image omitted]\nwhat is it?", "step: A cat."]]


def test_an_interrupt_masks_what_was_cut_short(log, tmp_path):
    log.user("go")
    log.calls("c1", command="sleep")
    log.result("c1", "aborted by user after 3.1s")
    log.event("turn_aborted", reason="interrupted")
    log.user("rather not")
    log.says("Fine.")
    assert only(log, tmp_path)[0] == [
        [
            "human: go",
            "step: shell->aborted by user after 3.1s [interrupted]",
            "human: rather not",
            "step: Fine.",
        ]
    ]


def test_a_rejected_call_is_context(log, tmp_path):
    log.user("go")
    log.calls("c1", command="rm")
    log.result("c1", "exec command rejected by user")
    log.says("Fine.")
    found, _ = only(log, tmp_path)
    assert found[0][1] == "step: shell->The user did not allow this call. [rejected]"


def test_what_the_service_searched_is_not_in_the_log(log, tmp_path):
    log.user("go")
    log.item("web_search_call", status="completed", action={"type": "search", "query": "x"})
    log.says("The web says y.")
    log.user("thanks")
    log.says("Welcome.")
    found, memory = only(log, tmp_path)
    assert found[0][1] == "step: The web says y. [server_side_call]"
    assert found[0][3] == "step: Welcome."
    assert memory.records.dropped["server_side:web_search_call"] == 1


def test_compaction_cuts(log, tmp_path):
    log.turn(1)
    log.line("compacted", {"message": "We did one."})
    log.event("context_compacted")
    log.says("Going on.")
    log.line("compacted", {"message": "", "replacement_history": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ask 1"}]},
        {"type": "compaction", "encrypted_content": "AAAA"},
    ]})  # fmt: skip
    log.says("And on.")
    assert only(log, tmp_path)[0] == [
        ["human: ask 1", "step: shell->a", "step: done 1"],
        ["summary: Summary of the conversation so far:\nWe did one.", "step: Going on."],
        ["summary: Summary of the conversation so far:\nask 1", "step: And on."],
    ]


def test_turns_that_were_taken_back(log, tmp_path):
    for number in (1, 2, 3):
        log.turn(number)
    log.event("thread_rolled_back", num_turns=2)
    log.turn(4)
    found, memory = only(log, tmp_path)
    assert [item for item in found[0] if item.startswith("human")] == [
        "human: ask 1",
        "human: ask 4",
    ]
    assert memory.records.dropped["taken_back"] == 8
    assert memory.records.kept == 8


def test_a_fork_trains_only_what_is_new(tmp_path):
    parent = Rollout("s-1")
    parent.turn(1)
    child = Rollout("s-2", forked_from_id="s-1")
    child.pace = 0
    child.lines += [{**line, "timestamp": at(child.second)} for line in parent.lines]
    child.pace = 10
    child.second += 5
    child.turn(2)
    (session,), memory = sessions_of(tmp_path, child.lines, codex)
    assert [step.masked for step in session.steps()] == [{"copied"}, {"copied"}, set(), set()]
    assert session.id == "s-2" and memory.kin.root("s-2") == "s-1"


def test_a_subagent_with_its_parents_history_in_its_old_times(tmp_path):
    parent = Rollout("s-1")
    parent.turn(1)
    source = {"subagent": {"thread_spawn": {"parent_thread_id": "s-1", "depth": 1}}}
    child = Rollout("s-2", source=source)
    child.lines[0]["payload"]["timestamp"] = at(300)
    child.lines += parent.lines
    child.second = 300
    child.turn(2)
    (session,), _ = sessions_of(tmp_path, child.lines, codex)
    assert session.agent == "s-2"
    assert [step.masked for step in session.steps()] == [{"copied"}, {"copied"}, set(), set()]


@pytest.mark.parametrize("child_first", [False, True])
def test_each_step_of_a_family_is_trained_once(tmp_path, child_first):
    parent = Rollout("s-1")
    parent.turn(1)
    parent.turn(2)
    child = Rollout("s-2", forked_from_id="s-1")
    child.lines += [{**line, "timestamp": at(child.second)} for line in parent.lines[:5]]
    child.second += 60
    child.turn(3)
    names = ("b", "a") if child_first else ("a", "b")
    for name, log in zip(names, (parent, child), strict=True):
        sessions_of(tmp_path / "logs", log.lines, codex, name=f"{name}.jsonl")
    rows, account, _ = converted(tmp_path / "logs")
    assert account.made.steps.kept == 6
    assert account.made.steps.dropped == {"masked:copied": 2}
    assert len({row["meta"]["group"] for row in rows}) == 1


def test_a_copy_without_any_mark_is_known_by_its_calls_and_words(tmp_path):
    log, memory = Rollout("s-1"), Memory()
    log.turn(1)
    copy = Rollout("s-2")
    copy.lines += log.lines[1:]
    copy.user("more")
    copy.says("sure")
    sessions_of(tmp_path, log.lines, codex, memory=memory)
    (session,), _ = sessions_of(tmp_path, copy.lines, codex, memory=memory)
    assert [step.masked for step in session.steps()] == [{"copied"}, {"copied"}, set()]
    assert memory.kin.root("s-2") == "s-1"


def test_two_files_of_a_session_that_went_on_differently_lose_nothing(tmp_path):
    for name, answer in (("a", "one"), ("b", "two")):
        log = Rollout("s-1")
        log.turn(1)
        log.user(f"{answer}?")
        log.says(answer)
        sessions_of(tmp_path / "logs", log.lines, codex, name=f"{name}.jsonl")
    rows, account, _ = converted(tmp_path / "logs")
    assert [row["messages"][-1]["content"] for row in rows] == ["done 1", "one", "two"]
    assert account.rows.dropped == {}


def test_a_fork_without_any_times_is_trained(tmp_path):
    log = Rollout("s-2", forked_from_id="s-1")
    log.turn(1)
    lines = [{**line, "timestamp": ""} for line in log.lines]
    (session,), _ = sessions_of(tmp_path, lines, codex)
    assert not any(step.masked for step in session.steps())


def test_sessions_that_begin_alike_are_no_copies(tmp_path):
    memory = Memory()
    for session, answer in (("s-1", "one"), ("s-2", "two")):
        log = Rollout(session)
        log.user("hi")
        log.says(answer)
        log.user("and?")
        log.says("that is all")
        (found,), _ = sessions_of(tmp_path, log.lines, codex, memory=memory)
        assert not any(step.masked for step in found.steps())
    assert memory.kin.root("s-2") == "s-2"


def test_a_resume_that_replays_its_items(log, tmp_path):
    log.turn(1)
    items = [line["payload"] for line in log.lines[1:]]
    log.meta("s-1")
    for payload in items:
        log.line("response_item", payload)
    log.turn(2)
    found, memory = only(log, tmp_path)
    assert found == [
        ["human: ask 1", "step: shell->a", "step: done 1"]
        + ["human: ask 2", "step: shell->a", "step: done 2"]
    ]
    assert memory.records.dropped["replayed"] == 4


def test_flat_rollouts(tmp_path):
    lines = [
        {"id": "f-1", "timestamp": at(0), "instructions": "Be good.", "git": {}},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "A"},
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "D."}],
        },
    ]
    (session,), memory = sessions_of(tmp_path, lines, codex)
    assert session.id == "f-1" and session.provider == "openai"
    assert [step.text for step in session.steps()] == ["", "D."]
    assert memory.records.dropped == {
        "meta:session_meta": 1,
        "meta:state": 1,
        "sealed_reasoning": 1,
    }


def test_models_of_others_are_told_by_name(tmp_path):
    log = Rollout(model_provider="ollama")
    log.line("turn_context", {"model": "qwen3:32b"})
    log.turn(1)
    sessions_of(tmp_path, log.lines, codex)
    rows, _, _ = converted(tmp_path / "a.jsonl")
    assert (rows[0]["meta"]["provider"], rows[0]["meta"]["model"]) == ("unknown", "qwen3:32b")


def test_bookkeeping_is_no_unknown_kind(log, tmp_path):
    log.turn(1)
    log.line("world_state", {"a": 1})
    log.item("context_compaction", encrypted_content="A")
    log.item("tool_search_output", tools=[])
    _, memory = only(log, tmp_path)
    assert not any(reason.startswith("unknown") for reason in memory.records.dropped)


def test_a_custom_call_with_arguments_instead_of_input(log, tmp_path):
    log.user("go")
    log.item("custom_tool_call", name="bash", arguments='{"cmd": "false"}', call_id="c1")
    log.item("custom_tool_call_output", call_id="c1", output="Process exited with code 1\n")
    (session,), _ = sessions_of(tmp_path, log.lines, codex)
    (step,) = session.steps()
    assert step.calls[0].arguments == {"cmd": "false"}
    assert step.results["c1"].status == "failed"


def test_unknown_kinds_are_counted(log, tmp_path):
    log.turn(1)
    log.line("something_new", {"a": 1})
    log.item("dream", text="x")
    log.lines.append({"payload": {"type": "x"}})
    log.lines.append({"type": ["x"], "payload": 3})
    log.result("c9", "x")
    _, memory = only(log, tmp_path)
    dropped = memory.records.dropped
    assert dropped["unknown:something_new"] == dropped["unknown:dream"] == 1
    assert dropped["no_type"] == 2 and dropped["orphan_result"] == 1


def test_detection(log, tmp_path):
    sessions_of(tmp_path, log.lines, codex)
    assert codex.detect([{"type": "user", "message": {"content": "x"}}]) == 0
    assert codex.detect([{"type": "message", "text": "x"}]) == 0
    assert codex.detect([{"type": ["x"], "payload": {"a": 1}}, {}]) == 0


def damage_source():
    """A rollout with a bit of everything, as lines."""
    log = Rollout("s-1", forked_from_id="s-0")
    log.turn(1)
    log.item("reasoning", summary=[{"type": "summary_text", "text": "t"}])
    log.item("custom_tool_call", name="apply_patch", input="p", call_id="c1")
    log.item("custom_tool_call_output", call_id="c1", output="ok")
    log.item("local_shell_call", call_id="c2", action={"type": "exec", "command": ["ls"]})
    log.result("c2", '{"output":"x","metadata":{"exit_code":1}}')
    log.item("web_search_call", status="completed")
    log.event("turn_aborted", reason="x")
    log.line(
        "compacted", {"message": "", "replacement_history": [{"role": "user", "content": "x"}]}
    )
    log.turn(2)
    log.event("thread_rolled_back", num_turns=1)
    log.meta("s-1")
    log.line("turn_context", {"model": "gpt-5", "cwd": "/home/mira"})
    log.turn(3)
    return [json.dumps(line).encode() for line in log.lines]


def test_damaged_rollouts(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay: fuzz_lines(folder, codex, damage_source(), 120, {seed})")
    fuzz_lines(tmp_path, codex, damage_source(), 120, seed)


def test_real_rollouts(shared):
    folder = shared / "data/logs"
    rows, account = check_twice(
        folder / "codex", folder / "polylogue-fixtures/tool_call_stream.jsonl"
    )
    assert account.files.kept == 2
    assert {row["meta"]["provider"] for row in rows} == {"openai"}
    assert account.made.steps.kept == 41
    source = next((folder / "codex").rglob("*.jsonl"))
    records = [json.loads(line) for line in source.read_text().splitlines()]
    assert sum(r["payload"].get("type") == "function_call" for r in records) == 39
    calls = [c for row in rows for m in row["messages"] if m["train"] for c in calls_of(m)]
    assert len(calls) == 40


def calls_of(message):
    return message.get("tool_calls", [])
