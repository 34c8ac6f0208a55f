"""Keep the run log in order: say what runs are, remove, free, export; and where results came from.

    ./scripts.sh runs lineage outputs/mine/adapter   back to log files and commits; --forward: on
    ./scripts.sh runs tag mine best     and `runs note mine TEXT`, also while it is running
    ./scripts.sh runs rm mine           the record of a run; what it made stays
    ./scripts.sh runs prune             which checkpoints of finished runs may go; --yes frees them
    ./scripts.sh runs export mine other --to html --out runs.html
    ./scripts.sh runs reindex           makes the database anew from the journals

In: logs/ (or DATABASE_URL) and outputs/. Out: tables or, with --json, data on standard output.
Verbs that only look are in runs.py, beside this one (keep.py).
"""

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetune import console, stage
from codetune.errors import UserError
from codetune.runlog.reading.elsewhere import ELSEWHERE

if TYPE_CHECKING:
    from codetune.config import Parser
    from codetune.runlog.keeping.verbs import Place, Told

ROOT = Path()
RUN: dict[str, Any] = {"metavar": "RUN", "help": "name, id, or beginning or end of an id"}


def _parser() -> "Parser":
    parser = stage.question(__doc__)
    parser.prog = "./scripts.sh runs"
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    one = verbs.add_parser("lineage", help=ELSEWHERE["lineage"])
    one.add_argument("what", metavar="WHAT", help="a path, a run, or the beginning of a hash")
    one.add_argument("--forward", action="store_true", help="what was made from it")
    every = "name and check every source, such as each session"
    one.add_argument("--all", dest="everything", action="store_true", help=every)

    one = verbs.add_parser("tag", help=ELSEWHERE["tag"])
    one.add_argument("run", **RUN)
    one.add_argument("words", nargs="+", metavar="WORD")
    one.add_argument("--remove", action="store_true", help="take these words away")

    one = verbs.add_parser("note", help=ELSEWHERE["note"])
    one.add_argument("run", **RUN)
    one.add_argument("text", metavar="TEXT", help="up to 4 kB; - reads it from standard input")

    one = verbs.add_parser("rm", help=ELSEWHERE["rm"])
    one.add_argument("runs", nargs="+", **RUN)
    one.add_argument("--yes", action="store_true", help="do not ask")

    one = verbs.add_parser("prune", help=ELSEWHERE["prune"])
    one.add_argument("--keep_last", type=int, default=1, metavar="N", help="newest to keep (1)")
    one.add_argument("--yes", action="store_true", help="free them; without it nothing changes")

    one = verbs.add_parser("export", help=ELSEWHERE["export"])
    one.add_argument("runs", nargs="*", **RUN)
    one.add_argument("--to", choices=("json", "csv", "html"), required=True, help="the form")
    one.add_argument("--out", type=Path, metavar="FILE", help="instead of standard output")

    verbs.add_parser("reindex", help=ELSEWHERE["reindex"])
    verbs.add_parser("upgrade", help=ELSEWHERE["upgrade"])
    alone = {"lineage": _lineage, "rm": _rm, "export": _export}
    for name, verb in verbs.choices.items():
        verb.set_defaults(act=alone.get(name, _do))
        verb.add_argument("--json", action="store_true", help="as JSON on standard output")
    return parser


def _lineage(options: Namespace) -> None:
    from codetune.runlog.reading import lineage, lineage_stack, lineage_tree, queries

    out = console.stdout()
    flags = {"forward": options.forward, "everything": options.everything}
    with queries.reading(ROOT, _here().url) as connection:
        found = lineage.lineage(connection, ROOT, options.what, **flags)
    if options.json:
        console.emit(lineage_stack.as_json(found.as_dict()))
    else:
        width = out.width if out.is_terminal else None
        console.line("\n".join(lineage_tree.tree_lines(found, **flags, width=width)))


def _do(options: Namespace) -> None:
    """The verbs that need no more than their flags."""
    from codetune.runlog.keeping import amend, checkpoints, verbs

    at = _here()
    match options.verb:
        case "tag":
            told = verbs.tag(at, options.run, options.words, remove=options.remove)
        case "note":
            text = amend.read_note(sys.stdin.read) if options.text == "-" else options.text
            told = verbs.note(at, options.run, text)
        case "prune":
            console.say(checkpoints.POLICY.format(keep_last=options.keep_last))
            told = verbs.prune(at, keep_last=options.keep_last, yes=options.yes)
        case _:
            told = verbs.reindex(at) if options.verb == "reindex" else verbs.upgrade(at)
    _tell(told, options)


def _rm(options: Namespace) -> None:
    from codetune.runlog.keeping import removal, verbs

    rows = verbs.runs_called(_here(), options.runs)
    removal.check(ROOT, rows)
    names = ", ".join(row.name for row in rows)
    if not options.yes and not sys.stdin.isatty():
        raise UserError(f"rm: would remove {len(rows)} ({names}); pass --yes to do it unasked")
    if not options.yes:
        console.say(f"remove {len(rows)} from the run log: {names}? [y/N]")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return console.say("nothing was removed")
    return _tell(verbs.rm(_here(), rows), options)


def _export(options: Namespace) -> None:
    from codetune.runlog.keeping import verbs

    told = verbs.export_to(_here(), options.runs, options.to, options.out)
    if told is not None:
        _tell(told, options)


def _here() -> "Place":
    from codetune.runlog.keeping.verbs import Place

    return Place(ROOT, os.environ.get("DATABASE_URL"))


def _tell(told: "Told", options: Namespace) -> None:
    if options.json:
        console.emit(json.dumps(told.data, indent=1, default=str))
    elif told.table.rows:
        console.show(told.table)
    if told.said:
        console.say(told.said)


if __name__ == "__main__":
    raise SystemExit(stage.answer(_parser()))
