"""Merges an adapter into safetensors shards, a few rows of one weight at a time.

A shard is copied byte for byte, except that the weights an adapter changes pass through
`W.float() + scale * (B @ A)` and are rounded once to their own type: what peft computes, in the
same order, so that the result is bit-identical, with a few megabytes in memory instead of the
model.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from codetune import artefact
from codetune.errors import UserError
from codetune.merging.adapter import Adapter, Delta
from codetune.models.facts import ModelFacts

if TYPE_CHECKING:
    import torch

_COPY_BYTES = 4 << 20
_CHUNK_ELEMENTS = 1 << 20
# Matrix products of very few rows take another path through the BLAS and may sum differently.
_LEAST_ROWS = 64
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# What else of a model folder makes a model; weights are made anew, manifests belong to the base.
_COMPANIONS = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "NOTICE*")
_NOT_COPIED = {"manifest.json", "parity.json", "codetune.json"}


@dataclass(frozen=True)
class Entry:
    """One tensor of a shard: type name, shape, and its bytes' place behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Shard:
    """A safetensors file by its header; `start` is where the tensors' bytes begin."""

    path: Path
    start: int
    entries: tuple[Entry, ...]


def merge_weights(
    base: ModelFacts, adapter: Adapter, into: Path, advance: Callable[[], None] = lambda: None
) -> int:
    """Writes the merged weights of `base` and `adapter` as safetensors shards into `into`.

    Returns the number of changed weights; calls `advance` after each shard. UserError when a
    delta has no weight in the base, or one of another shape or type: before anything is written.
    """
    shards = [read_header(file) for file in base.weight_files]
    check_fit(base, adapter, shards)
    for shard in shards:
        artefact.write_chunks(into / shard.path.name, merged_bytes(shard, adapter.deltas))
        advance()
    return len(adapter.deltas)


def model_files(base: ModelFacts) -> list[Path]:
    """The files beside the weights that belong to a model: config, index, tokenizer, licence."""
    found = {file for pattern in _COMPANIONS for file in base.path.glob(pattern)}
    return sorted(f for f in found if f.is_file() and f.name not in _NOT_COPIED)


def file_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes, a few megabytes at a time."""
    with path.open("rb") as source:
        while chunk := source.read(_COPY_BYTES):
            yield chunk


def read_header(path: Path) -> Shard:
    """The layout of a safetensors file; UserError when it is not a whole one.

    Format: 8 bytes little-endian header length, JSON header, then the tensors without gaps
    (https://github.com/huggingface/safetensors#format).
    """
    size = path.stat().st_size
    with path.open("rb") as source:
        (length,) = struct.unpack("<Q", source.read(8).ljust(8, b"\xff"))
        if length > size - 8:
            raise UserError(f"{path}: is cut off or no safetensors file; download it again")
        header = json.loads(source.read(length))
    header.pop("__metadata__", None)
    made = [Entry(n, e["dtype"], tuple(e["shape"]), *e["data_offsets"]) for n, e in header.items()]
    entries = tuple(sorted(made, key=lambda entry: entry.begin))
    ends = [0, *(entry.end for entry in entries)]
    gaps = [e.name for e, end in zip(entries, ends, strict=False) if e.begin != end]
    if gaps or 8 + length + ends[-1] != size:
        raise UserError(f"{path}: is cut off or has gaps; download it again")
    return Shard(path, 8 + length, entries)


def check_fit(base: ModelFacts, adapter: Adapter, shards: list[Shard]) -> None:
    """UserError unless every delta has exactly one weight of its shape in a type we can round."""
    weights = {entry.name: entry for shard in shards for entry in shard.entries}
    tied = base.config.get("tie_word_embeddings", False)
    for name, delta in adapter.deltas.items():
        entry = weights.get(name)
        if tied and name.startswith("lm_head."):
            raise UserError(
                f"{adapter.path}: changes {name}, which {base.path} ties to its embeddings; "
                "no merge can express that, train without it"
            )
        if entry is None:
            raise UserError(f"{adapter.path}: changes {name}, which {base.path} does not have")
        if entry.shape != delta.shape:
            raise UserError(f"{adapter.path}: {name} is {delta.shape}, the base's {entry.shape}")
        if entry.dtype not in _DTYPES:
            raise UserError(f"{base.path}: {name} is {entry.dtype}; a 16 or 32-bit base is needed")


def merged_bytes(shard: Shard, deltas: Mapping[str, Delta]) -> Iterator[bytes | memoryview]:
    """The bytes of the merged shard, in file order: same header, same layout."""
    with shard.path.open("rb") as source:
        yield source.read(shard.start)
        for entry in shard.entries:
            delta = deltas.get(entry.name)
            if delta is None:
                yield from _copied(source, entry.end - entry.begin)
            else:
                yield from _changed(source, entry, delta)


def _copied(source: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = source.read(min(size, _COPY_BYTES))
        size -= len(chunk)
        yield chunk


def _changed(source: BinaryIO, entry: Entry, delta: Delta) -> Iterator[memoryview]:
    """One weight, some rows at a time; the buffers are made once and used again."""
    import torch

    dtype: torch.dtype = getattr(torch, _DTYPES[entry.dtype])
    rows, columns = delta.shape
    parts = math.ceil(rows / max(_LEAST_ROWS, _CHUNK_ELEMENTS // columns))
    most = math.ceil(rows / parts)
    weight = torch.empty(most, columns, dtype=dtype)
    change = torch.empty(most, columns)
    raw = memoryview(weight.view(torch.uint8).numpy()).cast("B")  # type: ignore[arg-type]
    for part in range(parts):
        first, last = rows * part // parts, rows * (part + 1) // parts
        used = raw[: (last - first) * columns * dtype.itemsize]
        if source.readinto(used) != len(used):  # type: ignore[attr-defined]
            raise UserError(f"{entry.name}: the base changed while it was read; run again")
        here = change[: last - first]
        torch.mm(delta.b[first:last], delta.a, out=here)
        here.mul_(delta.scale)
        weight[: last - first] += here  # computed in float32, rounded once
        yield used
