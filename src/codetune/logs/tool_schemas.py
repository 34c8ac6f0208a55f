"""The tools of a log, as far as its calls show them: logs hold calls, but no schemas."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from codetune.logs.session import Call

# In our own words; the real descriptions are 138 KB.
_DESCRIPTIONS = {
    "Bash": "Runs a shell command and returns its output.",
    "BashOutput": "Returns what a background command has written since the last look.",
    "Edit": "Replaces one exact text in a file by another.",
    "ExitPlanMode": "Shows a plan to the user and asks to go on.",
    "Glob": "Lists files whose path matches a pattern.",
    "Grep": "Searches the contents of files for a regular expression.",
    "KillShell": "Stops a background command.",
    "LS": "Lists a folder.",
    "MultiEdit": "Makes several exact replacements in one file.",
    "NotebookEdit": "Changes a cell of a notebook.",
    "Read": "Returns a file with line numbers.",
    "Skill": "Runs a named procedure.",
    "Task": "Hands a task to another agent and returns its answer.",
    "TodoWrite": "Writes the list of things to do.",
    "WebFetch": "Fetches a web page and answers a question about it.",
    "WebSearch": "Searches the web.",
    "Write": "Writes a whole file.",
    "apply_patch": "Adds, changes, moves and deletes files as a patch says.",
    "artifacts": "Shows the user a document beside the conversation, or changes it.",
    "exec_command": "Runs a shell command and returns its output.",
    "glob": "Lists files whose path matches a pattern.",
    "google_web_search": "Searches the web.",
    "list_directory": "Lists a folder.",
    "local_shell": "Runs a command and returns its output.",
    "python": "Runs Python code and returns what it prints.",
    "read_file": "Returns a file.",
    "read_many_files": "Returns several files.",
    "repl": "Runs JavaScript code and returns what it prints.",
    "replace": "Replaces one exact text in a file by another.",
    "run_shell_command": "Runs a shell command and returns its output.",
    "search_file_content": "Searches the contents of files for a regular expression.",
    "shell": "Runs a command and returns its output.",
    "update_plan": "Writes the list of things to do.",
    "view_image": "Looks at a picture.",
    "web_fetch": "Fetches a web page.",
    "web_search": "Searches the web.",
    "write_file": "Writes a whole file.",
    "write_stdin": "Writes to a running command and returns its output.",
}
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}
_CHOICE = re.compile(r"[a-z]+(?:[_-][a-z]+)*")
_MOST_CHOICES = 8
_FEWEST_CALLS_FOR_CHOICES = 20
_PRESENT_IN_ALL = 0.99


@dataclass
class _Argument:
    """What was seen of one argument of one tool."""

    present: int = 0
    types: Counter[str] = field(default_factory=Counter)
    choices: set[str] | None = field(default_factory=set)

    def see(self, value: Any) -> None:
        self.present += 1
        self.types[_type_name(value)] += 1
        if self.choices is None:
            return
        if not isinstance(value, str) or not _CHOICE.fullmatch(value):
            self.choices = None
            return
        self.choices.add(value)
        if len(self.choices) > _MOST_CHOICES:
            self.choices = None

    def schema(self) -> dict[str, Any]:
        names = sorted(self.types)
        made: dict[str, Any] = {"type": names[0] if len(names) == 1 else names}
        if self.choices and names == ["string"] and self.present >= _FEWEST_CALLS_FOR_CHOICES:
            made["enum"] = sorted(self.choices)
        return made


class Catalogue:
    """The tools seen in all calls, with schemas inferred from the arguments."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._arguments: dict[str, dict[str, _Argument]] = defaultdict(dict)

    def observe(self, calls: Iterable[Call]) -> None:
        """Learns from calls; their order does not matter."""
        for call in calls:
            self._calls[call.name] += 1
            known = self._arguments[call.name]
            for key, value in call.arguments.items():
                known.setdefault(key, _Argument()).see(value)

    def schema(self, name: str) -> dict[str, Any]:
        """The JSON schema of one tool; an argument is required when 99 % of calls have it."""
        arguments = dict(sorted(self._arguments.get(name, {}).items()))
        needed = self._calls[name] * _PRESENT_IN_ALL
        return {
            "type": "function",
            "function": {
                "name": name,
                "description": _DESCRIPTIONS.get(name, f"The {name} tool."),
                "parameters": {
                    "type": "object",
                    "properties": {key: seen.schema() for key, seen in arguments.items()},
                    "required": [key for key, seen in arguments.items() if seen.present >= needed],
                },
            },
        }


class Toolbox:
    """The tools of one conversation: the schemas it brought along, inferred ones for the others."""

    def __init__(self, catalogue: Catalogue, given: Sequence[Mapping[str, Any]] = ()) -> None:
        self._catalogue = catalogue
        self._schemas = {str(schema["function"]["name"]): dict(schema) for schema in given}
        self.given = frozenset(self._schemas)
        self._sizes: dict[str, int] = {}

    def schema(self, name: str) -> dict[str, Any]:
        """The schema of one tool."""
        if name not in self._schemas:
            self._schemas[name] = self._catalogue.schema(name)
        return self._schemas[name]

    def size(self, names: Iterable[str]) -> int:
        """The size of the schemas of tools in bytes."""
        return sum(self._size(name) for name in names)

    def with_given(self, given: Sequence[Mapping[str, Any]]) -> Toolbox:
        """This one for conversations that bring nothing, else one of their own."""
        return Toolbox(self._catalogue, given) if given else self

    def _size(self, name: str) -> int:
        if name not in self._sizes:
            self._sizes[name] = len(orjson.dumps(self.schema(name)))
        return self._sizes[name]


def _type_name(value: Any) -> str:
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, list) else _TYPES.get(type(value), "string")
