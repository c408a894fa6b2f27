"""A long fit in one process: do its memory, its open files and its threads stay what they are?

    python benchmarks/long_run.py                  # 20,000 steps of a tiny Llama, on the CPU

Runs `lightning_neft fit` as a user would, with noise, both loggers, validation, sample answers and checkpoints every
500 steps, and looks at the process every 200 steps. What comes before the end of the warm-up is left out of the slope:
libraries are still being loaded, and buffers grow to the longest batch. Writes results/long_run.json; the run itself is
in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from scipy import stats

from lightning_neft.cli.fit import execute
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch", "lightning", "transformers", "torchdata", "tensorboard", "lightning-neft")
Row = dict[str, int]


class Watch(L.Callback):
    """Looks at the process every so many steps.

    Attributes:
        rows: What it saw: step, resident memory in bytes, open files, threads, bytes of the checkpoints folder.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.rows: list[Row] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look, if it is time."""
        if trainer.global_step % self.every == 0:
            folder = Path(str(trainer.checkpoint_callback.dirpath))
            self.rows.append({"step": trainer.global_step, **_process(), "checkpoints": _size(folder)})


def main() -> None:
    """Run it, print what was seen, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--warm-up", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "long_run.json")
    args = parser.parse_args()
    watch, began = Watch(args.every), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        _fit(watch, args.steps, Path(folder))
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "hardware": _hardware(),
        "versions": {package: version(package) for package in PACKAGES},
        "steps": args.steps,
        "warm_up": args.warm_up,
        "seconds": round(time.monotonic() - began),
        **_summary([row for row in watch.rows if row["step"] > args.warm_up]),
        "rows": watch.rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in report.items() if name != "rows"}, indent=1))


def _fit(watch: Watch, steps: int, folder: Path) -> None:
    options = {
        "data.batch_size": 2,
        "data.val_size": 16,
        "data.cache_dir": folder / "cache",
        "trainer.max_epochs": -1,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": 500,
        "trainer.check_val_every_n_epoch": "null",
        "trainer.default_root_dir": folder,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    with quiet():
        program = Program("fit", ["--config=quickstart", *(f"--{name}={value}" for name, value in options.items())])
        program.trainer.callbacks.append(watch)
        execute("fit", program)


def _process() -> Row:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": sum(1 for _ in Path("/proc/self/task").iterdir()),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _summary(rows: list[Row]) -> dict[str, Any]:
    """Return the slope of the memory with its 95 % interval, and the range of the rest."""
    line = stats.linregress([row["step"] for row in rows], [row["resident"] for row in rows])
    half = stats.t.ppf(0.975, len(rows) - 2) * line.stderr
    return {
        # A byte a step is a kilobyte in 1,000 steps.
        "resident_bytes_per_step": [
            round(float(value), 1) for value in (line.slope, line.slope - half, line.slope + half)
        ],
        **{
            name: [min(row[name] for row in rows), max(row[name] for row in rows)] for name in rows[0] if name != "step"
        },
    }


def _hardware() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{torch.get_num_threads()} thread(s) of a machine with {os.cpu_count()} cores, {model}"


if __name__ == "__main__":
    main()
