"""Documentation that cannot rot: tables are generated, commands and links exist."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.setup import docs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = docs.verbs()


def commands(page: Path) -> list[list[str]]:
    """Each command of a page's bash blocks, as words."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    return [shlex.split(line, comments=True) for line in "".join(blocks).splitlines() if line]


def readme_commands() -> list[list[str]]:
    example = subprocess.run([ROOT / "scripts.sh", "examples"], capture_output=True, text=True)
    lines = [shlex.split(line, comments=True) for line in example.stdout.splitlines()]
    return [*commands(ROOT / "README.md"), *filter(None, lines)]


@functools.cache
def knobs(script: str) -> set[str]:
    """Every spelling of a flag that a stage takes."""
    schema = docs.schema_of(script)
    names = set(schema["properties"])
    names |= {alias for knob in schema["properties"].values() for alias in knob["aliases"]}
    return names | {"config", "schema", "dry_run", "json", "run_id"}


def test_generated_tables_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "setup" / "docs.py", "--check"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_stale_table_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = "<!-- begin verbs -->\nold\n<!-- end verbs -->\n"
    readme += "<!-- begin presets --><!-- end presets -->\n"
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "docs").mkdir()
    (tmp_path / "configs" / "train").mkdir(parents=True)
    (tmp_path / "configs" / "train" / "a.yaml").write_text("# for | tests\nmodel_name_or_path: m\n")
    (tmp_path / "scripts.sh").write_text(
        '  peek) stage x.py "$@" ;; # looks\n  help) help ;;  # this\n'
    )
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    fresh = docs.fresh()
    assert docs.fresh()[tmp_path / "README.md"] != readme
    assert "| `peek` | looks |" in fresh[tmp_path / "README.md"]
    assert "| `a.yaml` | m |  |  | for \\| tests |" in fresh[tmp_path / "README.md"]
    assert "old" not in fresh[tmp_path / "README.md"]
    monkeypatch.setattr(sys, "argv", ["docs.py"])
    assert docs.main() == 0
    monkeypatch.setattr(sys, "argv", ["docs.py", "--check"])
    assert docs.main() == 0
    (tmp_path / "docs" / "configuration.md").write_text("stale")
    assert docs.main() == 1


def test_the_verb_table_is_what_help_says() -> None:
    help_ = subprocess.run([ROOT / "scripts.sh", "help"], capture_output=True, text=True).stdout
    shown = dict(re.findall(r"^  (\S+) +(.+)$", help_, re.M))
    assert {verb: why for verb, (_, why) in VERBS.items()} == shown


def test_every_script_of_a_verb_exists() -> None:
    missing = [path for path, _ in VERBS.values() if path and not (ROOT / path).is_file()]
    assert missing == []


def test_commands_of_the_readme_exist_with_their_flags() -> None:
    seen = 0
    for words in readme_commands():
        if words[0] == "./scripts.sh":
            assert words[1] in VERBS, words
            script = VERBS[words[1]][0]
        elif words[0] == "python":
            script = words[1]
        else:
            continue
        seen += 1
        if script:
            assert (ROOT / script).is_file(), words
        if script and "stage.main(" in (ROOT / script).read_text():
            flags = {w[2:].partition("=")[0].replace("-", "_") for w in words if w.startswith("--")}
            assert flags <= {name.replace("-", "_") for name in knobs(script)}, words
    assert seen >= 15


def test_configs_named_in_commands_exist() -> None:
    for words in readme_commands():
        for word in words:
            if word.startswith("configs/"):
                assert (ROOT / word).is_file(), words


def test_test_and_demo_are_the_two_first_commands() -> None:
    first = commands(ROOT / "README.md")[:2]
    assert first == [["./scripts.sh", "demo"], ["./scripts.sh", "test"]]
    assert "./scripts.sh test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_named_in_pages_exist(page: Path) -> None:
    """Paths in code spans that look like tracked files."""
    spans = re.findall(r"`((?:scripts|docs|requirements|\.ci)/[\w./-]+\w)`", page.read_text())
    assert [path for path in spans if not (ROOT / path).exists()] == []


def test_every_variable_of_the_example_environment_is_a_comment() -> None:
    """A bare `NAME=` would set it to nothing, which for CUDA_VISIBLE_DEVICES hides every GPU."""
    text = (ROOT / ".env.example").read_text()
    assert all(line.startswith("#") for line in text.splitlines() if line)
    assert {"HF_TOKEN", "DATABASE_URL", "CUDA_VISIBLE_DEVICES"} <= set(
        re.findall(r"^# (\w+)=", text, re.M)
    )
