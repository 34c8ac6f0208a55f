"""Logs and repositories in, a measured and merged model out: every stage in its order.

    sft, fim -> data -> check-lengths -> train -> compare -> merge (parity is proven inside it)

Each stage is a process of its own and is skipped when nothing it depends on has changed. The
first one that fails ends the pipeline with its exit code; a tuned model that is worse than its
base is not merged (exit 3, unless --force).

    ./scripts.sh pipeline --logs ~/.claude/projects --repo . --model_name_or_path DIR --name mine
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from codetune import stage
from codetune.config import Config, knob, resolve
from codetune.errors import RefusedError

if TYPE_CHECKING:
    from codetune.pipeline import Done
    from codetune.runlog import Run

SCRIPTS = Path(__file__).resolve().parents[1]
STAGES = {
    "sft": "data_prep/claude_logs/claude2sft.py",
    "fim": "data_prep/actual_code/repo2fim.py",
    "data": "data_prep/merge_and_split.py",
    "check-lengths": "testing/check_lengths.py",
    "train": "training/train_qlora.py",
    "compare": "testing/compare_baseline_vs_lora.py",
    "merge": "training/merge_lora.py",
}
Stage = Literal["sft", "fim", "data", "check-lengths", "train", "compare", "merge"]


class PipelineConfig(Config):
    """What the stages share, named once."""

    logs: list[Path] = knob([], "session files or folders of a coding assistant")
    repo: list[Path] = knob([], "git repositories or folders of code")
    model_name_or_path: str | None = knob(
        None, "base model, a folder or a hub name; the recipe's by default", place=True
    )
    name: str = knob("pipeline", "names data/*.<name>.jsonl and outputs/<name>", place=True)
    data_dir: Path = knob(Path("data"), "folder of the rows")
    train_config: Path = knob(
        Path("configs/train/default.yaml"), "training recipe", aliases=("preset", "recipe")
    )
    max_length: int | None = knob(
        None, "longest row; the recipe's own by default", unit="tokens", ge=16
    )
    chars_per_token: float = knob(2.5, "sessions are cut to max_length times this", gt=0)
    eval_frac: float = knob(0.1, "share of the groups held out", gt=0, lt=1)
    split_seed: int = knob(42, "another seed holds out other groups")
    generate_items: int = knob(64, "FIM rows that compare completes", unit="rows", ge=0)
    from_stage: Stage = knob("sft", "start here; earlier results are used", aliases=("from",))
    resume: Literal["auto", "never"] = knob("auto", "never: train from the start", place=True)
    force: bool = knob(False, "merge also what is worse than its base", place=True)
    summary: bool = knob(True, "tables of all stages and places at the end", place=True)

    @model_validator(mode="after")
    def _has_sources(self) -> PipelineConfig:
        if not self.logs and not self.repo:
            raise ValueError("nothing to learn from; pass --logs, --repo, or both")
        if not self.name or Path(self.name).name != self.name:
            raise ValueError(f"--name {self.name}: is part of file names, so it cannot hold a path")
        return self


def run(config: PipelineConfig, log: Run) -> stage.Report:
    """Runs the stages until one fails, and then ends as that one did."""
    from codetune import console, pipeline

    planned = commands(config)
    environment = {**os.environ, stage.PARENT_RUN: log.id}
    ended: list[pipeline.Done] = []
    for number, (name, arguments) in enumerate(planned.items(), 1):
        console.say(f"--- {number} of {len(planned)}: {name}")
        done = pipeline.execute(name, SCRIPTS / STAGES[name], arguments, environment)
        ended.append(done)
        log.metric(f"{name}_seconds", done.seconds)
        log.metric(f"{name}_peak_rss_mib", done.peak_rss_mib)
        if done.code:
            console.draw(pipeline.costs(ended))
            raise pipeline.failure(done)
        if done.report.get("verdict") == "worse" and not config.force:
            console.draw(pipeline.costs(ended))
            raise RefusedError(f"{done.headline}; not merged (--force merges it all the same)")
    return report(config, ended, log)


def report(config: PipelineConfig, ended: list[Done], log: Run) -> stage.Report:
    """What was made, what it took, and the verdict."""
    from codetune import pipeline

    judged = next((done for done in ended if "verdict" in done.report), None)
    verdict = judged.report["verdict"] if judged else "not compared"
    log.tag(verdict)
    tables = (pipeline.costs(ended), pipeline.places(config.name, config.data_dir))
    return stage.Report(
        headline=f"outputs/{config.name}: {judged.headline if judged else verdict}",
        status="up to date" if all(done.status == "up to date" for done in ended) else "done",
        tables=tables if config.summary else (),
        details={"verdict": verdict, "stages": [asdict(done) for done in ended]},
    )


def commands(config: PipelineConfig) -> dict[str, list[str]]:
    """The arguments of each stage from `from_stage` on, in order."""
    from codetune.models import find_model
    from codetune.training.recipe import TrainConfig

    recipe, _ = resolve(TrainConfig, config.train_config, {})
    max_length = config.max_length or recipe.max_length
    base = find_model(config.model_name_or_path or recipe.model_name_or_path)
    model, longest = ["--model_name_or_path", base], ["--max_length", max_length]
    name, data, out = config.name, config.data_dir, Path("outputs", config.name)
    rows = {kind: data / f"{name}.{kind}.jsonl" for kind in ("sft", "fim")}
    made = [rows[kind] for kind, given in (("sft", config.logs), ("fim", config.repo)) if given]
    held_out, adapter = ["--eval_file", data / f"eval.{name}.jsonl"], ["--adapter", out / "adapter"]
    both = ["--train_file", data / f"train.{name}.jsonl", *held_out]
    shares = ["--eval_frac", config.eval_frac, "--seed", config.split_seed]
    scored = ["--generate_items", config.generate_items, "--output_dir", out / "report"]
    chars = ["--max_chars", int(config.chars_per_token * max_length)]
    every: dict[str, list[Any]] = {
        "sft": ["--src", *config.logs, "--out", rows["sft"], *chars],
        "fim": ["--repo", *config.repo, "--out", rows["fim"]],
        "data": [*made, "--out_dir", data, "--name", name, *shares],
        "check-lengths": [*both, *model, *longest, "--output_dir", out / "lengths"],
        "train": [
            *("--config", config.train_config, "--run_name", name, "--resume", config.resume),
            *(*both, *model, *longest),
        ],
        "compare": [*held_out, *model, *longest, *adapter, *scored],
        "merge": [*model, *adapter, *held_out, "--output_dir", out / "merged"],
    }
    unused = {"sft": not config.logs, "fim": not config.repo}
    later = list(STAGES)[list(STAGES).index(config.from_stage) :]
    names = [name for name in later if not unused.get(name)]
    return {name: [str(word) for word in every[name]] for name in names}


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, PipelineConfig, run, stage="pipeline"))
