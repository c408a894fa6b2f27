"""What a fit prints before it starts: what it will train, on what, and for how long."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from lightning_neft.callback import NEFTune
from lightning_neft.cli.program_options import NoiseOptions
from lightning_neft.cli.run_folder import of_step
from lightning_neft.common.trainer import replicas

if TYPE_CHECKING:
    from lightning_neft.cli.memory import MemoryEstimate
    from lightning_neft.cli.precision import Choice
    from lightning_neft.cli.run_folder import RunFolder
    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner

__all__ = ["RunBlock", "ends_early", "noise_of", "optimizer_steps", "print_rows"]

# Strategies whose parameters keep their shapes; with others they cannot be counted.
_WITH_SHAPES = (SingleDeviceStrategy, DDPStrategy, ModelParallelStrategy)


class RunBlock(L.Callback):
    """Prints what a fit will train, on rank 0.

    Args:
        run_folder: The folder of the run.
        precision: The precision that was chosen, if it was.
        memory: Estimates the memory.
    """

    first_step: int | None = None
    """Number of steps that a resumed fit begins with; None where no step was trained."""

    def __init__(self, run_folder: RunFolder, precision: Choice | None, memory: MemoryEstimate) -> None:
        self._run_folder = run_folder
        self._precision = precision
        self._memory = memory

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            print_rows(self._rows(trainer, pl_module, trainer.datamodule))  # type: ignore[attr-defined]

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.first_step = trainer.global_step

    def _rows(self, trainer: L.Trainer, model: Any, data: TextData) -> Iterator[tuple[str, str]]:
        yield "base", f"{model.base}, {_method(model)}{_parameters(trainer, model)}"
        yield "data", f"{data.options.source}: {_samples(data)}"
        yield "steps", _steps(trainer, data)
        yield "optimiser", _optimiser(trainer, model)
        yield "noise", _noise(trainer)
        if (seed := os.environ.get("PL_GLOBAL_SEED")) is not None:
            yield "seed", seed
        yield "device", _device(trainer)
        yield "precision", str(self._precision or trainer.precision)
        if self._memory.forecast is not None:
            yield "memory", self._memory.forecast.text
        if trainer.ckpt_path is not None:
            path = str(trainer.ckpt_path)
            yield "resumes", f"{path}{of_step(path)}"
        yield "run folder", str(self._run_folder.path) if self._run_folder.is_made else "none: nothing is saved"


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and texts: aligned in a terminal, `name: text` elsewhere."""
    console = Console()
    if not console.is_terminal:
        for name, text in rows:
            print(f"{name}: {text}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a path has no spaces to break it at
    for name, text in rows:
        table.add_row(name, Text(text))
    console.print(table)


def _parameters(trainer: L.Trainer, model: FineTuner) -> str:
    # A weight of 4 bits is half an element.
    if not isinstance(trainer.strategy, _WITH_SHAPES) or model.quantization is not None:
        return ""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    total, trained = sum(count for count, _ in counts), sum(count for count, is_trained in counts if is_trained)
    return f", {trained:,} {'' if trained == total else f'of {total:,} '}parameters"


def _method(model: Any) -> str:
    if model.lora is None:
        return f"without {', '.join(model.freeze_patterns)}" if model.freeze_patterns else "full fine-tuning"
    quantization = f" on {model.quantization} weights" if model.quantization else ""
    return f"{'DoRA' if model.lora.dora else 'LoRA'} r={model.lora.r}{quantization}"


def _samples(data: TextData) -> str:
    held_out = data.prepared.held_out
    train = "streamed samples" if data.options.streaming else f"{len(data.prepared.train)} training samples"
    if data.options.parts:
        train += " in an epoch"
    return f"{train}, {'no validation' if held_out is None else f'{len(held_out)} for validation'}"


def _steps(trainer: L.Trainer, data: TextData) -> str:
    count, of_epoch = optimizer_steps(trainer, data), _steps_of_epoch(trainer, data)
    ranks, batches = replicas(trainer), trainer.accumulate_grad_batches
    rows = f"{data.batch_size * batches * ranks} rows each"
    if ranks * batches > 1:
        rows += f" ({ranks} device{'s' * (ranks > 1)} x {batches} batch{'es' * (batches > 1)} x {data.batch_size})"
    if count is None:
        return f"no limit, {rows}"
    if not of_epoch:
        return f"{count}, {rows}"
    epochs = f"{count / of_epoch:.3g}"
    return f"{count} in {epochs} epoch{'s' * (epochs != '1')}, {rows}"


def optimizer_steps(trainer: L.Trainer, data: TextData) -> int | None:
    """Return the maximum number of optimiser steps of a fit; None if only its epochs or its time end it.

    Args:
        trainer: Trainer of the fit.
        data: The data, after `setup`.
    """
    most = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if (of_epoch := _steps_of_epoch(trainer, data)) is not None:
        epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else math.inf
        most = min(most, epochs * of_epoch)
    return int(most) if math.isfinite(most) else None


def ends_early(trainer: L.Trainer) -> str | None:
    """Return the option by which a fit may end before its last step; None if there is none."""
    if any(isinstance(callback, EarlyStopping) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return "EarlyStopping in trainer.callbacks"
    if any(isinstance(callback, Timer) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return "trainer.max_time"
    return None


def _steps_of_epoch(trainer: L.Trainer, data: TextData) -> int | None:
    """Return the number of optimiser steps of an epoch; None if it is unknown, for streamed data."""
    if data.options.streaming:
        return None
    limit = 1.0 if trainer.limit_train_batches is None else trainer.limit_train_batches
    order = data.train_order(0, replicas(trainer), trainer.accumulate_grad_batches, limit)
    return -(-order.used // trainer.accumulate_grad_batches)


def _optimiser(trainer: L.Trainer, model: FineTuner) -> str:
    name = model.optimizer if isinstance(model.optimizer, str) else type(trainer.optimizers[0]).__name__
    schedule = model.lr_scheduler
    if not isinstance(schedule, str):
        shape = type(trainer.lr_scheduler_configs[0].scheduler).__name__
    else:
        shape = schedule if schedule == "constant" else f"{schedule} after {100 * model.warmup_ratio:g} % warm-up"
    return f"{name}, learning rate {model.learning_rate:g}, {shape}"


def noise_of(trainer: L.Trainer) -> NEFTune | None:
    """Return the callback that adds noise; None without noise, also if its alpha is 0."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((one for one in callbacks if isinstance(one, NEFTune) and one.alpha > 0), None)


def _noise(trainer: L.Trainer) -> str:
    if (callback := noise_of(trainer)) is None:
        return "off"
    noise, defaults = callback.noise, NoiseOptions()
    found = {name: getattr(noise, name) for name in ("distribution", "scope", "scale", "reference_norm", "antithetic")}
    found |= {"schedule": callback.schedule.shape, "warmup": callback.schedule.warmup}
    others = [f"{name} {value}" for name, value in found.items() if value != getattr(defaults, name)]
    if callback.excludes_special or noise.exclude:
        others.append(f"exclude {'special' if callback.excludes_special else f'{len(noise.exclude)} token ids'}")
    return ", ".join([f"alpha {noise.alpha:g}", f"length {noise.length}", *others])


def _device(trainer: L.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    count = trainer.num_devices * trainer.num_nodes
    return f"{count} x {name}" if count > 1 else name
