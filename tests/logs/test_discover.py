import os

import pytest

from codetune.artefact import Counts
from codetune.errors import UserError
from codetune.logs.discover import discover


@pytest.fixture
def tree(tmp_path):
    for name in ("b/two.jsonl", "a/one.jsonl", "a/deep/er/three.jsonl", "a/notes.txt"):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    return tmp_path / "logs"


def names(found):
    return [file.name for file in found]


def test_a_folder_is_searched_below_and_sorted(tree):
    assert names(discover([tree], Counts())) == [
        "logs/a/deep/er/three.jsonl",
        "logs/a/one.jsonl",
        "logs/b/two.jsonl",
    ]


def test_spilled_outputs_of_tools_are_no_logs(tree):
    (tree / "a/s-1/tool-results").mkdir(parents=True)
    (tree / "a/s-1/tool-results/x.json").write_text('[{"prompt":"a","completion":"b"}]')
    assert len(discover([tree], Counts())) == 3


def test_files_folders_and_patterns_together_give_each_file_once(tree):
    found = discover([tree, tree / "a/one.jsonl", f"{tree}/*/*.jsonl"], Counts())
    assert len(found) == 3


def test_a_file_by_name_is_explicit_and_one_of_a_pattern_is_not(tree):
    assert discover([tree / "a/one.jsonl"], Counts())[0].explicit
    assert not discover([f"{tree}/a/*.jsonl"], Counts())[0].explicit


def test_links_devices_and_empty_files_are_left_out_and_counted(tree, tmp_path):
    outside = tmp_path / "outside.jsonl"
    outside.write_text('{"secret": 1}\n')
    (tree / "link.jsonl").symlink_to(outside)
    (tree / "folder.jsonl").symlink_to(tmp_path)
    (tree / "empty.jsonl").touch()
    os.mkfifo(tree / "pipe.jsonl")
    counts = Counts()
    assert len(discover([tree], counts)) == 3
    assert counts.dropped == {"link": 1, "empty": 1, "not_a_regular_file": 1}


@pytest.mark.parametrize("what", ["missing", "missing/*.jsonl"])
def test_a_missing_path_is_one_line(tmp_path, what):
    with pytest.raises(UserError, match="no such file or folder") as problem:
        discover([tmp_path / what], Counts())
    assert "\n" not in str(problem.value)


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no \.jsonl, \.json or \.zip file"):
        discover([tmp_path], Counts())


def test_a_pipe_by_name_is_refused(tmp_path):
    os.mkfifo(tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="not a regular file"):
        discover([tmp_path / "p.jsonl"], Counts())
