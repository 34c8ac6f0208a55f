"""How fast models are on this machine, and how much memory they take.

In: model folders, hub names, or sizes (0.5b 1.5b 3b 7b 14b 32b: Qwen2.5-Coder Instruct).
Out: a table, and outputs/model-testing/<run>.json with every sample. Each model and quantisation
is measured in a process of its own; one that does not fit is a row that says why.

  python scripts/testing/model_testing.py --models 7b 14b --quant both --no-long
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codetune import stage
from codetune.config import Config, knob
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.console import Table
    from codetune.evaluation.speed import Job, Result
    from codetune.runlog import Run

_COLUMNS = ["model", "quant", "type", "prefill tok/s", "decode tok/s @new", "first token ms"]
_BY_SIZE = "Qwen/Qwen2.5-Coder-{}-Instruct"
SIZES = ("0.5b", "1.5b", "3b", "7b", "14b", "32b")


class ModelTestingConfig(Config):
    """Knobs of model_testing."""

    models: list[str] = knob(["7b"], "sizes of Qwen2.5-Coder, hub names or folders")
    quant: Literal["auto", "4bit", "8bit", "both", "none"] = knob(
        "auto", "quantisation; auto: the least quantised that fits; both: 4bit and 8bit"
    )
    short_tokens: int = knob(100, "new tokens of the short test", unit="tokens", ge=2)
    long_tokens: int = knob(256, "new tokens of the long test; 0: none", unit="tokens", ge=0)
    no_long: bool = knob(False, "leave the long test out")
    prompt: str | None = knob(None, "your own prompt, put into the chat template", text=True)
    prompt_file: Path | None = knob(None, "file with your own prompt")
    prompt_tokens: int = knob(512, "length of the built-in prompt", unit="tokens", ge=1)
    repeats: int = knob(5, "measurements each, of which median and quartiles are shown", ge=1)
    warmup: int = knob(1, "unmeasured runs before them", ge=0)
    device: Literal["auto", "cpu", "cuda"] = knob("auto", "where to run")
    gpu_mem: str | None = knob(None, "GPU memory to use at most, such as 9GB (what is free)")
    cpu_budget_gb: float | None = knob(None, "RAM to use at most (what is free)", unit="GB", gt=0)
    skip_large_if_low_ram: bool = knob(False, "leave out 10B and more that exceed the free RAM")
    fa2: bool = knob(False, "without effect, for old commands: attention is torch's own (sdpa)")
    output_dir: Path = knob(Path("outputs/model-testing"), "where the JSON goes")


def run(config: ModelTestingConfig, log: "Run") -> stage.Report:
    """Measures every job, one after the other, and writes what came out."""
    import orjson

    from codetune import artefact, console, models
    from codetune.evaluation.speed import measure_apart

    if config.fa2:
        console.warn("--fa2 has no effect: attention is torch's own (sdpa)")
    jobs = _jobs(config)
    facts = {job.path: models.inspect_model(job.path) for job in jobs}
    read = ((f"model:{path.name}", path, facts[path].weights_sha256, "model") for path in facts)
    origin, results = log.origin(config, [log.source(*one) for one in read]), []
    for job in jobs:
        size = f"{facts[job.path].n_parameters / 1e9:.2g}B parameters"
        console.say(f"measuring {job.name} ({size}), quant {job.quant}")
        results.append(measure_apart(job))
        if results[-1].text:
            console.quote(f"it wrote {results[-1].text!r}")
    told = [asdict(result) for result in results]
    layout = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    out = config.output_dir / f"{log.name}.json"
    artefact.write_bytes(out, orjson.dumps(told, option=layout), origin)
    log.output(out, "speed")
    measured = [result for result in results if not result.skipped]
    said = f"{len(measured)} of {len(results)} measured; every sample is in {out}"
    metrics = _metrics(measured, log)
    return stage.Report(said, "done", (out,), {}, metrics, _tables(results), {"results": told})


def _jobs(config: ModelTestingConfig) -> "list[Job]":
    """Every model in every quantisation asked for. UserError when a model is missing."""
    from codetune import models
    from codetune.evaluation.fit import parse_size
    from codetune.evaluation.speed import Job

    counts = (config.short_tokens, 0 if config.no_long else config.long_tokens)
    common = config.model_dump(include={"prompt_tokens", "repeats", "warmup", "device"})
    common["gpu_bytes"] = None if config.gpu_mem is None else parse_size(config.gpu_mem)
    common["ram_bytes"] = config.cpu_budget_gb and int(config.cpu_budget_gb * 1e9)
    common["skip_large"] = config.skip_large_if_low_ram
    prompt, found = _prompt(config), []
    for name in config.models:
        path = models.find_model(_BY_SIZE.format(name.upper()) if name.lower() in SIZES else name)
        for quant in ("4bit", "8bit") if config.quant == "both" else (config.quant,):
            shown = Path(name).resolve().name
            found.append(
                Job(shown, path, quant, prompt, new_tokens=tuple(filter(None, counts)), **common)
            )
    return found


def _prompt(config: ModelTestingConfig) -> str | None:
    try:
        prompt = config.prompt_file.read_text("utf-8") if config.prompt_file else config.prompt
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{config.prompt_file}: no readable text file; check it") from None
    if prompt is not None and not prompt.strip():
        raise UserError("the prompt is empty; leave --prompt out for the built-in one")
    return prompt


def _tables(results: "list[Result]") -> "tuple[Table, ...]":
    from codetune.console import table

    speed, memory, skipped = [], [], []
    for result in results:
        who = [result.name, result.quant]
        if result.skipped:
            skipped.append([*who, result.skipped])
            continue
        decode = "\n".join(f"{spread} @{count}" for count, spread in result.decode.items())
        speed.append([*who, result.where["dtype"], result.prefill, decode, result.ttft_ms])
        sizes = (result.model_bytes, result.cpu_peak, result.gpu_peak)
        shown = ["-" if size is None else f"{size / 1e9:.2f}" for size in sizes]
        memory.append([*who, f"{result.load_s:.1f}", *shown])
    titled = (
        ("speed, median ± half the interquartile range", _COLUMNS, speed),
        ("memory in GB", ["model", "quant", "load s", "weights", "CPU peak", "GPU peak"], memory),
        ("skipped", ["model", "quant", "why"], skipped),
    )
    return tuple(table(title, columns, rows) for title, columns, rows in titled if rows)


def _metrics(measured: "list[Result]", log: "Run") -> dict[str, float]:
    """Medians by model and quantisation, for the run log."""
    found = {}
    for result in measured:
        decode = {f"decode_{count}": spread for count, spread in result.decode.items()}
        for what, spread in {"prefill": result.prefill, **decode}.items():
            key = f"{result.name}/{result.quant}/{what}"
            log.define(key, "tokens/s", "higher")
            found[key] = spread.median
    return found


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, ModelTestingConfig, run, stage="model-testing", version=1))
