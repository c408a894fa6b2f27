"""What a fit prints: before it starts, what it will train; afterwards losses, answers, files and the next commands."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from lightning_neft.callback import NEFTune
from lightning_neft.callbacks.sample_answers import (
    SampleAnswers,
    SamplePrompt,
    answers_table,
    answers_to,
    can_generate,
)
from lightning_neft.callbacks.step_checkpoint import main_checkpoint
from lightning_neft.common.trainer import replicas
from lightning_neft.models.language_models import LanguageModel

if TYPE_CHECKING:
    from lightning_neft.cli.memory import MemoryEstimate
    from lightning_neft.cli.precision import Choice
    from lightning_neft.cli.run_folder import RunFolder
    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner

__all__ = ["RunBlock", "optimizer_steps", "print_fit"]

_INDENT = "  "
# Of the answers that a fit ends with.
_SAMPLES, _MAX_NEW_TOKENS = 3, 64


class RunBlock(L.Callback):
    """Prints what a fit will train, on rank 0.

    Args:
        run_folder: The folder of the run.
        precision: The precision that was chosen, if it was.
        memory: Estimates the memory.
    """

    def __init__(self, run_folder: RunFolder, precision: Choice | None, memory: MemoryEstimate) -> None:
        self._run_folder = run_folder
        self._precision = precision
        self._memory = memory

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rows = dict(self._rows(trainer, pl_module, data))
        console = Console()
        if not console.is_terminal:
            for name, text in rows.items():
                print(f"{name}: {text}")
            return
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(overflow="fold")  # a path has no spaces to break it at
        for name, text in rows.items():
            table.add_row(name, Text(text))
        console.print(table)

    def _rows(self, trainer: L.Trainer, model: Any, data: TextData) -> Iterator[tuple[str, str]]:
        yield "base", f"{model.base}, {_method(model)}"
        yield "data", f"{data.options.source}: {_samples(data)}"
        yield "steps", _steps(trainer, data)
        yield "noise", _noise(trainer)
        yield "device", _device(trainer)
        yield "precision", str(self._precision or trainer.precision)
        if self._memory.forecast is not None:
            yield "memory", self._memory.forecast.text
        if trainer.ckpt_path is not None:
            yield "resumes", str(trainer.ckpt_path)
        yield "run folder", str(self._run_folder.path) if self._run_folder.is_made else "none: nothing is saved"


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
    count = optimizer_steps(trainer, data)
    ranks, batches = replicas(trainer), trainer.accumulate_grad_batches
    rows = f"{data.batch_size * batches * ranks} rows each"
    if ranks * batches > 1:
        rows += f" ({ranks} device{'s' * (ranks > 1)} x {batches} batch{'es' * (batches > 1)} x {data.batch_size})"
    is_by_epochs = count is not None and count != trainer.max_steps
    epochs = f" in {trainer.max_epochs} epoch{'s' * (trainer.max_epochs != 1)}" if is_by_epochs else ""
    return f"{'no limit' if count is None else count}{epochs}, {rows}"


def optimizer_steps(trainer: L.Trainer, data: TextData) -> int | None:
    """Return the maximum number of optimiser steps of a fit; None if only its epochs or its time end it.

    Args:
        trainer: Trainer of the fit.
        data: The data, after `setup`.
    """
    most = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if not data.options.streaming:
        limit = 1.0 if trainer.limit_train_batches is None else trainer.limit_train_batches
        order = data.train_order(0, replicas(trainer), trainer.accumulate_grad_batches, limit)
        epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else math.inf
        most = min(most, epochs * -(-order.used // trainer.accumulate_grad_batches))
    return int(most) if math.isfinite(most) else None


def _noise(trainer: L.Trainer) -> str:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = [callback for callback in callbacks if isinstance(callback, NEFTune)]
    if not found:
        return "off"
    noise = found[0].noise
    return f"alpha {noise.alpha:g}, length {noise.length}"


def _device(trainer: L.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    count = trainer.num_devices * trainer.num_nodes
    return f"{count} x {name}" if count > 1 else name


def print_fit(trainer: L.Trainer, model: FineTuner, data: TextData, run_folder: RunFolder) -> None:
    """Print losses, sample answers, the files of a fit, and commands that use them, on rank 0."""
    if not trainer.is_global_zero:
        return
    console = Console()
    losses = _losses(trainer, model)
    if losses.row_count:
        console.print(losses)
    if (
        isinstance(model, LanguageModel)
        and data.prepared.held_out
        and can_generate(trainer)
        and _wants_answers(trainer)
    ):
        model.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after the fit
        prompts = [SamplePrompt(*prompt) for prompt in data.sample_prompts(_SAMPLES)]
        rows = answers_to(prompts, model, max_new_tokens=_MAX_NEW_TOKENS, stop_ids=data.stop_ids)
        console.print(answers_table("answers to prompts of the validation set", rows))
    for name, path in run_folder.files(trainer):
        console.print(Text(f"{name}: {path}"), soft_wrap=True)
    if commands := list(_commands(trainer, model, data, run_folder)):
        console.print("next:")
    for words in commands:
        console.print(Text(_command(words, console.width if console.is_terminal else None)), soft_wrap=True)


def _wants_answers(trainer: L.Trainer) -> bool:
    """Return whether the last validation did not show the same answers."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    shown = [callback.shown_at for callback in callbacks if isinstance(callback, SampleAnswers)]
    return trainer.global_step not in shown


def _losses(trainer: L.Trainer, model: FineTuner) -> Table:
    measured = [name.removeprefix("val/") for name in trainer.callback_metrics if name.startswith("val/")]
    others = [name for name in measured if name not in ("loss", "perplexity")]
    is_text = isinstance(model, LanguageModel)
    table = Table("", "loss", *(["perplexity"] if is_text else []), *others, title="validation set")
    rows = [] if model.loss_before_fit is None else [("before fine-tuning", model.loss_before_fit, False)]
    if model.last_validation is not None:
        step, loss = model.last_validation
        rows.append((f"after step {step}", loss, True))
    for name, loss, is_last in rows:
        # Above 700 the exponential of a float overflows.
        perplexity = [f"{math.exp(min(loss, 700)):.4g}"] if is_text else []
        # For the base model only the loss is known.
        further = [f"{trainer.callback_metrics[f'val/{other}'].item():.4f}" if is_last else "" for other in others]
        table.add_row(name, f"{loss:.4f}", *perplexity, *further)
    return table


def _commands(trainer: L.Trainer, model: FineTuner, data: TextData, run_folder: RunFolder) -> Iterator[list[str]]:
    """Yield the commands that use what a fit saved, each as its verb and its options."""
    if not run_folder.is_made:
        return
    folder = run_folder.path
    model_folder, config = folder / "model", folder / "config.yaml"
    if model_folder.is_dir():
        if isinstance(model, LanguageModel):
            yield ["generate", f"--model {_quoted(model_folder)}", '--prompt "TEXT"']
        yield ["export", f"--model {_quoted(folder)}", f"--output {_quoted(folder / 'export')}"]
    checkpoint = main_checkpoint(trainer)
    last = "" if checkpoint is None else checkpoint.last_model_path
    has_samples = data.prepared.held_out is not None and data.prepared.stream is None
    # evaluate reads no sharded checkpoint.
    if last and config.is_file() and can_generate(trainer) and has_samples:
        result = _quoted(folder / "clean_loss.json")
        of_run = [f"--config {_quoted(config)}", f"--ckpt_path {_quoted(Path(last))}"]
        yield ["evaluate --clean-loss", *of_run, f"--out {result}"]
        yield ["report", result, f"--out {_quoted(folder / 'report.html')}"]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _command(words: Sequence[str], width: int | None) -> str:
    r"""Return a command, broken with backslashes where it is wider than the terminal.

    Example:
        >>> print(_command(["export", "--model run", "--output run/export"], 40))
          lightning_neft export --model run \
            --output run/export
    """
    lines = [f"{_INDENT}lightning_neft {words[0]}"]
    for word in words[1:]:
        if width is not None and len(f"{lines[-1]} {word} \\") >= width:
            lines[-1] += " \\"
            lines.append(f"{2 * _INDENT}{word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)
