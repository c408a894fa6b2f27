"""What a fit prints at its end: how strong the noise was, losses, sample answers, files, and what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.callbacks.losses import CleanLoss
from lightning_neft.callbacks.sample_answers import (
    SampleAnswers,
    SamplePrompt,
    answers_table,
    answers_to,
    can_generate,
)
from lightning_neft.callbacks.step_checkpoint import main_checkpoint
from lightning_neft.cli.run_block import RunBlock, ends_early, noise_of, optimizer_steps, print_rows
from lightning_neft.models.language_models import LanguageModel

if TYPE_CHECKING:
    from lightning_neft.cli.run_folder import RunFolder
    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner

__all__ = ["print_fit"]

_INDENT = "  "
# Of the answers that a fit ends with.
_SAMPLES, _MAX_NEW_TOKENS = 3, 64
_COMMANDS = 3
# The least and the largest alpha of the paper.
_ALPHAS = (5.0, 15.0)
_SEEDS = 3


def print_fit(trainer: L.Trainer, model: FineTuner, data: TextData, run_folder: RunFolder) -> None:
    """Print strength, losses, sample answers, the files of a fit, and commands that use them, on rank 0."""
    if not trainer.is_global_zero:
        return
    console = Console()
    losses = _losses(trainer, model)
    if losses.row_count:
        console.print(losses)
    print_rows(_training(trainer, model))
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
    if commands := list(islice(_commands(trainer, model, data, run_folder), _COMMANDS)):
        console.print("next:")
    for why, *words in commands:
        console.print(Text(f"{_INDENT}# {why}"), soft_wrap=True)
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
    table = Table("", "loss", *(["perplexity"] if is_text else []), *others, title="validation set, without noise")
    before = f"resumed after step {first}" if (first := _first_step(trainer)) else "before fine-tuning"
    rows = [] if model.loss_before_fit is None else [(before, model.loss_before_fit, False)]
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


def _training(trainer: L.Trainer, model: FineTuner) -> Iterator[tuple[str, str]]:
    """Yield the strength of the noise and the training loss, if anything was trained."""
    first = _first_step(trainer)
    if first is None or trainer.global_step == first:
        return
    noise = noise_of(trainer)
    if noise is None:
        yield "noise-to-signal", "none, the noise was off"
    elif noise.mean_noise_to_signal is None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        yield "noise-to-signal", f"not measured, no step was logged (trainer.log_every_n_steps={every})"
    else:
        mean, count = noise.mean_noise_to_signal
        # A resumed fit knows its own steps only.
        since = f" after step {first}" if first else ""
        yield "noise-to-signal", f"{mean:.3g}, {_mean_of(count)}{since}"
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    clean = next((callback.last for callback in callbacks if isinstance(callback, CleanLoss)), None)
    if noise is not None and clean is not None:
        step, noisy, without = clean
        yield "training loss", f"{noisy:.4f} with noise, {without:.4f} without noise and dropout (step {step})"
    elif model.last_training_loss is not None:
        step, loss = model.last_training_loss
        yield "training loss", f"{loss.item():.4f}{' with noise' if noise else ''} (step {step})"


def _first_step(trainer: L.Trainer) -> int | None:
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback.first_step for callback in callbacks if isinstance(callback, RunBlock)), None)


def _mean_of(count: int) -> str:
    """Return what a number is the mean of.

    Example:
        >>> _mean_of(1), _mean_of(60)
        ('in 1 logged step', 'mean of 60 logged steps')
    """
    return "in 1 logged step" if count == 1 else f"mean of {count} logged steps"


def _commands(trainer: L.Trainer, model: FineTuner, data: TextData, run_folder: RunFolder) -> Iterator[list[str]]:
    """Yield what to do with what a fit saved, the most useful first: why, the verb, and its options."""
    if not run_folder.is_made:
        return
    folder = run_folder.path
    model_folder, config = folder / "model", folder / "config.yaml"
    is_text, has_model, has_config = isinstance(model, LanguageModel), model_folder.is_dir(), config.is_file()
    if has_model:
        if is_text:
            yield ["ask the model", "generate", f"--model {_quoted(model_folder)}", '--prompt "TEXT"']
        output = f"--output {_quoted(folder / 'export')}"
        yield ["a folder for from_pretrained, with a model card", "export", f"--model {_quoted(folder)}", output]
    has_samples = data.prepared.held_out is not None
    if has_config and has_samples and (alphas := _alphas_to_compare(trainer, data)):
        yield [
            f"does noise help here? {len(alphas)} alphas, {_SEEDS} seeds: {len(alphas) * _SEEDS} runs like this one",
            "study",
            f"--config {_quoted(config)}",
            f"--alphas {','.join(f'{alpha:g}' for alpha in alphas)}",
            f"--out {_quoted(folder / 'study')}",
        ]
    checkpoint = main_checkpoint(trainer)
    last = "" if checkpoint is None else checkpoint.last_model_path
    # evaluate reads no sharded checkpoint.
    if last and has_config and can_generate(trainer) and has_samples and data.prepared.stream is None:
        yield [
            "loss without noise on training and validation samples",
            "evaluate --clean-loss",
            f"--config {_quoted(config)}",
            f"--ckpt_path {_quoted(Path(last))}",
            f"--out {_quoted(folder / 'clean_loss.json')}",
        ]
    if has_model and has_config and is_text and data.prepared.stream is None and _measures_copies():
        yield [
            "does it repeat its training data?",
            "evaluate --memorization",
            f"--config {_quoted(config)}",
            f"--model {_quoted(model_folder)}",
            f"--out {_quoted(folder / 'memorization.json')}",
        ]


def _measures_copies() -> bool:
    """Return whether the extra of `evaluate --memorization` is installed."""
    return all(find_spec(name) is not None for name in ("nltk", "sacrebleu"))


def _alphas_to_compare(trainer: L.Trainer, data: TextData) -> list[float]:
    """Return the alphas of a study of this run, its own and the paper's; none where a study would refuse it."""
    strategy = trainer.strategy
    if not isinstance(strategy, (SingleDeviceStrategy, DDPStrategy)) or optimizer_steps(trainer, data) is None:
        return []
    if ends_early(trainer) is not None:
        return []
    if any(find_spec(name) is None for name in ("optuna", "matplotlib", "jinja2")):  # the extra is not installed
        return []
    noise = noise_of(trainer)
    if noise is not None and noise.noise.scale == "relative":  # another unit than the paper's
        return [0.0, noise.alpha]
    return sorted({0.0, *_ALPHAS, *([] if noise is None else [noise.alpha])})


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
