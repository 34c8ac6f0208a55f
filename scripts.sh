#!/usr/bin/env bash
# The one door to CodeTune: ./scripts.sh VERB [ARGUMENTS]. Everything after the verb goes to its stage untouched, and
# the exit status is the stage's own. It may be called from anywhere and works in the repository: relative paths are
# read from there, as they are when a stage is started as `python scripts/...`.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
caller=$(pwd -P)
cd -- "$root"
python=''  # of the environment that is used: set by find_environment, as is
missing='' # what kept an environment from being used

say() { printf '%s\n' "$*" >&2; }

# --- environment -----------------------------------------------------------------------------------------------------

# What the installed packages are made from. A stamp that equals it spares every start the comparison of versions.
fingerprint() { cat requirements/*.txt pyproject.toml | cksum | tr ' ' '-'; }

stamped() { # stamped ENVIRONMENT LEVEL: did setup finish here, from these files, at this level (base < dev)?
  local mark level
  [[ -r $1/codetune-setup.txt ]] || return 1
  read -r mark level _ <"$1/codetune-setup.txt" || true
  [[ $mark == "$(fingerprint)" && ($level == dev || $level == "$2") ]]
}

find_environment() { # find_environment LEVEL: an active environment first, then .venv; one made by hand counts if it fits
  local home why=''
  for home in "${VIRTUAL_ENV:-}" "$root/.venv"; do
    [[ -n $home && -x $home/bin/python ]] || continue
    if stamped "$home" "$1" || why=$("$home/bin/python" -I scripts/setup/fits.py "$1" 2>&1); then
      python=$home/bin/python
      return 0
    fi
  done
  missing=${why:-no environment yet}
  return 1
}

need() { # need LEVEL: most verbs never install anything by themselves
  local extra=''
  [[ $1 == base ]] || extra=' --dev'
  find_environment "$1" || { say "$missing: run ./scripts.sh setup$extra"; exit 2; }
}

need_or_install() { # need_or_install LEVEL: for the two verbs that a newcomer types first
  find_environment "$1" && return 0
  if [[ $1 == dev ]]; then install --dev; else install; fi
  find_environment "$1" || { say "$missing, although setup has finished: rm -r .venv and try again"; exit 2; }
}

find_python() { # the first Python of a supported version, the user's own `python3` before others
  local name
  for name in python3 python python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      printf '%s' "$name"
      return 0
    fi
  done
  return 1
}

install() {
  local with uv
  chmod -f go-rwx data outputs runs logs 2>/dev/null || true # what lands there is the user's own; git makes them open to all
  with=$(find_python) || { say 'Python 3.11, 3.12 or 3.13 is needed and none was found on PATH'; exit 2; }
  uv=$("$with" scripts/setup/get_uv.py) || exit 2
  "$with" scripts/setup/install.py --uv "$uv" --fingerprint "$(fingerprint)" "$@"
}

# --- verbs that are more than one stage ------------------------------------------------------------------------------

stage() { # stage SCRIPT ARGUMENTS...: hands over to the script; signals and exit status are its own
  need base
  [[ $caller == "$root" ]] || say "note: relative paths are read from $root"
  exec "$python" "$@"
}

tests() { # the fast suite; --slow adds the slow tests; all else goes to pytest
  need_or_install dev
  local argument command=(-m pytest -n 2 --dist loadfile) slow=no
  for argument in "$@"; do
    if [[ $argument == --slow ]]; then slow=yes; else command+=("$argument"); fi
  done
  [[ $slow == yes ]] || command=("${command[@]:0:2}" -m 'not slow' "${command[@]:2}")
  # one thread a process: small tests gain nothing from more, and two processes share two cores well
  OMP_NUM_THREADS=1 exec "$python" "${command[@]}"
}

check() { # what a change must pass besides the tests; all of it runs, so that one look shows all that is wrong
  need dev
  local bin=${python%/*} failed=''
  "$bin/ruff" format --check . || failed+=' format'
  "$bin/ruff" check . || failed+=' lint'
  "$bin/mypy" || failed+=' types'
  "$bin/shellcheck" scripts.sh .ci/run requirements/compile.sh || failed+=' shell'
  "$python" scripts/setup/docs.py --check || failed+=' docs'
  [[ -z $failed ]] || { say "check failed:$failed"; return 1; }
}

runs() { # runs WHAT ARGUMENTS...: questions, what changes the run log, and the stream are a page each
  case "${1:-}" in
    tag | note | rm | prune | export | reindex | upgrade | lineage) stage scripts/runs/keep.py "$@" ;;
    watch) stage scripts/runs/watch.py "${@:2}" ;;
    *) stage scripts/runs/runs.py "$@" ;;
  esac
}

verbs() { # one line a verb, read from the `case` below so that no list can go stale
  local line gap='' group=no
  while IFS= read -r line; do
    if [[ $line =~ ^\ \ ([a-z-]+)\)\ .*\;\;\ +\#\ (.*)$ ]]; then
      printf '%s  %-14s %s\n' "$gap" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
      gap=''
    elif [[ -z $line && $group == yes ]]; then
      gap=$'\n'
    fi
    [[ $line != case* ]] || group=yes
  done <scripts.sh
}

help() {
  printf 'usage: ./scripts.sh VERB [ARGUMENTS]     ./scripts.sh VERB --help lists what a verb takes\n\n'
  verbs
}

examples() {
  cat <<'TEXT'
# Try everything on a small model and hand-made logs (no GPU, no download of a model)
./scripts.sh demo

# The whole chain on your own logs and code, with a model folder on this machine
./scripts.sh pipeline --logs ~/.claude/projects --repo ~/src/project --model_name_or_path models/Qwen2.5-Coder-1.5B-Instruct --name mine

# The same, stage by stage
./scripts.sh sft --src ~/.claude/projects --out data/mine.sft.jsonl
./scripts.sh fim --repo ~/src/project --out data/mine.fim.jsonl
./scripts.sh data data/*.jsonl --eval_frac 0.15
./scripts.sh peek data/train.jsonl --n 3
./scripts.sh check-lengths --model_name_or_path models/Qwen2.5-Coder-1.5B-Instruct
./scripts.sh train --config configs/train/qwen2.5-coder-1.5b.yaml --run_name mine
./scripts.sh compare
./scripts.sh merge

# Train for hours in tmux, look in, stop with a checkpoint, go on later
./scripts.sh tmux-train --config configs/train/qwen2.5-coder-1.5b.yaml --run_name mine
./scripts.sh tmux-status
./scripts.sh logs
./scripts.sh gpu
./scripts.sh tensorboard
./scripts.sh tmux-kill mine

# What ran, and with which numbers
./scripts.sh runs list --stage train --sort eval_loss --where 'learning_rate<0.001'
./scripts.sh runs show mine
./scripts.sh runs compare mine other
./scripts.sh runs lineage outputs/mine/adapter
./scripts.sh runs prune
TEXT
}

unknown() { # unknown VERB: one line with the closest verb, which the user may have meant
  local with names closest=''
  names=$(verbs | awk '{print $1}')
  # shellcheck disable=SC2086 # one word a verb
  with=$(find_python) && closest=$("$with" -I -c \
    'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1, 0.5))' "$1" $names)
  [[ -z $closest ]] || closest=": did you mean '$closest'?"
  say "unknown verb '$1'$closest (./scripts.sh help lists them)"
  exit 2
}

# --- the verbs, in data order ----------------------------------------------------------------------------------------

verb=${1:-help}
[[ $# -eq 0 ]] || shift
case "$verb" in
  setup) install "$@" ;;          # makes .venv and installs pinned packages, torch in the build that fits this machine
  doctor) stage scripts/runs/doctor.py "$@" ;; # says what this machine can train, and what to do about each problem
  demo) need_or_install base; stage scripts/runs/demo.py "$@" ;; # the whole pipeline for real, on a small model made here
  pipeline) stage scripts/runs/pipeline.py "$@" ;; # the same chain on your logs, your repository and your model
  test) tests "$@" ;;             # the fast test suite; --slow adds the slow tests, the rest goes to pytest
  check) check ;;                 # format, lint, strict types, shellcheck and whether the generated docs are fresh

  archive-logs) stage scripts/data_prep/claude_logs/archive_logs.py "$@" ;; # keeps sessions that would be deleted after 30 days
  sft) stage scripts/data_prep/claude_logs/claude2sft.py "$@" ;; # assistant logs to chat rows: how you work with a model
  fim) stage scripts/data_prep/actual_code/repo2fim.py "$@" ;; # repository files to fill-in-the-middle rows: your code
  data) stage scripts/data_prep/merge_and_split.py "$@" ;; # merges, drops duplicates, splits by group so nothing leaks
  peek) stage scripts/data_prep/peek.py "$@" ;; # shows rows, and which of their tokens are trained on
  check-lengths) stage scripts/testing/check_lengths.py "$@" ;; # refuses data that would train on nothing, before hours go

  train) stage scripts/training/train_qlora.py "$@" ;; # trains a LoRA adapter on the 4-bit base; resumes after any kill
  train-log) stage scripts/training/train_qlora.py "$@" ;; # another spelling of train, which keeps all it says in a file
  tmux-train) stage scripts/runs/background.py train "$@" ;; # train in tmux (or detached), which outlives the ssh session
  tmux-attach) stage scripts/runs/background.py attach "$@" ;; # look into such a session
  tmux-status) stage scripts/runs/background.py status "$@" ;; # every session: run, step, loss, time left
  tmux-kill) stage scripts/runs/background.py kill "$@" ;; # asks the run to save and exit, waits, then ends the session

  baseline) stage scripts/testing/baseline.py "$@" ;; # measures the base alone: the number to beat
  test-baseline) stage scripts/testing/baseline.py "$@" ;; # another spelling of baseline
  compare) stage scripts/testing/compare_baseline_vs_lora.py "$@" ;; # base against adapter on held-out rows, with intervals
  merge) stage scripts/training/merge_lora.py "$@" ;; # adapter into the unquantised base, published only if logits agree
  model-test) stage scripts/testing/model_testing.py "$@" ;; # tokens per second, first-token time and peak memory

  runs) runs "$@" ;;              # what ran, from which data and code, and with which numbers; prune, export, lineage
  logs) stage scripts/runs/logs.py "$@" ;; # follows what the newest active run says
  gpu) stage scripts/runs/gpu.py "$@" ;; # live: GPUs, CPU and memory, and which run holds them
  tensorboard) stage scripts/runs/tensorboard.py "$@" ;; # curves of all runs, at 127.0.0.1:6006 only; --stop ends it

  help) help ;;                   # this list
  examples) examples ;;           # commands to copy
  -h | --help) help ;;
  *-help) exec "$root/scripts.sh" "${verb%-help}" --help ;;
  *) unknown "$verb" ;;
esac
