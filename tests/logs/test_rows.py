import json

import pytest

from codetune import sample
from codetune.logs.rows import RowCounts, RowMaker, RowOptions
from codetune.logs.session import Call, Prompt, Result, Session, Step
from codetune.logs.tool_schemas import Catalogue


def step(text="", *calls, masked=(), status="ok"):
    made = [Call(f"toolu_{text}{i}", name, args) for i, (name, args, _) in enumerate(calls)]
    results = {c.id: Result(r, status) for c, (_, _, r) in zip(made, calls, strict=True)}
    return Step(text, "", made, results, "claude-x", set(masked))


def session(*segments):
    return Session("claude_code", "s-1", project="/w", first="u1", segments=list(segments))


def make(made, **options):
    catalogue = Catalogue()
    catalogue.observe(call for s in made.steps() for call in s.calls)
    counts = RowCounts()
    rejected = []
    options = RowOptions(**{"system_prompt": "Be brief.", **options})
    maker = RowMaker(options, catalogue, counts, lambda row, why: rejected.append((row, why)))
    rows = list(maker.rows(made, "g"))
    assert all(sample.check(row) is None for row in rows)
    return rows, counts, rejected


def outline(row):
    return [
        f"{m['role']}{'*' if m['train'] else ''}:{m['content']}"
        + "".join(f"({c['id']})" for c in m.get("tool_calls", ()))
        for m in row["messages"]
    ]


def test_a_row_is_a_turn_with_its_history():
    made = session([Prompt("a"), step("1"), Prompt("b"), step("2", ("Read", {}, "R")), step("3")])
    rows, counts, _ = make(made)
    assert [outline(row) for row in rows] == [
        ["system:Be brief.", "user:a", "assistant*:1"],
        [
            *("system:Be brief.", "user:a", "assistant:1", "user:b"),
            *("assistant*:2(call_1)", "tool:R", "assistant*:3"),
        ],
    ]
    assert (counts.turns.kept, counts.steps.kept) == (2, 3)
    assert [row["meta"]["history_turns"] for row in rows] == [0, 1]


def test_no_system_prompt_when_it_is_empty():
    rows, _, _ = make(session([Prompt("a"), step("1")]), system_prompt="")
    assert outline(rows[0]) == ["user:a", "assistant*:1"]


def test_history_is_dropped_whole_turn_by_turn_from_the_oldest():
    made = session([item for n in range(5) for item in (Prompt(f"p{n}"), step("x" * 400))])
    rows, _, _ = make(made, max_chars=1000)
    assert [row["meta"]["history_turns"] for row in rows] == [0, 1, 1, 1, 1]
    assert outline(rows[4])[1] == "user:p3"


def test_segments_share_no_history():
    rows, _, _ = make(session([Prompt("a"), step("1")], [Prompt("b"), step("2")]))
    assert outline(rows[1]) == ["system:Be brief.", "user:b", "assistant*:2"]
    assert [row["id"].split("-", 2)[2] for row in rows] == ["s0-t0-w0", "s1-t0-w0"]


def test_a_long_turn_becomes_windows_and_each_step_is_trained_once():
    steps = [step(f"{n:02d}" + "x" * 300) for n in range(20)]
    for made in steps:
        made.calls = [Call(f"t{made.text[:2]}", "Bash", {"command": made.text})]
        made.results = {f"t{made.text[:2]}": Result("ok")}
    rows, counts, _ = make(session([Prompt("go"), *steps]), max_chars=2500)
    targets = [m["content"][:2] for row in rows for m in row["messages"] if m["train"]]
    assert sorted(targets) == [f"{n:02d}" for n in range(20)] and counts.steps.kept == 20
    assert len(rows) > 3
    assert all(row["messages"][1]["content"] == "go" for row in rows)
    for row in rows:
        assert len(json.dumps(row["messages"])) + len(json.dumps(row["tools"])) < 2 * 2500


def test_masked_steps_are_context_and_a_masked_end_is_left_out():
    rejected = step("no", ("Edit", {}, "The user did not allow this call."), masked=["rejected"])
    made = session([Prompt("a"), rejected, step("1"), Prompt("b"), step("2"), rejected])
    rows, counts, _ = make(made)
    assert outline(rows[0])[2] == "assistant:no(call_1)"
    assert rows[0]["meta"]["flags"] == ["masked:rejected"]
    assert outline(rows[1])[-1] == "assistant*:2"
    assert counts.steps.as_dict()["dropped"] == {"masked:rejected": 2}


def test_a_turn_without_a_trained_step_is_rejected_whole():
    rows, counts, rejected = make(session([Prompt("a"), step("1", masked=["interrupted"])]))
    assert rows == [] and counts.turns.dropped == {"no_trained_step": 1}
    ((row, why),) = rejected
    assert why == "no_trained_step" and row["messages"][0]["content"] == "a"


def test_a_step_that_is_too_long_is_dropped_and_counted():
    made = session([Prompt("a"), step("x" * 5000), step("short")])
    rows, counts, _ = make(made, max_chars=1000)
    assert outline(rows[0]) == ["system:Be brief.", "user:a", "assistant*:short"]
    assert counts.steps.dropped == {"too_long": 1}


def test_calls_and_results_stay_together_and_arguments_are_whole():
    big = {"content": "y" * 3000}
    made = session([Prompt("a"), step("w", ("Write", big, "ok")), step("end")])
    rows, _, _ = make(made, max_tool_chars=200)
    (call,) = rows[0]["messages"][2]["tool_calls"]
    assert call["function"]["arguments"] == big
    assert rows[0]["messages"][3]["tool_call_id"] == call["id"] == "call_1"


def test_long_outputs_are_shortened_and_flagged():
    made = session([Prompt("a"), step("r", ("Read", {}, "line of text\n" * 500)), step("end")])
    rows, _, _ = make(made, max_tool_chars=300)
    assert len(rows[0]["messages"][3]["content"]) < 360
    assert rows[0]["meta"]["flags"] == ["shortened"]


def test_texts_in_between_join_what_the_user_said():
    made = session([Prompt("a"), Prompt("note", "context"), step("1"), Prompt("more", "context")])
    rows, _, _ = make(made)
    assert outline(rows[0]) == ["system:Be brief.", "user:a\n\nnote", "assistant*:1"]


def test_warm_ups_are_dropped():
    rows, counts, _ = make(session([Prompt("Warmup"), step("ready")]))
    assert rows == [] and counts.turns.dropped == counts.steps.dropped == {"warm_up": 1}


@pytest.mark.parametrize(("knob", "present"), [("keep", True), ("drop", False)])
def test_reasoning(knob, present):
    thoughtful = step("1")
    thoughtful.reasoning = "Hm."
    rows, _, _ = make(session([Prompt("a"), thoughtful]), reasoning=knob)
    assert ("reasoning_content" in rows[0]["messages"][2]) is present


def test_connector_names_are_hidden():
    made = session([Prompt("a"), step("c", ("mcp__acme-crm__find", {"q": "x"}, "ok")), step("e")])
    rows, _, _ = make(made)
    assert "acme" not in json.dumps(rows[0])
    assert rows[0]["messages"][3]["name"] == "mcp__server1__find"
    assert rows[0]["tools"][0]["function"]["name"] == "mcp__server1__find"


def test_ids_and_meta():
    rows, _, _ = make(session([Prompt("a", timestamp="2026-01-01T00:00:00Z"), step("1")]))
    meta = rows[0]["meta"]
    assert rows[0]["id"].startswith("cc-") and meta["group"] == "g"
    assert meta["project"] == sample.digest("/w") and "/w" not in json.dumps(rows[0])
    assert (meta["model"], meta["provider"], meta["agent"]) == ("claude-x", "anthropic", "main")
    assert meta["timestamp"] == "2026-01-01T00:00:00Z"


def calls(name, *arguments):
    return [Call(str(i), name, args) for i, args in enumerate(arguments)]


def test_a_schema_knows_types_and_what_is_required():
    catalogue = Catalogue()
    catalogue.observe(calls("Read", {"file_path": "a"}, {"file_path": "b", "limit": 5}))
    function = catalogue.schema("Read")["function"]
    assert function["parameters"] == {
        "type": "object",
        "properties": {"file_path": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["file_path"],
    }
    assert function["description"] == "Returns a file with line numbers."


def test_choices_need_many_calls_and_few_plain_values():
    catalogue = Catalogue()
    mode = ["content", "count"]
    catalogue.observe(calls("G", *({"mode": mode[i % 2], "q": f"Q {i}"} for i in range(30))))
    properties = catalogue.schema("G")["function"]["parameters"]["properties"]
    assert properties["mode"] == {"type": "string", "enum": ["content", "count"]}
    assert properties["q"] == {"type": "string"}


def test_an_enum_never_hides_values_that_were_seen():
    catalogue = Catalogue()
    values = ["content"] * 30 + ["/home/x"]
    catalogue.observe(calls("G", *({"mode": value} for value in values)))
    assert "enum" not in catalogue.schema("G")["function"]["parameters"]["properties"]["mode"]


def test_arguments_of_several_types():
    catalogue = Catalogue()
    catalogue.observe(calls("X", {"a": 1}, {"a": "x"}, {"a": [1]}, {"a": True}, {"a": {}}))
    assert catalogue.schema("X")["function"]["parameters"]["properties"]["a"]["type"] == [
        *("array", "boolean", "integer", "object", "string")
    ]


def test_the_order_of_calls_does_not_matter():
    seen = calls("X", {"b": 1}, {"a": "x"}, {"c": 2.5})
    one, other = Catalogue(), Catalogue()
    one.observe(seen)
    other.observe(reversed(seen))
    assert json.dumps(one.schema("X")) == json.dumps(other.schema("X"))
