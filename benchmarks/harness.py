"""What the benchmarks have in common: sides that take turns, medians and ratios, the machine in words, the results.

Imports nothing heavy: on Linux, the peak memory of a new process begins at that of the one that started it.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
# Environment variable: what `time.perf_counter()` was when this process was started.
PROCESS_BEGUN = "BENCHMARK_PROCESS_BEGUN"
Record = dict[str, Any]


def in_turns(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each side once a round, and return its values; each round begins with another side.

    Args:
        calls: Of each side, what returns its seconds (or any other number).
        rounds: How often each is called.
    """
    names = list(calls)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in (*names[start:], *names[:start]):
            values[name].append(calls[name]())
    return values


def seconds(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def spread(values: Sequence[float]) -> Record:
    """Return the median and the range."""
    return {"median": median(values), "lowest": min(values), "highest": max(values), "rounds": len(values)}


def ratio(values: dict[str, list[float]], side: str, other: str) -> Record:
    """Return median and range of the ratio of two sides within a round, which a slow round does not move."""
    return spread([one / two for one, two in zip(values[side], values[other], strict=True)])


def target(what: str, value: float, wanted: str) -> Record:
    """Return a target and whether it is met.

    Args:
        what: What was measured.
        value: The measured value.
        wanted: `<=` or `>=` and a bound, such as `<= 0.8`.
    """
    relation, bound = wanted.split()
    met = value <= float(bound) if relation == "<=" else value >= float(bound)
    return {"what": what, "value": value, "wanted": wanted, "met": met}


def write_results(path: Path, report: Record, packages: Sequence[str]) -> None:
    """Write a report with the date, the machine and the versions of packages, and print its targets."""
    about = {"date": datetime.now(timezone.utc).date().isoformat(), "machine": machine(packages)}
    from lightning_neft.common.files import write_text

    write_text(path, json.dumps({**about, **report}, indent=1) + "\n")
    for aim in report.get("targets", []):
        verdict = {True: "met", False: "MISSED", None: ""}[aim["met"]]
        print(f"{aim['what']}: {aim['value']:.3f}  {aim['wanted']}  {verdict}".rstrip(), flush=True)


def machine(packages: Sequence[str]) -> Record:
    """Return the processor in words, the cores that this process may use, and versions."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {package: _version(package) for package in packages}
    return {"cpu": model, "cores": cores, "python": platform.python_version(), "versions": versions}


def _version(package: str) -> str:
    if package == "lightning-neft":  # may be a checkout on the path
        from lightning_neft import __version__

        return __version__
    return version(package)


def run_process(command: Sequence[str]) -> tuple[str, float]:
    """Run a process and return what it printed and its seconds; its failure ends the run."""
    begun = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", PROCESS_BEGUN: str(begun)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    elapsed = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout, elapsed


def run_side(script: str, *arguments: str) -> Record:
    """Run a script of this folder in a process of its own, and return the record of its last line."""
    printed, elapsed = run_process([sys.executable, str(RESULTS.parent / script), *arguments])
    record: Record = json.loads(printed.strip().splitlines()[-1])
    return {**record, "wall_seconds": elapsed}
