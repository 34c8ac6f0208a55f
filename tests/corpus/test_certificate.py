"""The certificate is recomputed from the files alone, and any change to them shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codetune import artefact, sample
from codetune.artefact import Origin
from codetune.corpus import certificate, publish, sources
from codetune.corpus.intake import Intake, group_hash
from codetune.corpus.split import Wanted, divide
from codetune.errors import UserError

ORIGIN = Origin(sources.STAGE, 1, "0" * 64)
PARAMETERS = {"eval_frac": 0.3, "eval_size": None, "min_eval": 1, "seed": 42}


def row(number: int, group: int) -> dict[str, Any]:
    meta = {"source": f"s{group % 2}", "group": f"g{group}"}
    return {"id": f"r{number}", "task": "text", "text": f"text {number}", "meta": meta}


def publish_split(folder: Path, name: str | None = "n", groups: int = 20) -> Path:
    folder.mkdir(exist_ok=True)
    raw = folder / "raw.jsonl"
    raw.write_bytes(b"".join(sample.dump(row(i, i % groups)) + b"\n" for i in range(groups * 3)))
    with artefact.scratch_file(folder) as scratch:
        reader = Intake(scratch)
        reader.take_file(raw)
        made = divide(reader.records(), Wanted(0.3))
        publish.write(folder, name, reader, made, PARAMETERS, ORIGIN)
    return certificate.path_of(folder, name)


def rewrite(file: Path, change: Any) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(change(lines)))


def test_holds_for_what_was_written(tmp_path: Path) -> None:
    path = publish_split(tmp_path)
    assert certificate.problems(path) == []
    assert certificate.problems(certificate.path_of(tmp_path, None)) == []
    stated = certificate.load(path)
    rows = [*artefact.read_rows(tmp_path / "eval.n.jsonl")]
    assert stated["eval"]["rows"] == len(rows) == sum(stated["eval"]["sources"].values())
    assert stated["eval"]["groups"] == sorted(
        {group_hash(json.loads(line)["meta"]["group"]) for _, line in rows}
    )


def test_names_no_group_and_no_text(tmp_path: Path) -> None:
    text = publish_split(tmp_path).read_text()
    assert '"g1"' not in text and "text 1" not in text


def test_a_group_moved_across_is_an_overlap(tmp_path: Path) -> None:
    path = publish_split(tmp_path)
    eval_file = tmp_path / "eval.n.jsonl"
    stolen = eval_file.read_bytes().splitlines(keepends=True)[0]
    rewrite(tmp_path / "train.n.jsonl", lambda lines: [*lines, stolen])
    found = " ".join(certificate.problems(path))
    assert "1 groups lie on both sides" in found and "1 contents lie on both sides" in found


@pytest.fixture(scope="module")
def split_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_split(tmp_path_factory.mktemp("split")).parent


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    side=st.sampled_from(certificate.SIDES),
    where=st.integers(0, 10_000),
    what=st.sampled_from(["delete", "repeat", "text", "group", "id", "byte", "not json"]),
)
def test_any_single_row_tampering_shows(
    split_folder: Path, side: str, where: int, what: str
) -> None:
    file = split_folder / f"{side}.n.jsonl"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    spot = where % len(lines)
    changed = json.loads(lines[spot])
    if what == "text":
        changed["text"] += "."
    elif what == "group":
        changed["meta"]["group"] = "elsewhere"
    elif what == "id":
        changed["id"] += "x"
    tampered = {
        "delete": b"",
        "repeat": lines[spot] * 2,
        "byte": lines[spot].replace(b"text", b"Text", 1),
        "not json": b"oops\n",
    }.get(what, sample.dump(changed) + b"\n")
    file.write_bytes(b"".join([*lines[:spot], tampered, *lines[spot + 1 :]]))
    try:
        assert certificate.problems(certificate.path_of(split_folder, "n"))
    finally:
        file.write_bytes(whole)
    assert certificate.problems(certificate.path_of(split_folder, "n")) == []


def test_a_tampered_certificate_shows_too(tmp_path: Path) -> None:
    path = publish_split(tmp_path)
    stated = json.loads(path.read_bytes())
    stated["train"]["groups"] = stated["train"]["groups"][1:]
    path.write_text(json.dumps(stated))
    assert any("groups are not those" in problem for problem in certificate.problems(path))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"train": {}, "eval": {}}'])
def test_what_is_no_certificate_is_a_user_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(UserError, match="run the data stage again"):
        certificate.problems(tmp_path / "split.json")


def test_a_certificate_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    path = publish_split(tmp_path)
    stated = json.loads(path.read_bytes())
    stated["train"]["file"] = "../train.n.jsonl"
    path.write_text(json.dumps(stated))
    with pytest.raises(UserError, match="no split certificate"):
        certificate.problems(path)


def test_missing_pieces_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such certificate"):
        certificate.load(tmp_path / "split.json")
    path = publish_split(tmp_path)
    (tmp_path / "eval.n.jsonl").unlink()
    with pytest.raises(UserError, match=r"eval\.n\.jsonl: missing"):
        certificate.problems(path)


def test_previous_groups_hold_unless_another_split_is_asked_for(tmp_path: Path) -> None:
    path = publish_split(tmp_path)
    train, held_out = certificate.previous_groups(path, {**PARAMETERS, "min_eval": 9})
    assert len(train) + len(held_out) == 20 and held_out
    for key, value in (("seed", 1), ("eval_frac", 0.5), ("eval_size", 7)):
        assert certificate.previous_groups(path, {**PARAMETERS, key: value}) == (set(), set())
    path.write_bytes(path.read_bytes() + b" ")
    assert certificate.previous_groups(path, PARAMETERS) == (set(), set())
    assert certificate.previous_groups(tmp_path / "split.x.json", PARAMETERS) == (set(), set())


def test_a_foreign_file_is_not_overwritten_but_a_torn_one_is(tmp_path: Path) -> None:
    publish_split(tmp_path, None)
    raw, train = tmp_path / "raw.jsonl", tmp_path / "train.jsonl"
    with artefact.scratch_file(tmp_path) as scratch:
        reader = Intake(scratch)
        reader.take_file(raw)
        made = divide(reader.records(), Wanted(0.3))
        artefact.manifest_path(train).unlink()  # as a kill between file and manifest leaves it
        publish.refuse_foreign(tmp_path, None, reader, made)
        train.write_bytes(b"mine\n")
        with pytest.raises(UserError, match="was not made by this stage"):
            publish.refuse_foreign(tmp_path, None, reader, made)
