"""All sources together: real files of every kind, archives of them, and speed of what is new."""

import json
import random
import shutil
import time
import zipfile

import pytest

from codetune import sample
from codetune.artefact import Counts
from codetune.logs import chat_rows, chatgpt, claude_ai, codex, gemini
from codetune.logs.discover import LogFile, discover
from codetune.logs.memory import Memory
from codetune.logs.providers import provider_of
from codetune.logs.sources import SOURCES, source_of
from tests.logs import test_chat_rows, test_chatgpt, test_claude_ai, test_codex, test_gemini
from tests.logs.conversions import check_rows, check_twice, converted, fuzz_document, fuzz_lines

FOLDERS = {
    "chatgpt": "chatgpt",
    "claude-ai": "claude_ai",
    "claude-code-web": "claude_code",
    "codex": "codex",
    "entire-cli": "claude_code",
    "gemini-cli": "gemini",
    "sniffly": "claude_code",
}


@pytest.mark.parametrize(("folder", "name"), FOLDERS.items())
def test_every_real_file_is_known_by_its_content(shared, folder, name):
    files = discover([shared / "data/logs" / folder], Counts())
    assert {source_of(file).name for file in files} == {name}


def test_all_real_files_keep_every_promise(shared):
    rows, account = check_twice(shared / "data/logs")
    assert {row["meta"]["source"] for row in rows} == {
        "claude_code",
        "claude_ai",
        "codex",
        "gemini",
    }
    assert account.memory.records.in_ > 9_000 and not account.rows.dropped
    unknown = [reason for reason in account.memory.records.dropped if reason.startswith("unknown")]
    assert unknown == []


def test_what_an_archive_holds_gives_the_rows_of_its_files(shared, tmp_path):
    """Ids do not depend on where a log lies; the folder's name is no part of these sources."""
    plain = [shared / "data/logs" / name for name in ("codex", "claude-ai", "gemini-cli")]
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in plain:
            for path in sorted(folder.rglob("*.json*")):
                archive.write(path, f"../{folder.name}/{path.name}")
    expected, account, _ = converted(*plain)
    found, _, _ = converted(tmp_path / "all.zip")
    assert sorted(map(sample.dump, expected)) == sorted(map(sample.dump, found))
    check_rows(found, account)


def test_order_of_the_sources_changes_nothing(shared):
    folders = [shared / "data/logs" / name for name in ("gemini-cli", "codex", "claude-ai")]
    first, _, _ = converted(*folders)
    again, _, _ = converted(*reversed(folders))
    assert list(map(sample.dump, first)) == list(map(sample.dump, again))


def test_a_copied_file_adds_nothing(shared, tmp_path):
    for name in ("codex", "claude-ai", "gemini-cli"):
        shutil.copytree(shared / "data/logs" / name, tmp_path / "one" / name)
        shutil.copytree(shared / "data/logs" / name, tmp_path / "two" / name)
    once, _, _ = converted(tmp_path / "one")
    both, account, _ = converted(tmp_path / "one", tmp_path / "two")
    assert list(map(sample.dump, both)) == list(map(sample.dump, once))
    check_rows(both, account)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("claude-opus-4-1", "anthropic"),
        ("anthropic/claude-sonnet-4", "anthropic"),
        ("gpt-5.1-codex", "openai"),
        ("openai/o3-mini", "openai"),
        ("o4", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("gemini-2.5-flash", "google"),
        ("qwen3:32b", "unknown"),
        ("o", "unknown"),
        ("opus-media", "anthropic"),
        ("unknown", "unknown"),
        ("", "unknown"),
    ],
)
def test_providers(model, provider):
    assert provider_of(model) == provider


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_no_reader_fails_on_what_another_reads(shared, source):
    for folder in ("chatgpt", "claude-ai", "claude-code-web", "codex", "gemini-cli"):
        for file in discover([shared / "data/logs" / folder], Counts()):
            memory = Memory()
            list(source.read(file, memory))
            assert memory.records.in_ > 0


ODD = [
    *(
        b"",
        b"\n",
        b"{",
        b"[",
        b"[{",
        b"{\n",
        b"null",
        b"[null]",
        b'{"a":1}',
        b"\xff\xfe{",
        b"\x00" * 99,
    ),
    *(b"[{}]", b'[{"mapping":{}}]', b'[{"chat_messages":[]}]', b'{"sessionId":1,"projectHash":2}'),
    *(b'{"type":"response_item","payload":{"type":[]}}', b'{"messages":[{"role":[]}]}'),
    *(b'[{"mapping":{"a":{"message":null,"parent":"a"}},"current_node":"a"}]',),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
@pytest.mark.parametrize("data", ODD)
def test_odd_files(tmp_path, source, data):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    assert list(source.read(LogFile("a.json", path), Memory())) == []
    source_of(LogFile("a.json", path))


def test_a_large_export_is_read_at_speed(tmp_path):
    """At least 10 MB a CPU second from file to sessions."""
    chats = []
    for number in range(300):
        said = ("word " * 600, "answer `code`\n" * 200)
        pairs = [
            message
            for turn in range(0, 10, 2)
            for message in (
                test_claude_ai.human(turn, f"{turn} {said[0]}", uuid=f"{number}-{turn}"),
                test_claude_ai.reply(turn + 1, said[1], uuid=f"{number}-{turn + 1}"),
            )
        ]
        chats.append(test_claude_ai.chat(*pairs, uuid=f"c-{number}"))
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(chats))
    started = time.process_time()
    sessions = list(claude_ai.read(LogFile("a", path), Memory()))
    seconds = time.process_time() - started
    assert len(sessions) == 300
    assert path.stat().st_size / 1e6 / seconds > 10


@pytest.mark.slow
def test_many_damaged_files(tmp_path):
    """A hundred thousand damaged lines, or messages, for each of the new readers."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay: seed {seed}")
    rows = [test_chat_rows.OPENAI, test_chat_rows.SHAREGPT, {"prompt": "a", "completion": "b"}] * 6
    fuzz_lines(tmp_path, chat_rows, [json.dumps(row).encode() for row in rows], 5_500, seed)
    fuzz_lines(tmp_path, codex, test_codex.damage_source(), 3_500, seed)
    fuzz_document(tmp_path, claude_ai, test_claude_ai.damage_source(), 16_000, seed)
    fuzz_document(tmp_path, chatgpt, test_chatgpt.damage_source(), 12_500, seed)
    document = json.loads(test_gemini.document(*test_gemini.MESSAGES))
    fuzz_document(tmp_path, gemini, document, 14_500, seed)
