"""Start-up: the help of the program, the list of recipes and the import of the package, against Lightning's own import.

    python benchmarks/startup.py

Each side is a process of its own, and the sides take turns after one round that warms the caches of the disk and of
Python's bytecode. What the processes print is checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from harness import RESULTS, in_turns, ratio, run_process, spread, target, write_results

VERBS = ("fit", "preview", "doctor", "recipes", "generate", "export", "study", "evaluate", "report")
# One after the other: what the second and the third add, by the clock of one process.
IMPORTS = """
import time
begun = time.perf_counter()
import lightning
lightning_seconds = time.perf_counter() - begun
import lightning_neft
package_seconds = time.perf_counter() - begun - lightning_seconds
from lightning_neft import NEFTune
print(lightning.Trainer, NEFTune)
print(lightning_seconds, package_seconds, time.perf_counter() - begun - lightning_seconds)
"""
# Of each side: what Python is told, and what has to be in what it prints.
SIDES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "help": (["-m", "lightning_neft", "--help"], VERBS),
    "recipes list": (["-m", "lightning_neft", "recipes", "list"], ("quickstart",)),
    "import lightning.pytorch": (["-c", "import lightning.pytorch; print(lightning.pytorch.Trainer)"], ("Trainer",)),
    "imports": (["-c", IMPORTS], ("Trainer", "NEFTune")),
}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS / "startup.json")
    args = parser.parse_args()
    added: dict[str, list[float]] = {"lightning": [], "lightning_neft": [], "lightning_neft and NEFTune": []}
    calls = {name: _call(name, added) for name in SIDES}
    in_turns(calls, 1)
    for times in added.values():
        times.clear()
    values = in_turns(calls, args.rounds)
    helped = ratio(values, "help", "import lightning.pytorch")
    report = {
        "seconds": {name: spread(times) for name, times in values.items()},
        "help / import lightning.pytorch": helped,
        "import seconds": {name: spread(times) for name, times in added.items()},
    }
    listed, imported = report["seconds"]["recipes list"]["median"], report["import seconds"]
    report["targets"] = [
        target("help / import lightning.pytorch", helped["median"], "<= 0.5"),
        target("recipes list, seconds", listed, "<= 1"),
        target("import lightning_neft after lightning, seconds", imported["lightning_neft"]["median"], "<= 0.1"),
        target("and NEFTune from it, seconds", imported["lightning_neft and NEFTune"]["median"], "<= 0.1"),
    ]
    for name, row in report["seconds"].items():
        print(f"{name:28}{row['median']:8.3f} s   {row['lowest']:.3f} to {row['highest']:.3f}")
    write_results(args.out, report, ("torch", "lightning", "lightning-neft"))


def _call(name: str, added: dict[str, list[float]]) -> Callable[[], float]:
    arguments, wanted = SIDES[name]

    def call() -> float:
        printed, elapsed = run_process([sys.executable, *arguments])
        if not all(text in printed for text in wanted):
            raise SystemExit(f"{name} printed something else:\n{printed[-2000:]}")
        if name == "imports":
            for times, value in zip(added.values(), printed.split()[-3:], strict=True):
                times.append(float(value))
        return elapsed

    return call


if __name__ == "__main__":
    main()
