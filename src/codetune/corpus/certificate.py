"""The split certificate: what lies on each side, as hashes that anyone can compute again.

It names no session, file or text. `problems` needs the certificate and the two row files beside
it, nothing else, and says everything that does not agree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codetune import artefact, sample
from codetune.corpus.intake import Records, group_hash, group_of
from codetune.errors import UserError

SCHEMA = 1
SIDES = ("train", "eval")


def path_of(folder: Path, name: str | None) -> Path:
    """Where the certificate of a split lies: `split.json`, or `split.<name>.json`."""
    return folder / (f"split.{name}.json" if name else "split.json")


def row_file(folder: Path, side: str, name: str | None) -> Path:
    """Where a side's rows lie: `train.jsonl`, or `train.<name>.jsonl`."""
    return folder / (f"{side}.{name}.jsonl" if name else f"{side}.jsonl")


@dataclass(frozen=True)
class Side:
    """One side as it was written: its file, the file's hash, and its rows' records."""

    file: Path
    sha256: str
    records: Records


def make(
    sides: Mapping[str, Side],
    kinds: Mapping[tuple[str, str], int],
    parameters: Mapping[str, Any],
    fraction: float,
) -> dict[str, Any]:
    """The certificate as JSON values; lists are sorted, and nothing depends on reading order."""
    described = {name: _described(sides[name], kinds) for name in SIDES}
    return {
        "schema": SCHEMA,
        "parameters": dict(parameters),
        "fraction": fraction,
        **described,
    }


def encode(certificate: Mapping[str, Any]) -> bytes:
    """As the bytes on disk."""
    return json.dumps(certificate, indent=1).encode() + b"\n"


def load(path: Path) -> dict[str, Any]:
    """A certificate; UserError when it is missing, damaged, or no certificate."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such certificate; run the data stage first") from None
    except (OSError, ValueError):
        raise UserError(f"{path}: is damaged; run the data stage again") from None
    if not isinstance(found, dict) or not all(_is_side(found.get(side)) for side in SIDES):
        raise UserError(f"{path}: is no split certificate; run the data stage again")
    return found


def previous_groups(path: Path, parameters: Mapping[str, Any]) -> tuple[set[bytes], set[bytes]]:
    """(train groups, eval groups) that an earlier split of this name settled, as raw hashes.

    Empty when there is none, when it is damaged, or when seed or share were chosen anew: that
    asks for another split. A changed `min_eval` does not.
    """
    if not path.is_file() or artefact.verify(path) is not None:
        return set(), set()
    earlier = load(path)
    decisive = ("seed", "eval_frac", "eval_size")
    if any(earlier.get("parameters", {}).get(key) != parameters[key] for key in decisive):
        return set(), set()
    train, held_out = ({bytes.fromhex(g) for g in earlier[side]["groups"]} for side in SIDES)
    return train, held_out


def problems(path: Path) -> list[str]:
    """Everything that the certificate and the files beside it disagree on, or share across sides.

    An empty list means: recomputed from the files alone, no group and no content lies on both
    sides, and the files are those that were certified.
    """
    stated = load(path)
    found: list[str] = []
    seen = {}
    for side in SIDES:
        file = path.with_name(str(stated[side]["file"]))
        if artefact.sha256_file(_existing(file)) != stated[side]["sha256"]:
            found.append(f"{file}: is not the file that was certified")
        groups, contents = _recomputed(file, found)
        seen[side] = groups, contents
        for what, mine in (("groups", groups), ("contents", contents)):
            if sorted(mine) != stated[side][what]:
                found.append(f"{file}: its {what} are not those of the certificate")
        doubled = sum(contents.values()) - len(contents)
        if doubled:
            found.append(f"{file}: {doubled} rows repeat the content of another row")
    for position, what in enumerate(("groups", "contents")):
        shared = seen["train"][position].keys() & seen["eval"][position].keys()
        if shared:
            found.append(f"{len(shared)} {what} lie on both sides, such as {min(shared)}")
    return found


def _described(side: Side, kinds: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    names = {position: kind for kind, position in kinds.items()}
    tasks: Counter[str] = Counter()
    origins: Counter[str] = Counter()
    for position in side.records["kind"].tolist():
        task, source = names[position]
        tasks[task] += 1
        origins[source] += 1
    groups = sorted(set(_hex(side.records, "group")))
    return {
        "file": side.file.name,
        "sha256": side.sha256,
        "rows": len(side.records),
        "tasks": dict(sorted(tasks.items())),
        "sources": dict(sorted(origins.items())),
        "groups": groups,
        "contents": sorted(_hex(side.records, "content")),
    }


def _hex(records: Records, name: str) -> Iterator[str]:
    """The 16-byte hashes of a column as hex; numpy drops trailing zero bytes, so they come back."""
    return (value.ljust(16, b"\0").hex() for value in records[name].tolist())


def _recomputed(file: Path, found: list[str]) -> tuple[Counter[str], Counter[str]]:
    groups: Counter[str] = Counter()
    contents: Counter[str] = Counter()
    for number, line in artefact.read_rows(file):
        try:
            row = sample.parse(line)
        except sample.BadRow as bad:
            found.append(f"{file}: line {number} is no row ({bad.reason})")
            continue
        if sample.check(row) is not None:
            found.append(f"{file}: line {number} is no valid row ({sample.check(row)})")
            continue
        groups[group_hash(group_of(row))] += 1
        contents[sample.content_sha256(row)[:32]] += 1
    return groups, contents


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise UserError(f"{file}: missing; run the data stage again")
    return file


def _is_side(side: Any) -> bool:
    lists = ("groups", "contents")
    return (
        isinstance(side, dict)
        and "sha256" in side
        and all(isinstance(side.get(name), list) for name in lists)
        and isinstance(side.get("file"), str)
        and Path(side["file"]).name == side["file"]
    )
