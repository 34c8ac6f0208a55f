"""Which folders and files are kept, and where in the archive they lie."""

import os

import pytest

from codetune.errors import UserError
from codetune.logs import archive
from codetune.logs.archive.places import Found, is_session_file, scan, sources
from tests.logs.archive_home import Home, a_line, a_session

LINE = a_line("hello")


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


class TestUsualPlaces:
    def test_those_that_exist_are_found(self, tmp_path):
        for name in (".claude/projects", ".codex/sessions", ".gemini/tmp", ".config/claude"):
            (tmp_path / name).mkdir(parents=True)
        found = archive.usual_places(tmp_path, {})
        assert [p.relative_to(tmp_path).as_posix() for p in found] == [
            ".claude/projects",
            ".codex/sessions",
            ".gemini/tmp",
        ]

    def test_the_environment_names_more(self, tmp_path):
        for name in ("c/projects", "x/claude/projects", "o/sessions", "o/archived_sessions"):
            (tmp_path / name).mkdir(parents=True)
        told = {"CLAUDE_CONFIG_DIR": "c", "XDG_CONFIG_HOME": "x", "CODEX_HOME": "o"}
        told = {name: str(tmp_path / place) for name, place in told.items()}
        found = archive.usual_places(tmp_path / "nobody", told)
        assert sorted(p.relative_to(tmp_path).as_posix() for p in found) == [
            "c/projects",
            "o/archived_sessions",
            "o/sessions",
            "x/claude/projects",
        ]

    def test_one_folder_under_two_names_is_one(self, tmp_path):
        (tmp_path / "real/projects").mkdir(parents=True)
        (tmp_path / ".claude").symlink_to(tmp_path / "real")
        told = {"CLAUDE_CONFIG_DIR": str(tmp_path / "real")}
        assert len(archive.usual_places(tmp_path, told)) == 1


UUID = a_session(1)
SESSION_FILES = [
    *("p/a.jsonl", "2026/01/02/rollout-x.jsonl", "a.jsonl.zst", "conversations.json"),
    *(f"p/{UUID}/subagents/agent-1.meta.json", f"p/{UUID}/tool-results/out.txt"),
    *(f"p/{UUID}/subagents/workflows/w/journal.jsonl", "hash/chats/session-1.json"),
    f"p/{UUID}/workflows/w.json",
]
OTHER_FILES = [
    *("p/notes.md", "p/sessions-index.json", "p/memory/MEMORY.md", "a.jsonl.swp", "x.json"),
    *("src/.github/workflows/ci.yml", "tool-results/out.txt", "settings.json", "hash/logs.json"),
]


@pytest.mark.parametrize("name", SESSION_FILES)
def test_what_belongs_to_a_session_is_kept(name):
    assert is_session_file(name.split("/"))


@pytest.mark.parametrize("name", OTHER_FILES)
def test_what_does_not_is_left(name):
    assert not is_session_file(name.split("/"))


def test_links_pipes_and_other_files_are_counted_and_not_followed(home, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jsonl").write_bytes(LINE)
    home.write("p/a.jsonl", LINE)
    home.write("p/notes.md", b"x")
    (home.root / "p/link.jsonl").symlink_to(outside / "secret.jsonl")
    (home.root / "p/folder").symlink_to(outside)
    (home.root / "p/loop").symlink_to(home.root)
    (home.root / "p/broken.jsonl").symlink_to("nowhere")
    os.mkfifo(home.root / "p/pipe.jsonl")
    kept = home.keep()
    assert kept.files.kept == 1
    assert kept.files.dropped == {"link": 4, "not_a_regular_file": 1, "not_a_session": 1}
    assert kept.files.in_ == 7
    assert b"secret" not in home.all_bytes()


class TestRoots:
    def test_two_roots_with_equal_projects_stay_apart(self, home, tmp_path):
        other = tmp_path / "other" / "projects"
        (other / "p").mkdir(parents=True)
        (other / "p/a.jsonl").write_bytes(LINE * 2)
        home.write("p/a.jsonl", LINE)
        assert home.keep(usual=[home.root, other]).total("new") == 2
        assert sorted(e.bytes for e in home.index().entries.values()) == [len(LINE), 2 * len(LINE)]
        places = {name.split("/")[1] for name in home.index().entries}
        assert places == {"projects"}

    def test_what_lies_below_a_known_root_is_kept_once(self, home):
        path = home.write("p/a.jsonl", LINE)
        home.write("q/b.jsonl", LINE)
        assert home.keep(home.root / "p").total("new") == 1
        assert home.keep(path).total("unchanged") == 1
        assert home.keep().total("new", "unchanged") == 2
        assert home.keep(home.root.parent).total("unchanged") == 2
        assert home.keep(home.root, home.root / "p", path).files.in_ == 2
        assert len(home.index().entries) == 2

    def test_a_folder_of_ones_own_becomes_a_root_and_stays_one(self, home, tmp_path):
        for name in ("mine/x/a.jsonl", "mine/b.jsonl"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(LINE)
        assert home.keep(tmp_path / "mine/x", usual=[]).total("new") == 1
        assert home.keep(tmp_path / "mine", usual=[]).files.in_ == 2
        assert len(home.index().entries) == 2
        assert home.keep(f"{tmp_path}/mine/*", usual=[]).files.in_ == 2
        assert len(home.index().entries) == 2

    def test_a_file_by_name_is_taken_whatever_it_is(self, home, tmp_path):
        (tmp_path / "export.zip").write_bytes(b"PK")
        assert home.keep(tmp_path / "export.zip", usual=[]).total("new") == 1

    def test_the_archive_itself_is_passed_over(self, home):
        home.archive = home.root / "archive"
        home.write("p/a.jsonl", LINE)
        for _ in range(3):
            assert home.keep().files.in_ == 1
        with pytest.raises(UserError, match="in the archive itself"):
            home.keep(home.archive)

    @pytest.mark.parametrize("asked", ["nowhere", "no*where", "/"])
    def test_a_path_that_cannot_be_meant_is_one_line(self, home, asked):
        home.keep()
        with pytest.raises(UserError) as told:
            home.keep(asked)
        assert "\n" not in str(told.value)

    def test_no_assistant_is_one_line(self, home):
        with pytest.raises(UserError, match="give --src a folder"):
            home.keep(usual=[])

    def test_a_scan_is_in_the_order_of_names(self, home):
        for name in ("b/1.jsonl", "a/2.jsonl", "a/1.jsonl"):
            home.write(name, LINE)
        archive.checked(home.archive)
        index = archive.Index(home.archive)
        [source] = sources([], [home.root], index, home.archive)
        found = [one.name for one in scan(source, [], home.archive) if isinstance(one, Found)]
        assert found == [f"{home.place}/{name}" for name in ("a/1.jsonl", "a/2.jsonl", "b/1.jsonl")]


@pytest.mark.parametrize("what", ["file", "folder with files"])
def test_a_place_that_holds_something_else_is_refused(home, what):
    home.archive.parent.mkdir(parents=True)
    if what == "file":
        home.archive.write_text("mine")
    else:
        home.archive.mkdir()
        (home.archive / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="--out"):
        home.keep()
