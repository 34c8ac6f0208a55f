import json

import pytest

from codetune.logs import claude_code
from codetune.logs.convert import Account, convert, survey
from codetune.logs.discover import LogFile, discover
from codetune.logs.memory import Memory
from codetune.logs.rows import RowOptions
from codetune.logs.sources import source_of
from tests.logs.claude_lines import Log, shape


@pytest.fixture
def log():
    return Log()


def only(log, tmp_path):
    sessions, memory = log.read(tmp_path)
    assert len(sessions) == 1
    return shape(sessions[0]), memory


def test_one_turn(log, tmp_path):
    log.user("hello")
    log.says("hi")
    found, memory = only(log, tmp_path)
    assert found == [["human: hello", "step: hi"]]
    assert memory.records.as_dict() == {"in": 2, "kept": 2, "dropped": {}}


def test_lines_of_one_message_are_joined_and_results_find_their_call(log, tmp_path):
    log.user("look")
    log.says("Looking.", group="m")
    log.calls("Read", "t1", group="m", file_path="a")
    log.result("t1", "A")
    log.calls("Read", "t2", group="m", file_path="b")
    log.result("t2", "B")
    log.says("Done.")
    assert only(log, tmp_path)[0] == [
        ["human: look", "step: Looking. Read->A Read->B", "step: Done."]
    ]


def test_results_in_any_order_and_a_human_text_beside_one(log, tmp_path):
    log.user("look")
    log.calls("Read", "t1", group="m")
    log.calls("Grep", "t2", group="m")
    log.result("t2", "two")
    log.user(
        [
            {
                "type": "tool_result",
                "tool_use_id": "t1",
                "content": [{"type": "text", "text": "one"}],
            },
            {"type": "text", "text": "now stop"},
        ]
    )
    log.says("Stopped.")
    assert only(log, tmp_path)[0] == [
        ["human: look", "step: Read->one Grep->two", "human: now stop", "step: Stopped."]
    ]


def test_a_repeated_block_is_dropped(log, tmp_path):
    log.user("hello")
    log.says("hi", group="m")
    log.says("hi", group="m")
    found, memory = only(log, tmp_path)
    assert found == [["human: hello", "step: hi"]]
    assert memory.records.dropped == {"repeated_block": 1}


def test_duplicate_uuids_are_dropped_across_files_and_make_kin(tmp_path):
    first, second = Log("s-1"), Log("s-2")
    for log in (first, second):
        log.user("hello", uuid="0b6761f4-e7bb-46be-9fd8-e32359b5b137")
        log.says("hi", uuid="1b6761f4-e7bb-46be-9fd8-e32359b5b137")
    second.user("more")
    second.says("sure")
    memory = Memory()
    one = claude_code.read(first.write(tmp_path, "x/a.jsonl"), memory)
    two = claude_code.read(second.write(tmp_path, "y/b.jsonl"), memory)
    assert shape(one[0]) == [["human: hello", "step: hi"]]
    assert shape(two[0]) == [["human: more", "step: sure"]]
    assert memory.records.dropped == {"duplicate": 2}
    assert memory.kin.root("s-2") == memory.kin.root("s-1")


def test_short_ids_of_other_projects_are_no_duplicates(tmp_path):
    memory = Memory()
    for name in ("x/a.jsonl", "y/a.jsonl"):
        log = Log(name)
        log.user("hello", uuid="u1")
        log.says("hi", uuid="u2")
        claude_code.read(log.write(tmp_path, name), memory)
    assert memory.records.dropped == {}


@pytest.mark.parametrize("kind", sorted(claude_code.META_TYPES))
def test_bookkeeping_is_counted_by_type(log, tmp_path, kind):
    log.user("hello")
    log.node(kind, note="x")
    log.says("hi")
    found, memory = only(log, tmp_path)
    assert found == [["human: hello", "step: hi"]]
    assert memory.records.dropped == {f"meta:{kind}": 1}


def test_unknown_kinds_are_counted_and_their_names_made_harmless(log, tmp_path):
    log.user("hello")
    log.add({"type": "holo\x1b]52;gram" + "x" * 100})
    log.add({"note": "no type"})
    log.says("hi")
    reasons = only(log, tmp_path)[1].records.dropped
    assert reasons["no_type"] == 1
    (unknown,) = [name for name in reasons if name.startswith("unknown:")]
    assert len(unknown) < 60 and unknown.isprintable()


def test_synthetic_messages_and_api_errors_are_dropped(log, tmp_path):
    log.user("hello")
    log.says("API Error: 529", isApiErrorMessage=True)
    log.says("No response requested.", model="<synthetic>")
    log.says("hi")
    found, memory = only(log, tmp_path)
    assert found == [["human: hello", "step: hi"]]
    assert memory.records.dropped == {"synthetic": 2}


@pytest.mark.parametrize(
    ("content", "shown", "reason"),
    [
        ("<tool_use_error>not read yet</tool_use_error>", "not read yet", "tool_use_error"),
        (
            "The user doesn't want to proceed with this tool use. The user said nothing",
            "The user did not allow this call.",
            "rejected",
        ),
        (
            "The user doesn't want to proceed with this tool use. To tell you how to proceed, "
            "the user said:\nuse pnpm",
            "The user did not allow this call. The user said: use pnpm",
            "rejected",
        ),
        ("String to replace not found in file.", None, "tool_use_error"),
    ],
)
def test_calls_that_failed_or_were_refused_are_context_only(log, tmp_path, content, shown, reason):
    log.user("go")
    log.calls("Edit", "t1")
    log.result("t1", content, is_error=True)
    log.says("Sorry.")
    assert only(log, tmp_path)[0] == [
        ["human: go", f"step: Edit->{shown or content} [{reason}]", "step: Sorry."]
    ]


def test_a_failing_command_is_normal_work(log, tmp_path):
    log.user("test")
    log.calls("Bash", "t1")
    log.result("t1", "Exit code 1\n2 failed", is_error=True)
    log.says("Two fail.")
    sessions, _ = log.read(tmp_path)
    step = sessions[0].steps()[0]
    assert not step.masked and step.results["t1"].status == "failed"


def test_an_interrupt_masks_the_message_that_was_cut_short(log, tmp_path):
    log.user("tell me")
    log.says("It is")
    log.user([{"type": "text", "text": "[Request interrupted by user]"}])
    log.user("never mind")
    log.says("Fine.")
    assert only(log, tmp_path)[0] == [
        ["human: tell me", "step: It is [interrupted]", "human: never mind", "step: Fine."]
    ]


def test_orphans_and_calls_without_result(log, tmp_path):
    log.user("go")
    log.result("nobody", "lost")
    log.says("Trying.", group="m")
    log.calls("Bash", "t1", group="m")
    found, memory = only(log, tmp_path)
    assert found == [["human: go", "step: Trying. [call_without_result]"]]
    assert memory.records.dropped == {"orphan_result": 1}


def test_compaction_cuts_and_its_summary_opens_the_next_segment(log, tmp_path):
    log.user("one")
    log.says("1")
    log.node("system", subtype="compact_boundary")
    log.user(
        "This session is being continued from a previous conversation that ran out of context.\n"
        "They counted.\nPlease continue the conversation from where we left it off.",
        isCompactSummary=True,
    )
    log.says("2")
    assert only(log, tmp_path)[0] == [
        ["human: one", "step: 1"],
        ["summary: Summary of the conversation so far:\nThey counted.", "step: 2"],
    ]


def test_an_early_summary_without_a_flag_cuts_too(log, tmp_path):
    log.user("one")
    log.says("1")
    log.user("This session is being continued from a previous conversation that ran out.\nSum.")
    log.says("2")
    assert [segment[0][:7] for segment in only(log, tmp_path)[0]] == ["human: ", "summary"]


def test_a_second_root_is_a_new_segment(log, tmp_path):
    log.user("one")
    log.says("1")
    log.tip = None
    log.user("two")
    log.says("2")
    assert only(log, tmp_path)[0] == [["human: one", "step: 1"], ["human: two", "step: 2"]]


def test_without_any_links_nothing_is_cut(log, tmp_path):
    for number in ("1", "2"):
        log.tip = None
        log.user(number)
        log.tip = None
        log.says(number)
    assert len(only(log, tmp_path)[0]) == 1


def test_a_prompt_that_was_taken_back_is_dropped_with_what_followed(log, tmp_path):
    log.user("one")
    tip = log.says("1")
    log.user("wrong way")
    log.calls("Bash", "t1")
    log.node("progress")
    log.result("t1", "bad")
    log.says("oops")
    log.tip = tip
    log.user("right way")
    log.says("2")
    found, memory = only(log, tmp_path)
    assert found == [["human: one", "step: 1", "human: right way", "step: 2"]]
    assert memory.records.dropped == {"meta:progress": 1, "abandoned_branch": 4}


def test_parallel_results_are_no_taken_back_prompts(log, tmp_path):
    log.user("go")
    tip = log.calls("Read", "t1", group="m")
    log.calls("Read", "t2", group="m")
    log.tip = tip
    log.result("t1", "A")
    log.tip = tip
    log.result("t2", "B")
    log.says("Done.")
    assert only(log, tmp_path)[1].records.dropped == {}


def test_commands(log, tmp_path):
    built_in = "<command-name>/model</command-name>\n<command-args></command-args>"
    custom = "<command-message>fix</command-message><command-name>/fix</command-name>"
    log.user("Caveat: The messages below were generated by the user", isMeta=True)
    log.user(built_in)
    log.user("<local-command-stdout>ok</local-command-stdout>")
    log.user(f"{custom}<command-args>the bug</command-args>")
    log.user([{"type": "text", "text": "Find it, then fix it."}], isMeta=True)
    log.says("Fixed.")
    found, memory = only(log, tmp_path)
    assert found == [["human: /fix the bug\n\nFind it, then fix it.", "step: Fixed."]]
    assert memory.records.dropped == {"meta:isMeta": 1, "local_command": 2}


def test_shell_mode_is_dropped(log, tmp_path):
    log.user("<bash-input>ls</bash-input>")
    log.user("<bash-stdout>a</bash-stdout><bash-stderr></bash-stderr>")
    log.user("hello")
    log.says("hi")
    assert only(log, tmp_path)[1].records.dropped == {"bash_mode": 2}


def test_a_prompt_typed_while_working_is_told_once(log, tmp_path):
    log.user("go")
    log.calls("Bash", "t1")
    log.node("attachment", attachment={"type": "queued_command", "prompt": "be quick"})
    log.add({"type": "queue-operation", "operation": "remove", "content": "be quick"})
    log.result("t1", "ok")
    log.says("Quick it is.")
    found, memory = only(log, tmp_path)
    assert found == [["human: go", "step: Bash->ok", "context: be quick", "step: Quick it is."]]
    assert memory.records.dropped == {"meta:queue-operation": 1}


def test_pictures_reminders_and_terminal_codes(log, tmp_path):
    picture = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
    log.user([{"type": "text", "text": "see [Image #1]"}, picture])
    log.calls("Read", "t1")
    reminder = "\n\n<system-reminder>\nbe careful\n</system-reminder>\n"
    log.result("t1", f"\x1b[31mred\x1b[0m{reminder}")
    log.says("Seen.")
    assert only(log, tmp_path)[0] == [
        ["human: see [image omitted]\n[image omitted]", "step: Read->red", "step: Seen."]
    ]


def test_a_reminder_inside_code_is_data(log, tmp_path):
    code = "    12→    strip('<system-reminder>x</system-reminder>')"
    log.user("go")
    log.calls("Read", "t1")
    log.result("t1", code)
    log.says("Seen.")
    sessions, _ = log.read(tmp_path)
    assert sessions[0].steps()[0].results["t1"].text == code


def test_what_the_assistant_wrote_is_never_touched(log, tmp_path):
    text = "It prints <system-reminder>x</system-reminder> and <command-name>y</command-name>."
    log.user("go")
    log.says(text)
    assert only(log, tmp_path)[0] == [["human: go", f"step: {text}"]]


def test_subagents_are_sessions_of_their_own(log, tmp_path):
    log.user("go")
    tip = log.calls("Task", "t1")
    log.tip = None
    log.user("Look around.", isSidechain=True, agentId="a1")
    log.says("Nothing there.", isSidechain=True, agentId="a1")
    log.tip = tip
    log.result("t1", "Nothing there.\nagentId: a1 (to continue)\n<usage>total: 1</usage>")
    log.says("Done.")
    main, agent = log.read(tmp_path)[0]
    assert shape(main) == [["human: go", "step: Task->Nothing there.", "step: Done."]]
    assert shape(agent) == [["human: Look around.", "step: Nothing there."]]
    assert (main.agent, agent.agent, main.id) == ("", "a1", agent.id)


def test_two_old_style_sidechains_are_told_apart_by_their_roots(log, tmp_path):
    tip = log.user("go")
    for name in ("one", "two"):
        log.tip = None
        log.user(name, isSidechain=True)
        log.says(f"{name} done", isSidechain=True)
    log.tip = tip
    log.says("Done.")
    assert [shape(session)[0][0] for session in log.read(tmp_path)[0]] == [
        "human: go",
        "human: one",
        "human: two",
    ]


def test_a_resumed_session_goes_on_under_its_new_id(log, tmp_path):
    log.user("one")
    log.session = "s-2"
    log.says("1")
    log.user("two")
    log.says("2")
    sessions, memory = log.read(tmp_path)
    assert shape(sessions[0]) == [["human: one", "step: 1", "human: two", "step: 2"]]
    assert memory.kin.root("s-2") == "s-1"


def test_nulls_leave_arguments_and_deep_ones_drop_the_call(log, tmp_path):
    deep = {}
    for _ in range(100):
        deep = {"d": deep}
    log.user("go")
    log.calls("Read", "t1", limit=None, path="a", more=[None, {"x": None}])
    log.result("t1", "ok")
    log.says("Next.", group="m")
    log.block({"type": "tool_use", "id": "t2", "name": "X", "input": "text"}, group="m")
    log.block(
        {"type": "tool_use", "id": "t3", "name": "X", "input": {"a": 1, "d": deep}}, group="m"
    )
    log.result("t3", "never")
    steps = log.read(tmp_path)[0][0].steps()
    assert steps[0].calls[0].arguments == {"path": "a", "more": [{}]}
    assert steps[1].calls == [] and steps[1].masked == {"malformed_call"}


def test_messages_that_nothing_separates_are_one(log, tmp_path):
    log.user("go")
    log.says("One.")
    log.says("Two.")
    assert only(log, tmp_path)[0] == [["human: go", "step: One.\n\nTwo."]]


def test_thinking_is_kept_apart_and_its_signature_forgotten(log, tmp_path):
    log.user("go")
    log.block({"type": "thinking", "thinking": "Hm.", "signature": "S" * 50}, group="m")
    log.says("Done.", group="m")
    sessions, memory = log.read(tmp_path)
    assert sessions[0].steps()[0].reasoning == "Hm."
    assert memory.blocks["thinking"] == 1


def test_a_session_of_the_web_is_one_object(log, tmp_path):
    log.user("hello")
    log.says("hi")
    lines = [*map(json.loads, log.lines), 7]
    path = tmp_path / "web.json"
    path.write_text(json.dumps({"loglines": lines}, indent=2))
    file, memory = LogFile("web.json", path), Memory()
    assert source_of(file).name == "claude_code"
    (session,) = claude_code.read(file, memory)
    assert shape(session) == [["human: hello", "step: hi"]]
    assert memory.records.as_dict() == {"in": 3, "kept": 2, "dropped": {"no_type": 1}}


def test_detection_is_by_content(tmp_path):
    log = Log()
    log.user("hello")
    assert source_of(log.write(tmp_path, "x.jsonl")).name == "claude_code"
    for name, text in (
        ("codex.jsonl", '{"type":"response_item","payload":{}}\n'),
        ("other.jsonl", '{"a":1}\n'),
        ("notes.jsonl", "not json\n"),
    ):
        file = log.write(tmp_path, name)
        file.path.write_text(text)
        assert source_of(file) is None


def test_damage_anywhere_loses_no_record_of_the_account(log, tmp_path):
    log.user("hello")
    log.raw("{broken")
    log.raw("[]")
    log.raw("")
    log.raw(log.lines.pop(0) * 1)
    log.says("hi")
    _, memory = log.read(tmp_path)
    assert memory.records.in_ == 5
    assert memory.records.kept == 2
    assert [(line, why) for _, line, why in memory.faults] == [
        (1, "invalid_json"),
        (2, "not_an_object"),
    ]


def counted_elsewhere(path):
    """How many records a file holds, by splitting instead of by the reader's parser."""
    lines = path.read_bytes().split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    return len(lines) + sum(line.count(b'Z"}{"parentUuid"') for line in lines)


def test_every_staging_record_is_accounted_for(root):
    folder = root / "data/staging/claude_logs"
    files = sorted(folder.rglob("*.jsonl"))
    companions = sorted(folder.rglob("*.meta.json"))
    account = Account()
    learned = survey(discover([folder], account.files), account.files, subagents=True)
    rejected = []
    rows = list(
        convert(
            learned,
            RowOptions(),
            account,
            subagents=True,
            reject=lambda row, reason: rejected.append(reason),
        )
    )
    assert account.files.in_ == len(files) + len(companions)
    assert account.memory.records.in_ == sum(map(counted_elsewhere, files))
    assert account.rows.kept == len(rows)
    assert account.made.steps.kept == sum(m["train"] for row in rows for m in row["messages"])
    assert sorted(rejected) == ["no_trained_step"] * 3 + ["warm_up"]


@pytest.mark.parametrize("kind", [["x"], {}, None, 5, ""])
def test_a_type_that_is_no_text_is_no_crash(kind):
    assert claude_code.detect([{"type": kind, "sessionId": "s"}]) == 0
    assert claude_code.detect([{"type": "mode", "sessionId": "s"}]) == 0.5
