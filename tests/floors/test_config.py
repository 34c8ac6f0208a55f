"""One declaration per knob: YAML and flags, aliases, ranges, and faults that name the line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import model_validator

from codetune.config import (
    Config,
    config_sha256,
    differences,
    knob,
    load_yaml,
    parse_flags,
    resolve,
)
from codetune.errors import UserError


class Knobs(Config):
    """Knobs of every kind."""

    inputs: list[Path] = knob([], "row files", positional=True)
    src: list[Path] = knob([], "sources", aliases=("source",))
    max_length: int = knob(2048, "longest row", unit="tokens", aliases=("cutoff_len",), ge=16)
    learning_rate: float = knob(2e-4, "rate", gt=0)
    packing: bool = knob(True, "pack")
    mode: Literal["fast", "slow"] = knob("fast", "how")
    limit: int | None = knob(None, "at most")
    name: str = knob("run", "a name", place=True)
    targets: str | list[str] = knob("all", "layers")

    @model_validator(mode="after")
    def _check(self) -> Knobs:
        if self.limit == 13:
            raise ValueError("limit 13 is unlucky; choose another")
        return self


def flags(*argv: str) -> dict:
    return parse_flags(Knobs, argv, "prog", "doc")[0]


def made(*argv: str, file: Path | None = None) -> Knobs:
    return resolve(Knobs, file, flags(*argv))[0]


def fault(*argv: str, file: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        made(*argv, file=file)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def yaml(tmp_path: Path):
    def write(text: str) -> Path:
        file = tmp_path / "c.yaml"
        file.write_text(text)
        return file

    return write


def test_defaults_need_nothing() -> None:
    assert made() == Knobs()
    assert differences(made()) == {}


def test_dashes_underscores_and_equals() -> None:
    for words in (["--max-length", "64"], ["--max_length", "64"], ["--max-length=64"]):
        assert made(*words).max_length == 64


def test_lists_extend_and_positionals_are_kept() -> None:
    config = made("a", "b", "--src", "x", "y", "--src", "z")
    assert config.inputs == [Path("a"), Path("b")]
    assert config.src == [Path("x"), Path("y"), Path("z")]


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--packing"], True),
        (["--packing", "false"], False),
        (["--no-packing"], False),
        (["--no_packing"], False),
        ([], True),
    ],
)
def test_booleans(words: list[str], value: bool) -> None:
    assert made(*words).packing is value


def test_none_can_be_said() -> None:
    assert made("--limit", "5").limit == 5
    assert made("--limit", "none").limit is None
    assert made("--name", "none").name == "none"


def test_flags_win_over_yaml(yaml) -> None:
    file = yaml("max_length: 64\nlearning_rate: 1e-3\nsrc: [a, b]\n")
    config = made("--max-length", "128", file=file)
    assert (config.max_length, config.learning_rate) == (128, 1e-3)
    assert config.src == [Path("a"), Path("b")]


def test_aliases_are_read_with_a_note(yaml) -> None:
    given_flags, _, notes = parse_flags(Knobs, ["--cutoff-len", "99"], "prog", "")
    assert given_flags == {"max_length": "99"}
    assert notes == ["--cutoff_len is read as max_length"]
    file = yaml("\ncutoff_len: 77\n")
    config, notes = resolve(Knobs, file, {})
    assert config.max_length == 77
    assert notes == [f"{file}, line 2: cutoff_len is read as max_length"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--max-lenght", "5"], ["unknown flag --max_lenght", "did you mean max_length?"]),
        (["--zzz"], ["unknown flag --zzz", "see --help"]),
        (["--max_length", "3"], ["--max_length", "greater than or equal to 16", 'not "3"']),
        (["--max_length", "2.5"], ["--max_length", "integer"]),
        (["--learning_rate", "-1"], ["--learning_rate", "greater than 0"]),
        (["--learning_rate", "nan"], ["--learning_rate", "finite"]),
        (["--mode", "quick"], ["--mode", "'fast' or 'slow'"]),
        (["--packing", "perhaps"], ["--packing", "boolean"]),
        (["--max_length"], ["--max_length", "expected one argument"]),
        (["--limit", "13"], ["limit 13 is unlucky; choose another"]),
    ],
)
def test_wrong_flags_are_one_line(words: list[str], parts: list[str]) -> None:
    text = fault(*words)
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: 1\nmax_lenght: 5\n", ["line 1", "unknown key a"]),
        ("\nmax_lenght: 5\n", ["line 2", "max_lenght", "did you mean max_length?"]),
        ("max_length: 20\nmode: fast\nmax_length: 30\n", ["line 3", "already set in line 1"]),
        ("mode: fast\nlearning_rate: -1\n", ["line 2", "learning_rate", "greater than 0"]),
        ("max_length: [1, 2]\n", ["line 1", "max_length", "integer", "[1, 2]"]),
        ("max_length: 2.5\n", ["line 1", "max_length", "integer"]),
        ("max_length:\n", ["line 1", "max_length", "null"]),
        ("- a\n- b\n", ["key: value"]),
        ("a: [1\n", ["line 2"]),
        ("a:\n\t- b\n", ["line 2"]),
        ("name: !!python/object:os.system x\n", ["line 1"]),
    ],
)
def test_wrong_yaml_names_the_line(yaml, text: str, parts: list[str]) -> None:
    found = fault(file=yaml(text))
    assert all(part in found for part in ["c.yaml", *parts]), found


def test_missing_and_empty_yaml(tmp_path: Path, yaml) -> None:
    assert "no such config file" in fault(file=tmp_path / "absent.yaml")
    assert made(file=yaml("# nothing\n")) == Knobs()
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"name: \xff\n")
    assert "cannot be read" in fault(file=file)


def test_nested_duplicates_are_refused_too(yaml) -> None:
    with pytest.raises(UserError, match="line 3: x is already set in line 2"):
        load_yaml(yaml("mix:\n  x: 1\n  x: 2\n"))


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=12))
def test_no_unknown_flag_is_ever_taken(word: str) -> None:
    known = set(Knobs.model_fields) | {"source", "cutoff_len", "no_packing"}
    known |= {f"no_{name}" for name in Knobs.model_fields}
    known |= {"config", "schema", "dry_run", "json", "run_id", "help"}
    if word.replace("-", "_") in known:
        return
    with pytest.raises(UserError):
        flags(f"--{word}", "1")


def test_differences_tell_default_and_value() -> None:
    assert differences(made("--max-length", "64", "--src", "x")) == {
        "max_length": {"default": 2048, "value": 64},
        "src": {"default": [], "value": ["x"]},
    }


def test_hash_follows_results_not_places() -> None:
    base = config_sha256(made())
    for words in (["a.jsonl"], ["--src", "x"], ["--name", "other"]):
        assert config_sha256(made(*words)) == base, words
    for words in (["--max-length", "64"], ["--mode", "slow"], ["--limit", "3"], ["--no-packing"]):
        assert config_sha256(made(*words)) != base, words


def test_a_config_is_frozen_and_closed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        made().max_length = 5  # type: ignore[misc]
    with pytest.raises(ValueError, match="Extra"):
        Knobs(other=1)  # type: ignore[call-arg]


def test_help_shows_unit_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        flags("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "longest row [tokens] (2048)" in shown
    assert "fast|slow" in shown and "doc" in shown
