"""The processes of a study: one reads the config, the others run one arm each, as a normal fit of the program."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
import time
import traceback
from dataclasses import asdict
from multiprocessing.connection import Connection
from runpy import run_module
from typing import Any

import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from lightning_neft.callbacks.signals import StoppedBySignal
from lightning_neft.cli.errors import explain
from lightning_neft.cli.fit import execute
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program, newest_checkpoint
from lightning_neft.cli.program_options import NoiseOptions
from lightning_neft.cli.run_block import ends_early, optimizer_steps
from lightning_neft.common.paths import user_path
from lightning_neft.data.sources.names import source_names
from lightning_neft.errors import ConfigError
from lightning_neft.study.arm import ArmTask, Failed, write_record
from lightning_neft.study.measure import Fingerprint, ReportToStudy, measure, read_curves

__all__ = ["describe", "run_arm", "start_arm"]

# Main module of every rank of an arm.
_RANK = "lightning_neft.cli.study_rank"
# Keys that differ between arms, or between the same study in two folders.
_SECTIONS = ("model", "data", "neftune", "trainer")
_OF_ARM = ("name", "ckpt_path", "seed_everything", "config")


def describe(args: tuple[str, ...], connection: Connection) -> None:
    """Send a description of a config: a dictionary, or `Failed` with an error that the user can fix.

    Args:
        args: The command line of a fit.
        connection: To the worker.
    """
    try:
        with quiet():
            program = Program("study", [*args, "--trainer.logger=false", "--trainer.enable_progress_bar=false"])
            program.datamodule.prepare_data()
            program.datamodule.setup("fit")
        connection.send(_description(program))
    except BaseException as error:
        _report(error, connection)


def _description(program: Program) -> dict[str, Any]:
    data = program.datamodule
    if data.prepared.held_out is None:
        raise ConfigError("study compares losses on a validation set; set data.val_size or data.val_split")
    steps = optimizer_steps(program.trainer, data)
    if steps is None:
        raise ConfigError("study compares arms at equal steps; set trainer.max_steps or trainer.max_epochs")
    if (option := ends_early(program.trainer)) is not None:
        raise ConfigError(f"study compares arms at equal steps, and {option} ends each at steps of its own; omit it")
    strategy = program.trainer.strategy
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise ConfigError(
            f"study needs the whole model on one device to measure an arm, got {type(strategy).__name__}; "
            "set trainer.strategy to ddp, or to auto on one device"
        )
    return {
        "recipe": program.config.name,
        "model": _model_name(program.config.model.base),
        "data": ", ".join(source_names([(one.source, one.subset, one.split) for one in data.options.each])),
        "steps": steps,
        "held_out": len(data.prepared.held_out),
        "config": _digest(program),
        "options": _changed_options(program),
        "hardware": _hardware(program),
        "precision": program.config.trainer.precision,
        "inputs": program.inputs(),
        "data_digest": data.prepared.digest,
    }


def _model_name(base: str) -> str:
    """Return the name on the hub, or that of a folder or file without the folders above it, which are private."""
    path = user_path(base, "model.base")
    return path.name if path.exists() else base


def _changed_options(program: Program) -> dict[str, Any]:
    """Return the options that are not defaults, without those that differ between arms."""
    changed = program.parser.dump(program.config, skip_validation=True, skip_default=True)
    config: dict[str, Any] = yaml.safe_load(changed)
    _remove_own(config)
    # What a recipe always states, and what depends on the machine.
    data = program.datamodule.options
    stated = {
        "model": {"base": program.config.model.base},
        "data": {} if data.parts else {"source": data.source},
        "trainer": {"precision": program.config.trainer.precision},
    }
    for section, values in stated.items():
        config[section] = values | (config.get(section) or {})
    defaults = asdict(NoiseOptions())
    config["neftune"] = {key: one for key, one in (config.get("neftune") or {}).items() if one != defaults[key]}
    return {key: config[key] for key in ("card", *_SECTIONS, *config) if config.get(key) is not None}


def _hardware(program: Program) -> str:
    device = program.trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"
    return f"{program.trainer.num_devices} x {name}"


def _remove_own(config: dict[str, Any]) -> None:
    """Remove the keys that the study sets."""
    for key in _OF_ARM:
        config.pop(key, None)
    if isinstance(config.get("neftune"), dict):
        for key in ("alpha", "seed"):
            config["neftune"].pop(key, None)
    for key in ("default_root_dir", "logger", "enable_progress_bar"):
        (config.get("trainer") or {}).pop(key, None)


def _digest(program: Program) -> str:
    """Return a digest of all options that must be the same for all arms."""
    config = yaml.safe_load(program.parser.dump(program.config, skip_validation=True))
    _remove_own(config)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def start_arm(task: ArmTask, connection: Connection) -> None:
    """Run an arm in this process, as `python -m lightning_neft.cli.study_rank TASK` would.

    Lightning starts the other ranks of an arm with the command of the main module, which would be the whole study.

    Args:
        task: The arm.
        connection: To the worker.
    """
    sys.argv[1:] = [task.to_json()]
    run_module(_RANK, {"connection": connection}, run_name="__main__", alter_sys=True)


def run_arm(task: ArmTask, connection: Connection | None) -> None:
    """Fit an arm, resuming from its last checkpoint if it has one, and write its record into its folder.

    Sends `Progress` and `Validated`, and `Failed` if it fails. After a signal it saves and exits with 128 plus its
    number.

    Args:
        task: The arm.
        connection: To the worker; None on all ranks except the first.
    """
    started = time.monotonic()
    arm, root = task.arm, task.folder.parent
    fingerprint, report = Fingerprint(), ReportToStudy(connection)
    has_begun = any((root / arm.name).glob("version_*/checkpoints/last.ckpt"))
    # All of them, because a config may set them too: that of a resumed run names its checkpoint, for example.
    own = [
        f"--neftune.alpha={arm.alpha!r}",
        "--neftune.seed=null",
        f"--seed_everything={arm.seed}",
        f"--trainer.default_root_dir={root}",
        "--trainer.logger=true",
        f"--name={arm.name}",
        "--checkpoint.dirpath=null",  # one folder for all arms
        f"--ckpt_path={newest_checkpoint(root, arm.name) if has_begun else 'null'}",
    ]
    try:
        with quiet():
            program = Program("study", [*task.args, *own])
            trainer: Any = program.trainer
            # First, so that it sees the batches before the noise may double them.
            trainer.callbacks[:0] = [fingerprint, report]
            with program.run_folder.made(trainer):
                execute("fit", program)
            measures = measure(trainer, program.model, program.datamodule, task.measures)
            if not trainer.is_global_zero:
                return
        record = {
            **measures,
            "state": "pruned" if report.is_given_up else "complete",
            "steps": trainer.global_step,
            "seconds": round(time.monotonic() - started, 3),
            "digests": fingerprint.digests(),
            "curves": read_curves(task.folder),
        }
        if not math.isfinite(record["held_out_loss"]):
            raise ConfigError(
                f"its held-out loss is {record['held_out_loss']}: the training diverged; "
                "try a smaller model.learning_rate"
            )
        write_record(task.folder, record)
    except StoppedBySignal as stopped:
        sys.exit(128 + stopped.signal)
    except Exception as error:
        _report(error, connection)


def _report(error: BaseException, connection: Connection | None) -> None:
    """Send an error as one line; the log has the traceback."""
    traceback.print_exc()
    if connection is None:
        sys.exit(1)
    lines = str(error).strip().splitlines() or [""]
    connection.send(Failed(explain(error) or f"{type(error).__name__}: {lines[0]}"))
    sys.exit(1)
