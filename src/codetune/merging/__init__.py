"""An adapter merged into the unquantised base, and the proof that nothing was lost.

Torch is imported inside the functions that need it.
"""

from codetune.merging.adapter import Adapter, Delta, adapter_files, check_base, load_adapter
from codetune.merging.parity import Comparison, compare, tolerance
from codetune.merging.proof import Proof, check_memory, prompts, prove
from codetune.merging.stream import file_chunks, merge_weights, model_files
from codetune.merging.target import check_target

__all__ = [
    "Adapter",
    "Comparison",
    "Delta",
    "Proof",
    "adapter_files",
    "check_base",
    "check_memory",
    "check_target",
    "compare",
    "file_chunks",
    "load_adapter",
    "merge_weights",
    "model_files",
    "prompts",
    "prove",
    "tolerance",
]
