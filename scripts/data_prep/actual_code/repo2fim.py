"""Code of git repositories into fill-in-the-middle rows.

In: one or more repositories (work tree or bare; what is committed at --rev), or plain folders.
Out: data/<name>.fim.jsonl; prefix + middle + suffix of a row is the whole file, byte for byte. It
is cut to a model's window only when it is tokenised. Nothing of a repository is executed.

  python scripts/data_prep/actual_code/repo2fim.py --repo /path/to/repo --out data/train.fim.jsonl
"""

from pathlib import Path
from typing import TYPE_CHECKING

from codetune import stage
from codetune.config import Config, knob
from codetune.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codetune.code.fim import Account
    from codetune.code.tree import SourceTree
    from codetune.runlog import Run
    from codetune.sample import FimRow


class Repo2FimConfig(Config):
    """Knobs of repo2fim."""

    repo: list[Path] = knob(None, "git repositories or folders of code", required=True)
    rev: str = knob("HEAD", "branch, tag or commit to read")
    out: Path | None = knob(None, "rows to write; by default data/<name>.fim.jsonl")
    rejects: Path | None = knob(None, "also write which files were left out and why (JSONL)")
    seed: int = knob(42, "which spans are chosen")
    per_file: int = knob(6, "most rows from one file", unit="rows", ge=1, le=64)
    bytes_per_row: int = knob(2_048, "a file gives one row per so much", unit="bytes", ge=1)
    min_middle: int = knob(32, "shortest middle; about 8 tokens", unit="bytes", ge=1)
    max_middle: int = knob(800, "longest middle; about 200 tokens", unit="bytes", ge=1)
    line_share: float = knob(0.25, "spans of lines rather than of syntax", ge=0, le=1)
    min_bytes: int = knob(200, "smaller files teach little", unit="bytes", ge=0)
    max_bytes: int = knob(1_000_000, "larger files are data or generated", unit="bytes", ge=1)
    max_context_chars: int | None = knob(
        None,
        "without effect, for old commands: rows keep whole files, max_length cuts in tokens later",
        aliases=("max_len",),
        place=True,
    )


def run(config: Repo2FimConfig, log: "Run") -> stage.Report:
    """Reads the repositories, chooses spans, writes the rows."""
    from codetune import artefact, console
    from codetune.code.fim import Account
    from codetune.code.sources import open_source
    from codetune.sample import dump

    if config.min_middle > config.max_middle:
        raise UserError("--min_middle is larger than --max_middle; swap them")
    if config.max_context_chars is not None:
        console.warn("--max_context_chars has no effect: rows keep whole files; see --help")
    trees = [open_source(path, config.rev) for path in config.repo]
    for path, tree in zip(config.repo, trees, strict=True):
        found_at = artefact.Input(str(path.absolute()), tree.rev or tree.fingerprint)
        log.input(found_at, "commit" if tree.rev else "folder")
    trees.sort(key=lambda tree: (tree.name, tree.identity, tree.rev or ""))
    inputs = [artefact.Input(f"repo:{t.name}@{t.rev or 'folder'}", t.fingerprint) for t in trees]
    origin = log.origin(config, inputs)
    out = config.out or Path("data") / f"{trees[0].name if len(trees) == 1 else 'repos'}.fim.jsonl"
    wanted = {out: "fim", **({config.rejects: "rejects"} if config.rejects else {})}
    if all(artefact.is_current(path, origin) for path in wanted):
        log.outputs(wanted)
        return stage.Report(f"{out} holds the rows already", status="up to date", outputs=(out,))

    account = Account(rejects=[] if config.rejects else None)
    counts = {"files": account.files, "rows": account.rows}
    found: list[list[object]] = []
    lines = map(dump, _rows(trees, config, account, found))
    artefact.write_rows(out, lines, origin, counts)
    if config.rejects:
        artefact.write_rows(config.rejects, map(dump, account.rejects or ()), origin)
    log.outputs(wanted)
    kinds = [[kind, f"{n:,}"] for kind, n in sorted(account.kinds.items())]
    return stage.Report(
        f"{account.rows.kept:,} rows of {account.files.kept:,} files in {out}",
        outputs=tuple(wanted),
        counts=counts,
        metrics={"rows": account.rows.kept, "files": account.files.kept},
        tables=(
            console.table("repositories", ["name", "revision", "paths", "files", "rows"], found),
            console.table("spans", ["kind", "rows"], kinds),
        ),
    )


def _rows(
    trees: "list[SourceTree]",
    config: Repo2FimConfig,
    account: "Account",
    found: list[list[object]],
) -> "Iterator[FimRow]":
    """The rows of all trees; one line of `found` for each. UserError when there are none at all."""
    from codetune import console
    from codetune.code.fim import rows
    from codetune.code.selection import Limits
    from codetune.code.spans import Plan

    limits = Limits(config.min_bytes, config.max_bytes)
    lengths = (config.per_file, config.min_middle, config.max_middle)
    plan = Plan(*lengths, config.line_share, config.bytes_per_row)
    with console.progress("reading code", sum(len(tree.entries) for tree in trees)) as bar:
        for tree in trees:
            files, made = account.files.kept, account.rows.kept
            yield from rows(tree, limits, plan, config.seed, account)
            bar.advance(len(tree.entries))
            files, made = account.files.kept - files, account.rows.kept - made
            found.append([tree.name, (tree.rev or "-")[:12], len(tree.entries), files, made])
            if not made:
                console.warn(f"{tree.name}: no usable Python code; see the table of reasons")
    if not account.rows.kept:
        names = ", ".join(str(path) for path in config.repo)
        reasons = ", ".join(f"{n} {why}" for why, n in sorted(account.files.dropped.items()))
        raise UserError(f"{names}: no usable Python code ({reasons or 'no files'}); check --repo")


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, Repo2FimConfig, run, stage="repo2fim", version=1))
