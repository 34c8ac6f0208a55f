import pytest

from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs.convert import Account, convert, survey
from codetune.logs.discover import discover
from codetune.logs.rows import RowOptions
from tests.logs.claude_lines import Log


def run(*sources, subagents=True):
    account, rejected = Account(), []
    learned = survey(discover(sources, account.files), account.files, subagents=subagents)
    rows = convert(
        learned,
        RowOptions(),
        account,
        subagents=subagents,
        reject=lambda row, reason: rejected.append((row["id"], reason)),
    )
    return list(rows), account, rejected


def talk(session="s-1", **more):
    log = Log(session, **more)
    log.user("hello")
    log.says("hi")
    return log


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("other.jsonl", b'{"question": "a", "answer": "b"}\n'),
        ("zero.jsonl", b""),
        ("photo.png", b"\x89PNG\r\n\x1a\n\x00\x00"),
        ("codex.jsonl", b'{"type":"response_item","payload":7}\n'),
    ],
)
def test_a_file_by_name_that_no_reader_knows_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="no log of an assistant") as problem:
        run(tmp_path / name)
    assert "\n" not in str(problem.value)


def test_the_same_file_in_a_folder_is_counted(tmp_path):
    talk().write(tmp_path)
    (tmp_path / "other.jsonl").write_text('{"prompt": "a"}\n')
    Log().write(tmp_path, "title.jsonl", end='{"type":"summary","leafUuid":"x"}\n')
    rows, account, _ = run(tmp_path)
    assert len(rows) == 1
    assert account.files.as_dict()["dropped"] == {"no_conversation": 1, "unknown_format": 1}


def test_names_learned_in_one_file_are_replaced_in_all(tmp_path):
    talk(cwd="/home/mira/x").write(tmp_path, "a.jsonl")
    other = Log("s-2", cwd="/srv/y")
    other.user("tell Mira", uuid="v1")
    other.says("Told mira.", uuid="v2")
    other.write(tmp_path, "b.jsonl")
    rows, account, _ = run(tmp_path)
    assert rows[1]["messages"][-1]["content"] == "Told user1."
    assert account.redacted["account_name"] >= 1


def test_sessions_that_share_records_share_a_group_whatever_the_order(tmp_path):
    uuids = [f"0b6761f4-e7bb-46be-9fd8-e32359b5b13{n}" for n in range(4)]
    for name, session, start in (("a", "s-1", 0), ("b", "s-2", 2)):
        log = Log(session)
        log.user(f"only {session}", uuid=uuids[start])
        log.says("yes", uuid=uuids[start + 1])
        log.write(tmp_path, f"{name}.jsonl")
    joint = Log("s-3")
    for uuid in uuids:
        joint.user("copied", uuid=uuid)
    joint.user("new", uuid="w1")
    joint.says("sure", uuid="w2")
    joint.write(tmp_path, "c.jsonl")
    rows, account, _ = run(tmp_path)
    assert len(rows) == 3 and len({row["meta"]["group"] for row in rows}) == 1
    assert account.memory.records.dropped == {"duplicate": 4}


def test_two_rows_never_share_an_id(tmp_path):
    for name in ("a", "b"):
        log = Log()
        log.user("hello", uuid=None)
        log.says("hi", uuid=None)
        log.write(tmp_path, f"{name}.jsonl")
    rows, account, rejected = run(tmp_path)
    assert len(rows) == 1 and account.rows.dropped == {"duplicate": 1}
    assert rejected == [(rows[0]["id"], "duplicate")]


def test_a_log_that_grows_between_runs_changes_only_its_own_rows(tmp_path):
    first, second = talk("s-1"), talk("s-2")
    first.write(tmp_path, "x/a.jsonl")
    second.write(tmp_path, "y/b.jsonl")
    before, _, _ = run(tmp_path)
    second.user("more")
    second.says("sure")
    second.write(tmp_path, "y/b.jsonl")
    after, _, _ = run(tmp_path)
    assert after[:2] == before and len(after) == 3


def test_no_files_no_rows():
    account = Account()
    assert survey([], Counts(), subagents=True).readable == []
    assert all(counts.in_ == 0 for counts in account.by_unit().values())
