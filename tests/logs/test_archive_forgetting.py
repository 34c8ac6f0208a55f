"""Forgetting: what goes with a name, and that it does not come back."""

import hashlib
import json
import uuid

import pytest

from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs import archive
from codetune.logs.archive.identity import Forgotten, Identity, identify, remember
from codetune.logs.discover import discover
from tests.logs.archive_home import Home, a_line, a_session

ONE, TWO, THREE, FOUR = (a_session(n) for n in (1, 2, 3, 4))
CLIENT, OWN = "/home/mira/work/client", "/home/mira/work/own"


def line(text, session, cwd=CLIENT, **more):
    return a_line(text, session, cwd=cwd, timestamp="2026-01-02T03:04:05Z", **more)


@pytest.fixture
def home(tmp_path):
    """Two projects; session ONE has subagents of both layouts and a resumed copy, FOUR."""
    home = Home(tmp_path)
    shared = line("SECRET first", ONE, uuid=str(uuid.UUID(int=7)))
    home.write(f"-home-mira-work-client/{ONE}.jsonl", shared + line("SECRET", ONE))
    home.write(f"-home-mira-work-client/{ONE}/subagents/agent-1.jsonl", line("SECRET", ONE))
    home.write(f"-home-mira-work-client/{ONE}/tool-results/x.txt", b"SECRET")
    home.write("-home-mira-work-client/agent-flat.jsonl", line("SECRET", ONE))
    home.write(f"-home-mira-work-client/{TWO}.jsonl", line("two", TWO))
    home.write(f"-home-mira-work-own/{THREE}.jsonl", line("three", THREE, OWN))
    copy = json.dumps({**json.loads(shared), "sessionId": FOUR, "cwd": OWN}).encode() + b"\n"
    home.write(f"-home-mira-work-own/{FOUR}.jsonl", copy + line("four", FOUR, OWN))
    home.keep()
    return home


def forget(home, wanted):
    index = home.index()
    chosen = archive.select(index, wanted, home.folder)
    freed = archive.forget(index, chosen)
    index.close()
    return chosen, freed


def sessions(home):
    return {entry.session for entry in home.index().entries.values()}


@pytest.mark.parametrize("wanted", [ONE, ONE[:10]])
def test_a_session_goes_with_its_subagents_spilled_output_and_copies(home, wanted):
    chosen, freed = forget(home, wanted)
    assert (len(chosen.files), len(chosen.copies)) == (4, 1)
    assert freed == sum(
        p.stat().st_size
        for p in home.root.rglob("*")
        if p.is_file() and b"SECRET" in p.read_bytes()
    )
    assert sessions(home) == {TWO, THREE}
    text = home.all_bytes()
    for trace in (b"SECRET", ONE.encode(), FOUR.encode(), b"agent-flat"):
        assert trace not in text
    assert home.wrong() == []
    assert not [p for p in home.archive.rglob("*") if p.is_dir() and not any(p.iterdir())]


def test_it_does_not_come_back(home):
    forget(home, ONE)
    for _ in range(2):
        kept = home.keep()
        assert kept.files.dropped == {"forgotten": 5}
        assert sessions(home) == {TWO, THREE}
    # also not as a copy with another name, another session id, in another project
    first = (home.root / f"-home-mira-work-client/{ONE}.jsonl").read_bytes().split(b"\n")[0]
    home.write("-else/renamed.jsonl", first + b"\n")
    other = json.dumps({**json.loads(first), "sessionId": a_session(9)}).encode()
    home.write(f"-else/{a_session(9)}.jsonl", other + b"\n")
    assert home.keep().files.dropped == {"forgotten": 7}
    assert b"SECRET" not in home.all_bytes()


def test_its_earlier_versions_go_too(home):
    home.write(f"-home-mira-work-client/{ONE}.jsonl", line("written anew, SECRET", ONE))
    home.keep()
    assert len(home.index().versions) == 1
    forget(home, ONE)
    assert home.index().versions == {}
    assert b"SECRET" not in home.all_bytes()


def test_a_session_that_was_never_kept_is_remembered_by_its_whole_id(home):
    path = home.root / f"-home-mira-work-own/{a_session(5)}.jsonl"
    forget(home, a_session(5))
    home.write(path.relative_to(home.root).as_posix(), line("five", a_session(5), OWN))
    assert home.keep().files.dropped == {"forgotten": 1}


def test_a_file_stands_for_its_session(home):
    forget(home, str(home.root / "-home-mira-work-client/agent-flat.jsonl"))
    assert sessions(home) == {TWO, THREE}


@pytest.mark.parametrize("wanted", [CLIENT, f"{CLIENT}/", "-home-mira-work-client", "client"])
def test_a_project_goes_with_all_its_sessions_and_those_to_come(home, wanted):
    forget(home, wanted)
    assert sessions(home) == {THREE}  # FOUR holds records of ONE
    home.write(f"-home-mira-work-client/{a_session(6)}.jsonl", line("later", a_session(6)))
    home.write(f"-other/{a_session(7)}.jsonl", line("later", a_session(7), f"{CLIENT}/sub"))
    home.write(f"-home-mira-work-client-2/{a_session(8)}.jsonl", line("8", a_session(8), "/else"))
    home.keep()
    below = wanted.startswith("/") or wanted == "client"
    later = {a_session(8)} if below else {a_session(7), a_session(8)}
    assert sessions(home) == {THREE} | later


def test_the_folder_below_the_root_stands_for_its_project(home):
    forget(home, str(home.root / "-home-mira-work-own"))
    assert THREE not in sessions(home)


def test_gemini_names_its_folder_by_the_hash_of_the_path(home):
    folder = hashlib.sha256(CLIENT.encode()).hexdigest()
    home.write(f"{folder}/chats/session-1.json", b'{"sessionId": "g-1", "startTime": "2026-01-01"}')
    home.keep()
    assert "g-1" in sessions(home)
    forget(home, CLIENT)
    assert "g-1" not in sessions(home)


def test_codex_is_found_by_its_working_folder(home, tmp_path):
    root = tmp_path / "codex/sessions"
    path = root / f"2026/01/02/rollout-2026-01-02T03-04-05-{a_session(11)}.jsonl"
    path.parent.mkdir(parents=True)
    meta = {"type": "session_meta", "payload": {"id": a_session(11), "cwd": CLIENT}}
    path.write_text(json.dumps(meta) + "\n")
    home.keep(root)
    assert a_session(11) in sessions(home)
    forget(home, CLIENT)
    assert sessions(home) == {THREE}


@pytest.mark.parametrize(
    "wanted", ["nobody", "-home", "", ONE[:3], "work", "/", "~", "/home", "../../../../../.."]
)
def test_a_name_that_stands_for_nothing_or_for_too_much_is_one_line_without_it(home, wanted):
    before = home.all_bytes()
    try:
        index = home.index()
        chosen = archive.select(index, wanted, home.folder)
    except UserError as told:
        assert "\n" not in str(told)
        assert not wanted or f"'{wanted}'" not in str(told)
    else:  # a folder above the projects, which is asked about
        assert wanted == "/home" and chosen.files
    assert home.all_bytes() == before


def test_a_beginning_that_fits_several_sessions_is_told(home):
    twin = ONE[:9] + TWO[9:]
    home.write(f"p/{twin}.jsonl", line("twin", twin))
    home.keep()
    with pytest.raises(UserError, match="2 are called so"):
        archive.select(home.index(), ONE[:8], home.folder)
    assert len(archive.select(home.index(), ONE[:12], home.folder).files) == 4


def test_the_list_holds_hashes_alone(home):
    forget(home, CLIENT)
    lines = (home.archive / "archive.forgotten").read_text().split()
    assert lines and all(len(one) == 64 and int(one, 16) >= 0 for one in lines)
    assert lines == sorted(lines)


def test_a_damaged_list_stops_everything(home):
    (home.archive / "archive.forgotten").write_text("client\n")
    with pytest.raises(UserError, match="damaged"):
        home.keep()
    with pytest.raises(UserError, match="damaged"):
        discover([home.root], Counts(), home.archive)


def test_no_list_covers_nothing_and_one_hash_covers_only_its_kind(tmp_path):
    who = Identity(ONE, ("p",), "/a/b", "", (TWO,))
    assert not Forgotten().covers(who)
    assert not Forgotten().holds(tmp_path / "missing", "p/x.jsonl")
    for sessions, projects, covered in (
        ([ONE], [], True),
        ([TWO], [], True),
        ([THREE], [], False),
        (["p"], [], False),
        ([], [ONE], False),
        ([], ["p"], True),
        ([], ["/a"], True),
        ([], ["/a/b/c"], False),
        ([], ["/"], True),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        assert remember(folder, sessions, projects).covers(who) == covered


def test_what_a_file_says_of_itself(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"type": "summary"}\n\0bad\n[1]\n' + line("x", ONE))
    who = identify(path, "projects/p/a.jsonl")
    assert (who.session, who.cwd, who.started) == (ONE, CLIENT, "2026-01-02T03:04:05Z")
    assert who.folders == ("projects", "p") and len(who.ids) == 1
    path.write_bytes(b'{"sessionId": 5, "cwd": [], "uuid": "short", "payload": "x"}\n')
    assert identify(path, f"p/{TWO}/subagents/agent-1.jsonl").session == TWO
    assert identify(path, "p/name.jsonl").session == "name"


class TestLaterCorpora:
    def names(self, *sources, counts=None, archive=None):
        return [file.name for file in discover(sources, counts or Counts(), archive)]

    def test_the_source_and_the_archive_leave_it_out_alike(self, home):
        whole = self.names(home.root, archive=home.archive)
        assert whole == self.names(home.archive, archive=home.archive)
        forget(home, ONE)
        live, copy = Counts(), Counts()
        left = self.names(home.root, counts=live, archive=home.archive)
        assert left == [
            f"projects/-home-mira-work-client/{TWO}.jsonl",
            f"projects/-home-mira-work-own/{THREE}.jsonl",
        ]
        assert self.names(home.archive, counts=copy, archive=home.archive) == left
        # of the five, one is a .txt file that no reader takes
        assert (live.dropped, copy.dropped) == ({"forgotten": 4}, {})

    def test_the_list_of_an_archive_elsewhere_counts_when_it_is_a_source(self, home, tmp_path):
        forget(home, ONE)
        none = tmp_path / "none"
        assert len(self.names(home.root, archive=none)) == 6
        assert len(self.names(home.root, home.archive, archive=none)) == 2

    def test_a_file_by_name_is_left_out_too(self, home):
        forget(home, ONE)
        counts = Counts()
        path = home.root / f"-home-mira-work-client/{ONE}.jsonl"
        assert self.names(path, counts=counts, archive=home.archive) == []
        assert counts.dropped == {"forgotten": 1}
