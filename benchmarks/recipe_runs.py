r"""A recipe as written, with and without noise: loss before and after, tokens/s, peak memory, seconds.

    python benchmarks/recipe_runs.py smollm2-135m-instruct/dolly-3k

Without the hub, folders and files with the same content take the place of the recipe's names:

    python scripts/real_bases.py --into .real
    python benchmarks/recipe_runs.py smollm2-135m-instruct/dolly-3k \
        --base .real/smollm2-135m-instruct --data dolly_3k.json

Writes `results/recipes/RECIPE.json`, from which `scripts/recipe_table.py` takes its numbers. Figures need a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import RESULTS, Record, write_results

PACKAGES = ("torch", "lightning", "transformers", "peft", "lightning-neft")
# What a fit prints at its end.
BEFORE, AFTER = r"before fine-tuning\W+([\d.]+)", r"after step (\d+)\W+([\d.]+)"


def main() -> None:
    """Run a recipe twice, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="its name, as `lightning_neft recipes list` prints it")
    parser.add_argument("--base", type=Path, metavar="DIR", help="folder of the base model")
    parser.add_argument("--data", type=Path, metavar="FILE", help="the data")
    args = parser.parse_args()
    own = {"model.base": args.base, "data.source": args.data}
    options = [f"--{key}={path.resolve()}" for key, path in own.items() if path is not None]
    runs = {
        name: _fit(args.recipe, [*options, *further])
        for name, further in {"with_noise": [], "without_noise": ["--neftune=null"]}.items()
    }
    content = {"base": args.base and args.base / "model.safetensors", "data": args.data}
    report = {
        "recipe": args.recipe,
        "sha256": {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in content.items() if file},
        "runs": runs,
    }
    write_results(RESULTS / "recipes" / f"{args.recipe}.json", report, PACKAGES)


def _fit(recipe: str, options: list[str]) -> Record:
    """Fit in a process of its own, and return what it printed, logged and took."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["fit", "--config", recipe, *options, "--name=run"]
        begun = time.perf_counter()
        # wait4 returns the memory of this process alone.
        with subprocess.Popen(
            [sys.executable, "-m", "lightning_neft", *command], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            printed = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        elapsed = time.perf_counter() - begun
        if process.returncode:
            raise SystemExit(f"lightning_neft {' '.join(command)} ended with {process.returncode}")
        with (Path(folder) / "runs" / "run" / "version_0" / "metrics.csv").open(newline="") as file:
            logged = [row["train/tokens_per_second"] for row in csv.DictReader(file)]
    before, after = re.search(BEFORE, printed), re.search(AFTER, printed)
    if before is None or after is None:
        raise SystemExit(f"{recipe} printed no loss before and after:\n{printed}")
    record = {
        "steps": int(after[1]),
        "held_out_loss_before": float(before[1]),
        "held_out_loss": float(after[2]),
        "tokens_per_second": round(median(float(rate) for rate in logged if rate)),
        "peak_memory_gb": round(usage.ru_maxrss * 1024 / 1e9, 1),
        "seconds": round(elapsed),
    }
    print(record, flush=True)
    return record


if __name__ == "__main__":
    main()
