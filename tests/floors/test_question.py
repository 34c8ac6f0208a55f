"""What scripts that only look or steer share: one-line errors, exit codes, pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = '''
    """Asks something."""
    import os, time
    from codetune import console, stage
    from codetune.errors import RefusedError, UserError

    def act(options):
        if options.what == "user":
            raise UserError("no such run; see the list")
        if options.what == "refused":
            raise RefusedError("it still runs")
        if options.what == "wait":
            console.line("waiting")
            time.sleep(30)
        if options.what == "long":
            for number in range(100_000):
                console.emit(f"line {number}")
        if options.what == "table":
            for number in range(5_000):
                console.show(console.table(f"line {number}", ["a"], [["b" * 80]]))
        if options.what == "seven":
            return 7
        console.emit(os.environ.get("FROM_FILE", ""))

    parser = stage.question(__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list|show")
    for name in ("list", "show"):
        verb = verbs.add_parser(name, help=name)
        verb.add_argument("what", nargs="?")
        verb.add_argument("--limit", type=int)
        verb.set_defaults(act=act)
    verbs.choices["list"].add_argument("--quickly")
    raise SystemExit(stage.answer(parser))
'''


@pytest.fixture
def command(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line of a script that asks; it is run in a folder of its own."""
    file = tmp_path / "ask.py"
    file.write_text(textwrap.dedent(PROGRAM).strip() + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(root / "src"))
    return [sys.executable, str(file)]


def run(command: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list"], 0, ""),
        (["list", "seven"], 7, ""),
        (["list", "user"], 2, "error: no such run; see the list"),
        (["list", "refused"], 3, "error: refused: it still runs"),
        (["lst"], 2, "did you mean list?"),
        (["nothing like it"], 2, "see --help"),
        ([], 2, "see --help"),
        (["list", "--limit", "many"], 2, "invalid int value: 'many'; see --help"),
        (["show", "--quickly"], 2, "unrecognized arguments: --quickly; see --help"),
        (["list", "--limt", "3"], 2, "unrecognized arguments: --limt; did you mean --limit?"),
    ],
)
def test_exit_codes_and_one_line(
    command: list[str], words: list[str], code: int, said: str
) -> None:
    done = run(command, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == (1 if said else 0)
    assert not Path("logs").exists(), "looking is no run"


def test_help_is_the_docstring_and_settings_come_from_the_file(command: list[str]) -> None:
    assert "Asks something." in run(command, "--help").stdout
    Path(".env").write_text("FROM_FILE=told\n")
    assert run(command, "show").stdout == "told\n"


@pytest.mark.parametrize("what", ["long", "table"])
def test_a_reader_that_goes_away_is_no_error(command: list[str], what: str) -> None:
    asked = subprocess.Popen(
        [*command, "list", what], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert asked.stdout and asked.stderr
    assert asked.stdout.readline().rstrip() == b"line 0"
    asked.stdout.close()
    assert (asked.wait(timeout=30), asked.stderr.read()) == (0, b"")
    asked.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_quietly(command: list[str], number: signal.Signals, code: int) -> None:
    asked = subprocess.Popen(
        [*command, "list", "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert asked.stdout
    assert asked.stdout.readline() == b"waiting\n"
    asked.send_signal(number)
    _, said = asked.communicate(timeout=30)
    assert (asked.returncode, said) == (code, b"")
