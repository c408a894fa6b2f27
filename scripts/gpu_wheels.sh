#!/usr/bin/env bash
# Download what scripts/gpu_check.sh needs and a machine without a network lacks: pure Python wheels, a few MB in all.
#
#     scripts/gpu_wheels.sh [FOLDER]        # by default gpu_wheels
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-gpu_wheels}
mkdir -p "$folder"
# Those of the list that constraints.txt pins are taken in that version.
names=(datasets dill multiprocess jsonargparse docstring_parser typeshed_client torchdata trl pytest-timeout liger-kernel gguf)
for name in "${names[@]}"; do
    pinned=$(grep -i "^${name}==" constraints.txt || echo "$name")
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "${PYTHON_VERSION:-3.12}" --dest "$folder" "$pinned"
done
du -sh "$folder"
