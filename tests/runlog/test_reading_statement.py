"""A person's own SQL: it finds what is there, and changes nothing whatever it says."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import psycopg
import pytest

from codetune.errors import UserError
from codetune.runlog import create_run
from codetune.runlog.reading import statement
from codetune.runlog.reading.queries import reading
from codetune.runlog.reading.statement import Answer, answer_lines, ask, tables
from codetune.runlog.store import database, schema
from codetune.runlog.store.database import locate, transaction
from tests.runlog.conftest import PASSWORD
from tests.runlog.example_runs import HOSTILE, training


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else None


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training runs."""
    root = tmp_path_factory.mktemp("journals")
    for name in ("low", "high"):
        training(root, name).finish("finished")
    return root


@pytest.fixture
def project(journals: Path, tmp_path: Path, url: str | None) -> tuple[Path, str | None]:
    """A copy of these runs, in an indexed database."""
    shutil.copytree(journals / "logs/runs", tmp_path / "logs/runs")
    with reading(tmp_path, url):
        pass
    return tmp_path, url


def found(project: tuple[Path, str | None], text: str, limit: int = 100) -> Answer:
    return ask(project[0], text, limit=limit, database_url=project[1])


def test_rows_come_with_the_names_of_their_columns(project: tuple[Path, str | None]) -> None:
    answer = found(project, "SELECT name, seed FROM run ORDER BY name;")
    assert answer == Answer(("name", "seed"), (("high", 42), ("low", 42)), more=False)
    assert answer.as_dicts() == [{"name": "high", "seed": 42}, {"name": "low", "seed": 42}]
    page_example = (
        "SELECT k.key, m.step, m.value FROM metric m JOIN series s ON s.id = m.series_id "
        "JOIN metric_key k ON k.id = s.key_id WHERE k.key LIKE 'train%' ORDER BY m.step -- end"
    )
    assert [row[1:] for row in found(project, page_example).rows][:2] == [(0, 3.0), (0, 3.0)]


def test_more_rows_than_the_limit_are_cut_and_said(project: tuple[Path, str | None]) -> None:
    counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000) "
    cut = found(project, counting + "SELECT x FROM n", limit=3)
    assert (cut.rows, cut.more) == (((1,), (2,), (3,)), True)
    whole = found(project, counting + "SELECT x FROM n", limit=5000)
    assert (len(whole.rows), whole.more) == (5000, False)


def test_equal_names_are_numbered_and_every_value_is_json(
    project: tuple[Path, str | None],
) -> None:
    answer = found(project, "SELECT 1 AS a, 2 AS a, NULL AS b, 1.5 AS c, 'x' AS a")
    assert answer.columns == ("a", "a_2", "b", "c", "a_3")
    assert json.loads(json.dumps(answer.as_dicts(), allow_nan=False))[0]["b"] is None
    events = found(project, "SELECT argv, facts FROM run JOIN env_snapshot ON hash = env_hash")
    assert json.dumps(events.as_dicts())


WRITES = [
    "INSERT INTO tag VALUES ('x', 'y')",
    "UPDATE run SET name = 'x'",
    "DELETE FROM run",
    "DROP TABLE metric",
    "CREATE TABLE x (a INTEGER)",
    "WITH gone AS (SELECT 1) DELETE FROM run",
    "WITH gone AS (DELETE FROM run RETURNING id) SELECT * FROM gone",
    "SELECT 1; DELETE FROM run",
    "SELECT 1; COMMIT; DELETE FROM run",
    "SELECT 1 FROM run FOR UPDATE",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "VACUUM INTO '{folder}/written.db'",
    "ATTACH '{folder}/written.db' AS x",
    "PRAGMA query_only=OFF",
    "PRAGMA user_version=7",
    "EXPLAIN ANALYZE DELETE FROM run",
    "COPY run TO '{folder}/written.db'",
    "COPY (SELECT 1) TO PROGRAM 'touch {folder}/written.db'",
    "SET default_transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT nextval('series_id_seq')",
    "SELECT load_extension('x')",
    "SELECT writefile('{folder}/written.db', 'x')",
]


def fingerprint(root: Path) -> str:
    file = root / "logs/runs.db"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def test_nothing_can_be_written(project: tuple[Path, str | None]) -> None:
    root, _ = project
    runs = found(project, "SELECT count(*), min(name) FROM run")
    before = fingerprint(root)
    for text in WRITES:
        with pytest.raises(UserError, match="sql: ") as refused:
            print(text, found(project, text.format(folder=root)))
        assert "\n" not in str(refused.value)
        assert PASSWORD not in str(refused.value)
        assert fingerprint(root) == before, text
        assert found(project, "SELECT count(*), min(name) FROM run") == runs, text
        assert not (root / "written.db").exists(), text


WRONG = ["", "  ;", "selec 1", "SELECT nothing FROM run", "SELECT * FROM nowhere", "SELECT '"]


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_statement_is_one_line(project: tuple[Path, str | None], text: str) -> None:
    with pytest.raises(UserError, match="sql: ") as refused:
        found(project, text)
    assert "\n" not in str(refused.value)


def test_an_insert_is_told_what_is_allowed(project: tuple[Path, str | None]) -> None:
    with pytest.raises(UserError, match="only reading is allowed"):
        found(project, "INSERT INTO tag VALUES ('x', 'y')")


def test_a_statement_without_end_is_ended(
    project: tuple[Path, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement, "SECONDS", 0.3)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(UserError, match="was ended"):
        found(project, endless)


def test_percent_signs_and_quotes_are_plain_text(project: tuple[Path, str | None]) -> None:
    assert found(project, "SELECT name FROM run WHERE name LIKE 'lo%'").rows == (("low",),)
    assert found(project, "SELECT '%s %(a)s :b ?' AS x").rows == (("%s %(a)s :b ?",),)


def test_hostile_values_are_drawn_on_one_line_each(tmp_path: Path) -> None:
    training(tmp_path, HOSTILE).finish("finished")
    with reading(tmp_path):
        pass
    answer = found((tmp_path, None), "SELECT name, seed, exit_reason, x'00ff' AS raw FROM run")
    lines = answer_lines(answer, None)
    assert len(lines) == 2
    assert lines[1].plain.endswith("00ff")
    assert not any(set(line.plain) & set("\x1b\n\u202e") for line in lines)
    assert all(line.cell_len <= 80 for line in answer_lines(answer, 80))


def test_bytes_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    training(tmp_path, "one").finish("finished")
    with reading(tmp_path):
        pass
    assert found((tmp_path, None), "SELECT CAST(x'61ff' AS TEXT)").rows == (("a\ufffd",),)
    assert found((tmp_path, None), "SELECT 9e999 AS x").as_dicts() == [{"x": None}]


def test_the_tables_are_those_of_the_schema() -> None:
    shown = {row[0]: row[1].split(", ") for row in tables().rows}
    assert shown == {
        name: [column.name for column in table.columns]
        for name, table in schema.metadata.tables.items()
    }


@pytest.fixture
def server(journals: Path, tmp_path: Path, postgres_url: str) -> tuple[Path, str]:
    """The runs on a server, whatever the engine of the other tests."""
    shutil.copytree(journals / "logs/runs", tmp_path / "logs/runs")
    return tmp_path, postgres_url


def test_options_of_the_url_hold(server: tuple[Path, str]) -> None:
    root, base = server
    url = f"{base}?options=-csearch_path%3Dmine"
    with transaction(database.engine(locate(root, base))) as connection:
        connection.exec_driver_sql("DROP SCHEMA IF EXISTS mine CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA mine")
    with reading(root, url):
        pass
    assert found((root, url), "SELECT count(*) FROM run").rows == ((2,),)
    assert found((root, url), "SELECT count(*) FROM mine.run").rows == ((2,),)
    with pytest.raises(UserError, match="only reading is allowed"):
        found((root, url), "SELECT nextval('mine.series_id_seq')")


def test_nothing_is_asked_of_the_connection_that_a_pooler_refuses(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, url = server
    with reading(root, url):
        pass
    connect, given = psycopg.connect, []
    monkeypatch.setattr(
        psycopg, "connect", lambda url, **more: given.append(more) or connect(url, **more)
    )
    assert found((root, url), "SELECT count(*) FROM pg_prepared_statements").rows == ((0,),)
    assert given == [{"connect_timeout": 5}]


def test_a_role_that_may_only_select_can_ask_and_not_act(
    server: tuple[Path, str], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/runs.md recommends it, where others write the statement."""
    project, url = server
    with reading(project, url):
        pass
    page = (root / "docs/runs.md").read_text()
    advice = re.findall(r"^    ((?:CREATE ROLE|GRANT) .+);$", page, re.M)
    with transaction(database.engine(locate(project, url))) as connection:
        if connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = 'reader'").scalar():
            connection.exec_driver_sql("DROP OWNED BY reader; DROP ROLE reader")
        connection.exec_driver_sql("GRANT USAGE ON SCHEMA public TO PUBLIC")
        for line in advice:
            connection.exec_driver_sql(line)
    reader = project, url.replace("//me:", "//reader:")
    create_run(project, stage="sft", name="later")
    with reading(*reader):
        pass
    assert "not all runs are up to date" in capsys.readouterr().err
    assert found(reader, "SELECT count(*) FROM run").rows == ((2,),)
    for act in ("SELECT pg_read_file('/etc/hostname')", "SELECT pg_ls_dir('/')"):
        with pytest.raises(UserError, match="permission denied"):
            found(reader, act)
