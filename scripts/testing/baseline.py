"""A base by itself on held-out rows: the numbers a tuned model has to beat.

Goes in: a model and held-out rows. Comes out: outputs/baseline/<model>-<rows>/summary.json and
rows.jsonl, in a folder named by the model's weights and the rows, so that nothing is measured
twice. With --prompt or --prompt-file the answers are shown, and nothing is scored.

    ./scripts.sh baseline --model_name_or_path PATH --eval_file data/eval.jsonl
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import stage
from codetune.evaluation.settings import BaselineConfig

if TYPE_CHECKING:
    from codetune.artefact import Counts, Origin
    from codetune.models import LoadedModel, ModelFacts
    from codetune.runlog import Run
    from codetune.tokens import Tokenizer

SUMMARY, ROWS = "summary.json", "rows.jsonl"


def run(config: BaselineConfig, log: Run) -> stage.Report:
    """Measures, or says that it was done; a person's questions are only answered."""
    from codetune import artefact, models, tokens
    from codetune.evaluation import questions

    base = models.inspect_model(models.find_model(config.model_name_or_path))
    tok = tokens.load(base.path)
    asked = questions.read(config.prompt, config.prompt_file)
    if asked:
        return _answers(config, base, tok, asked)
    held_out = log.source("eval", config.eval_file)
    inputs = [
        log.source("base", base.path, base.weights_sha256),
        held_out,
        log.source("tokenizer", base.path / "tokenizer.json", tok.fingerprint),
    ]
    origin = log.origin(config, inputs)
    folder = config.output_dir / f"{base.weights_sha256[:12]}-{held_out.sha256[:12]}"
    files = (folder / SUMMARY, folder / ROWS)
    if all(artefact.is_current(file, origin) for file in files):
        log.outputs(dict.fromkeys(files, "baseline"))
        found = json.loads(files[0].read_bytes())
        return _told(log, found, status="up to date", outputs=files)
    found, counts = _measured(config, base, tok, folder, origin)
    log.outputs(dict.fromkeys(files, "baseline"))
    return _told(log, found, outputs=files, counts={"eval rows": counts})


def _loaded(config: BaselineConfig, base: ModelFacts) -> LoadedModel:
    from codetune import console, models

    loaded = models.load_base(base.path, config.quant, config.dtype, config.device)
    console.say(f"base in {loaded}")
    return loaded


def _answers(
    config: BaselineConfig, base: ModelFacts, tok: Tokenizer, asked: list[str]
) -> stage.Report:
    from codetune.evaluation import questions

    answers = questions.ask(_loaded(config, base).model, asked, tok, config.max_new_tokens)
    questions.show(asked, {"base": answers})
    told = [{"question": q, "base": a} for q, a in zip(asked, answers, strict=True)]
    return stage.Report(f"{len(asked)} answered, nothing scored", details={"answers": told})


def _measured(
    config: BaselineConfig, base: ModelFacts, tok: Tokenizer, folder: Path, origin: Origin
) -> tuple[dict[str, Any], Counts]:
    from codetune import artefact
    from codetune.evaluation import metrics
    from codetune.evaluation.measure import described, held_out, measure

    started = time.monotonic()
    items, counts = held_out(config, tok)
    loaded = _loaded(config, base)
    rows = measure(loaded.model, items, tok, config, "base")
    found = {
        "metrics": metrics.means(rows),
        "n_rows": len(rows),
        "n_groups": len({row.group for row in rows}),
        "settings": described(config, loaded),
        "seconds": time.monotonic() - started,
    }
    artefact.write_rows(folder / ROWS, (row.as_line() for row in rows), origin, {"rows": counts})
    document = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    artefact.write_text(folder / SUMMARY, document + "\n", origin, {"rows": counts})
    return found, counts


def _told(log: Run, found: dict[str, Any], **more: Any) -> stage.Report:
    from codetune.evaluation import tables
    from codetune.evaluation.metrics import METRICS

    shown = found["metrics"]
    for name in shown:
        log.define(name, METRICS[name].unit, METRICS[name].direction, METRICS[name].version)
    table = tables.baseline_table("base", shown)
    loss = shown["loss"]["value"]
    headline = f"loss {loss:.4f} nats per trained token on {found['n_rows']:,} rows"
    return stage.Report(
        headline,
        metrics={name: metric["value"] for name, metric in shown.items()},
        tables=(table,),
        **more,
    )


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, BaselineConfig, run, stage="baseline"))
