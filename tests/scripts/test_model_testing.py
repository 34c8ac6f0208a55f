"""model_testing as typed in a shell: the table, the JSON, and every way it can refuse."""

import json
from pathlib import Path

import pytest

from codetune import artefact

SCRIPT = "testing/model_testing.py"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.evaluation import tiny

    return tiny.make_base(tmp_path_factory.mktemp("models") / "small", steps=0)


def artefacts(folder: Path) -> list[Path]:
    found = (folder / "outputs/model-testing").glob("*.json")
    return [path for path in found if not path.name.endswith(".manifest.json")]


def test_a_model_is_measured_and_written(run_script, base, tmp_path):
    flags = ["--quant", "4bit", "--short-tokens", 4, "--no-long", "--repeats", 2, "--device", "cpu"]
    done = run_script(SCRIPT, "--models", base, *flags, "--prompt", "say something")
    assert done.returncode == 0, done.stderr
    (out,) = artefacts(tmp_path)
    assert artefact.verify(out) is None
    (result,) = json.loads(out.read_bytes())
    assert (result["name"], result["quant"], result["skipped"]) == ("small", "4bit", "")
    assert list(result["decode"]) == ["4"]
    assert len(result["decode"]["4"]["samples"]) == 2
    assert result["ttft_ms"]["q1"] <= result["ttft_ms"]["median"] <= result["ttft_ms"]["q3"]
    assert "speed, median" in done.stderr and "memory in GB" in done.stderr
    assert "1 of 1 measured" in done.stderr and "it wrote " in done.stderr


def test_what_does_not_fit_is_a_row_that_says_why(run_script, base, tmp_path):
    flags = ["--cpu-budget-gb", 0.01, "--skip-large-if-low-ram", "--device", "cpu"]
    done = run_script(SCRIPT, "--models", base, "--quant", "both", *flags, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = report["tables"]["skipped"]
    assert [(row["model"], row["quant"]) for row in rows] == [("small", "4bit"), ("small", "8bit")]
    assert all("needs about" in row["why"] for row in rows)
    assert report["headline"].startswith("0 of 2 measured")
    assert "needs about" in json.loads(artefacts(tmp_path)[0].read_bytes())[0]["skipped"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--models", "absent/folder/of/model"], "no such model folder"),
        (["--models", "7b"], "Qwen/Qwen2.5-Coder-7B-Instruct"),
        (["--gpu-mem", "lots"], "is no size"),
        (["--prompt", "  "], "prompt is empty"),
        (["--prompt-file", "absent.txt"], "absent.txt: no readable text file"),
        (["--quant", "3bit"], "quant"),
        (["--short-tokens", "1"], "short_tokens"),
        (["--long-token", "3"], "did you mean long_tokens"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(run_script, base, tmp_path, flags, says):
    given = flags if "--models" in flags else ["--models", base, *flags]
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    done = run_script(SCRIPT, *given, env=env)
    assert done.returncode == 2, done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(complaints) == 1 and says in complaints[0]
    assert "Traceback" not in done.stderr and artefacts(tmp_path) == []


def test_one_missing_model_stops_before_anything_is_measured(run_script, base, tmp_path):
    done = run_script(SCRIPT, "--models", base, "absent/folder/of/model")
    assert done.returncode == 2
    assert "measuring" not in done.stderr


def test_the_flags_of_the_predecessor(run_script, base):
    flags = ["--short-tokens", 9, "--long-tokens", 9, "--no-long", "--fa2", "--gpu-mem", "9GB"]
    flags += ["--cpu-budget-gb", 8, "--skip-large-if-low-ram", "--prompt-file", "p.txt"]
    done = run_script(SCRIPT, "--models", "7b", "14b", "32b", *flags, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["config"]
    assert plan["models"] == ["7b", "14b", "32b"]
    assert (plan["no_long"], plan["fa2"], plan["gpu_mem"]) == (True, True, "9GB")
