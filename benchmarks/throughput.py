"""One fit against TRL's SFTTrainer and against a hand-written loop: trained tokens per second and peak memory.

    python benchmarks/throughput.py                      # on the CPU: a tiny Llama, 1,000 samples, 5 rounds
    python benchmarks/throughput.py --gpu                # random weights in the shape of SmolLM2-135M, in bf16
    python benchmarks/throughput.py --sides trl ours     # some sides only

Needs the extra `bench`. Every side of every round is a process of its own, one at a time with all cores, and the sides
take turns. The clock runs from the start of the first batch to the end of the last optimiser step: imports, loading and
tokenisation are in `wall_seconds` only. Tokens are those that the embedding reads, padding not counted; a side that did
not see exactly the samples' tokens, once each, ends the benchmark. What the samples are: `workload.py`; what the sides
do: `sides.py`. Figures need a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from comparison import check_tokens, compare, table
from harness import RESULTS, Record, run_process, write_results

# Nothing heavy here: on Linux, the peak memory of a new process begins at that of the one that started it.

CPU_SIDES = (
    *("trl", "trl_packed", "trl_grouped", "trl_tuned", "trl_tuned_fp32"),
    *("hand_random", "hand_grouped"),
    *("ours", "ours_random", "ours_packed", "ours_bf16"),
)
GPU_SIDES = ("trl", "trl_packed", "trl_grouped", "trl_tuned", "hand_grouped", "ours", "ours_packed", "ours_clean")
PACKAGES = ("torch", "transformers", "trl", "accelerate", "lightning", "lightning-neft")


def main() -> None:
    """Run the benchmark, or one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--sides", nargs="+", metavar="SIDE", help="those of sides.py that take part")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="by default results/throughput.json, or throughput_gpu.json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(_in_this_process(args)), flush=True)
        return
    sides = args.sides or (GPU_SIDES if args.gpu else CPU_SIDES)
    out = args.out or RESULTS / ("throughput_gpu.json" if args.gpu else "throughput.json")
    with tempfile.TemporaryDirectory() as folder:
        command = [*(sys.executable, __file__, "--folder", folder), *(["--gpu"] if args.gpu else [])]
        workload = _run([*command, "--side", "prepare", "--samples", str(args.samples)])
        print(f"{workload['samples']} samples, {workload['tokens']} tokens", flush=True)
        rounds: list[dict[str, Record]] = []
        for number in range(args.rounds):
            # Each round begins with another side, so that none is always the first.
            start = number % len(sides)
            records = {side: _run([*command, "--side", side]) for side in (*sides[start:], *sides[:start])}
            for side, record in records.items():
                check_tokens(side, record, workload)
            rounds.append(records)
            report = {"workload": workload, **compare(rounds, args.gpu), "rounds": rounds}
            write_results(out, report, PACKAGES)
    print(table(report))


def _in_this_process(args: argparse.Namespace) -> Record:
    import sides
    import workload

    if args.side == "prepare":
        return workload.prepare(args.folder, args.samples, workload.SMOLLM2 if args.gpu else workload.TINY)
    return sides.run_side(args.side, args.folder, args.gpu)


def _run(command: list[str]) -> Record:
    """Run a process, and return the record of its last line with its duration."""
    printed, elapsed = run_process(command)
    record: Record = json.loads(printed.strip().splitlines()[-1])
    record["wall_seconds"] = elapsed
    print(command[-1], {key: value for key, value in record.items() if key != "settings"}, flush=True)
    return record


if __name__ == "__main__":
    main()
