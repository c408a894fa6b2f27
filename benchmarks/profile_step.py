"""Where the time of a fit of a real pretrained model goes: operators of PyTorch by kind, ours beside a plain loop.

    python scripts/real_bases.py --into .real
    python benchmarks/profile_step.py --model .real/smollm2-135m-instruct --data instructions.jsonl

Each side trains the samples of `real_model.py` once under torch.profiler, in a process of its own. Seconds are those
of the operators themselves on all threads that call them, without what they call; Python between them is not counted.
The profiler makes small operators slower than they are.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from harness import RESULTS, Record, run_side, write_results
from real_model import PACKAGES, parser_of_workload

SIDES = ("hand_bf16", "ours_default")
# The first kind whose words are in the name of an operator; the rest is "other".
KINDS = {
    "matrix products": ("mm", "linear", "matmul", "mkldnn"),
    "attention": ("attention",),
    "loss": ("softmax", "nll", "cross_entropy", "logsumexp", "gather"),
    "optimiser": ("fused_adam", "foreach", "vector_norm", "addcdiv", "addcmul", "lerp", "::sqrt", "::div"),
    "casts, copies, zeros": ("copy", "_to", "cat", "fill", "zero", "clone", "empty"),
    "norms, activations, sums": ("mul", "add", "pow", "rsqrt", "mean", "silu", "neg", "sum", "sub", "where"),
}


def main() -> None:
    """Profile all sides, or one of them."""
    args = parser_of_workload(__doc__).parse_args()
    if args.side:
        print(json.dumps(_profiled(args.side, args.folder)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        given = [f"--model={args.model}", f"--data={args.data}", f"--folder={folder}", f"--longest={args.longest}"]
        workload = run_side("real_model.py", *given, "--side=prepare", f"--samples={args.samples}")
        sides = {side: run_side("profile_step.py", *given, f"--side={side}") for side in SIDES}
    report = {"model": args.model.resolve().name, "workload": workload, "sides": sides}
    write_results(RESULTS / "real_model" / f"profile-{report['model']}.json", report, PACKAGES)
    print(f"{'seconds a step':<28}" + "".join(f"{side:>16}" for side in SIDES))
    for kind in (*KINDS, "other"):
        print(f"{kind:<28}" + "".join(f"{sides[side]['kinds'][kind] / sides[side]['steps']:>16.3f}" for side in SIDES))


def _profiled(side: str, folder: Path) -> Record:
    import sides
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as found:
        record = sides.run_side(side, folder, gpu=False)
    kinds = dict.fromkeys((*KINDS, "other"), 0.0)
    operators: dict[str, float] = {}
    for event in found.key_averages():
        seconds = event.self_cpu_time_total / 1e6
        kinds[_kind(event.key)] += seconds
        operators[event.key] = seconds
    longest = sorted(operators, key=lambda name: -operators[name])[:25]
    return {
        "steps": record["steps"],
        "seconds": record["seconds"],
        "kinds": kinds,
        "longest": {name: operators[name] for name in longest},
    }


def _kind(operator: str) -> str:
    name = operator.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")


if __name__ == "__main__":
    main()
