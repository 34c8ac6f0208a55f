"""What every stage script's `main` shares.

Flags and YAML, `.env`, the run-log record, the report on the screen or as JSON, signals, and the
translation of errors into one line and an exit code.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from codetune import console, signals
from codetune.config import (
    Config,
    Parser,
    differences,
    parse_flags,
    resolve,
    text_knobs,
)
from codetune.errors import RefusedError, ToldError, UserError
from codetune.runlog import said
from codetune.runlog.events import console_path

if TYPE_CHECKING:
    from codetune.artefact import Counts
    from codetune.runlog import Run

C = TypeVar("C", bound=Config)
DONE, BUG, USER, REFUSED, INCONCLUSIVE = 0, 1, 2, 3, 4
# No library below us may phone home, warn about forks, or fetch kernels behind our back.
_QUIET_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
    # Nothing here is compiled, and loading the compiler takes seconds at every start.
    "TORCHDYNAMO_DISABLE": "1",
}
# Their notes repeat per product or per step and leave the user nothing to do.
_QUIET_LOGGERS = ("accelerate", "bitsandbytes", "peft", "transformers", "trl")
PARENT_RUN = "CODETUNE_PARENT_RUN"


@dataclass(frozen=True)
class Report:
    """What a stage tells at its end: to a person as tables, to a machine as JSON."""

    headline: str
    status: Literal["done", "up to date"] = "done"
    outputs: tuple[Path, ...] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: tuple[console.Table, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None
    exit_code: int = DONE

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "headline": self.headline,
            "status": "refused" if self.refused else self.status,
            "refused": self.refused,
            "outputs": [str(path) for path in self.outputs],
            "counts": {unit: counts.as_dict() for unit, counts in self.counts.items()},
            "metrics": dict(self.metrics),
            "tables": {t.title: t.as_dicts() for t in self.tables},
            **self.details,
        }


def main(  # noqa: PLR0913 - what a stage may say about itself
    doc: str | None,
    config_type: type[C],
    run: Callable[[C, Run], Report],
    *,
    stage: str,
    version: int = 1,
    default_config: Path | None = None,
    check: Callable[[C], None] | None = None,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a stage from its command line; returns the exit code.

    Without `--config`, `default_config` is read when it is there, and said. `--dry_run` shows the
    knobs, after `check` has refused what the stage would refuse; nothing is written.
    0 done or up to date, 1 a bug, 2 the user's input, 3 refused, 4 inconclusive, 130/143
    interrupted after a safe save.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    prog = Path(sys.argv[0]).name
    try:
        flags, options, notes = parse_flags(config_type, words, prog, doc or "")
        if options.schema:
            console.emit(json.dumps(config_type.model_json_schema(), indent=1))
            return DONE
        file = options.config
        if file is None and default_config is not None and default_config.exists():
            file = default_config
            notes.append(f"settings from {file}")
        config, more = resolve(config_type, file, flags)
    except UserError as problem:
        console.fail(problem)
        return USER
    for note in [*notes, *more]:
        console.say(f"note: {note}")
    load_environment()
    if options.dry_run:
        return _dry_run(stage, config, check, as_json=options.json)
    return _recorded(config, run, _Invocation(stage, version, words, options.run_id, options.json))


def question(doc: str | None) -> Parser:
    """The parser of a script that only looks or steers: it has no config and is no run.

    Each of its verbs is a sub-parser with `set_defaults(act=function)`; see `answer`.
    """
    import argparse

    layout = argparse.RawDescriptionHelpFormatter
    return Parser(description=doc, formatter_class=layout, allow_abbrev=False)


def answer(parser: Parser, argv: Sequence[str] | None = None) -> int:
    """Parses the command line and calls its `act(options)`; returns the exit code.

    `act` returns None or an exit code. UserError becomes one line and 2, RefusedError 3, Ctrl-C
    130, SIGTERM 143; a reader that went away (`| head`) is no error.
    """
    signals.listen()
    try:
        options = parser.parse_args(argv)
        load_environment()
        return options.act(options) or DONE
    except UserError as problem:
        console.fail(problem)
        return USER
    except RefusedError as problem:
        console.fail(f"refused: {problem}")
        return REFUSED
    except BrokenPipeError:
        # What is still buffered has no reader: let the interpreter flush it into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt as signalled:
        return _signal_code(signalled)


@dataclass(frozen=True)
class _Invocation:
    stage: str
    version: int
    argv: list[str]
    run_id: str | None
    as_json: bool


def _recorded(config: C, run: Callable[[C, Run], Report], call: _Invocation) -> int:
    """Runs the stage inside its run-log record."""
    signals.listen()
    try:
        log = _open_run(config, call)
    except UserError as problem:
        console.fail(problem)
        return USER
    except KeyboardInterrupt as signalled:
        return _signal_code(signalled)
    with said.kept(console_path(Path.cwd(), log.id)):
        return _ended(config, run, call, log)


def _ended(config: C, run: Callable[[C, Run], Report], call: _Invocation, log: Run) -> int:
    """Runs the stage, and ends its record in the way it ended."""
    started = time.monotonic()
    try:
        report = run(config, log)
        for key, value in report.metrics.items():
            log.metric(key, value)
    except UserError as problem:
        console.fail(problem)
        log.finish("failed", str(problem))
        return USER
    except RefusedError as problem:
        console.fail(f"refused: {problem}")
        log.finish("refused", str(problem))
        return REFUSED
    except KeyboardInterrupt as signalled:
        with suppress(KeyboardInterrupt):  # a second signal: no more waiting
            console.warn(str(signalled) or "interrupted; run the same command again to go on")
        with suppress(KeyboardInterrupt):
            log.finish("interrupted", signals.name(signalled))
        return _signal_code(signalled)
    except ToldError as failed:
        console.fail(failed)
        log.finish("failed", str(failed))
        return BUG
    except Exception as bug:  # noqa: BLE001 - the one place: it keeps the traceback, exit 1
        shown = traceback.format_exc().rstrip() if sys.stderr.isatty() else None
        console.bug(shown or said.trace_of(bug, whole=True), said.trace_of(bug, whole=False))
        log.finish("failed", type(bug).__name__)  # its message may hold the text of a row
        return BUG
    ended: Literal["finished", "up to date"] = (
        "finished" if report.status == "done" else "up to date"
    )
    try:
        log.finish("refused" if report.refused else ended, report.refused or report.headline)
        _show(report, log, call, time.monotonic() - started)
    except KeyboardInterrupt as signalled:  # the work is done, and recorded
        return _signal_code(signalled)
    return REFUSED if report.refused else report.exit_code


def _signal_code(signalled: KeyboardInterrupt) -> int:
    return 143 if isinstance(signalled, signals.Terminated) else 130


def _open_run(config: Config, call: _Invocation) -> Run:
    from codetune.runlog import open_run

    values = config.model_dump(mode="json")
    return open_run(
        Path.cwd(),
        stage=call.stage,
        name=values.get("run_name") or values.get("name"),
        config=values,
        differences=differences(config),
        argv=[Path(sys.argv[0]).name, *call.argv],
        parent=os.environ.get(PARENT_RUN),
        run_id=call.run_id,
        seed=values.get("seed"),
        version=call.version,
        database_url=os.environ.get("DATABASE_URL"),
        variables=os.environ,
        texts=text_knobs(type(config)),
    )


def load_environment() -> None:
    """Reads `.env` (what is already set wins) and quietens the libraries below."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env", override=False)
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")


def _dry_run(stage: str, config: C, check: Callable[[C], None] | None, *, as_json: bool) -> int:
    try:
        if check is not None:
            check(config)
    except UserError as problem:
        console.fail(problem)
        return USER
    except RefusedError as problem:
        console.fail(f"refused: {problem}")
        return REFUSED
    return _show_plan(stage, config, as_json=as_json)


def _show_plan(stage: str, config: Config, *, as_json: bool) -> int:
    changed = differences(config)
    if as_json:
        plan = {"stage": stage, "config": config.model_dump(mode="json"), "differences": changed}
        console.emit(json.dumps(plan, indent=1))
        return DONE
    rows = [
        [name, json.dumps(value), "" if name not in changed else "changed"]
        for name, value in config.model_dump(mode="json").items()
    ]
    console.draw(console.table(f"{stage}: would run with", ["knob", "value", ""], rows))
    return DONE


def _show(report: Report, log: Run, call: _Invocation, seconds: float) -> None:
    if call.as_json:
        shown = {"stage": call.stage, "run": log.id, "name": log.name, "seconds": seconds}
        console.emit(json.dumps({**shown, **report.as_dict()}, indent=1, default=str))
    for unit, counts in report.counts.items():
        if counts.dropped:
            console.draw(_dropped(unit, counts))
    for shown_table in report.tables:
        console.draw(shown_table)
    done = "" if report.status == "done" else f"{report.status}: "
    console.say(f"{call.stage}: {done}{report.headline} ({seconds:.1f} s)")
    if report.refused:
        console.fail(f"refused: {report.refused}")


def _dropped(unit: str, counts: Counts) -> console.Table:
    ranked = sorted(counts.dropped.items(), key=lambda item: (-item[1], item[0]))
    rows = [["kept", f"{counts.kept:,}"], *([reason, f"{n:,}"] for reason, n in ranked)]
    return console.table(f"{unit}: {counts.in_:,} in", [unit, "count"], rows)
