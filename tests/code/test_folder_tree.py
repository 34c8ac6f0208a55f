"""Plain folders: what is listed, and that nothing outside the folder is ever read."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codetune.code.folder import FolderTree
from codetune.code.sources import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "plain"
    (place / "pkg").mkdir(parents=True)
    (place / "b.py").write_bytes(b"b = 1\r\n")
    (place / "pkg/a.py").write_bytes("é = 1\n".encode())
    (place / "notes.txt").write_text("no code")
    return place


def test_a_plain_folder_is_listed_in_path_order(folder):
    tree = open_source(folder)
    assert isinstance(tree, FolderTree)
    assert [entry.path for entry in tree.entries] == ["b.py", "notes.txt", "pkg/a.py"]
    assert (tree.name, tree.rev) == ("plain", None)


def test_content_is_read_byte_for_byte_and_named_as_git_names_it(folder):
    tree = open_source(folder)
    code = [entry for entry in tree.entries if entry.path.endswith(".py")]
    assert [data for _, data in tree.read(code)] == [b"b = 1\r\n", "é = 1\n".encode()]
    data = b"b = 1\r\n"
    assert code[0].blob == hashlib.sha1(b"blob 7\0" + data).hexdigest()


def test_a_git_repository_and_a_folder_name_equal_files_equally(make_repo, tmp_path):
    repo = open_source(make_repo({"a.py": b"x = 1\n"}))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/a.py").write_bytes(b"x = 1\n")
    assert open_source(tmp_path / "copy").entries == repo.entries


def test_links_and_special_files_are_never_followed(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("key = 1")
    (folder / "out.py").symlink_to(outside / "secret.py")
    (folder / "outdir").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.py")
    kinds = {entry.path: entry.kind for entry in open_source(folder).entries}
    assert kinds["out.py"] == kinds["outdir"] == kinds["loop"] == "symlink"
    assert kinds["pipe.py"] == "special"
    assert not any(path.startswith(("outdir/", "loop/")) for path in kinds)


def test_no_open_leaves_the_folder(folder, tmp_path):
    (tmp_path / "outside.py").write_text("key = 1")
    (folder / "out.py").symlink_to(tmp_path / "outside.py")
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from codetune.code.folder import FolderTree\nimport codetune.sample\n"
        "sys.addaudithook(lambda e, a: e == 'open' and print('OPEN', a[0]))\n"
        "tree = FolderTree(Path(sys.argv[1]))\nlist(tree.read(tree.entries))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )
    opened = [line[5:] for line in done.stdout.splitlines() if line.startswith("OPEN")]
    assert any(name.endswith("b.py") for name in opened)
    # O_NOFOLLOW makes an attempt on the link itself harmless; its target is never named
    assert not any("outside.py" in name for name in opened)


def test_a_file_swapped_for_a_link_after_listing_is_missing(folder, tmp_path):
    tree = open_source(folder)
    (tmp_path / "other.py").write_text("key = 1")
    (folder / "b.py").unlink()
    (folder / "b.py").symlink_to(tmp_path / "other.py")
    assert {e.path: d for e, d in tree.read(tree.entries[:1])} == {"b.py": None}


def test_a_file_changed_after_listing_is_missing(folder):
    tree = open_source(folder)
    (folder / "b.py").write_bytes(b"b = 2\r\n")
    assert next(tree.read(tree.entries[:1]))[1] is None


def test_the_fingerprint_follows_content_not_place(folder, tmp_path):
    first = open_source(folder)
    (tmp_path / "deep").mkdir()
    moved = folder.rename(tmp_path / "deep/plain")
    assert open_source(moved).fingerprint == first.fingerprint
    assert open_source(moved).identity == first.identity
    (moved / "b.py").write_bytes(b"b = 2\r\n")
    assert open_source(moved).fingerprint != first.fingerprint


def test_version_control_folders_are_not_code(folder):
    (folder / ".hg").mkdir()
    (folder / ".hg/hook.py").write_text("x = 1")
    assert ".hg/hook.py" not in [entry.path for entry in open_source(folder).entries]


def test_a_name_that_is_no_utf8_is_listed_but_not_usable(folder):
    (folder / os.fsdecode(b"caf\xe9.py")).write_text("x = 1")
    kinds = {entry.path: entry.kind for entry in open_source(folder).entries}
    assert kinds["caf\\xe9.py"] == "bad_name"
