"""Look at past and present runs: which there are, what one was, how several differ.

    ./scripts.sh runs list --stage train --where 'eval_loss<1.2' --sort eval_loss
    ./scripts.sh runs show              the newest run; or a name, an id, either end of an id
    ./scripts.sh runs compare mine other   only what differs, and their curves in one plot
    ./scripts.sh runs diff mine         what was not committed; of two, how they differ
    ./scripts.sh runs sql 'SELECT stage, count(*) FROM run GROUP BY stage'

In: the run log under logs/ (or DATABASE_URL). Out: tables or, with --json, data on standard
output. Looking is no stage: it takes no config and is not recorded as a run. Verbs that change
something, and watch, have scripts of their own beside this one (runs.py).
"""

import functools
import os
import sys
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import console, stage
from codetune.errors import UserError
from codetune.runlog.reading.elsewhere import ELSEWHERE

if TYPE_CHECKING:
    from codetune.config import Parser
    from codetune.runlog.reading.answers import Answer

MOST = 10_000  # runs or rows of one answer
ROOT = Path()
RUN: dict[str, Any] = {"metavar": "RUN", "help": "name, id, or beginning or end of an id"}
ALL: dict[str, Any] = {"dest": "everything", "action": "store_true"}
KEYS: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "KEY"}


def _parser() -> "Parser":
    parser = stage.question(__doc__)
    parser.prog = "./scripts.sh runs"
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    one = verbs.add_parser("list", help="the newest runs, or those that fit")
    one.add_argument("--stage", help="only runs of this stage, such as train")
    one.add_argument("--status", help="only runs with this status, such as crashed")
    where = "such as 'eval_loss<1.2', 'created>7d' or tag=best; all of them must hold"
    one.add_argument("--where", action="append", default=[], metavar="EXPR", help=where)
    one.add_argument("--sort", default="", metavar="KEY", help="lowest first; -KEY: highest first")
    one.add_argument("--reverse", action="store_true", help="the other way round")
    one.add_argument("--columns", **KEYS, help="facts, knobs or metrics to show")
    one.add_argument("--tree", action="store_true", help="runs below the one that started them")
    one.add_argument("--limit", type=_count, default=20, metavar="N", help="at most so many (20)")

    one = verbs.add_parser("show", help="one run in full; the newest when none is named")
    one.add_argument("run", nargs="?", **RUN)
    one.add_argument("--all", **ALL, help="also knobs at their defaults, old events, checkpoints")
    one.add_argument("--metric", **KEYS, help="draw these instead of the losses")
    png = "write the curves as PNG (logs/runs/<id>/curves.png)"
    one.add_argument("--png", nargs="?", const="", metavar="FILE", help=png)

    one = verbs.add_parser("metrics", help="figures of a run, or every point")
    one.add_argument("run", nargs="?", **RUN)
    one.add_argument("--metric", **KEYS, help="the points of these")

    one = verbs.add_parser("compare", help="2 to 8 runs side by side, with only what differs")
    one.add_argument("runs", nargs="+", **RUN)
    one.add_argument("--all", **ALL, help="also what is the same")
    one.add_argument("--metric", **KEYS, help="draw these instead of a loss")
    one.add_argument("--png", metavar="FILE", help="write the curves as PNG")

    one = verbs.add_parser("diff", help="what was not committed, or how two runs differ")
    one.add_argument("runs", nargs="*", **RUN)

    one = verbs.add_parser("sql", help="ask in SQL; without a statement: tables and columns")
    one.add_argument("statement", nargs="?", help="one SELECT")
    one.add_argument("--limit", type=_count, default=1000, metavar="N", help="rows (1000)")

    for name, verb in verbs.choices.items():
        verb.set_defaults(act=_sql if name == "sql" else _ask)
        verb.add_argument("--json", action="store_true", help="as JSON on standard output")
    for name, told in ELSEWHERE.items():
        verbs.add_parser(name, help=told)
    parser.set_defaults(act=lambda options: _not_here(options.verb, list(verbs.choices)))
    return parser


def _not_here(verb: str | None, known: list[str]) -> None:
    """Answers a call without a verb, or with one of another script."""
    if verb is None:
        raise UserError(f"runs: which verb? {', '.join(known)}; --help tells what each does")
    raise UserError(f"{verb} is in a script of its own; type ./scripts.sh runs {verb} ...")


def _ask(options: Namespace) -> None:
    """Answers what is a question to the run log."""
    from codetune.runlog.reading import answers, queries

    flags = {k: v for k, v in vars(options).items() if k not in ("verb", "act", "json")}
    url = os.environ.get("DATABASE_URL")
    if options.verb == "list" and queries.nothing_ran(ROOT, url):
        return _tell(answers.of_data([], lambda _: [], ["no runs yet"]), as_json=options.json)
    with queries.reading(ROOT, url) as connection:
        answer = answers.QUESTIONS[options.verb](answers.Log(connection, ROOT), **flags)
        return _tell(answer, as_json=options.json)


def _sql(options: Namespace) -> None:
    """Answers a statement of the user's own, or says what can be asked for."""
    from codetune.runlog.reading import answers, queries, statement

    found, url = statement.tables(), os.environ.get("DATABASE_URL")
    if options.statement is not None:
        with queries.reading(ROOT, url):  # brings the tables up to date
            pass
        found = statement.ask(ROOT, options.statement, limit=options.limit, database_url=url)
    notes = [f"cut after {options.limit} rows; --limit takes more"] if found.more else []
    lines = functools.partial(statement.answer_lines, found)
    _tell(answers.of_data(found.as_dicts(), lines, notes), as_json=options.json)


def _tell(answer: "Answer", *, as_json: bool) -> None:
    """Answers on standard output, with what is said beside it on standard error."""
    out = console.stdout()
    parts = answer.pieces() if as_json else answer.lines(out.width if out.is_terminal else None)
    for part in parts:
        if out.is_terminal and not isinstance(part, str):
            out.print(part, soft_wrap=True)
        else:
            console.emit(str(part))
    for note in answer.notes:
        console.say(note)


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ArgumentTypeError(f"{text!r} is no number from 1 to {MOST:,}")
    return int(text)


def _joined(words: list[str]) -> list[str]:
    """The command line with `--sort -KEY` as one word: else argparse takes -KEY for a flag.

    What follows the verb of another script is for that one to read.
    """
    if words and words[0] in ELSEWHERE:
        return words[:1]
    at = next((n for n, word in enumerate(words[:-1]) if word == "--sort"), None)
    return words if at is None else [*words[:at], f"--sort={words[at + 1]}", *words[at + 2 :]]


if __name__ == "__main__":
    raise SystemExit(stage.answer(_parser(), _joined(sys.argv[1:])))
