"""One declaration per knob: YAML and flags become one frozen, validated object.

A stage declares `class XConfig(Config)` with one `knob(...)` per field. Names follow TRL,
Transformers and PEFT; the spellings of other tools are aliases, read with a note. Unknown keys
and flags, duplicate YAML keys and values out of range are `UserError`s that name the line.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from codetune.errors import UserError

C = TypeVar("C", bound="Config")
_OWN_FLAGS = {"config", "schema", "dry_run", "json", "run_id", "help"}


class Config(pydantic.BaseModel):
    """A stage's whole configuration: frozen, closed, checked."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


def knob(  # noqa: PLR0913 - one argument per fact about a knob
    default: Any,
    why: str,
    *,
    unit: str = "",
    aliases: Sequence[str] = (),
    positional: bool = False,
    place: bool = False,
    text: bool = False,
    required: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    """A pydantic field with what a person needs to know about it.

    `place` marks a knob that says where or how to show, and so leaves results unchanged; fields
    of type Path are places by nature. `text` marks one whose value is a text of the user's, which
    the run log keeps by its length alone. `required` knobs ignore `default`.
    """
    extra: dict[str, Any] = {
        "unit": unit,
        "aliases": list(aliases),
        "positional": positional,
        "place": place,
        "text": text,
    }
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    value = ... if required else default
    return pydantic.Field(value, description=why, json_schema_extra=extra, **bounds)


# ---------------------------------------------------------------------------- to one object


def resolve(
    model: type[C], yaml_file: Path | None, flags: Mapping[str, Any]
) -> tuple[C, list[str]]:
    """The validated config from defaults, then the YAML file, then flags; and notes to show.

    Raises UserError (one line) for unknown keys, wrong types, and values out of range.
    """
    notes: list[str] = []
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    if yaml_file is not None:
        raw, raw_lines = load_yaml(yaml_file)
        for key, value in raw.items():
            name = _known_name(model, str(key), f"{yaml_file}, line {raw_lines[key]}: ", notes)
            values[name], lines[name] = value, raw_lines[key]
    values.update(flags)
    try:
        return model(**values), notes
    except pydantic.ValidationError as problem:
        raise UserError(_explained(problem, yaml_file, lines, set(flags))) from None


def load_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """(values, line of each top-level key). UserError for duplicates, tabs, lists, or no file."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{path}: must hold `key: value` lines")
        lines = _lines_without_duplicates(node, path)
        return yaml.safe_load(text), lines
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise UserError(f"{path}: cannot be read: {problem}") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        what = getattr(problem, "problem", None) or "not YAML"
        raise UserError(f"{path}{line}: {what}") from None


def differences(config: Config) -> dict[str, dict[str, Any]]:
    """`{key: {default, value}}` of every knob that is not at its default, as JSON values."""
    found = {}
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        default = None if field.is_required() else _json_value(field.get_default())
        if values[name] != default:
            found[name] = {"default": default, "value": values[name]}
    return found


def config_sha256(config: Config) -> str:
    """A hash of the values that decide results.

    Places are left out: what lies at a path is hashed as an input instead.
    """
    fields = type(config).model_fields
    values = config.model_dump(mode="json")
    kept = {name: values[name] for name in sorted(values) if not is_place(fields[name])}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def is_place(field: FieldInfo) -> bool:
    """True when a knob names a place or a way of showing."""
    return bool(_extra(field).get("place")) or Path in _leaf_types(field.annotation)


def text_knobs(model: type[Config]) -> set[str]:
    """Names of the knobs that hold texts of the user's, with all their spellings."""
    marked = {n: _extra(f) for n, f in model.model_fields.items() if _extra(f).get("text")}
    return {spelled for name, extra in marked.items() for spelled in (name, *extra["aliases"])}


# ---------------------------------------------------------------------------- flags


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one `UserError`, with the closest match of a wrong word."""

    def error(self, message: str) -> NoReturn:
        """Raises the complaint instead of printing the usage over several lines."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        flag = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        close: list[str] = []
        if choice:
            close = difflib.get_close_matches(choice[1], re.findall(r"[\w-]+", choice[2]), 1, 0.5)
        elif flag:
            known = [other for other in _spelled(self) if other != flag[1]]  # not of this verb
            close = difflib.get_close_matches(flag[1], known, 1, 0.5)
        raise UserError(f"{message}; {f'did you mean {close[0]}?' if close else 'see --help'}")


def _spelled(parser: argparse.ArgumentParser) -> list[str]:
    """The flags of a parser and of its verbs."""
    actions = parser._actions
    verbs = [a for a in actions if isinstance(a, argparse._SubParsersAction)]
    below = [flag for verb in verbs for part in verb.choices.values() for flag in _spelled(part)]
    return [flag for action in actions for flag in action.option_strings] + below


def parse_flags(
    model: type[Config], argv: Sequence[str], prog: str, doc: str
) -> tuple[dict[str, Any], argparse.Namespace, list[str]]:
    """(knobs given as flags, the stage's own options, notes). `--a-b` and `--a_b` are one flag.

    Raises UserError for an unknown flag, with the closest match.
    """
    notes: list[str] = []
    parser = _parser(model, prog, doc)
    names = [_flag_name(model, word, notes) for word in argv]
    given, rest = parser.parse_known_args(names)
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; see --help")
    options = vars(given)
    flags = {name: options[name] for name in model.model_fields if name in options}
    flags = {name: value for name, value in flags.items() if value != []}
    for name, value in flags.items():
        if value == "none" and type(None) in get_args(model.model_fields[name].annotation):
            flags[name] = None
    return flags, given, notes


def _parser(model: type[Config], prog: str, doc: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    knobs = parser.add_argument_group("knobs")
    for name, field in model.model_fields.items():
        _add_flag(knobs, name, field)
    own = parser.add_argument_group("every stage")
    own.add_argument("--config", type=Path, default=None, help="YAML file of knobs; flags win")
    own.add_argument("--schema", action="store_true", default=False, help="JSON Schema of knobs")
    own.add_argument("--dry_run", action="store_true", default=False, help="show, write nothing")
    own.add_argument("--json", action="store_true", default=False, help="report as JSON on stdout")
    own.add_argument("--run_id", default=None, help="id of a run that was created ahead")
    return parser


def _add_flag(group: Any, name: str, field: FieldInfo) -> None:
    shown = _help(field)
    if _extra(field).get("positional"):
        group.add_argument(name, nargs="*", help=shown)
    elif _is_list(field.annotation):
        group.add_argument(f"--{name}", nargs="+", action="extend", help=shown)
    elif bool in _leaf_types(field.annotation):
        group.add_argument(f"--{name}", nargs="?", const="true", help=shown, metavar="BOOL")
        group.add_argument(
            f"--no_{name}", dest=name, action="store_const", const="false", help=argparse.SUPPRESS
        )
    else:
        choices = _choices(field.annotation)
        metavar = "|".join(choices) if choices else name.rsplit("_", 1)[-1].upper()
        group.add_argument(f"--{name}", help=shown, metavar=metavar)


def _help(field: FieldInfo) -> str:
    unit = _extra(field).get("unit")
    default = "required" if field.is_required() else _shown(field.get_default())
    text = f"{field.description}{f' [{unit}]' if unit else ''}"
    return f"{text} ({default})".replace("%", "%%")


def _flag_name(model: type[Config], word: str, notes: list[str]) -> str:
    if not word.startswith("--") or word == "--":
        return word
    name, equals, value = word[2:].partition("=")
    name = name.replace("-", "_")
    if name in _OWN_FLAGS:
        return f"--{name}{equals}{value}"
    if name.startswith("no_") and name[3:] in model.model_fields:
        return f"--{name}"
    return f"--{_known_name(model, name, '--', notes)}{equals}{value}"


def _known_name(model: type[Config], name: str, where: str, notes: list[str]) -> str:
    """`name` or what it is an alias of; UserError with the closest match otherwise."""
    if name in model.model_fields:
        return name
    for known, field in model.model_fields.items():
        if name in _extra(field).get("aliases", ()):
            notes.append(f"{where}{name} is read as {known}")
            return known
    spelled = [a for f in model.model_fields.values() for a in _extra(f).get("aliases", ())]
    candidates = [*model.model_fields, *spelled, *(_OWN_FLAGS if where == "--" else ())]
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else "; see --help"
    kind = "flag" if where == "--" else "key"
    raise UserError(f"{where if kind == 'key' else ''}unknown {kind} {_dashed(kind, name)}{hint}")


# ---------------------------------------------------------------------------- small parts


def _explained(
    problem: pydantic.ValidationError, file: Path | None, lines: dict[str, int], flags: set[str]
) -> str:
    """The first fault of a validation, as one line."""
    fault = problem.errors()[0]
    name = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "missing":
        return f"--{name} is required; see --help"
    place = f"{file}, line {lines[name]}: " if name in lines and name not in flags else "--"
    message = fault["msg"].removeprefix("Value error, ")
    if not name:
        return message
    more = f" (and {problem.error_count() - 1} more)" if problem.error_count() > 1 else ""
    return f"{place}{name}: {message}, not {_shown(fault['input'])}{more}"


def _lines_without_duplicates(node: Any, path: Path) -> dict[str, int]:
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            first = lines[key.value]
            raise UserError(f"{path}, line {line}: {key.value} is already set in line {first}")
        lines[key.value] = line
        if type(value).__name__ == "MappingNode":
            _lines_without_duplicates(value, path)
    return lines


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _leaf_types(annotation: Any) -> set[Any]:
    """The plain types an annotation is made of, without None."""
    if get_origin(annotation) is Literal:
        return {str}
    parts = [part for part in get_args(annotation) if part not in (type(None), ...)]
    return set().union(*(_leaf_types(part) for part in parts)) if parts else {annotation}


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_list(part) for part in get_args(annotation))
    return get_origin(annotation) in (list, tuple)


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(str(choice) for choice in get_args(annotation))
    return tuple(c for part in get_args(annotation) for c in _choices(part))


def _json_value(value: Any) -> Any:
    return pydantic.TypeAdapter(Any).dump_python(value, mode="json")


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Path) else json.dumps(_json_value(value))


def _dashed(kind: str, name: str) -> str:
    return f"--{name}" if kind == "flag" else name
