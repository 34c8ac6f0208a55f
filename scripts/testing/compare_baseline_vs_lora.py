"""Adapter against its base on the same held-out rows, in one model load.

Goes in: an adapter (the newest finished training run's by default) and held-out rows.
Comes out: outputs/<run>/report/compare.{json,md,html} and rows.jsonl, with a verdict (better,
inconclusive or worse) drawn from the loss on trained tokens. With --prompt or --prompt-file the
two answers are shown, and nothing is scored.

    ./scripts.sh compare --adapter outputs/default/adapter --eval_file data/eval.jsonl --gate
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import stage
from codetune.evaluation.settings import CompareConfig

if TYPE_CHECKING:
    from codetune.artefact import Counts, Origin
    from codetune.evaluation.adapter import AdapterFacts
    from codetune.models import LoadedModel, ModelFacts
    from codetune.runlog import Run
    from codetune.tokens import Tokenizer

EXIT = {"better": stage.DONE, "worse": stage.REFUSED, "inconclusive": stage.INCONCLUSIVE}


@dataclass(frozen=True)
class Work:
    """What is compared."""

    config: CompareConfig
    adapter: AdapterFacts
    base: ModelFacts
    tok: Tokenizer


def run(config: CompareConfig, log: Run) -> stage.Report:
    """Compares, or says that the report is up to date; a person's questions are only answered."""
    from codetune import artefact, tokens
    from codetune.evaluation import adapter, questions, report
    from codetune.runlog import newest_adapter

    tuned = adapter.read(config.adapter or newest_adapter(Path.cwd()))
    base = adapter.base_of(tuned, config.model_name_or_path)
    work = Work(config, tuned, base, tokens.load(base.path))
    asked = questions.read(config.prompt, config.prompt_file)
    if asked:
        return _answers(work, asked)
    held_out = log.source("eval", config.eval_file)
    adapter.check_held_out(tuned, config.eval_file, held_out.sha256)
    inputs = [
        log.source("adapter", tuned.path, tuned.sha256),
        log.source("base", base.path, base.weights_sha256),
        held_out,
        log.source("tokenizer", base.path / "tokenizer.json", work.tok.fingerprint),
    ]
    origin = log.origin(config, inputs)
    folder = config.output_dir or Path("outputs") / tuned.run_name / "report"
    files = report.files(folder)
    if all(artefact.is_current(file, origin) for file in files):
        log.outputs(dict.fromkeys(files, "report"))
        found = json.loads((folder / report.JSON).read_bytes())
        return _told(config, log, found, status="up to date", outputs=files)
    found, counts = _compared(work, folder, origin)
    log.outputs(dict.fromkeys(files, "report"))
    return _told(config, log, found, outputs=files, counts={"eval rows": counts})


def _loaded(work: Work) -> tuple[LoadedModel, Any]:
    """The base, and the base with the adapter on it: one set of weights."""
    from codetune import console, models

    quant = work.adapter.quant_of(work.config.quant)
    base = models.load_base(
        work.base.path,
        quant,
        work.config.dtype,
        work.config.device,
        quant_type=work.adapter.quant_type,
        double_quant=work.adapter.double_quant,
    )
    console.say(f"base in {base}")
    return base, models.attach_adapter(base, work.adapter.path)


def _answers(work: Work, asked: list[str]) -> stage.Report:
    from codetune.evaluation import questions

    (_, model), longest = _loaded(work), work.config.max_new_tokens
    with model.disable_adapter():
        base = questions.ask(model, asked, work.tok, longest)
    tuned = questions.ask(model, asked, work.tok, longest)
    questions.show(asked, {"base": base, "tuned": tuned})
    told = [
        {"question": question, "base": before, "tuned": after}
        for question, before, after in zip(asked, base, tuned, strict=True)
    ]
    return stage.Report(f"{len(asked)} answered, nothing scored", details={"answers": told})


def _compared(work: Work, folder: Path, origin: Origin) -> tuple[dict[str, Any], Counts]:
    from codetune.evaluation import report
    from codetune.evaluation.comparison import compare
    from codetune.evaluation.measure import described, held_out, measure

    started, config = time.monotonic(), work.config
    items, counts = held_out(config, work.tok)
    loaded, model = _loaded(work)
    with model.disable_adapter():
        base = measure(model, items, work.tok, config, "base")
    tuned = measure(model, items, work.tok, config, "tuned")
    found = compare(
        base,
        tuned,
        seed=config.seed,
        settings={"adapter": str(work.adapter.path), **described(config, loaded)},
        seconds=time.monotonic() - started,
    )
    title = f"{work.adapter.run_name} against its base"
    report.write(found, folder, title, origin, {"rows": counts})
    return found.as_dict(), counts


def _told(config: CompareConfig, log: Run, found: dict[str, Any], **more: Any) -> stage.Report:
    from codetune.evaluation import metrics, tables

    deltas = {name: metrics.Delta(**values) for name, values in found["metrics"].items()}
    logged = metrics.to_log(deltas)
    for metric in logged:
        log.define(metric.key, metric.unit, metric.direction, metric.version)
    return stage.Report(
        found["headline"],
        metrics={metric.key: metric.value for metric in logged},
        tables=(tables.console_table("adapter against base", tables.metric_rows(deltas)),),
        details={"verdict": found["verdict"], "reason": found["reason"]},
        refused=found["headline"] if config.gate and found["verdict"] == "worse" else None,
        exit_code=EXIT[found["verdict"]] if config.gate else stage.DONE,
        **more,
    )


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, CompareConfig, run, stage="compare"))
