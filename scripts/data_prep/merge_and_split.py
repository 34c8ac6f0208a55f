"""Merge row files, drop what is invalid or double, and split into train and eval by group.

In:  any number of .jsonl, .jsonl.zst or .jsonl.gz files: our rows, or OpenAI messages, ShareGPT,
     prompt/completion. This stage's own outputs among them are left out.
Out: data/train.jsonl, data/eval.jsonl (and data/train.NAME.jsonl ... with --name), and a split
     certificate that proves, from the files alone, that no group and no content is on both sides.

    python scripts/data_prep/merge_and_split.py data/*.jsonl --name full --eval_frac 0.15
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from codetune import stage
from codetune.config import Config, knob
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.artefact import Origin
    from codetune.console import Table
    from codetune.corpus.intake import Intake
    from codetune.corpus.split import Split
    from codetune.runlog import Run


class DataConfig(Config):
    """What to merge and how to split it."""

    inputs: list[Path] = knob([], "row files (none: all in --out_dir)", positional=True)
    out_dir: Path = knob(Path("data"), "folder of the outputs")
    name: str | None = knob(None, "also write train.NAME.jsonl, eval.NAME.jsonl, split.NAME.json")
    eval_frac: float = knob(0.1, "share of the groups held out", gt=0, lt=1)
    eval_size: int | None = knob(None, "hold out this many rows instead", unit="rows", ge=1)
    min_eval: int = knob(1, "hold out so many at least, half of all at most", unit="rows", ge=1)
    seed: int = knob(42, "another seed is another split")
    rejects: Path | None = knob(None, "file for dropped rows, each with its reason")
    force: bool = knob(False, "split anew, and replace files that others made", place=True)
    verify: bool = knob(False, "only check the split certificate against the files", place=True)


def run(config: DataConfig, log: Run) -> stage.Report:
    """Merges and splits, or verifies an earlier split."""
    from codetune import artefact, console
    from codetune.corpus import publish, sources

    if config.name is not None and (not config.name or Path(config.name).name != config.name):
        raise UserError(f"--name {config.name}: is part of a file name, so it cannot hold a path")
    if config.verify:
        return verify(config)
    targets = (*publish.outputs(config.out_dir, config.name), *filter(None, [config.rejects]))
    chosen = sources.choose(config.inputs or sources.find(config.out_dir), targets)
    for path, why in chosen.left_out:
        console.say(f"left out: {path} ({why})")
    origin = log.origin(config, [log.input(path, "rows") for path in chosen.files])
    current = not config.force and all(artefact.is_current(path, origin) for path in targets)
    made = None if current else build(config, chosen.files, origin)
    for path in targets:
        log.output(path, "rejects" if path == config.rejects else path.name.partition(".")[0])
    return made or stage.Report(f"{targets[0]} and {targets[1]}", "up to date", targets)


def build(config: DataConfig, files: tuple[Path, ...], origin: Origin) -> stage.Report:
    """Reads all rows, splits them, and writes every output."""
    from codetune import artefact, console
    from codetune.corpus import certificate, intake, publish, split

    out_dir = config.out_dir
    parameters = config.model_dump(include={"eval_frac", "eval_size", "min_eval", "seed"})
    wanted = split.Wanted(config.eval_frac, config.eval_size, config.min_eval)
    before: tuple[set[bytes], set[bytes]] = (set(), set())
    if not config.force:
        before = certificate.previous_groups(certificate.path_of(out_dir, config.name), parameters)
    with artefact.scratch_file(out_dir) as texts, artefact.scratch_file(out_dir) as dropped:
        reader = intake.Intake(texts, config.seed)
        if config.rejects:
            reader.on_reject = lambda reject: dropped.write(reject.encode() + b"\n")
        with console.progress("files read", len(files)) as bar:
            for path in files:
                if not reader.take_file(path):
                    console.warn(f"{path}: holds no rows")
                bar.advance()
        made = split.divide(reader.records(), wanted, *before)
        if config.eval_size is None and made.fraction != config.eval_frac:
            console.say(f"note: --eval_frac gives no usable eval side; {made.fraction:.3f} is used")
        for reason, record in made.dropped():
            reader.reject(record, reason)
        if not config.force:
            publish.refuse_foreign(out_dir, config.name, reader, made)
        outputs = publish.write(out_dir, config.name, reader, made, parameters, origin)
        if config.rejects:
            dropped.seek(0)
            artefact.write_rows(config.rejects, (line[:-1] for line in dropped), origin)
            outputs = (*outputs, config.rejects)
    return report(made, reader, outputs)


def report(made: Split, reader: Intake, outputs: tuple[Path, ...]) -> stage.Report:
    """Sizes of both sides, by task and source."""
    sizes = {
        "train_rows": len(made.train),
        "eval_rows": len(made.eval),
        "train_groups": len(set(made.train["group"])),
        "eval_groups": len(set(made.eval["group"])),
    }
    headline = (
        f"{sizes['train_rows']:,} rows of {sizes['train_groups']:,} groups to train, "
        f"{sizes['eval_rows']:,} rows of {sizes['eval_groups']:,} groups to eval"
    )
    return stage.Report(
        headline,
        outputs=outputs,
        counts={"rows": reader.counts},
        metrics=sizes,
        tables=(by_kind(made, reader),),
        details={"fraction": made.fraction},
    )


def by_kind(made: Split, reader: Intake) -> Table:
    """Rows of each side per task and source."""
    from codetune import console

    rows = []
    for (task, source), position in sorted(reader.kinds.items()):
        sides = [int((side["kind"] == position).sum()) for side in (made.train, made.eval)]
        if sides[0] and not sides[1]:
            console.warn(f"no {task} row of {source} is held out; raise --eval_frac to measure it")
        rows.append([task, source or "-", *(f"{n:,}" for n in sides)])
    return console.table("rows by task and source", ["task", "source", "train", "eval"], rows)


def verify(config: DataConfig) -> stage.Report:
    """Recomputes the certificate from the row files; refuses on any overlap or difference."""
    from codetune.corpus import certificate

    path = certificate.path_of(config.out_dir, config.name)
    found = certificate.problems(path)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        refused = f"{path}: {found[0]}{more}; run the data stage again"
        return stage.Report(str(path), refused=refused, details={"problems": found})
    sizes = {side: certificate.load(path)[side]["rows"] for side in certificate.SIDES}
    shown = f"{path}: holds; {sizes['train']:,} train and {sizes['eval']:,} eval rows share nothing"
    return stage.Report(shown, outputs=(path,))


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, DataConfig, run, stage="data", version=1))
