"""Exports of ChatGPT: hand-made trees, and the sample."""

import json
import random

import pytest

from codetune.logs import chatgpt
from codetune.logs.chatgpt_text import arguments_of, text_of_content, thoughts_of, written
from codetune.logs.memory import Memory
from tests.logs.claude_lines import shape
from tests.logs.conversions import check_rows, converted, fuzz_document, sessions_of


class Tree:
    """A conversation under construction; each message hangs below the one before."""

    def __init__(self, name="c-1"):
        self.name, self.tip, self.mapping = name, "root", {}
        self.mapping["root"] = {"id": "root", "message": None, "parent": None, "children": []}

    def add(self, role, *parts, kind="text", under=None, author=None, facts=None, **more):
        node = f"{self.name}-n{len(self.mapping)}"
        content = more.pop("content", None) or {"content_type": kind, "parts": list(parts)}
        message = {
            "id": node,
            "author": {"role": role, "name": author},
            "content": content,
            "create_time": 1767225600.5,
            "weight": 1.0,
            "recipient": "all",
            "metadata": facts or {},
            **more,
        }
        parent = under or self.tip
        self.mapping[node] = {"id": node, "message": message, "parent": parent, "children": []}
        self.mapping[parent]["children"].append(node)
        self.tip = node
        return node

    def user(self, *parts, **more):
        return self.add("user", *parts, **more)

    def says(self, *parts, **more):
        return self.add("assistant", *parts, facts={"model_slug": "gpt-4o"}, **more)

    def calls(self, tool, text, **more):
        content = {"content_type": "code", "language": "unknown", "text": text}
        return self.add("assistant", recipient=tool, content=content, **more)

    def tool(self, name, text, **more):
        content = {"content_type": "execution_output", "text": text}
        return self.add("tool", author=name, content=content, **more)

    def chat(self, **more):
        return {"title": "T", "conversation_id": self.name, "mapping": self.mapping,
                "current_node": self.tip, **more}  # fmt: skip


@pytest.fixture
def tree():
    return Tree()


def read(folder, *trees, **more):
    data = json.dumps([t if isinstance(t, dict) else t.chat() for t in trees]).encode()
    return sessions_of(folder, data, chatgpt, **more)


def only(folder, tree, **more):
    (session,), memory = read(folder, tree, **more)
    return shape(session)[0], memory


def test_one_turn(tree, tmp_path):
    tree.add("system", "")
    tree.user("hello")
    tree.says("hi")
    (session,), memory = read(tmp_path, tree)
    assert shape(session) == [["human: hello", "step: hi"]]
    assert session.steps()[0].model == "gpt-4o" and session.provider == "openai"
    assert session.segments[0][0].timestamp == "2026-01-01T00:00:00+00:00"
    assert memory.records.as_dict() == {
        "in": 4,
        "kept": 2,
        "dropped": {"meta:system": 1, "no_message": 1},
    }


def test_only_the_way_up_from_the_current_node(tree, tmp_path):
    asked = tree.user("go")
    tree.says("bad")
    tree.user("no")
    tree.says("good", under=asked)
    tree.user("thanks")
    tree.says("sure")
    found, memory = only(tmp_path, tree)
    assert found == ["human: go", "step: good", "human: thanks", "step: sure"]
    assert memory.records.dropped == {"abandoned_branch": 2, "no_message": 1}


@pytest.mark.parametrize("current", [None, "lost", 7])
def test_without_a_current_node_the_last_leaf_counts(tree, tmp_path, current):
    asked = tree.user("go")
    tree.says("bad")
    tree.says("good", under=asked)
    assert only(tmp_path, tree.chat(current_node=current))[0] == ["human: go", "step: good"]


def test_a_circle_is_no_endless_walk(tree, tmp_path):
    first = tree.user("go")
    tree.says("good")
    tree.mapping[first]["parent"] = tree.tip
    sessions, memory = read(tmp_path, tree)
    assert sessions == [] and memory.records.in_ == 3


def test_a_lost_parent_is_a_root(tree, tmp_path):
    tree.user("go")
    tree.says("good")
    del tree.mapping["root"]
    assert only(tmp_path, tree)[0] == ["human: go", "step: good"]


def test_tools_and_thoughts(tree, tmp_path):
    tree.user("plot it")
    thoughts = {"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "Plan."}]}
    tree.add("assistant", content=thoughts)
    tree.calls("python", "print(1)")
    tree.tool("python", "1")
    tree.tool("python", "2")
    tree.add("assistant", content={"content_type": "reasoning_recap", "content": "Thought 3s"})
    tree.calls("web.run", '{"q": "x", "n": null}')
    tree.add("tool", "found", author="web.run")
    tree.says("Done 【3†source】\ue200cite\ue202turn0search0\ue201.")
    (session,), memory = read(tmp_path, tree)
    assert shape(session) == [
        ["human: plot it", "step: python->1\n\n2", "step: web.run->found", "step: Done."]
    ]
    first, second, _ = session.steps()
    assert first.reasoning == "Plan." and first.calls[0].arguments == {"code": "print(1)"}
    assert second.calls[0].arguments == {"q": "x"}
    assert memory.records.dropped["meta:reasoning_recap"] == 1


def test_parallel_calls_find_their_tools(tree, tmp_path):
    tree.user("go")
    tree.calls("a.x", "1")
    tree.calls("b.y", "2")
    tree.tool("b.y", "B")
    tree.tool("a.x", "A")
    tree.says("Done.")
    assert only(tmp_path, tree)[0] == ["human: go", "step: a.x->A b.y->B", "step: Done."]


def test_failures_and_calls_that_nobody_answered(tree, tmp_path):
    tree.tool("python", "nobody asked")
    tree.user("go")
    tree.calls("python", "1/0")
    tree.tool("python", "Zero", facts={"aggregate_result": {"status": "failed_with_exception"}})
    tree.calls("bio", "remember")
    tree.says("Done.")
    (session,), memory = read(tmp_path, tree)
    failed, rest = session.steps()
    assert next(iter(failed.results.values())).status == "failed"
    assert (rest.text, rest.masked) == ("Done.", {"result_not_in_log"})
    assert memory.records.dropped["orphan_result"] == 1
    assert memory.blocks["call:without_result"] == 1


def test_what_a_search_found_stands_beside_its_empty_text(tree, tmp_path):
    entry = {"title": "T", "url": "u", "snippet": "s\n", "ref_id": {}}
    groups = [{"entries": [entry, 3, {"title": None}]}, {"entries": "x"}, 7]
    tree.user("find it")
    tree.calls("web.run", "{}")
    tree.add("tool", "", author="web.run", facts={"search_result_groups": groups})
    tree.says("Found.")
    tree.user("again")
    tree.calls("web.run", "{}")
    tree.add("tool", "", author="web.run")
    tree.says("Found that too.")
    tree.user("print nothing")
    tree.calls("python", "pass")
    tree.tool("python", "")
    tree.says("Nothing.")
    assert only(tmp_path, tree)[0] == [
        *("human: find it", "step: web.run->T\nu\ns", "step: Found."),
        *("human: again", "step: web.run->", "step: Found that too. [result_not_in_log]"),
        *("human: print nothing", "step: python->", "step: Nothing."),
    ]


def test_files_sent_along(tree, tmp_path):
    files = [{"mime_type": "application/zip", "name": "a.zip"}, {"mime_type": "image/png"}, 3, {}]
    tree.user("", facts={"attachments": files})
    tree.says("Unpacked.")
    assert only(tmp_path, tree)[0][0] == "human: [file omitted]\n\n[file omitted]"


def test_hidden_and_private_messages_are_dropped(tree, tmp_path):
    tree.add("user", content={"content_type": "user_editable_context", "user_profile": "I am Mira"})
    tree.user("secret", facts={"is_visually_hidden_from_conversation": True})
    tree.user("silent", weight=0.0)
    tree.user("hello")
    tree.says("hi")
    found, memory = only(tmp_path, tree)
    assert found == ["human: hello", "step: hi"]
    assert memory.records.dropped == {"custom_instructions": 1, "hidden": 2, "no_message": 1}


def test_an_answer_that_was_stopped_is_context(tree, tmp_path):
    tree.user("go")
    tree.add("assistant", "One tw", facts={"finish_details": {"type": "interrupted"}})
    assert only(tmp_path, tree)[0] == ["human: go", "step: One tw [cut_off]"]


def test_a_later_export_trains_what_is_new(tree, tmp_path):
    tree.user("a")
    tree.says("b")
    memory = Memory()
    read(tmp_path, tree, memory=memory)
    tree.user("c")
    tree.says("d")
    (session,), _ = read(tmp_path, tree, memory=memory)
    assert shape(session) == [["human: a", "step: b [copied]", "human: c", "step: d"]]
    assert read(tmp_path, tree, memory=memory)[0] == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"parts": ["a", {"content_type": "image_asset_pointer"}, {"text": "b"}]},
         "a\n\n[image omitted]\n\nb"),
        ({"parts": [{"content_type": "audio_asset_pointer"}, None, 3]}, "[file omitted]"),
        ({"content_type": "tether_quote", "title": "T", "url": "u", "text": "x"}, "T\nu\nx"),
        ({"content_type": "tether_browsing_display", "result": "r"}, "r"),
        ({"content_type": "code", "text": "x = 1"}, "x = 1"),
        ({"text": 3, "result": None}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_contents(content, text):
    assert text_of_content(content) == text


def test_arguments():
    assert arguments_of("web", '{"a": 1}') == {"a": 1}
    assert arguments_of("web", "{broken") == {"input": "{broken"}
    assert arguments_of("dalle", "a cat") == {"input": "a cat"}


def test_thoughts_of_any_shape():
    assert thoughts_of({"thoughts": [{"summary": "s"}, 3, {"content": ["x"]}]}) == "s"
    assert thoughts_of({"thoughts": "x"}) == ""


def test_what_looks_like_a_citation_in_prose_stays():
    assert written("a † b 【x】") == "a † b 【x】"
    assert written("we cite turn 3") == "we cite turn 3"


@pytest.mark.parametrize(
    "mark",
    [
        *("\ue200cite\ue202turn0view0\ue201", "citeturn0view0", "citeturn3view0turn3search12"),
        *("fileciteturn1file0", "【3†source】", "【12:3†a.pdf】"),
    ],
)
def test_citations_are_taken_out(mark):
    assert written(f"It is so. {mark}  \n- next {mark}.") == "It is so.  \n- next."


def damage_source():
    tree = Tree()
    tree.user("go", {"content_type": "image_asset_pointer"})
    tree.calls("python", "print(1)")
    tree.tool("python", "1")
    tree.says("Done 【3†source】.")
    tree.user("more")
    tree.add("assistant", content={"content_type": "thoughts", "thoughts": [{"content": "t"}]})
    tree.says("End.")
    return [tree.chat()]


def test_damaged_exports(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay: fuzz_document(folder, chatgpt, damage_source(), 1500, {seed})")
    fuzz_document(tmp_path, chatgpt, damage_source(), 1500, seed)


def test_rows_of_many_chats(tmp_path):
    trees = []
    for number in range(5):
        tree = Tree(f"c-{number}")
        for turn in range(3):
            tree.user(f"ask {number} {turn}")
            tree.calls("python", f"print({turn})")
            tree.tool("python", str(turn))
            tree.says(f"answer {turn}")
        trees.append(tree.chat())
    (tmp_path / "a.json").write_text(json.dumps(trees))
    rows, account, _ = converted(tmp_path)
    check_rows(rows, account)
    assert len(rows) == 15 and account.made.steps.kept == 30


def test_sample(shared):
    """Its current branch holds two prompts and no answer: read, and nothing to train on."""
    rows, account, _ = converted(shared / "data/logs/chatgpt")
    assert rows == [] and account.files.dropped == {"no_conversation": 1}
    assert account.memory.records.as_dict() == {
        "in": 3,
        "kept": 2,
        "dropped": {"abandoned_branch": 1},
    }
