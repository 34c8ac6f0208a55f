"""Writes the tables of the documentation from what they describe, so that they cannot go stale.

In: the verbs of scripts.sh, the presets in configs/train/, each stage's --schema. Out: the marked
blocks of README.md, and docs/configuration.md. With --check nothing is written: exit 1 and the
names of the files that are stale.

    python scripts/setup/docs.py [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HEADING = """# Configuration

Every knob of every stage, made from the stages themselves by `python scripts/setup/docs.py`. A knob
is a flag (`--max_length 1024`, `-` and `_` alike) or a line of the YAML file given with `--config`;
flags win. The spellings in the last column are accepted too, with a note.
"""


def verbs() -> dict[str, tuple[str, str]]:
    """Verb -> (script or "", what it does), in the order of scripts.sh."""
    text = (ROOT / "scripts.sh").read_text(encoding="utf-8")
    lines = re.findall(r"^  ([a-z-]+)\) (.*?);; +# (.*)$", text, re.M)
    scripts = {verb: re.search(r"scripts/\S+\.py", command) for verb, command, _ in lines}
    return {verb: (found[0] if (found := scripts[verb]) else "", why) for verb, _, why in lines}


def verb_table() -> str:
    """The verbs as a Markdown table."""
    rows = [
        (f"`{verb}`", why, f"`{path}`" if path else "") for verb, (path, why) in verbs().items()
    ]
    return table(("Verb", "What it does", "Script"), rows)


def preset_table() -> str:
    """The presets as a Markdown table; the first comment of each says what it is for."""
    rows = []
    for path in sorted((ROOT / "configs" / "train").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
        comment = re.match(r"#\s*(.+)", text)
        shown = [
            str(values.get(name, "")) for name in ("model_name_or_path", "max_length", "lora_r")
        ]
        rows.append((f"`{path.name}`", *shown, comment[1] if comment else ""))
    return table(("Preset", "Model", "Longest row, tokens", "LoRA rank", "For"), rows)


def configuration() -> str:
    """docs/configuration.md: one table a stage."""
    parts = [HEADING]
    stages = dict.fromkeys(path for path, _ in verbs().values() if path)
    for path in stages:
        if "stage.main(" in (ROOT / path).read_text(encoding="utf-8"):
            names = ", ".join(
                f"`{verb}`" for verb, (script, _) in verbs().items() if script == path
            )
            parts.append(f"## {names}: `{path}`\n\n{knob_table(path)}\n")
    return "\n".join(parts)


def schema_of(path: str) -> dict[str, Any]:
    """The JSON Schema of a stage's knobs, asked from the stage."""
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    told = subprocess.check_output([sys.executable, path, "--schema"], cwd=ROOT, env=env, text=True)
    schema: dict[str, Any] = json.loads(told)
    return schema


def knob_table(path: str) -> str:
    """The knobs of one stage as a Markdown table."""
    schema = schema_of(path)
    required = schema.get("required", [])
    rows = [
        (
            f"`{name}`",
            "required" if name in required else f"`{json.dumps(knob.get('default'))}`",
            knob.get("unit", ""),
            knob.get("description", ""),
            ", ".join(f"`{alias}`" for alias in knob.get("aliases", [])),
        )
        for name, knob in schema["properties"].items()
    ]
    return table(("Knob", "Default", "Unit", "Meaning", "Also spelled"), rows)


def table(columns: tuple[str, ...], rows: list[Any]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)


def with_block(text: str, name: str, content: str) -> str:
    """`text` with what stands between the markers of block `name` replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"README.md has no block {begin} ... {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def fresh() -> dict[Path, str]:
    """Each file with generated parts, as it should be."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    readme = with_block(readme, "verbs", verb_table())
    readme = with_block(readme, "presets", preset_table())
    return {ROOT / "README.md": readme, ROOT / "docs" / "configuration.md": configuration()}


def main() -> int:
    """Writes, or with --check compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    stale = [
        (path, text)
        for path, text in fresh().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        name = path.relative_to(ROOT)
        print(f"{name} is stale: run python scripts/setup/docs.py" if check else f"wrote {name}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
