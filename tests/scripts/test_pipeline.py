"""The pipeline's order, arguments, verdicts and exit codes, with stages that only pretend."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codetune import pipeline, runlog
from codetune.config import resolve
from codetune.errors import RefusedError, ToldError, UserError
from codetune.signals import Terminated
from codetune.stage import PARENT_RUN

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "train" / "smoke.yaml"
ORDER = ["sft", "fim", "data", "check-lengths", "train", "compare", "merge"]

# Writes down what it was called with, and ends as STAGES_END says for its name.
PRETENDER = """
    import json, os, pathlib, sys
    name = pathlib.Path(sys.argv[0]).stem
    ends = json.loads(os.environ.get("STAGES_END", "{}"))
    with open("called.jsonl", "a") as called:
        parent = os.environ.get("CODETUNE_PARENT_RUN")
        called.write(json.dumps({"name": name, "argv": sys.argv[1:], "parent": parent}) + "\\n")
    code = ends.get(name, {}).get("code", 0)
    if code not in (0, 3):
        print(f"error: {name} says why", file=sys.stderr)
        sys.exit(code)
    told = {"headline": f"{name} is well", "status": "done", "outputs": [], "refused": None}
    print(json.dumps({**told, **ends.get(name, {}).get("report", {})}))
    sys.exit(code)
"""


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location(
        "pipeline_script", ROOT / "scripts" / "runs" / "pipeline.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks its annotations up there
    spec.loader.exec_module(module)
    return module


script = load_script()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose stages are pretenders."""
    scripts = tmp_path / "scripts"
    for name, place in script.STAGES.items():
        target = (scripts / place).with_name(f"{name}.py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(PRETENDER))
        monkeypatch.setitem(script.STAGES, name, target.relative_to(scripts).as_posix())
    monkeypatch.setattr(script, "SCRIPTS", scripts)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    return tmp_path


def settings(**knobs: Any) -> Any:
    given = {"logs": ["a", "b"], "repo": ["r"], "name": "mine", "train_config": RECIPE}
    given |= {"model_name_or_path": "model", **knobs}
    return resolve(script.PipelineConfig, None, given)[0]


def ending(monkeypatch: pytest.MonkeyPatch, **stages: Any) -> None:
    monkeypatch.setenv("STAGES_END", json.dumps(stages))


def called() -> list[dict[str, Any]]:
    lines = Path("called.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def argv_of(name: str) -> list[str]:
    return next(call["argv"] for call in called() if call["name"] == name)


def value_of(argv: list[str], flag: str) -> str:
    return argv[argv.index(flag) + 1]


def go(config: Any) -> Any:
    return script.run(config, runlog.disabled())


# ---------------------------------------------------------------------------- order, arguments


def test_the_stages_are_those_that_exist() -> None:
    assert list(script.STAGES) == ORDER
    for place in script.STAGES.values():
        assert (ROOT / "scripts" / place).is_file(), place


def test_all_stages_run_in_data_order(project: Path) -> None:
    made = go(settings())
    assert [call["name"] for call in called()] == ORDER
    assert made.status == "done"


def test_every_stage_is_asked_for_its_report_as_json(project: Path) -> None:
    go(settings())
    assert all(call["argv"][-1] == "--json" for call in called())


def test_every_log_folder_and_repository_is_handed_on(project: Path) -> None:
    go(settings(repo=["r", "s"]))
    assert argv_of("sft")[:3] == ["--src", "a", "b"]
    assert argv_of("fim")[:3] == ["--repo", "r", "s"]


def test_what_one_stage_writes_the_next_one_reads(project: Path) -> None:
    go(settings())
    rows = [value_of(argv_of("sft"), "--out"), value_of(argv_of("fim"), "--out")]
    assert rows == ["data/mine.sft.jsonl", "data/mine.fim.jsonl"]
    assert argv_of("data")[:2] == rows
    for name in ("check-lengths", "train"):
        assert value_of(argv_of(name), "--train_file") == "data/train.mine.jsonl"
        assert value_of(argv_of(name), "--eval_file") == "data/eval.mine.jsonl"
    assert value_of(argv_of("train"), "--run_name") == "mine"
    for name in ("compare", "merge"):
        assert value_of(argv_of(name), "--adapter") == "outputs/mine/adapter"
    assert value_of(argv_of("merge"), "--output_dir") == "outputs/mine/merged"


def test_model_and_length_are_named_once_for_all(project: Path) -> None:
    go(settings(max_length=777))
    for name in ("check-lengths", "train", "compare"):
        assert value_of(argv_of(name), "--max_length") == "777"
    for name in ("check-lengths", "train", "compare", "merge"):
        assert value_of(argv_of(name), "--model_name_or_path") == "model"


def test_sessions_are_cut_for_the_length_that_will_be_trained(project: Path) -> None:
    go(settings(max_length=1000))
    assert value_of(argv_of("sft"), "--max_chars") == "2500"


def test_the_split_is_the_pipeline_s_to_decide(project: Path) -> None:
    go(settings(eval_frac=0.2, split_seed=7))
    assert value_of(argv_of("data"), "--eval_frac") == "0.2"
    assert value_of(argv_of("data"), "--seed") == "7"


def test_tables_can_be_left_to_who_asked(project: Path) -> None:
    assert go(settings(summary=False)).tables == ()


def test_the_recipe_gives_the_length_and_the_model_unless_told(project: Path) -> None:
    (project / "outputs" / "demo-base").mkdir(parents=True)
    go(settings(model_name_or_path=None))
    assert value_of(argv_of("train"), "--max_length") == "256"
    assert value_of(argv_of("train"), "--model_name_or_path") == "outputs/demo-base"
    assert value_of(argv_of("train"), "--config") == str(RECIPE)


def test_a_missing_model_is_said_before_any_stage_runs(project: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        go(settings(model_name_or_path="/nowhere/at/all"))
    assert not Path("called.jsonl").exists()


@pytest.mark.parametrize(
    ("missing", "left"),
    [("logs", ["data/mine.fim.jsonl"]), ("repo", ["data/mine.sft.jsonl"])],
)
def test_one_kind_of_source_is_enough(project: Path, missing: str, left: list[str]) -> None:
    go(settings(**{missing: []}))
    names = [call["name"] for call in called()]
    assert len(names) == len(ORDER) - 1
    assert argv_of("data")[: argv_of("data").index("--out_dir")] == left


@pytest.mark.parametrize("first", ORDER)
def test_from_starts_in_the_middle(project: Path, first: str) -> None:
    go(settings(from_stage=first))
    assert [call["name"] for call in called()] == ORDER[ORDER.index(first) :]


def test_every_stage_knows_the_run_it_belongs_to(project: Path) -> None:
    log = runlog.open_run(project, stage="pipeline", config={})
    script.run(settings(), log)
    log.finish("finished")
    assert {call["parent"] for call in called()} == {log.id}


# ---------------------------------------------------------------------------- bad settings


def test_without_any_source_there_is_nothing_to_do() -> None:
    with pytest.raises(UserError, match="pass --logs, --repo, or both"):
        settings(logs=[], repo=[])


@pytest.mark.parametrize("name", ["", "a/b", "../up"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot hold a path"):
        settings(name=name)


# ---------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize(
    ("code", "error"),
    [(2, UserError), (3, RefusedError), (1, ToldError), (143, Terminated)],
)
@pytest.mark.parametrize("name", ["sft", "check-lengths", "merge"])
def test_the_first_failing_stage_ends_it(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    code: int,
    error: type[BaseException],
) -> None:
    ending(monkeypatch, **{name: {"code": code}})
    with pytest.raises(error, match=name):
        go(settings())
    assert [call["name"] for call in called()] == ORDER[: ORDER.index(name) + 1]
    assert "peak memory" in capfd.readouterr().err  # what ran so far is still told


def test_a_stage_s_own_error_stays_visible(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ending(monkeypatch, fim={"code": 2})
    with pytest.raises(UserError):
        go(settings())
    assert "error: fim says why" in capfd.readouterr().err


def test_a_worse_model_is_not_merged(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, compare={"report": {"verdict": "worse", "headline": "worse by far"}})
    with pytest.raises(RefusedError, match=r"worse by far.*--force"):
        go(settings())
    assert called()[-1]["name"] == "compare"


def test_force_merges_a_worse_model(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, compare={"report": {"verdict": "worse"}})
    made = go(settings(force=True))
    assert called()[-1]["name"] == "merge"
    assert made.details["verdict"] == "worse"


def test_an_inconclusive_result_goes_on_and_is_labelled(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"verdict": "inconclusive", "headline": "inconclusive: -0.01 [-0.03, 0.01]"}
    ending(monkeypatch, compare={"report": told})
    made = go(settings())
    assert called()[-1]["name"] == "merge"
    assert "inconclusive" in made.headline
    assert made.details["verdict"] == "inconclusive"


def test_without_a_comparison_no_verdict_is_claimed(project: Path) -> None:
    assert go(settings(from_stage="merge")).details["verdict"] == "not compared"


@pytest.mark.parametrize(("fresh", "status"), [([], "up to date"), (["train"], "done")])
def test_it_is_up_to_date_when_every_stage_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, fresh: list[str], status: str
) -> None:
    old = {"report": {"status": "up to date"}}
    ending(monkeypatch, **{name: old for name in ORDER if name not in fresh})
    assert go(settings()).status == status


def test_the_end_tells_time_memory_and_result_of_every_stage(project: Path) -> None:
    costs, places = go(settings()).tables
    rows = costs.as_dicts()
    assert [row["stage"] for row in rows] == [*ORDER, "all"]
    assert rows[0]["result"] == "sft is well"
    assert all(row["time"].endswith(" s") for row in rows)
    assert all(row["peak memory"] != "0 MiB" for row in rows)
    assert "outputs/mine/merged" in {row["where"] for row in places.as_dicts()}


# ---------------------------------------------------------------------------- processes


def stage_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "one.py"
    file.write_text(textwrap.dedent(text))
    return file


def test_peak_memory_is_the_stage_s_own(tmp_path: Path) -> None:
    # From a small process of its own: a child's peak is never below its parent's at the start.
    runner = """
import os, sys
from pathlib import Path
from codetune import pipeline
for file in sys.argv[1:]:
    print(pipeline.execute("x", Path(file), [], os.environ).peak_rss_mib)
"""
    files = [tmp_path / "small.py", tmp_path / "large.py"]
    for file, text in zip(files, ("pass", "b'x' * 200_000_000"), strict=True):
        file.write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", runner, *map(str, files)]
    told = subprocess.check_output(command, env=environment, text=True)
    small, large = map(float, told.split())
    assert small < 150
    assert 195 < large < 300


def test_a_killed_stage_has_the_shell_s_exit_code(tmp_path: Path) -> None:
    file = stage_file(tmp_path, "import os; os.kill(os.getpid(), 9)")
    done = pipeline.execute("train", file, [], os.environ)
    assert (done.code, done.report, done.status) == (137, {}, "failed")
    assert isinstance(pipeline.failure(done), ToldError)


def test_when_told_to_stop_the_stage_may_still_save(tmp_path: Path) -> None:
    patient = stage_file(
        tmp_path,
        """
        import pathlib, signal, sys, time
        def save(*_):
            time.sleep(0.3)
            pathlib.Path("saved").touch()
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path("ready").touch()
        time.sleep(30)
        """,
    )
    runner = f"""
import os, signal
from pathlib import Path
from codetune import pipeline, signals
from codetune.signals import Terminated
signals.listen()
try:
    pipeline.execute("train", Path({str(patient)!r}), [], os.environ)
except Terminated:
    raise SystemExit(143)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-c", runner], cwd=tmp_path, env=environment) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert (tmp_path / "saved").exists()


def test_the_parent_run_is_handed_over_by_the_variable_that_stages_read() -> None:
    assert PARENT_RUN == "CODETUNE_PARENT_RUN"  # the pretenders above read it by this name


def test_help_is_quick_and_lists_the_knobs(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    shown = run_script("runs/pipeline.py", "--help")
    assert shown.returncode == 0
    for flag in ("--logs", "--repo", "--model_name_or_path", "--name", "--from_stage", "--force"):
        assert flag in shown.stdout


def test_an_unknown_flag_is_one_line_and_exit_2(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    shown = run_script("runs/pipeline.py", "--log", "x")
    assert shown.returncode == 2
    assert shown.stderr == "error: unknown flag --log; did you mean logs?\n"


# ---------------------------------------------------------------------------- for real


@pytest.mark.slow
def test_real_sessions_with_the_real_tokenizer(
    tmp_path: Path,
    shared: Path,
    qwen_tokenizer: Path,
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Bar: the same chain on any local model folder. The weights are random, the rest is real."""
    import transformers

    size: Any = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads: Any = {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    model: Any = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(vocab_size=151_936, **size, **heads)
    )
    base = tmp_path / "model"
    model.save_pretrained(base)
    for file in qwen_tokenizer.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    sources = ("--logs", shared / "data" / "logs" / "claude-code-log", "--repo", ROOT / "src")
    settings = ("--train_config", RECIPE, "--max_length", 512, "--generate_items", 2)
    ended = run_script(
        "runs/pipeline.py", *sources, "--model_name_or_path", base, *settings, "--name", "real",
        "--json",
    )  # fmt: skip
    assert ended.returncode in (0, 3), ended.stderr  # random weights may well become worse
    if ended.returncode == 0:
        assert [one["stage"] for one in json.loads(ended.stdout)["stages"]] == ORDER
        assert (tmp_path / "outputs" / "real" / "merged" / "model.safetensors").is_file()
    assert (tmp_path / "outputs" / "real" / "report" / "compare.html").is_file()
