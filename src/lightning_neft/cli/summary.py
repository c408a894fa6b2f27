"""What is left of a run: the losses, a few answers, and where the files are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightning_neft.files import write_text

if TYPE_CHECKING:
    import lightning as L

    from lightning_neft.data.module import InstructionData
    from lightning_neft.models.causal_lm import CausalLM

__all__ = ["print_fit", "write_predictions"]

_SAMPLES = 3
_MAX_NEW_TOKENS = 64


def print_fit(trainer: L.Trainer, model: CausalLM, data: InstructionData) -> None:
    """Print the held-out loss before and after, sample answers, and where the checkpoints are; on the first process."""
    if not trainer.is_global_zero:
        return
    console = Console()
    losses = _losses(trainer, model)
    if losses.row_count:
        console.print(losses)
    # With sharded weights one process alone cannot generate.
    if isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        console.print(_answers(trainer, model, data))
    for name, path in _files(trainer):
        console.print(Text(f"{name}: {path}"), soft_wrap=True)


def _losses(trainer: L.Trainer, model: CausalLM) -> Table:
    table = Table("", "loss", "perplexity", title="held-out data")
    rows = [] if model.loss_before_fit is None else [("before fine-tuning", model.loss_before_fit)]
    if model.last_validation is not None:
        step, loss = model.last_validation
        rows.append((f"after step {step}", loss))
    for name, loss in rows:
        # Above 700 the exponential of a float overflows.
        table.add_row(name, f"{loss:.4f}", f"{math.exp(min(loss, 700)):.4g}")
    return table


def _answers(trainer: L.Trainer, model: CausalLM, data: InstructionData) -> Table:
    samples = data.held_out_samples[:_SAMPLES]
    model.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after the fit
    answers = model.generate([data.template.prompt(sample) for sample in samples], max_new_tokens=_MAX_NEW_TOKENS)
    table = Table("instruction", "answer", "reference", title="answers to held-out instructions", show_lines=True)
    for sample, answer in zip(samples, answers, strict=True):
        # Text, not str: brackets in data are no markup.
        asked = "\n".join(filter(None, (sample.instruction, sample.input)))
        table.add_row(*(Text(_short(text)) for text in (asked, answer.strip(), sample.output)))
    return table


def _short(text: str) -> str:
    return text if len(text) <= 400 else text[:397] + "..."


def _files(trainer: L.Trainer) -> list[tuple[str, str]]:
    found = []
    checkpoint: Any = trainer.checkpoint_callback
    if checkpoint is not None:
        found = [("best checkpoint", checkpoint.best_model_path), ("last checkpoint", checkpoint.last_model_path)]
    return [(name, path) for name, path in (*found, ("log and config", trainer.log_dir or "")) if path]


def write_predictions(trainer: L.Trainer, data: InstructionData, batches: list[list[str]]) -> Path:
    """Write the answers to the held-out instructions to `predictions.jsonl` in the folder of the run.

    Args:
        trainer: The Trainer that predicted.
        data: Its data.
        batches: What `Trainer.predict` returned.

    Returns:
        The file: one object a line with instruction, input, reference and answer.
    """
    answers = [answer for batch in batches for answer in batch]
    lines = [
        {"instruction": sample.instruction, "input": sample.input, "reference": sample.output, "answer": answer}
        # Shorter than the data under trainer.limit_predict_batches.
        for sample, answer in zip(data.held_out_samples, answers, strict=False)
    ]
    path = Path(trainer.log_dir or trainer.default_root_dir) / "predictions.jsonl"
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"{len(lines)} answers: {path}")
    return path
