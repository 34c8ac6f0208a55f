"""Which GPUs a process sees: the rules of CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

from typing import Any

from codetune.machine.gpus import count
from codetune.machine.nvml import ask


def visible_handles(nvml: Any, setting: str | None) -> list[Any]:
    """NVML handles of the GPUs that `setting` leaves: all for None, none for an empty text.

    Indices, UUIDs and beginnings of UUIDs, as CUDA reads them: the first entry that names no GPU
    ends the list, and one that stands there twice leaves none. Indices are taken in the order of
    the PCI bus; CUDA's own default puts the fastest first, which differs only where kinds of GPU
    are mixed and CUDA_DEVICE_ORDER is not PCI_BUS_ID.
    Source: CUDA C++ programming guide, "CUDA environment variables".
    """
    every = [ask(nvml.nvmlDeviceGetHandleByIndex, index) for index in range(count(nvml))]
    if setting is None:
        return [handle for handle in every if handle is not None]
    uuids = [(ask(nvml.nvmlDeviceGetUUID, handle) or "") if handle else "" for handle in every]
    found: list[Any] = []
    names: list[str] = []
    for entry in (part.strip() for part in setting.split(",")):
        name, handle = _named(nvml, entry, uuids, every)
        if handle is None:
            break
        if name in names:
            return []
        names.append(name)
        found.append(handle)
    return found


def _named(nvml: Any, entry: str, uuids: list[str], every: list[Any]) -> tuple[str, Any]:
    """The GPU, or the part of one (MIG), that one entry names, under a name for comparisons."""
    if entry.isascii() and entry.isdigit():
        index = int(entry) if len(entry) < 6 else len(every)
        return str(index), every[index] if index < len(every) else None
    if entry.startswith("MIG-"):
        return entry, ask(nvml.nvmlDeviceGetHandleByUUID, entry)
    matching = [index for index, uuid in enumerate(uuids) if uuid.startswith(entry)]
    if entry.startswith("GPU-") and len(matching) == 1:
        return str(matching[0]), every[matching[0]]
    return entry, None
