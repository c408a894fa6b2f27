"""The summary of a fit: losses, answers, and the files that it wrote, each with its step."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.callbacks.sample_answers import SampleAnswers
from lightning_neft.callbacks.step_checkpoint import main_checkpoint
from lightning_neft.cli.run_folder import RunFolder
from lightning_neft.common.files import write_text
from lightning_neft.data.module import asked
from lightning_neft.errors import ModelError
from lightning_neft.models.language_models import LanguageModel
from lightning_neft.saving.checkpoints import checkpoint_step

if TYPE_CHECKING:
    import lightning as L

    from lightning_neft.cli.run_folder import RunFolder
    from lightning_neft.data.module import TextData
    from lightning_neft.models.finetuner import FineTuner

__all__ = ["last_checkpoint", "print_fit", "saved_files", "write_predictions"]


def saved_files(trainer: L.Trainer, run_folder: RunFolder) -> Iterator[tuple[str, str]]:
    """Yield (what it is, path) of what is there: checkpoints and model folder with their steps, logs and config.

    Args:
        trainer: The Trainer, on the first process.
        run_folder: The folder of its run.
    """
    checkpoint = main_checkpoint(trainer)
    if checkpoint is not None:
        # Without a monitor Lightning calls the newest one the best.
        best = checkpoint.best_model_path if checkpoint.monitor else ""
        for name, path in (("best checkpoint", best), ("last checkpoint", checkpoint.last_model_path)):
            if path and Path(path).exists():
                yield f"{name}{_of_step(Path(path))}", path
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, ModelFolder) and callback.written is not None:
            yield f"model folder (step {callback.step})", str(callback.written)
    if run_folder.is_made:
        yield "log and config" if run_folder.has_usual_loggers else "config", str(run_folder.path)


def last_checkpoint(trainer: L.Trainer) -> str:
    """Return in a few words which checkpoint an interrupted run has left."""
    checkpoint = main_checkpoint(trainer)
    path = "" if checkpoint is None else checkpoint.last_model_path
    if not path or not Path(path).exists():
        return "there is no earlier checkpoint"
    return f"the last checkpoint is from before{_of_step(Path(path))}: {path}"


def _of_step(path: Path) -> str:
    try:
        return f" (step {checkpoint_step(path)})"
    except ModelError:
        return ""


_SAMPLES = 3

_MAX_NEW_TOKENS = 64


def print_fit(trainer: L.Trainer, model: FineTuner, data: TextData, run_folder: RunFolder) -> None:
    """Print the validation loss before and after, sample answers and the paths of checkpoints, on the first process."""
    if not trainer.is_global_zero:
        return
    console = Console()
    losses = _losses(trainer, model)
    if losses.row_count:
        console.print(losses)
    # With sharded weights one process alone cannot generate.
    can_generate = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
    if can_generate and _wants_answers(trainer) and isinstance(model, LanguageModel) and data.prepared.held_out:
        console.print(_answers(trainer, model, data))
    for name, path in saved_files(trainer, run_folder):
        console.print(Text(f"{name}: {path}"), soft_wrap=True)


def _wants_answers(trainer: L.Trainer) -> bool:
    """Return whether the last validation has not shown the same answers already."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    shown = [callback.shown_at for callback in callbacks if isinstance(callback, SampleAnswers)]
    return trainer.global_step not in shown


def _losses(trainer: L.Trainer, model: FineTuner) -> Table:
    measured = [name.removeprefix("val/") for name in trainer.callback_metrics if name.startswith("val/")]
    others = [name for name in measured if name not in ("loss", "perplexity")]
    is_text = isinstance(model, LanguageModel)
    table = Table("", "loss", *(["perplexity"] if is_text else []), *others, title="held-out data")
    rows = [] if model.loss_before_fit is None else [("before fine-tuning", model.loss_before_fit, False)]
    if model.last_validation is not None:
        step, loss = model.last_validation
        rows.append((f"after step {step}", loss, True))
    for name, loss, is_last in rows:
        # Above 700 the exponential of a float overflows.
        perplexity = [f"{math.exp(min(loss, 700)):.4g}"] if is_text else []
        # Of the base only the loss was kept.
        further = [f"{trainer.callback_metrics[f'val/{other}'].item():.4f}" if is_last else "" for other in others]
        table.add_row(name, f"{loss:.4f}", *perplexity, *further)
    return table


def _answers(trainer: L.Trainer, model: LanguageModel, data: TextData) -> Table:
    model.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after the fit
    prompts = data.sample_prompts(_SAMPLES)
    ids = [prompt for _, prompt, _ in prompts]
    answers = model.generate(ids, max_new_tokens=_MAX_NEW_TOKENS, stop_ids=data.stop_ids)
    table = Table(title="answers to held-out instructions", show_lines=True)
    for column in ("instruction", "answer", "reference"):
        table.add_column(column, overflow="fold")  # an answer may be one long word
    for (question, _, reference), answer in zip(prompts, answers, strict=True):
        # Text, not str: brackets in data are no markup.
        table.add_row(*(Text(_short(text)) for text in (question, answer.strip(), reference)))
    return table


def _short(text: str) -> str:
    return text if len(text) <= 400 else text[:397] + "..."


def write_predictions(
    trainer: L.Trainer, data: TextData, batches: list[list[str]], run_folder: RunFolder
) -> Path | None:
    """Write the answers to the held-out samples to `predictions.jsonl` in the folder of the run.

    Args:
        trainer: The Trainer that predicted.
        data: Its data.
        batches: What `Trainer.predict` returned.
        run_folder: The folder of the run.

    Returns:
        The file: one object a line with prompt (the last question, or the text), reference and answer. None where the
        run has no folder.
    """
    if not run_folder.is_made:
        return None
    answers = [answer for batch in batches for answer in batch]
    assert data.prepared.held_out is not None  # predict_dataloader refuses that
    # Shorter than the data under trainer.limit_predict_batches.
    pairs = zip(map(asked, data.prepared.held_out.samples), answers, strict=False)
    lines = [{"prompt": prompt, "reference": reference, "answer": answer} for (prompt, reference), answer in pairs]
    path = run_folder.path / "predictions.jsonl"
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"{len(lines)} answers: {path}")
    return path
