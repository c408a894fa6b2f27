"""`lightning_neft fit` with one process and with two (DDP over gloo), against two fits apart at the same time.

    python benchmarks/processes.py      # needs two cores that do nothing else

Each process has one thread and 8 rows a batch, so that two processes make half of the steps. Two separate fits at once,
which say nothing to each other, are the most that this machine gives to two processes: they share memory and caches
too. The sides take turns. It is checked that the processes of a side together trained each sample once. What is timed:
first batch to last step, as in `throughput.py`, of the slower process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness import RESULTS, Record, in_turns, ratio, spread, write_results

PACKAGES = ("torch", "transformers", "lightning", "lightning-neft")
# A single fit of how many devices, and how many such fits at once.
SIDES = {"one": (1, 1), "two": (2, 1), "apart": (1, 2)}


def main() -> None:
    """Run the benchmark, or one fit of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "processes.json")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--devices", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        _fit(args.fit, args.devices)
        return
    import workload

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = workload.prepare(folder, args.samples, workload.TINY)
        calls = {side: lambda side=side: _tokens_per_second(folder, made, side) for side in SIDES}
        values = in_turns(calls, args.rounds)
    report = {
        "workload": made,
        "tokens_per_second": {side: spread(speeds) for side, speeds in values.items()},
        "ratios": {f"{side} / one": ratio(values, side, "one") for side in ("two", "apart")}
        | {"two / apart": ratio(values, "two", "apart")},
    }
    write_results(args.out, report, PACKAGES)
    print(json.dumps(report["ratios"], indent=1))


def _fit(folder: Path, devices: int) -> None:
    """Train in this process, which Lightning starts again for each further device; leave what was measured."""
    import yaml
    from lightning_meter import LightningMeter
    from sides import our_config

    from lightning_neft.cli.main import main as program

    changed = {"trainer": {"devices": devices, "strategy": "ddp" if devices > 1 else "auto"}}
    config = folder / f"processes-{os.getpid()}.yaml"
    config.write_text(yaml.safe_dump(our_config(folder, False, changed)), encoding="utf-8")
    code = program(["fit", "--config", str(config)])
    if code:
        raise SystemExit(code)
    place = folder / f"record-{os.getpid()}.json"
    temporary = place.with_suffix(".part")
    temporary.write_text(json.dumps(LightningMeter.result), encoding="utf-8")
    temporary.replace(place)


def _tokens_per_second(folder: Path, made: Record, side: str) -> float:
    """Tokens of all processes of a side over the seconds of its slowest."""
    devices, fits = SIDES[side]
    for old in folder.glob("record-*.json"):
        old.unlink()
    command = [sys.executable, __file__, "--fit", str(folder), "--devices", str(devices)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(fits)
    ]
    for process in started:
        _, told = process.communicate()
        if process.returncode:
            raise SystemExit(f"{side} failed:\n{told[-4000:]}")
    records = _records(folder, devices * fits)
    tokens = sum(record["tokens"] for record in records)
    if tokens != made["tokens"] * fits:
        raise SystemExit(f"{side} trained {tokens} tokens of {made['tokens'] * fits}: it drops or repeats samples")
    speed = float(tokens / max(record["seconds"] for record in records))
    steps, padding = (sorted({record[key] for record in records}) for key in ("steps", "padding_share"))
    print(f"{side}: {speed:.0f} tokens/s, steps {steps}, padding {padding}", flush=True)
    return speed


def _records(folder: Path, count: int) -> Sequence[Record]:
    """What the processes left; a second process of a fit may end a moment after the first."""
    for _ in range(300):
        places = list(folder.glob("record-*.json"))
        if len(places) == count:
            return [json.loads(place.read_text(encoding="utf-8")) for place in places]
        time.sleep(0.1)
    raise SystemExit(f"{count} processes were to leave a record, {len(places)} did")


if __name__ == "__main__":
    main()
