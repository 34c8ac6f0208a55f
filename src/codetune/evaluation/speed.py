"""How fast a model reads and writes, and how much memory it takes while it does.

Each measurement runs in a process of its own: memory that an earlier model left behind, or that
the allocator kept, is then nobody's. Every generation has the same number of tokens (an end token
does not stop it), so that models can be compared. What is reported is the median and the quartiles
of several repeats after a warm-up, in the manner of llama-bench and optimum-benchmark.
"""

from __future__ import annotations

import inspect
import logging
import re
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune.errors import UserError
from codetune.evaluation.fit import budgets, choose_quant

if TYPE_CHECKING:
    import torch

    from codetune.models import LoadedModel, ModelFacts
    from codetune.tokens import Tokenizer

# The spirit of a real request; repeated up to `Job.prompt_tokens`, its meaning is of no matter.
PROMPT = '''def merge_sorted(left, right):
    """Merges two sorted lists into one sorted list."""
'''


@dataclass(frozen=True)
class Job:
    """One model in one quantisation; budgets are bytes, None means what is free.

    `quant` auto takes the least quantised that fits. Without `prompt` the built-in one is
    repeated to `prompt_tokens`; a prompt of the user's is taken as it is, in the chat template.
    """

    name: str
    path: Path
    quant: str
    prompt: str | None = None
    prompt_tokens: int = 512
    new_tokens: tuple[int, ...] = (100,)
    repeats: int = 5
    warmup: int = 1
    device: str = "auto"
    gpu_bytes: int | None = None
    ram_bytes: int | None = None
    skip_large: bool = False


@dataclass(frozen=True)
class Spread:
    """The median of some samples and their quartiles; the samples are kept.

    As text: the median and half the interquartile range.
    """

    median: float
    q1: float
    q3: float
    samples: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Quartiles by linear interpolation, as numpy's default."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0], tuple(samples))
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, q1, q3, tuple(samples))

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        return f"{self.median:.{digits}f} ± {(self.q3 - self.q1) / 2:.{digits}f}"


@dataclass(frozen=True)
class Result:
    """What came of a job; `skipped` holds the reason when nothing was measured.

    `ttft_ms`: milliseconds from the prompt to the first new token. `prefill`: tokens of the prompt
    a second. `decode`: tokens a second after the first one, by number of new tokens. Memory is in
    bytes; `gpu_peak` is None without a GPU.
    """

    name: str
    quant: str
    skipped: str = ""
    prompt_tokens: int = 0
    load_s: float = 0.0
    ttft_ms: Spread | None = None
    prefill: Spread | None = None
    decode: dict[int, Spread] = field(default_factory=dict)
    model_bytes: int = 0
    cpu_peak: int = 0
    gpu_peak: int | None = None
    where: dict[str, Any] = field(default_factory=dict)
    text: str = ""


def measure_apart(job: Job) -> Result:
    """`measure` in a process of its own; a process that was killed is a skipped result."""
    spawn = get_context("spawn")
    found: Result | UserError
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_measure_and_send, args=(job, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        process.join()
        if (process.exitcode or 0) >= 0:
            raise RuntimeError(
                f"{job.name}: the measurement failed; its traceback is above"
            ) from None
        found = Result(job.name, job.quant, "its process was killed, most likely for memory")
    finally:
        process.kill()
        process.join()
    if isinstance(found, UserError):
        raise found
    return found


def _measure_and_send(job: Job, to: Connection) -> None:
    try:
        to.send(measure(job))
    except UserError as problem:
        to.send(problem)


def measure(job: Job) -> Result:
    """Loads the model and times it. Skipped when it does not fit, before or while it is loaded."""
    import torch

    from codetune import models, tokens

    # bitsandbytes says for each layer of each step that it casts, which takes longer than casting
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    facts = models.inspect_model(job.path)
    device = models.pick_device(job.device)
    free = budgets(job.ram_bytes, job.gpu_bytes, device)
    quant, reason = choose_quant(job.quant, facts, device, free, skip_large=job.skip_large)
    if quant is None:
        return Result(job.name, job.quant, reason)
    if device == "cuda" and job.gpu_bytes is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.gpu_bytes / total))
    try:
        started = time.perf_counter()
        loaded = models.load_base(job.path, quant, device=device)
        load_s = time.perf_counter() - started
        return _timed(job, loaded, tokens.load(job.path), facts, load_s)
    except torch.OutOfMemoryError:
        return Result(job.name, quant, "out of GPU memory; try --quant 4bit or a smaller model")
    except MemoryError:
        return Result(job.name, quant, "out of memory; try --quant 4bit or a smaller model")


def peak_rss() -> int:
    """The most memory this process ever held, in bytes.

    On Linux `getrusage` would count the parent's from before the program was started.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def prompt_ids(job: Job, tok: Tokenizer, longest: int) -> list[int]:
    """The ids to generate from, at most `longest`."""
    from codetune.tokens import question

    if job.prompt is None:
        ids = tok.encode(PROMPT)
        repeated = ids * (job.prompt_tokens // len(ids) + 1)
        return repeated[: min(job.prompt_tokens, longest)]
    return question(job.prompt, tok).input_ids[:longest]


def _timed(
    job: Job, loaded: LoadedModel, tok: Tokenizer, facts: ModelFacts, load_s: float
) -> Result:
    import torch

    window = int(facts.config.get("max_position_embeddings", 1 << 30))
    ids = prompt_ids(job, tok, max(1, window - max(job.new_tokens)))
    prompt = torch.tensor([ids], device=loaded.device)
    decode: dict[int, Spread] = {}
    firsts: list[float] = []
    made: list[int] = []
    for count in job.new_tokens:
        runs = [_generate(loaded, prompt, count) for _ in range(job.warmup + job.repeats)]
        kept = runs[job.warmup :]
        firsts.extend(first for first, _, _ in kept)
        if count > 1:
            decode[count] = Spread.of([(count - 1) / rest for _, rest, _ in kept])
        made = kept[-1][2]
    return Result(
        name=job.name,
        quant=loaded.quant,
        prompt_tokens=len(ids),
        load_s=load_s,
        ttft_ms=Spread.of([1e3 * first for first in firsts]),
        prefill=Spread.of([len(ids) / first for first in firsts]),
        decode=decode,
        model_bytes=int(loaded.model.get_memory_footprint()),
        cpu_peak=peak_rss(),
        gpu_peak=torch.cuda.max_memory_reserved() if loaded.device == "cuda" else None,
        where=_where(loaded),
        text=_shown(tok, made) if job.prompt is not None else "",
    )


def _generate(
    loaded: LoadedModel, prompt: torch.Tensor, count: int
) -> tuple[float, float, list[int]]:
    """(seconds to the first token, seconds for all others, the tokens), greedily."""
    import torch

    # the scores of the last position are all that is needed; not every architecture can be told
    takes = inspect.signature(loaded.model.forward).parameters
    only_last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    tokens, past = [prompt], None
    with torch.inference_mode():
        started = _now(loaded)
        first = started
        for step in range(count):
            out = loaded.model(
                input_ids=tokens[-1], past_key_values=past, use_cache=True, **only_last
            )
            past = out.past_key_values
            tokens.append(out.logits[:, -1:].argmax(-1))
            if step == 0:
                first = _now(loaded)
        ended = _now(loaded)
    made = [int(token) for token in torch.cat(tokens[1:], dim=1)[0]]
    return first - started, ended - first, made


def _now(loaded: LoadedModel) -> float:
    """The clock, once all the work given to the device is done."""
    if loaded.device == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def _where(loaded: LoadedModel) -> dict[str, Any]:
    import torch
    import transformers

    found = {
        "device": loaded.device,
        "dtype": loaded.dtype_name,
        "reason": loaded.reason,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if loaded.device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _shown(tok: Tokenizer, ids: list[int]) -> str:
    """The text up to the first end token; the measurement went on regardless."""
    from codetune.tokens import stop_ids

    stops = set(stop_ids(tok))
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return tok.decode(ids[:end])
