"""Assistant logs into chat rows.

In: sessions of Claude Code, Codex CLI and Gemini CLI, exports of claude.ai and ChatGPT, chats of
data sets: files, folders (searched below), zip archives or quoted patterns. Told apart by their
content, read only.
Out: data/claude.sft.jsonl; one row a turn (a prompt and what the assistant then did), with tool
calls, inferred tool schemas and as much of what came before as fits. Secrets, e-mail addresses and
account names are replaced first; nobody can promise to find all of them, so look at the rows.

  python scripts/data_prep/claude_logs/claude2sft.py --src ~/.claude/projects --out data/a.sft.jsonl
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codetune import stage
from codetune.config import Config, knob
from codetune.errors import UserError

if TYPE_CHECKING:
    from codetune.logs.convert import Account
    from codetune.runlog import Run

SYSTEM_PROMPT = "You are a coding assistant. You work in the user's project and report briefly."


class Claude2SftConfig(Config):
    """Knobs of claude2sft."""

    src: list[Path] = knob(
        None, "logs: files, folders, .zip or quoted patterns", required=True, aliases=("input",)
    )
    out: Path = knob(Path("data/claude.sft.jsonl"), "rows to write", aliases=("output",))
    rejects: Path | None = knob(None, "also write what became no row, and why (JSONL)")
    system_prompt: str = knob(
        SYSTEM_PROMPT, "first message of every row; logs hold none", text=True
    )
    max_chars: int = knob(
        24_000, "longest row, about 4 to a token; the rest is history", unit="characters", ge=1_000
    )
    max_tool_chars: int = knob(
        6_000, "longest tool output; its middle is cut", unit="characters", ge=200
    )
    reasoning: Literal["drop", "keep"] = knob("drop", "what happens to thinking text")
    subagents: Literal["separate", "skip"] = knob("separate", "subagents as their own samples")
    limit: int | None = knob(None, "stop after so many rows", unit="rows", ge=1)


def run(config: Claude2SftConfig, log: "Run") -> stage.Report:
    """Finds the logs, learns from all of them, writes the rows."""
    from codetune import artefact
    from codetune.logs.convert import Account
    from codetune.logs.discover import discover
    from codetune.sample import digest, dump

    account = Account()
    files = discover(config.src, account.files)
    # The names of log folders tell whose they are and what was worked on: no manifest has them.
    content = {path: artefact.sha256_file(path) for path in {file.path for file in files}}
    inputs = [
        log.source(f"log:{digest(f.name, n=16)}", f.path.absolute(), content[f.path], "session")
        for f in files
    ]
    origin = log.origin(config, inputs)
    wanted = {config.out: "chat", **({config.rejects: "rejects"} if config.rejects else {})}
    if all(artefact.is_current(path, origin) for path in wanted):
        log.outputs(wanted)
        return stage.Report(
            f"{config.out} holds the rows already", status="up to date", outputs=tuple(wanted)
        )

    rejected: list[dict[str, Any]] = []
    counts = account.by_unit()
    rows = _rows(config, files, account, rejected)
    artefact.write_rows(config.out, map(dump, rows), origin, counts)
    if config.rejects:
        artefact.write_rows(config.rejects, map(dump, rejected), origin)
    log.outputs(wanted)
    return _report(config.out, account, tuple(wanted))


def _rows(
    config: Claude2SftConfig,
    files: list[Any],
    account: "Account",
    rejected: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """The rows, in the order of the files. UserError when there are none at all."""
    from itertools import islice

    from codetune import console
    from codetune.logs.convert import convert, survey
    from codetune.logs.rows import RowOptions
    from codetune.redaction import redact_text

    subagents = config.subagents == "separate"
    with console.progress("reading logs", len(files)) as bar:
        learned = survey(files, account.files, subagents=subagents, on_file=bar.advance)
    options = RowOptions(
        config.system_prompt, config.max_chars, config.max_tool_chars, config.reasoning
    )

    def reject(row: dict[str, Any], reason: str) -> None:
        if config.rejects:
            rejected.append({**row, "reason": reason})

    with console.progress("writing rows", len(learned.readable)) as bar:
        rows = convert(
            learned, options, account, subagents=subagents, reject=reject, on_file=bar.advance
        )
        yield from islice(rows, config.limit)
    if config.rejects:
        for name, line, why in account.memory.faults:
            shown, _ = redact_text(name, learned.identity)
            rejected.append({"file": shown, "line": line, "reason": why})
    if not account.rows.kept:
        raise UserError(_nothing(config, account))


def _nothing(config: Claude2SftConfig, account: "Account") -> str:
    named = ", ".join(str(path) for path in config.src)
    dropped = {**account.files.dropped, **account.made.turns.dropped}
    reasons = ", ".join(f"{n} {why}" for why, n in sorted(dropped.items()))
    return f"{named}: no conversation to learn from ({reasons or 'no records'}); check --src"


def _report(out: Path, account: "Account", outputs: tuple[Path, ...]) -> stage.Report:
    from codetune import console

    redacted = sorted(account.redacted.items(), key=lambda item: (-item[1], item[0]))
    parts = sorted(account.memory.blocks.items())
    rows, steps = account.rows.kept, account.made.steps.kept
    return stage.Report(
        f"{rows:,} rows with {steps:,} trained steps of {account.files.kept:,} files in {out}",
        outputs=outputs,
        counts=account.by_unit(),
        metrics={"rows": rows, "trained_steps": steps, "redacted": sum(account.redacted.values())},
        tables=(
            console.table("replaced", ["rule", "findings"], [[k, f"{n:,}"] for k, n in redacted]),
            console.table(
                "parts of messages", ["part", "count"], [[k, f"{n:,}"] for k, n in parts]
            ),
        ),
    )


if __name__ == "__main__":
    raise SystemExit(stage.main(__doc__, Claude2SftConfig, run, stage="claude2sft", version=1))
