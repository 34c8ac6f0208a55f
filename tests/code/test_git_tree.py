"""Reading repositories: what is listed, what it is called, and that nothing of it ever runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codetune.code.folder import FolderTree
from codetune.code.git import GitTree
from codetune.code.sources import open_source
from codetune.errors import UserError


def paths(tree) -> list[str]:
    return [entry.path for entry in tree.entries]


def contents(tree) -> dict[str, bytes | None]:
    return {entry.path: data for entry, data in tree.read(tree.entries)}


def test_a_commit_is_listed_and_read_byte_for_byte(make_repo, git):
    files = {"a.py": b"x = 1\r\n\xff\n", "pkg/b c.py": b"", "pkg/é\n.py": b"no final newline"}
    place = make_repo(files)
    tree = open_source(place)
    assert isinstance(tree, GitTree)
    assert contents(tree) == files
    assert tree.rev == git(place, "rev-parse", "HEAD")
    assert {e.path: e.size for e in tree.entries} == {p: len(d) for p, d in files.items()}
    assert all(git(place, "cat-file", "-t", e.blob) == "blob" for e in tree.entries)


def test_crlf_is_not_converted_whatever_the_repository_asks_for(make_repo, git):
    place = make_repo({"a.py": b"x\r\n", ".gitattributes": b""})
    (place / ".gitattributes").write_text("* text eol=crlf ident\n")
    git(place, "config", "core.autocrlf", "true")
    assert contents(open_source(place))["a.py"] == b"x\r\n"


def test_what_is_not_committed_or_ignored_is_not_seen(make_repo):
    place = make_repo({"a.py": b"old", ".gitignore": b"ignored.py\nbuild/\n"})
    (place / "ignored.py").write_text("secret")
    (place / "build").mkdir()
    (place / "build/x.py").write_text("made")
    (place / "new.py").write_text("untracked")
    (place / "a.py").write_text("edited")
    assert contents(open_source(place)) == {"a.py": b"old", ".gitignore": b"ignored.py\nbuild/\n"}


def test_every_way_to_point_at_a_repository_gives_the_same_tree(make_repo, git, tmp_path):
    place = make_repo({"a.py": b"1", "b/c.py": b"2"})
    git(tmp_path, "clone", "-q", "--bare", str(place), "shapes.git")
    git(tmp_path, "clone", "-q", str(place), "elsewhere/shapes")
    git(place, "worktree", "add", "-q", str(tmp_path / "tree/shapes"), "HEAD")
    ways = [place, place / ".git", tmp_path / "shapes.git", tmp_path / "elsewhere/shapes"]
    trees = [open_source(way) for way in [*ways, tmp_path / "tree/shapes"]]
    facts = {(t.name, t.identity, t.rev, t.entries, t.fingerprint) for t in trees}
    assert len(facts) == 1
    assert contents(trees[2]) == {"a.py": b"1", "b/c.py": b"2"}


def test_a_folder_in_a_repository_keeps_the_repositorys_name_and_paths(make_repo):
    place = make_repo({"top.py": b"0", "src/in.py": b"1", "src/deep/er.py": b"2"})
    tree = open_source(place / "src" / "deep")
    assert (tree.name, paths(tree)) == ("shapes", ["src/deep/er.py"])
    assert tree.identity == open_source(place).identity


def test_an_ignored_folder_of_a_repository_is_read_as_a_plain_folder(make_repo):
    place = make_repo({"a.py": b"1", ".gitignore": b"/data/\n"})
    (place / "data/mine").mkdir(parents=True)
    (place / "data/mine/x.py").write_text("x = 1")
    tree = open_source(place / "data/mine")
    assert isinstance(tree, FolderTree)
    assert paths(tree) == ["x.py"]


def test_revisions(make_repo, git):
    place = make_repo({"a.py": b"1"})
    git(place, "tag", "v1")
    (place / "a.py").write_bytes(b"2")
    git(place, "commit", "-qam", "second")
    assert contents(open_source(place, "v1")) == {"a.py": b"1"}
    assert contents(open_source(place)) == {"a.py": b"2"}
    assert open_source(place, "v1").identity == open_source(place).identity
    assert open_source(place, "v1").fingerprint != open_source(place).fingerprint


@pytest.mark.parametrize("rev", ["nope", "--help", "-x", "HEAD:a.py", ""])
def test_an_unknown_revision_is_the_users_error(make_repo, rev):
    with pytest.raises(UserError, match="no commit"):
        open_source(make_repo({"a.py": b"1"}), rev)


def test_folders_that_cannot_be_used(tmp_path, git):
    with pytest.raises(UserError, match="no such folder"):
        open_source(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "-q")
    with pytest.raises(UserError, match="no commit yet"):
        open_source(tmp_path / "empty")
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match="no git repository"):
        open_source(tmp_path / "plain", "v1")


def test_links_submodules_and_bad_names_are_listed_as_such(make_repo, git):
    place = make_repo({"a.py": b"1"})
    (place / "link.py").symlink_to("/etc/passwd")
    inner = make_repo({"b.py": b"1"}, "inner")
    (place / os.fsdecode(b"caf\xe9.py")).write_bytes(b"latin name")
    git(place, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "inner")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "more")
    kinds = {entry.path: entry.kind for entry in open_source(place).entries}
    assert kinds["link.py"] == "symlink"
    assert kinds["inner"] == "submodule"
    assert kinds["caf\\xe9.py"] == "bad_name"
    assert kinds["a.py"] == "file"
    assert "inner/b.py" not in kinds


def test_a_shared_history_gives_one_identity_and_another_history_another(make_repo, git, tmp_path):
    place = make_repo({"a.py": b"1"})
    git(tmp_path, "clone", "-q", str(place), "fork")
    (tmp_path / "fork/b.py").write_bytes(b"2")
    git(tmp_path / "fork", "add", "-A")
    git(tmp_path / "fork", "commit", "-qm", "fork")
    assert open_source(tmp_path / "fork").identity == open_source(place).identity
    assert open_source(make_repo({"a.py": b"2"}, "other")).identity != open_source(place).identity


def trap(tmp_path: Path) -> tuple[str, Path]:
    """A program that leaves a mark when it is run, and the mark."""
    mark = tmp_path / "it-ran"
    program = tmp_path / "trap"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{mark}'\n")
    program.chmod(0o755)
    return str(program), mark


def test_nothing_of_a_hostile_repository_runs(make_repo, git, tmp_path):
    place = make_repo({"a.py": b"x = 1\n", ".gitattributes": b"* filter=evil diff=evil\n"})
    program, mark = trap(tmp_path)
    settings = {
        "core.fsmonitor": program,
        "core.hooksPath": str(tmp_path / "hooks"),
        "core.pager": program,
        "core.editor": program,
        "core.sshCommand": program,
        "core.askPass": program,
        "core.alternateRefsCommand": program,
        "filter.evil.clean": program,
        "filter.evil.smudge": program,
        "filter.evil.process": program,
        "diff.external": program,
        "diff.evil.textconv": program,
        "credential.helper": f"!{program}",
        "uploadpack.packObjectsHook": program,
        "alias.rev-parse": f"!{program}",
        "alias.ls-tree": f"!{program}",
        "gpg.program": program,
        "log.showSignature": "true",
    }
    for name, value in settings.items():
        git(place, "config", name, value)
    for folder in (tmp_path / "hooks", place / ".git/hooks"):
        folder.mkdir(exist_ok=True)
        for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-commit"):
            (folder / hook).symlink_to(program)
    (place / "a.py").write_text("x = 2\n")
    tree = open_source(place)
    assert contents(tree)["a.py"] == b"x = 1\n"
    assert not mark.exists()
    # the control: the very same repository does run things for an ordinary command
    subprocess.run(["git", "status"], cwd=place, capture_output=True, timeout=60)
    assert mark.exists()


def test_a_partial_clone_fetches_nothing_and_runs_no_transport(make_repo, git, tmp_path):
    place = make_repo({"a.py": b"x = 1\n", "b.py": b"x = 2\n"})
    program, mark = trap(tmp_path)
    blob = git(place, "rev-parse", "HEAD:a.py")
    (place / ".git/objects" / blob[:2] / blob[2:]).unlink()
    for name, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::{program}",
        "protocol.allow": "always",
        "protocol.ext.allow": "always",
    }.items():
        git(place, "config", name, value)
    try:
        found = contents(open_source(place))
    except UserError as problem:
        assert "partial" in str(problem)
    else:
        assert found == {"a.py": None, "b.py": b"x = 2\n"}
    assert not mark.exists()
    subprocess.run(["git", "cat-file", "-p", blob], cwd=place, capture_output=True, timeout=60)
    assert mark.exists()


def test_the_callers_git_environment_is_not_passed_on(make_repo, tmp_path, monkeypatch):
    place = make_repo({"a.py": b"1"})
    other = make_repo({"other.py": b"2"}, "other")
    program, mark = trap(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", program)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", program)
    assert paths(open_source(place)) == ["a.py"]
    assert not mark.exists()


def test_no_other_program_than_git_is_started(make_repo):
    place = make_repo({"a.py": b"1"})
    script = (
        "import sys\nfrom pathlib import Path\n"
        "sys.addaudithook(lambda e, a: e == 'subprocess.Popen' and print('START', a[1][0]))\n"
        "from codetune.code.sources import open_source\n"
        "tree = open_source(Path(sys.argv[1]))\nlist(tree.read(tree.entries))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(place)],
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )
    started = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("START")}
    assert {Path(program).name for program in started} == {"git"}


def test_reading_leaves_the_repository_untouched(make_repo):
    place = make_repo({"a.py": b"1", "b.py": b"2"})

    def state() -> dict[str, tuple[int, int]]:
        found = sorted(place.rglob("*"))
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in found}

    before = state()
    contents(open_source(place))
    assert state() == before


def test_a_caller_that_stops_half_way_leaves_no_process_behind(make_repo, code):
    tree = open_source(make_repo({f"m{i}.py": code(f"m{i}") * 200 for i in range(20)}))
    reading = tree.read(tree.entries)
    next(reading)
    reading.close()  # would hang if git were waited for without its input being closed
