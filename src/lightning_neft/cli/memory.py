"""The estimated memory of a run: printed by `fit` and `preview`, and the choice of gradient checkpointing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from typing_extensions import override

from lightning_neft.cli.precision import device_type
from lightning_neft.hub.base_config import check_base_config
from lightning_neft.hub.names import resolve_base
from lightning_neft.models.consistency import antithetic_noise
from lightning_neft.models.memory import Estimate, Run, estimate, free_memory, ways_to_fit
from lightning_neft.models.step_trace import Batch

if TYPE_CHECKING:
    from lightning_neft.cli.program import Program
    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner
    from lightning_neft.models.recomputation import Recomputation

__all__ = ["MemoryEstimate", "MemoryForecast", "forecast", "forecast_of_fit", "largest_batch"]


_NAMES: dict[Any, str] = {"selective": "selective", True: "on"}
PARTS = ("weights", "gradients", "states", "activations", "total")


class MemoryEstimate(L.Callback):
    """Estimates the memory of a fit before the model is loaded, and decides `model.gradient_checkpointing: auto`.

    The decision is the same on all processes: the fastest that fits on each of them.
    """

    forecast: MemoryForecast | None = None
    """What was estimated; None before a fit."""

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        model: Any = pl_module
        if stage != "fit" or model.model is not None:
            return
        strategy = trainer.strategy
        device = strategy.root_device
        noise = antithetic_noise(trainer)
        self.forecast = forecast(
            model,
            trainer.datamodule,  # type: ignore[attr-defined]
            precision=str(trainer.precision),
            is_doubled=noise is not None and noise.alpha > 0,
            device=device,
            accumulates=trainer.accumulate_grad_batches > 1,
            shards=getattr(strategy, "_data_parallel_size", 1),
            processes=trainer.num_devices if device.type == "cpu" else 1,
            any_of=lambda value: not strategy.reduce_boolean_decision(not value, all=True),
        )


@dataclass(frozen=True)
class MemoryForecast:
    """What a run needs and has.

    Attributes:
        text: The estimate in a line, with what to change where it does not fit.
        estimate: The estimate; None if there is none.
        free: Bytes that the device has free; None if unknown.
        fits: Whether there is enough; None if that is unknown.
    """

    text: str
    estimate: Estimate | None = None
    free: float | None = None
    fits: bool | None = None

    def to_json(self) -> dict[str, float | bool | None] | None:
        """Return the parts of the estimate in bytes; None if there is none."""
        if self.estimate is None:
            return None
        parts = {f"{name}_bytes": round(getattr(self.estimate, name)) for name in PARTS}
        return {**parts, "free_bytes": None if self.free is None else round(self.free), "fits": self.fits}


def forecast(
    model: FineTuner,
    data: TextData,
    *,
    precision: str,
    is_doubled: bool,
    device: torch.device,
    accumulates: bool = False,
    shards: Any = 1,
    processes: int = 1,
    any_of: Any = bool,
) -> MemoryForecast:
    """Estimate a run, and set the model's gradient checkpointing if that is to be chosen.

    Args:
        model: The model, not built yet.
        data: The data, after `setup`.
        precision: The Trainer's.
        is_doubled: Whether the noise is antithetic.
        device: What it runs on.
        accumulates: Whether a step has several micro-batches.
        shards: Devices over which weights are split; anything but a number above 1 counts as 1.
        processes: Processes that share the device.
        any_of: Returns whether a truth value holds on any process.
    """
    shards = shards if isinstance(shards, int) and shards > 1 else 1
    run = Run(replace(largest_batch(data), is_doubled=is_doubled), precision, device.type, accumulates, shards)
    chooses = model.gradient_checkpointing == "auto"
    candidates = _candidates(model) if chooses else [model.gradient_checkpointing]
    found: Estimate | None = None
    free = fits = None
    for candidate in candidates:
        model.gradient_checkpointing = candidate
        try:
            found = _estimate(model, run)
            free = free_memory(device, processes)
            fits = None if free is None else found.needed(device.type) <= free
        except Exception as error:  # an architecture that cannot be traced is no reason not to train it
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            text, found, fits = f"not estimated ({reason})", None, None
        if not (chooses and any_of(fits is False)):
            break
    if found is not None:
        text = _text(found, run, device, free)
        if fits is False:
            text += f"; it does not fit: try {ways_to_fit(found, run, model, free or 0)}"
    if chooses and model.gradient_checkpointing:
        text += f"; gradient checkpointing {_NAMES[model.gradient_checkpointing]} (auto)"
    return MemoryForecast(text, found, free, fits)


def _candidates(model: FineTuner) -> list[Recomputation]:
    """Return the ways to checkpoint that a model can have, the fastest first."""
    if model.keep_eval:
        return [False]
    return [False, True] if model.is_compiled else [False, "selective", True]


def _estimate(model: FineTuner, run: Run) -> Estimate:
    from transformers import AutoConfig

    check_base_config(model.base)
    config = AutoConfig.from_pretrained(resolve_base(model.base), trust_remote_code=model.trust_remote_code)
    for name, value in model.config_options().items():
        setattr(config, name, value)
    return estimate(model, config, run)


def forecast_of_fit(program: Program) -> MemoryForecast:
    """Estimate the fit of a program that stays on the CPU and has set up its data."""
    config = program.config
    trainer, data, of_step = config.trainer, program.datamodule, config.global_batch_size
    return forecast(
        program.model,
        data,
        precision=str(trainer.precision or "32-true"),
        is_doubled=config.neftune is not None and config.neftune.antithetic and config.neftune.alpha > 0,
        device=torch.device(device_type(program.accelerator) or "cuda"),
        accumulates=trainer.accumulate_grad_batches > 1 or (of_step is not None and of_step > data.batch_size),
    )


def _text(found: Estimate, run: Run, device: torch.device, free: float | None) -> str:
    parts = {
        "weights": found.weights,
        "gradients": found.gradients,
        "optimiser": found.states,
        "activations": found.activations,
    }
    of_which = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
    if found.assumes_adamw:
        of_which = of_which.replace("optimiser", "optimiser assumed as AdamW")
    here = f", {_size(free)} free" if free is not None else ""
    batch = run.batch
    return (
        f"about {_size(found.needed(run.device))} on {device.type}{here} ({of_which}; batch of {batch.rows} x "
        f"{batch.length} tokens{', each twice' if batch.is_doubled else ''})"
    )


def _size(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def largest_batch(data: TextData) -> Batch:
    """Return the size of the batch that takes the most memory, or slightly more.

    Args:
        data: After `setup`.
    """
    options, prepared = data.options, data.prepared
    rows = data.batch_size
    if prepared.stream is not None:
        return Batch(rows, options.max_length, rows * options.max_length)
    lengths, trained = np.asarray(prepared.train.lengths), np.asarray(prepared.train.trained)
    if data.batching in ("packed", "flat"):
        tokens = rows * options.max_length
        share = trained.sum() / lengths.sum()
        shape = (1, tokens) if data.batching == "flat" else (rows, options.max_length)
        return Batch(*shape, trained=max(1, int(tokens * share)), is_packed=True)
    longest = np.argsort(lengths)[-rows:]
    if options.task == "seq2seq_lm":
        return Batch(len(longest), int(lengths.max()), len(longest) * int(trained.max()))
    return Batch(len(longest), int(lengths.max()), max(1, int(trained[longest].sum())))
