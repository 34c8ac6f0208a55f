"""Merge a LoRA adapter into its unquantised base, and prove that the result is the same model.

In:  a base model folder (safetensors, 16 or 32-bit) and an adapter trained on it; without flags
     the newest finished training run and the base it names.
Out: a model folder that any tool loads, with parity.json: its logits against base plus adapter.
     A merge that loses more than rounding is refused and not published.

    ./scripts.sh merge --adapter outputs/my-run/adapter --output_dir outputs/my-run/merged
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codetune import stage
from codetune.config import Config, knob
from codetune.errors import RefusedError, UserError

if TYPE_CHECKING:
    from codetune.artefact import Origin
    from codetune.merging import Adapter, Proof
    from codetune.models import ModelFacts
    from codetune.runlog import Run


class MergeConfig(Config):
    """What to merge, and how to prove it."""

    model_name_or_path: str | None = knob(
        None,
        "unquantised base (none: the one the adapter names)",
        aliases=("base_model",),
        place=True,
    )
    adapter: Path | None = knob(None, "adapter folder (none: of the newest finished training run)")
    output_dir: Path | None = knob(
        None, "merged model (none: `merged` beside the adapter)", aliases=("output",)
    )
    eval_file: Path | None = knob(None, "rows to compare logits on (none: built-in text)")
    parity_dtype: Literal["float32", "float16", "bfloat16"] = knob(
        "float32", "type to compute logits in; 16 bits halve the memory and blur the check"
    )
    compare_4bit: bool = knob(True, "also measure the distance to the 4-bit model that was trained")


def run(config: MergeConfig, log: Run) -> stage.Report:
    """Merges, proves and publishes; or says that the merged model is up to date."""
    from codetune import artefact, console, merging, models
    from codetune.runlog import newest_adapter

    place = config.adapter or newest_adapter(Path.cwd())
    adapter = merging.load_adapter(place)
    typed, name = config.model_name_or_path is not None, config.model_name_or_path
    name = name or adapter.base_name
    if name is None:
        raise UserError(f"{place}: names no base; pass --model_name_or_path")
    base = models.inspect_model(models.find_model(name, download=typed))
    out = config.output_dir or place.parent / "merged"
    merging.check_target(out, base.path, place)
    console.say(f"base {base.path}, adapter {place}, into {out}")
    if doubt := merging.check_base(adapter, base):
        console.warn(doubt)
    inputs = [log.source("base", base.path, base.weights_sha256)]
    inputs += [artefact.input_file(file) for file in merging.adapter_files(place)]
    inputs += [log.input(config.eval_file, "eval")] if config.eval_file else []
    log.source("adapter", place)
    origin = log.origin(config, inputs)
    if artefact.is_current(out, origin):
        log.output(out, "model")
        return stage.Report(f"{out} holds this base and adapter", "up to date", (out,))
    proof = merge(config, base, adapter, out, origin)
    log.output(out, "model")
    return report(out, adapter, proof)


def merge(
    config: MergeConfig, base: ModelFacts, adapter: Adapter, out: Path, origin: Origin
) -> Proof:
    """Writes the merged model to a staging folder and publishes it once the proof holds."""
    from codetune import artefact, console, merging

    merging.check_memory(base, config.parity_dtype)
    ids = merging.prompts(base.path, config.eval_file)
    with artefact.staged_directory(out, origin) as staging:
        for file in merging.model_files(base):
            artefact.write_chunks(staging / file.name, merging.file_chunks(file))
        with console.progress("shards merged", len(base.weight_files)) as bar:
            merging.merge_weights(base, adapter, staging, bar.advance)
        console.say(f"comparing logits of {len(ids)} prompts in {config.parity_dtype}")
        proof = merging.prove(
            base, adapter.path, staging, ids, config.parity_dtype, with_live=config.compare_4bit
        )
        artefact.write_plain(staging / "parity.json", json.dumps(proof.as_dict(), indent=1))
        if not proof.holds:
            raise RefusedError(
                f"the merged model is not base plus adapter: mean KL {proof.merged.mean_kl:.1e}, "
                f"at most {proof.largest_kl:.1e} is rounding; {out} was not written"
            )
    return proof


def report(out: Path, adapter: Adapter, proof: Proof) -> stage.Report:
    """The distances, and what each of them stands for."""
    from codetune import console

    compared = [("merged", proof.merged), ("base without adapter", proof.learned)]
    if proof.live:
        compared.append(("merged, from 4-bit + adapter", proof.live))
    rows = [
        [
            name,
            f"{c.mean_kl:.2e}",
            f"{c.max_kl:.2e}",
            f"{c.max_delta:.2e}",
            f"{c.top1_agreement:.1%}",
        ]
        for name, c in compared
    ]
    columns = ["model", "mean KL", "max KL", "max logit delta", "same top token"]
    title = f"distance from base + adapter over {proof.merged.tokens} tokens"
    return stage.Report(
        f"{out}: {len(adapter.deltas)} weights changed; mean KL {proof.merged.mean_kl:.1e} to base "
        f"plus adapter, {proof.largest_kl:.1e} allowed",
        outputs=(out,),
        metrics={
            "parity_mean_kl": proof.merged.mean_kl,
            "parity_max_delta": proof.merged.max_delta,
            "parity_top1_agreement": proof.merged.top1_agreement,
        },
        tables=(console.table(title, columns, rows),),
        details={"parity": proof.as_dict()},
    )


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, MergeConfig, run, stage="merge", version=1))
