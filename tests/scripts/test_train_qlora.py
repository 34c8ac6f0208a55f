"""`train` as a user runs it: from rows to an adapter, through kills and bad input."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from codetune import artefact, runlog
from codetune.runlog import events
from codetune.runlog.local import read_run, run_ids
from tests.evaluation import tiny

SCRIPT = "training/train_qlora.py"
RECIPE = {
    "max_length": 96,
    "max_steps": 8,
    "eval_steps": 2,
    "save_steps": 2,
    "gradient_accumulation_steps": 2,
    "lora_r": 4,
    "lora_dropout": 0.1,
    "dtype": "float32",
    "device": "cpu",
}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random, tiny model."""
    return tiny.make_base(tmp_path_factory.mktemp("tiny") / "base", steps=0)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with data/train.jsonl and data/eval.jsonl."""
    (tmp_path / "data").mkdir()
    tiny.write_rows(tmp_path / "data" / "train.jsonl", tiny.house_rows(24))
    tiny.write_rows(tmp_path / "data" / "eval.jsonl", tiny.house_rows(8, first=100))
    return tmp_path


def planned(project: Path, run_id: str) -> dict[str, int]:
    """What the run log was told of the way ahead, from which a time left is computed."""
    records = events.read(events.journal_path(project, run_id))
    said = [r.fields for r in records if r.fields.get("name") == "steps_planned"]
    assert len(said) == 1
    return said[0]["fields"]


def continues(project: Path, run: runlog.RunRow) -> None:
    """A run that goes on tells from which checkpoint, and has the curves from the beginning."""
    (used,) = [file for file in run.inputs if file.kind == "checkpoint"]
    runs = [read_run(events.journal_path(project, one)) for one in run_ids(project)]
    (maker,) = {r.id for r in runs if r and used.sha256 in {file.sha256 for file in r.outputs}}
    assert maker != run.id
    read = events.read(events.journal_path(project, run.id))
    logged = [record.fields for record in read if record.kind == "metric"]
    steps = {f["step"]: f["value"] for f in logged if f.get("key") == "train_loss"}
    assert list(steps) == list(range(1, 9))
    evals = {f["step"]: f["value"] for f in logged if f.get("key") == "eval_loss"}
    assert list(evals) == [2, 4, 6, 8], "the base before any step is no result of the training"
    assert [f["step"] for f in logged if f.get("key") == "base_eval_loss"] == [0]


def words(base: Path, **changes: Any) -> list[str]:
    knobs = {"model_name_or_path": base, "run_name": "mine", **RECIPE, **changes}
    return [word for name, value in knobs.items() for word in (f"--{name}", str(value))]


def test_an_adapter_and_its_record(project: Path, base: Path, root: Path) -> None:
    found = run_child(root, project, [*words(base), "--json"])
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    adapter = project / "outputs" / "mine" / "adapter"
    assert artefact.verify(adapter) is None
    weights = load_file(adapter / "adapter_model.safetensors")
    assert len(weights) == 2 * 7 * 2 and all(w.dtype.is_floating_point for w in weights.values())
    assert any(w.abs().max() > 0 for n, w in weights.items() if "lora_B" in n), "nothing trained"
    about = json.loads((adapter / "codetune.json").read_text())
    assert about["base_path"] == str(base) and len(about["base_sha256"]) == 64
    assert about["quant"] == "4bit"
    assert {p.name for p in adapter.iterdir()} >= {"tokenizer.json", "adapter_config.json"}
    assert report["metrics"]["eval_loss_best"] > 0
    assert report["counts"]["train rows"]["kept"] == 24
    assert (project / "outputs" / "mine" / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert list((project / "runs" / "mine").glob("events.out.tfevents.*"))
    row = runlog.latest(project, "train")
    assert row is not None and row.name == "mine"
    assert planned(project, row.id) == {"total": 8, "done": 0, "eval_steps": 2}
    kept = events.console_path(project, row.id)
    assert f"what is said here is kept in {kept.relative_to(project)}" in found.stderr
    assert " info    step 8: eval loss " in kept.read_text()

    again = run_child(root, project, words(base))
    assert again.returncode == 0 and "up to date" in again.stderr

    anew = run_child(root, project, words(base, resume="never"))
    assert anew.returncode == 0 and "step 8: eval loss" in anew.stderr
    equal = load_file(adapter / "adapter_model.safetensors")
    assert all((equal[name] == weights[name]).all() for name in weights)

    other = run_child(root, project, words(base, learning_rate=0.1))
    assert other.returncode == 0, other.stderr
    assert "learning_rate = 0.1 (default 0.0002)" in other.stderr
    assert "checkpoints of an earlier, finished run are removed" in other.stderr
    assert artefact.verify(adapter) is None
    assert load_file(adapter / "adapter_model.safetensors").keys() == weights.keys()


def test_sigterm_saves_and_the_same_command_goes_on(project: Path, base: Path, root: Path) -> None:
    whole = run_child(root, project, words(base, run_name="whole"))
    assert whole.returncode == 0, whole.stderr
    child = start_child(root, project, words(base, run_name="cut"))
    checkpoints = project / "outputs" / "cut" / "checkpoints"
    while child.is_alive() and not (checkpoints / "checkpoint-2").exists():
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGTERM)
    cut = ended(child, project)
    if cut.returncode != 0:  # it may have been done before the signal came
        assert cut.returncode == 143, cut.stderr
        assert "run the same command again" in cut.stderr
        assert not (project / "outputs" / "cut" / "adapter").exists()
        other = run_child(root, project, words(base, run_name="cut", learning_rate=0.1))
        assert other.returncode == 2 and "the recipe changed" in other.stderr
        assert "--run_name" in other.stderr
    rest = run_child(root, project, words(base, run_name="cut"))
    assert rest.returncode == 0, rest.stderr
    assert "going on from" in rest.stderr or cut.returncode == 0
    assert sha(project, "cut") == sha(project, "whole")
    last = runlog.latest(project, "train")
    assert last is not None and planned(project, last.id)["total"] == 8
    assert (planned(project, last.id)["done"] > 0) == (cut.returncode != 0)
    if cut.returncode != 0:
        continues(project, last)
    curves = [project / "outputs" / name / "loss.png" for name in ("whole", "cut")]
    assert curves[0].read_bytes() == curves[1].read_bytes(), "from the base on, not from the resume"


def test_a_dry_run_refuses_what_training_would_refuse(
    project: Path, base: Path, root: Path
) -> None:
    assert run_child(root, project, [*words(base), "--dry_run"]).returncode == 0
    absent = run_child(root, project, [*words(base, train_file="absent.jsonl"), "--dry_run"])
    assert absent.returncode == 2 and "absent.jsonl: no such file" in absent.stderr
    twice = run_child(root, project, [*words(base, eval_file="data/train.jsonl"), "--dry_run"])
    assert twice.returncode == 3 and "share" in twice.stderr
    assert not (project / "outputs").exists() and not (project / "logs").exists()
    assert run_child(root, project, words(base, max_steps=4)).returncode == 0
    (project / "outputs" / "mine" / "adapter" / "codetune.json").write_text("{}")  # no longer done
    found = sorted((project / "outputs").rglob("*"))
    other = run_child(root, project, [*words(base, max_steps=4, learning_rate=0.1), "--dry_run"])
    assert other.returncode == 2 and "the recipe changed" in other.stderr
    assert sorted((project / "outputs").rglob("*")) == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_name_or_path": "/absent/model"}, "no such model folder"),
        ({"train_file": "absent.jsonl"}, "absent.jsonl: no such file"),
        ({"eval_file": "empty.jsonl"}, "empty.jsonl: no row can be trained on"),
        ({"train_file": "broken.jsonl"}, "broken.jsonl, line 1: not_json"),
        ({"save_steps": 3}, "save_steps (3) must be a multiple of eval_steps (2)"),
        ({"load_in_8bit": "true"}, "exclude each other"),
        ({"run_name": "../elsewhere"}, "cannot hold a path"),
        ({"max_length": 1024}, "made for 512 tokens, not 1,024; lower --max_length"),
        ({"learning_rat": 1}, "did you mean learning_rate?"),
        ({"device": "cuda"}, "run ./scripts.sh doctor"),
    ],
)
def test_bad_input_is_one_line(
    project: Path, base: Path, root: Path, change: dict[str, Any], said: str
) -> None:
    (project / "empty.jsonl").write_text("")
    (project / "broken.jsonl").write_text("{half\n")
    found = run_child(root, project, words(base, **change))
    assert found.returncode == 2, found.stderr
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0], found.stderr
    assert "Traceback" not in found.stderr
    assert not (project / "outputs" / "mine").exists()


def test_groups_on_both_sides_are_refused(project: Path, base: Path, root: Path) -> None:
    for changes in ({"eval_file": "data/train.jsonl"}, {"train_file": "data/mixed.jsonl"}):
        rows = [*tiny.house_rows(4), *tiny.house_rows(1, first=101)]
        tiny.write_rows(project / "data" / "mixed.jsonl", rows)
        found = run_child(root, project, words(base, **changes))
        assert found.returncode == 3, found.stderr
        assert "share" in found.stderr and "./scripts.sh data" in found.stderr
        assert not (project / "outputs" / "mine").exists()


def test_a_full_disk_is_one_line(project: Path, base: Path, root: Path) -> None:
    found = run_child(root, project, words(base, lora_r=64), largest_file=400_000)
    assert found.returncode == 2, found.stderr
    assert "disk is full" in found.stderr and "Traceback" not in found.stderr
    assert not (project / "outputs" / "mine" / "adapter").exists()


@pytest.mark.parametrize("planted", ["modeling_x.py", "pytorch_model.bin", "auto_map"])
def test_unsafe_model_folders_are_refused(
    project: Path, base: Path, run_script: Run, tmp_path: Path, planted: str
) -> None:
    model = Path(shutil.copytree(base, tmp_path / "model"))
    if planted == "auto_map":
        config = json.loads((model / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "modeling_x.Model"}
        (model / "config.json").write_text(json.dumps(config))
    else:
        (model / planted).write_text("print('run')")
    found = run_script(SCRIPT, *words(model), cwd=project)
    assert found.returncode == 2
    assert str(model) in found.stderr and "Traceback" not in found.stderr


@pytest.mark.crash
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_runs_resume_to_equal_weights(
    project: Path, base: Path, root: Path, kills: int
) -> None:
    """SIGKILL at random moments; afterwards one run to the end, and the weights are equal."""
    seed = int(os.environ.get("CODETUNE_KILL_SEED", "0")) or random.randrange(1, 10**6)
    print(f"replay with CODETUNE_KILL_SEED={seed}")
    chance = random.Random(seed)
    started = time.monotonic()
    assert run_child(root, project, words(base, run_name="whole")).returncode == 0
    duration = time.monotonic() - started
    for number in range(kills):
        name = f"cut-{number}"
        cut = run_child(root, project, words(base, run_name=name), chance.uniform(0, duration))
        if cut.returncode != 0:
            assert cut.returncode == -signal.SIGKILL
            rest = run_child(root, project, words(base, run_name=name))
            assert rest.returncode == 0, rest.stderr
        assert sha(project, name) == sha(project, "whole"), f"kill {number} of seed {seed}"
        for place in finals(project):
            assert artefact.verify(place) is None, place


def sha(project: Path, run_name: str) -> str:
    adapter = project / "outputs" / run_name / "adapter"
    return artefact.sha256_file(adapter / "adapter_model.safetensors")


def finals(project: Path) -> list[Path]:
    """Everything under outputs/ that carries a manifest, and every folder that should."""
    outputs = project / "outputs"
    folders = [p.parent for p in outputs.rglob("manifest.json")]
    checkpoints = list(outputs.glob("*/checkpoints/checkpoint-*"))
    files = [
        p.with_name(p.name.removesuffix(".manifest.json")) for p in outputs.rglob("*.manifest.json")
    ]
    return [*folders, *checkpoints, *files]


@dataclass
class Done:
    """How a child ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def start_child(root: Path, project: Path, argv: list[str], largest_file: int = -1) -> Any:
    """The stage in a forked child, which finds the libraries already imported."""
    stage_script(root)
    child = multiprocessing.get_context("fork").Process(
        target=_child, args=(root, project, argv, largest_file), daemon=True
    )
    child.start()
    return child


def run_child(
    root: Path,
    project: Path,
    argv: list[str],
    kill_after: float | None = None,
    largest_file: int = -1,
) -> Done:
    """Runs the stage to its end, or kills it after so many seconds."""
    child = start_child(root, project, argv, largest_file)
    child.join(kill_after)
    if child.is_alive():
        child.kill()
    return ended(child, project)


def ended(child: Any, project: Path) -> Done:
    child.join()
    said = [(project / f"child.{name}").read_text() for name in ("stdout", "stderr")]
    return Done(child.exitcode, *said)


def _child(root: Path, project: Path, argv: list[str], largest_file: int) -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.chdir(project)
    script = stage_script(root)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"child.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    stages = {"stage": "train", "check": script.check, "argv": argv}
    code = script.stage.main("", script.TrainConfig, script.run, **stages)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def stage_script(root: Path) -> ModuleType:
    if "train_qlora_stage" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "train_qlora_stage", root / "scripts" / SCRIPT
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules["train_qlora_stage"] = module
        import codetune.training.assemble  # noqa: F401 - imported once, before the forks
    return sys.modules["train_qlora_stage"]
