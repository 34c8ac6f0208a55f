#!/usr/bin/env bash
# Makes base.txt (what the project runs on) and dev.txt (the same plus the test tools) from pyproject.toml:
# exact versions with hashes for Python 3.11 to 3.13 on every platform, without any package host.
# Run it after a change of dependencies, from anywhere; arguments go to uv (for instance --upgrade):
#   requirements/compile.sh --upgrade
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() { # compile FILE ARGUMENTS...
  local file=$1
  shift
  uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --constraint requirements/torch.txt \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file "$file" "$@"
}

# torch comes in builds per GPU, so setup chooses it; which packages belong to it, a first pass tells.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
compile "$scratch/all.txt" "$@"
without_torch=()
while IFS= read -r name; do
  [[ $name == nvidia-ml-py ]] || without_torch+=(--no-emit-package "$name") # ours: it only reads the driver
done < <(grep -oE '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' "$scratch/all.txt" | tr -d '=')

compile requirements/base.txt --generate-hashes "${without_torch[@]}" "$@"
compile requirements/dev.txt --generate-hashes --group dev "${without_torch[@]}" --constraint requirements/base.txt "$@"
