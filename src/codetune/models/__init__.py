"""Model folders: inspected before anything is loaded, then loaded in the type that fits.

Torch and transformers are imported inside the functions that need them.
"""

from codetune.models.dtype import DtypeChoice, choose_dtype, pick_device
from codetune.models.facts import ModelFacts, find_model, inspect_model
from codetune.models.load import LoadedModel, attach_adapter, load_base, make_safe_for_cpu

__all__ = [
    "DtypeChoice",
    "LoadedModel",
    "ModelFacts",
    "attach_adapter",
    "choose_dtype",
    "find_model",
    "inspect_model",
    "load_base",
    "make_safe_for_cpu",
    "pick_device",
]
