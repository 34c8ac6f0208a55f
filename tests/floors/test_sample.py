"""Rows: checked, read from generic shapes, written in one order."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codetune import generic, sample
from codetune.sample import BadRow

CHAT: dict[str, Any] = {
    "id": "c-1",
    "task": "chat",
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho", "train": True},
    ],
    "meta": {"source": "x", "group": "g"},
}
FIM: dict[str, Any] = {
    "id": "f-1",
    "task": "fim",
    "prefix": "a",
    "middle": "b",
    "suffix": "",
    "meta": {},
}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def with_message(**change: Any) -> dict[str, Any]:
    return {**CHAT, "messages": [CHAT["messages"][0], {**CHAT["messages"][1], **change}]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (CHAT, None),
        (FIM, None),
        ({"id": "t", "task": "text", "text": "x", "meta": {}}, None),
        (with_message(tool_calls=[CALL]), None),
        ({**CHAT, "id": ""}, "no_id"),
        ({**CHAT, "meta": None}, "no_meta"),
        ({**CHAT, "task": "poem"}, "unknown_task"),
        ({**CHAT, "messages": []}, "no_messages"),
        ({**CHAT, "messages": "hi"}, "no_messages"),
        ({**CHAT, "messages": ["hi"]}, "bad_role"),
        (with_message(role="bot"), "bad_role"),
        (with_message(content=None), "content_not_text"),
        (with_message(content=[{"text": "x"}]), "content_not_text"),
        (with_message(train="yes"), "bad_train_flag"),
        (with_message(train=False), "no_trained_message"),
        (with_message(tool_calls=["x"]), "bad_tool_call"),
        (
            with_message(tool_calls=[{"function": {"name": "f", "arguments": "{}"}}]),
            "bad_tool_call",
        ),
        ({**FIM, "middle": " \n"}, "empty_middle"),
        ({**FIM, "suffix": None}, "fim_part_not_text"),
        ({"id": "t", "task": "text", "text": " ", "meta": {}}, "empty_text"),
    ],
)
def test_check(row: dict[str, Any], reason: str | None) -> None:
    assert sample.check(row) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{half", "not_json"),
        (b"", "not_json"),
        (b"[1]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"a":"\xff"}', "bad_utf8"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "too_deep"),
        (b'{"a":' + b"[" * 500 + b"]" * 500 + b"}", "too_deep"),  # readable, not writable
        (b'{"a": NaN}', "not_json"),
    ],
)
def test_parse_says_why_not(line: bytes, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        sample.parse(line)
    assert caught.value.reason == reason


@given(st.binary(max_size=60))
def test_parse_never_fails_otherwise(line: bytes) -> None:
    with contextlib.suppress(BadRow):
        assert isinstance(sample.parse(line), dict)


def test_dump_orders_known_keys_and_keeps_unknown_ones() -> None:
    shuffled = {
        "meta": {},
        "mine": 1,
        "middle": "m",
        "suffix": "s",
        "task": "fim",
        "prefix": "ä",
        "id": "x",
    }
    line = sample.dump(shuffled)
    assert list(json.loads(line)) == ["id", "task", "prefix", "middle", "suffix", "meta", "mine"]
    assert "ä".encode() in line and b"\n" not in line
    message = {"train": True, "content": "c", "mine": 1, "role": "user"}
    line = sample.dump({**CHAT, "messages": [message]})
    assert list(json.loads(line)["messages"][0]) == ["role", "content", "train", "mine"]


def test_dump_refuses_lone_surrogates() -> None:
    with pytest.raises(BadRow):
        sample.dump({**FIM, "middle": "\ud800"})


@given(st.dictionaries(st.text(), _JSON, max_size=4))
def test_rows_survive_a_round_trip(extra: dict[str, Any]) -> None:
    row = {**extra, **FIM}
    assert sample.parse(sample.dump(row)) == row


def test_content_hash_ignores_id_and_meta_only() -> None:
    same = sample.content_sha256({**CHAT, "id": "other", "meta": {"x": 1}})
    assert sample.content_sha256(CHAT) == same
    assert sample.content_sha256(with_message(content="hi")) != same
    assert sample.content_sha256(with_message(train=False)) != same


def test_digest_keeps_parts_apart_and_draws_are_stable() -> None:
    assert sample.digest("ab", "c") != sample.digest("a", "bc")
    assert len(sample.digest("x", n=20)) == 20
    draws = [sample.draw(f"row-{n}", "style") for n in range(2000)]
    assert draws == [sample.draw(f"row-{n}", "style") for n in range(2000)]
    assert all(0 <= d < 1 for d in draws)
    assert 0.45 < sum(draws) / len(draws) < 0.55
    assert sample.draw("row-1", "style") != sample.draw("row-1", "order")


class TestGenericShapes:
    def read(self, row: dict[str, Any]) -> dict[str, Any]:
        made = generic.from_generic(row)
        assert made is not None and sample.check(made) is None
        return made

    def test_own_rows_are_left_alone(self) -> None:
        assert generic.from_generic(CHAT) is CHAT

    def test_openai_messages(self) -> None:
        made = self.read(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "add"}]},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "c",
                                "type": "function",
                                "function": {"name": "add", "arguments": '{"a": 1}'},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "2"},
                    {"role": "assistant", "content": "two", "weight": 0},
                ],
                "tools": [{"type": "function"}],
                "mine": 3,
            }
        )
        user, call, result, answer = made["messages"]
        assert user == {"role": "user", "content": "add", "train": False}
        assert call["content"] == "" and call["train"] is True
        assert call["tool_calls"][0]["function"]["arguments"] == {"a": 1}
        assert result["train"] is False and answer["train"] is False
        assert made["tools"] and made["mine"] == 3
        assert made["meta"]["source"] == "generic" and made["meta"]["group"] == made["id"]

    def test_sharegpt(self) -> None:
        made = self.read(
            {
                "id": "s1",
                "system": "be kind",
                "conversations": [
                    {"from": "human", "value": "hi"},
                    {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                    {"from": "observation", "value": "1"},
                    {"from": "gpt", "value": "done"},
                ],
            }
        )
        roles = [m["role"] for m in made["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "assistant"]
        assert made["messages"][2]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
        assert made["id"] == "s1" and "conversations" not in made

    @pytest.mark.parametrize(
        "row",
        [
            {"prompt": "q", "completion": "a"},
            {
                "prompt": [{"role": "user", "content": "q"}],
                "completion": [{"role": "assistant", "content": "a"}],
            },
        ],
    )
    def test_prompt_and_completion(self, row: dict[str, Any]) -> None:
        made = self.read(row)
        assert [(m["content"], m["train"]) for m in made["messages"]] == [("q", False), ("a", True)]

    def test_a_function_call_that_is_none_is_dropped_with_a_reason(self) -> None:
        for value in ("not JSON", "[1]", "3"):
            turns = [{"from": "function_call", "value": value}]
            made = generic.from_generic({"conversations": turns})
            assert made is not None and sample.check(made) == "bad_tool_call"

    def test_fim_and_text(self) -> None:
        assert self.read({"prefix": "a", "middle": "b", "suffix": "c"})["task"] == "fim"
        assert self.read({"text": "x"})["task"] == "text"

    def test_the_id_is_a_hash_of_the_content(self) -> None:
        one, two = self.read({"text": "x"}), self.read({"text": "x", "meta": {"source": "y"}})
        assert one["id"] == two["id"] != self.read({"text": "z"})["id"]

    @pytest.mark.parametrize("row", [{}, {"messages": 3}, {"instruction": "x"}, {"text": 4}])
    def test_unknown_shapes(self, row: dict[str, Any]) -> None:
        assert generic.from_generic(row) is None

    @given(
        st.dictionaries(
            st.sampled_from(["messages", "conversations", "prompt", "completion", "text", "tools"]),
            _JSON
            | st.lists(
                st.dictionaries(
                    st.sampled_from(["role", "content", "from", "value", "tool_calls", "weight"]),
                    _JSON,
                )
            ),
        )
    )
    def test_odd_values_are_dropped_with_a_reason_not_a_traceback(self, row: dict) -> None:
        made = generic.from_generic(row)
        if made is not None:
            assert sample.check(made) is None or isinstance(sample.check(made), str)
