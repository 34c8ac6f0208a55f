"""The streamed merge beside peft's, on a random Qwen2 model: time, memory, and equal bits.

    python benchmarks/merge_lora.py --size 100m
    python benchmarks/merge_lora.py --size 500m

Each way runs in a process of its own: ours reads shards and writes merged shards; peft loads the
model in its own type, merges and saves. Peak RSS includes the libraries that each needs; what the
bare import of torch takes is printed beside it. The parity check is not part of either.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ENV = {
    **os.environ,
    "PYTHONPATH": str(ROOT / "src"),
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # as every stage sets it
}
SIZES = {
    "100m": {"hidden_size": 640, "intermediate_size": 1792, "num_hidden_layers": 16},
    "500m": {"hidden_size": 1024, "intermediate_size": 4864, "num_hidden_layers": 24},
}
# The kernel's high-water mark of this process alone; ru_maxrss would inherit the parent's.
PEAK = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
IMPORT = "import torch\n"
OURS = """
import sys
from pathlib import Path
from codetune.merging.adapter import load_adapter
from codetune.merging.stream import merge_weights
from codetune.models.facts import inspect_model
base, adapter, out = map(Path, sys.argv[1:])
out.mkdir()
merge_weights(inspect_model(base), load_adapter(adapter), out)
"""
PEFT = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
"""


def make(folder: Path, size: str) -> None:
    """Saves a random bf16 base in shards, and an adapter on all its linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    heads = {"num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 32_000}
    config = Qwen2Config(**SIZES[size], **heads, tie_word_embeddings=True)
    model: Any = Qwen2ForCausalLM(config).bfloat16()
    model.save_pretrained(folder / "base", max_shard_size="200MB")
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.02)
    tuned.save_pretrained(folder / "adapter")


def run(name: str, program: str, *arguments: Path) -> None:
    """Runs a program and prints what it took."""
    command = [sys.executable, "-c", program + PEAK, *map(str, arguments)]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=ENV, check=True, capture_output=True, text=True)
    wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stdout.split()[-1]) / 1024
    print(f"{name:<14} {wall:6.1f} s wall {cpu:6.1f} s CPU {peak:7.0f} MiB peak RSS")


def same_bits(one: Path, other: Path) -> bool:
    """True when two model folders hold the same tensors, bit for bit."""
    import torch
    from safetensors.torch import load_file

    def tensors(folder: Path) -> dict[str, Any]:
        return {k: v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}

    ours, theirs = tensors(one), tensors(other)
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[k].view(torch.int16), theirs[k].view(torch.int16)) for k in ours
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="100m")
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, size)
        weights = sum(f.stat().st_size for f in (folder / "base").glob("*.safetensors"))
        print(f"{size}: {weights / 2**20:.0f} MiB of bf16 weights")
        run("import torch", IMPORT)
        run("streamed", OURS, folder / "base", folder / "adapter", folder / "ours")
        run("peft", PEFT, folder / "base", folder / "adapter", folder / "theirs")
        print("bit-identical:", same_bits(folder / "ours", folder / "theirs"))


if __name__ == "__main__":
    main()
