"""The version of the code and the environment, as recorded."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from codetune.runlog import capture
from codetune.runlog.capture import CodeVersion, code_version


def git(folder: Path, *words: str) -> str:
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        **{
            f"GIT_{who}_{what}": "t@example.com"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    done = subprocess.run(
        ["git", "-C", folder, *words], env=settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of one package."""
    folder = tmp_path / "checkout"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "src/a.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("/data/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert code_version(checkout / "src") == CodeVersion(git(checkout, "rev-parse", "HEAD"))
    assert code_version(checkout / "src").diff_sha256 is None


def test_changes_have_a_hash_of_their_own_and_it_is_stable(checkout: Path) -> None:
    seen = set()
    for change in ("x = 2\n", "x = 3\n"):
        (checkout / "src/a.py").write_text(change)
        version = code_version(checkout / "src")
        assert version == code_version(checkout / "src")
        assert version.commit == git(checkout, "rev-parse", "HEAD")
        seen.add(version.diff_sha256)
    (checkout / "src/new.py").write_text("y = 1\n")
    seen.add(code_version(checkout / "src").diff_sha256)
    (checkout / "src/new.py").write_text("y = 2\n")
    seen.add(code_version(checkout / "src").diff_sha256)
    git(checkout, "add", "-A")
    seen.add(code_version(checkout / "src").diff_sha256)
    assert len(seen) == 5
    assert None not in seen
    git(checkout, "commit", "-qm", "second")
    assert code_version(checkout / "src").diff_sha256 is None


NEW_FILES = {
    "src/plain.py": b"y = 1\nz = 2\n",
    "src/no end.py": b"y = 1",
    "src/empty.py": b"",
    'src/b\xc3\xa4r "quoted".py': "x = 'ä'\n".encode(),
    "src/carriage.py": b"a\rb\r\nc\n\n",
    "run.sh": b"echo \x00\xff\n",
}


def test_the_patch_makes_of_the_commit_what_lay_here(checkout: Path, tmp_path: Path) -> None:
    (checkout / "src/a.py").write_text("x = 5")
    for name, content in NEW_FILES.items():
        (checkout / os.fsdecode(name.encode("latin-1"))).write_bytes(content)
    code = code_version(checkout / "src")
    capture.keep_patch(tmp_path, code)
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(checkout), str(again))
    kept = capture.patch_path(tmp_path, str(code.diff_sha256))
    assert kept.stat().st_mode & 0o777 == 0o600
    git(again, "apply", "--whitespace=nowarn", str(kept))
    for name in ["src/a.py", *NEW_FILES]:
        place = os.fsdecode(name.encode("latin-1"))
        assert (again / place).read_bytes() == (checkout / place).read_bytes(), place


def test_large_new_files_are_told_and_not_read(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_LARGEST_NEW_FILE", 1000)
    monkeypatch.setattr(capture, "_LARGEST_PATCH", 1500)
    for name, size in {"a.py": 900, "b.py": 900, "huge.py": 5000, "z.py": 10}.items():
        (checkout / name).write_text("#" * (size - 1) + "\n")
    (checkout / "huge.py").chmod(0)  # reading it would be noticed
    patch = code_version(checkout).patch
    told = [line for line in patch.decode().splitlines() if line.startswith("# new, too large")]
    assert [line.partition(": ")[2] for line in told] == ["b.py, 900 bytes", "huge.py, 5000 bytes"]
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(checkout), str(again))
    (tmp_path / "patch").write_bytes(patch)
    git(again, "apply", str(tmp_path / "patch"))
    assert {file.name for file in again.glob("*.py")} == {"a.py", "z.py"}


def test_secrets_do_not_reach_the_kept_patch(checkout: Path, tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    (checkout / "local.yaml").write_text(f"hf_token: {secret}\nseed: 1\n")
    code = code_version(checkout)
    capture.keep_patch(tmp_path, code)
    kept = capture.patch_path(tmp_path, str(code.diff_sha256)).read_text()
    assert secret not in kept and "<SECRET>" in kept and "+seed: 1" in kept
    assert kept.startswith("# secrets are replaced here")


def test_a_patch_too_large_to_be_code_is_known_by_its_hash_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_LARGEST_PATCH", 3)
    capture.keep_patch(tmp_path, CodeVersion("abc", b"long"))
    capture.keep_patch(tmp_path, CodeVersion("abc", b""))
    assert not (tmp_path / capture.PATCHES).exists()


def test_a_touched_file_and_data_are_no_change(checkout: Path) -> None:
    os.utime(checkout / "src/a.py", (1, 1))
    (checkout / "data").mkdir()
    (checkout / "data/rows.py").write_text("ignored")
    (checkout / "notes.jsonl").write_text("data")
    assert code_version(checkout / "src").diff_sha256 is None


def test_a_checkout_without_commits_has_only_a_hash(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    version = code_version(tmp_path)
    assert version.commit is None
    assert version.diff_sha256


def test_code_outside_of_git_has_no_version(tmp_path: Path) -> None:
    assert code_version(tmp_path) == CodeVersion(None)


def test_an_installed_package_is_not_mistaken_for_the_checkout_around_it(checkout: Path) -> None:
    installed = checkout / "data/site-packages/codetune"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert code_version(installed) == CodeVersion(None)


def test_without_git_there_is_no_version(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(checkout / "src") == CodeVersion(None)


def test_no_program_of_the_repository_is_started(checkout: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(trap))
    git(checkout, "config", "core.hooksPath", str(tmp_path))
    git(checkout, "config", "diff.external", str(trap))
    git(checkout, "config", "diff.mine.textconv", str(trap))
    (checkout / ".git/info/attributes").write_text("*.py diff=mine\n")
    for hook in ("post-index-change", "pre-commit", "post-checkout"):
        (tmp_path / hook).write_text(trap.read_text())
        (tmp_path / hook).chmod(0o755)
    (checkout / "src/a.py").write_text("x = 9\n")
    assert code_version(checkout / "src").diff_sha256
    assert not (tmp_path / "sprung").exists()


def test_the_environment_names_versions_and_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = capture.environment({"OMP_NUM_THREADS": "3", "USER": "somebody", "HF_TOKEN": "x"})
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert facts["cpu_count"] == os.cpu_count()
    assert facts["variables"] == {"OMP_NUM_THREADS": "3"}
    text = json.dumps(facts)
    assert platform.node() not in text or len(platform.node()) < 4
    assert str(Path.home()) not in text or str(Path.home()) == "/"


def test_equal_environments_share_a_snapshot() -> None:
    one, two = capture.environment(), capture.environment()
    assert capture.environment_hash(one) == capture.environment_hash(two)
    other = {**one, "python": "2.7"}
    assert capture.environment_hash(other) != capture.environment_hash(one)


def test_capturing_loads_no_heavy_library(root: Path) -> None:
    program = (
        "import sys; from codetune.runlog import capture, open_run; capture.environment()\n"
        "capture.code_version()\n"
        "print([m for m in ('torch', 'transformers', 'sqlalchemy', 'alembic') if m in sys.modules])"
    )
    settings = {**os.environ, "PYTHONPATH": str(root / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=settings, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
