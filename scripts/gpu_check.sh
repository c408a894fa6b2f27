#!/usr/bin/env bash
# All that only a GPU can show, in 12 minutes, on a machine without a network: PyTorch, Lightning and transformers are
# there, the rest comes as wheels (scripts/gpu_wheels.sh).
#
#     scripts/gpu_check.sh OUT [WHEELS]     # by default gpu_wheels, if there is such a folder
#
# Each step has a time limit and writes its result before the next one starts, so that a run that is cut short has what
# it measured until then: OUT/steps.txt has a line a step, OUT/log.txt what the steps printed, OUT/*.json the figures.
# Without a GPU the same steps run small on the CPU. That is a rehearsal; its figures mean nothing.
set -uo pipefail
out=$(mkdir -p "${1:?usage: scripts/gpu_check.sh OUT [WHEELS]}" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
wheels=${2:-gpu_wheels}
python=${PYTHON:-python3}
failed=0

export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONPATH="$PWD/src:$PWD/tests:$PWD/benchmarks"
: >"$out/log.txt" && : >"$out/steps.txt"

step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 begun=$SECONDS code
    shift 2
    echo "== $name: $*" >>"$out/log.txt"
    timeout --kill-after=5 "$limit" "$@" >"$out/.step" 2>&1
    code=$?
    cat "$out/.step" >>"$out/log.txt"
    [ $code = 0 ] || failed=1
    printf '%-10s exit %-3s %4s s of %4s   %s\n' "$name" $code $((SECONDS - begun)) "$limit" \
        "$(tail -n 1 "$out/.step" | cut -c1-120)" | tee -a "$out/steps.txt"
}

if [ -d "$wheels" ]; then
    site=$(mktemp -d)
    step wheels 60 "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl
    # Behind what the machine has: its own PyTorch and transformers are the ones to be checked.
    PYTHONPATH="$PYTHONPATH:$site"
fi

if "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    step device 20 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    noise=(--gpu --rounds 21) speed=(--gpu --sides trl trl_tuned ours ours_clean ours_selective --samples 400 --rounds 1)
else
    echo "no CUDA device: a rehearsal on the CPU, whose figures mean nothing" | tee -a "$out/steps.txt"
    noise=(--rounds 1) speed=(--sides trl ours --samples 16 --rounds 1)
fi
pytest=("$python" -m pytest -q -p no:cacheprovider -p no:xdist -W default -o addopts="--import-mode=importlib")
step versions 60 "$python" -c 'import lightning, peft, torch, transformers, trl
print(*(f"{m.__name__} {m.__version__}" for m in (torch, lightning, transformers, peft, trl)), sep=", ")'
step tests 150 "${pytest[@]}" -m "not slow" tests/test_gpu.py tests/noise/test_fused.py
step noise 90 "$python" benchmarks/noise_op.py "${noise[@]}" --out "$out/noise_op_gpu.json"
step sharded 150 "${pytest[@]}" -m slow tests/test_gpu.py
step speed 240 "$python" benchmarks/throughput.py "${speed[@]}" --out "$out/throughput_gpu.json"
rm -f "$out/.step"
exit $failed
