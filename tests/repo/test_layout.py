"""The rules of AGENTS.md that can be read off the source: floors, names, sizes, who may write."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "codetune"
FLOORS = (
    {"errors", "artefact", "console", "signals"},
    {"sample", "generic", "config", "machine", "page"},
    {"tokens", "redaction"},
    {"logs", "code"},
    {"corpus"},
    {"models"},
    {"training", "merging", "evaluation"},
    {"runlog", "stage", "pipeline", "doctor", "background"},
)
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}
# `base` and `core` say nothing as a whole name; in a longer one (demo_base) they may be a term.
CATCH_ALL = r"(.*_)?(utils?|helpers?|common|managers?|misc|handlers?)(_.*)?|base|core"
# The parts of a floor may not import each other, except for these.
WITHIN_A_FLOOR = {"codetune.errors", "codetune.sample", "codetune.runlog", "codetune.stage"}
MODULES = sorted(SRC.rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute names of all modules imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that the floors can be read"
            assert node.module is not None
            yield node.module
            if node.module == "codetune":
                yield from (f"codetune.{alias.name}" for alias in node.names)


def typing_only(tree: ast.Module) -> ast.Module:
    """The tree without its `if TYPE_CHECKING:` blocks, which import nothing when the code runs."""

    class Dropper(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            is_typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return None if is_typing else self.generic_visit(node)

    dropped = Dropper().visit(tree)
    assert isinstance(dropped, ast.Module)
    return dropped


def part_of(path: Path) -> str:
    """`codetune/tokens/fim.py` -> tokens, `codetune/errors.py` -> errors."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def upward_imports(part: str, source: str) -> list[str]:
    """Imports of a module of `part` that do not come from a floor below (or from `part` itself)."""
    found = []
    for name in imports(typing_only(ast.parse(source))):
        pieces = name.split(".")
        if pieces[0] == "codetune" and len(pieces) > 1 and pieces[1] != part:
            other = FLOOR_OF.get(pieces[1])
            if other is None or other >= FLOOR_OF[part]:
                found.append(name)
    return found


def allowed_within(part: str, name: str) -> bool:
    """Whether an import from the same floor is one of the few that are meant."""
    top = ".".join(name.split(".")[:2])
    return top in WITHIN_A_FLOOR and FLOOR_OF[part] == FLOOR_OF[top.removeprefix("codetune.")]


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 20
    assert len(SCRIPTS) > 5


def test_the_floor_check_can_fail() -> None:
    assert upward_imports("tokens", "from codetune.training import recipe") == ["codetune.training"]
    assert upward_imports("tokens", "from codetune import corpus") == ["codetune.corpus"]
    assert upward_imports("tokens", "from codetune import sample, errors") == []
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import codetune.stage"
    assert upward_imports("tokens", hidden) == []


def test_a_module_imports_only_from_lower_floors() -> None:
    found = {}
    for path in MODULES:
        if path != SRC / "__init__.py":
            assert part_of(path) in FLOOR_OF, f"{named(path)}: a new part needs a floor"
            upward = set(upward_imports(part_of(path), path.read_text()))
            found[named(path)] = upward - {n for n in upward if allowed_within(part_of(path), n)}
    assert {path: names for path, names in found.items() if names} == {}


def test_lower_floors_never_import_torch_or_transformers() -> None:
    low = [p for p in MODULES if p != SRC / "__init__.py" and FLOOR_OF[part_of(p)] <= 4]
    for path in low:
        heavy = {name.split(".")[0] for name in imports(typing_only(ast.parse(path.read_text())))}
        assert not heavy & {"torch", "transformers", "trl", "peft", "bitsandbytes"}, named(path)


def test_importing_every_lower_floor_loads_no_gpu_stack() -> None:
    """What the source check cannot see: a dependency that pulls torch in."""
    names = [
        ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path != SRC / "__init__.py" and FLOOR_OF[part_of(path)] <= 4
    ]
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({n!r})\n" for n in names)
    code += "print(sorted({'torch', 'transformers', 'trl', 'peft'} & set(sys.modules)))"
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_script_imports_no_script_and_nothing_heavy_at_its_top() -> None:
    siblings = {script.stem for script in SCRIPTS} - {"docs"}
    for path in SCRIPTS:
        tree = typing_only(ast.parse(path.read_text()))
        scripts = [n for n in imports(tree) if n.split(".")[0] in {"scripts", *siblings}]
        at_top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        top = {name.split(".")[0] for name in imports(ast.Module(at_top, []))}
        heavy = top & {"torch", "transformers", "trl", "peft", "datasets", "matplotlib"}
        assert (scripts, heavy) == ([], set()), named(path)


def test_no_catch_all_names() -> None:
    parts = {
        part for p in [*MODULES, *SCRIPTS] for part in p.relative_to(ROOT).with_suffix("").parts
    }
    assert [part for part in sorted(parts) if re.fullmatch(CATCH_ALL, part)] == []
    assert re.fullmatch(CATCH_ALL, "log_utils") and not re.fullmatch(CATCH_ALL, "demo_base")


def test_a_script_fits_on_its_page_and_says_what_it_does() -> None:
    lengths = {named(path): len(path.read_text().splitlines()) for path in SCRIPTS}
    assert {path: n for path, n in lengths.items() if n > 150} == {}
    silent = [named(p) for p in SCRIPTS if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


def test_modules_and_functions_stay_short() -> None:
    """The aim is 300 and 40 lines; this is where aiming ends."""
    long = {}
    for path in MODULES:
        long[named(path)] = len(path.read_text().splitlines()) - 400
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                long[f"{named(path)}:{node.name}"] = (node.end_lineno or 0) - node.lineno - 60
    assert {name: by for name, by in long.items() if by > 0} == {}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def writes(source: str) -> list[str]:
    """Calls that open a file for writing."""
    found = []
    for name, call in calls(ast.parse(source)):
        words = [*call.args, *(keyword.value for keyword in call.keywords)]
        modes = [str(word.value) for word in words if isinstance(word, ast.Constant)]
        last = name.split(".")[-1]
        if last == "open" and any(
            re.fullmatch(r"[rwaxbt+]{1,3}", m) and set(m) & set("wax+") for m in modes
        ):
            found.append(f"{name}, line {call.lineno}")
        if last in {"write_text", "write_bytes"} and not name.startswith("artefact."):
            found.append(f"{name}, line {call.lineno}")
    return found


def test_the_write_check_can_fail() -> None:
    for source in ("open('f', 'w')", "path.open(mode='ab')", "p.write_text('')", "open(f, 'r+b')"):
        assert writes(source), source
    for source in ("open('f')", "path.open('rb')", "artefact.write_text(p, '', origin)"):
        assert not writes(source), source


def test_only_artefact_opens_files_for_writing() -> None:
    found = {named(p): writes(p.read_text()) for p in MODULES if p.parent.name != "artefact"}
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_the_package_does_not_print_or_read_its_surroundings() -> None:
    found = []
    for path in MODULES:
        if path.name not in {"console.py", "stage.py"}:
            tree = ast.parse(path.read_text())
            called = {name for name, _ in calls(tree)} & {"print", "os.getenv"}
            read = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            found += [f"{named(path)}: {n}" for n in called | (read & {"sys.argv", "os.environ"})]
    assert found == []


def test_no_error_is_swallowed_whole() -> None:
    found = []
    for path in [*MODULES, *SCRIPTS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and path != SRC / "stage.py":
                caught = "everything" if node.type is None else ast.unparse(node.type)
                if caught in {"everything", "Exception", "BaseException"}:
                    found.append(f"{named(path)}:{node.lineno}")
    assert found == []


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_tracked_files_name_no_machine_and_no_package_host() -> None:
    # put together from pieces, so that this file does not match itself
    hosts = ("pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs")
    paths = ("/wo" + "rk/main", "/ro" + "ot/", "/opt/" + "wheels", "/opt/" + "pypi")
    found = []
    for path in tracked():
        if path.is_file() and "tests/data" not in str(path):
            text = path.read_bytes().decode("utf-8", "replace")
            found += [f"{named(path)}: {word}" for word in (*hosts, *paths) if word in text]
    assert found == []


def test_nothing_is_left_unfinished() -> None:
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error"))
    for path in [*MODULES, *SCRIPTS, ROOT / "scripts.sh"]:
        assert not re.search(rf"\b({marks})\b", path.read_text()), named(path)


def test_outputs_are_ignored_and_sources_are_not() -> None:
    def ignored(path: str) -> bool:
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0

    if not tracked():
        pytest.skip("not a git checkout")
    for path in (
        "data/a.jsonl",
        "outputs/a/b",
        "runs/a",
        "logs/runs.db",
        ".env",
        "uv.lock",
        ".venv/a",
    ):
        assert ignored(path), path
    for path in ("src/codetune/logs/a.py", "data/staging/a.jsonl", "tests/runs/a", ".env.example"):
        assert not ignored(path), path
    assert ROOT / "uv.lock" not in tracked()


def test_agents_file_stays_short() -> None:
    assert len((ROOT / "AGENTS.md").read_text().splitlines()) <= 60
