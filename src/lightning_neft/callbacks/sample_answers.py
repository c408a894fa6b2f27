"""`SampleAnswers`: a few answers at each validation, to see what the model writes while it trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from rich import get_console
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from lightning_neft.common.files import write_text
from lightning_neft.errors import ConfigError

__all__ = ["SampleAnswers", "SamplePrompt"]

_COLUMNS = ("prompt", "answer", "reference")
_FILE = "samples.jsonl"


class SamplePrompt(NamedTuple):
    """What a model is asked for a sample.

    Attributes:
        text: The prompt, for people; also for the model if there are no ids.
        ids: What the model reads.
        reference: The answer of the data.
    """

    text: str
    ids: Sequence[int] | None = None
    reference: str = ""


class _Writes(Protocol):
    def generate(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        batch_size: int,
        stop_ids: Sequence[int],
    ) -> list[str]: ...


class SampleAnswers(pl.Callback):
    """Shows the answers to a few fixed prompts at each validation of a fit: in the terminal and in the logger.

    Decoding is greedy: no random number is drawn. TensorBoard gets a text and Weights & Biases a table, both named
    `samples`; beside other logs they are lines of `samples.jsonl` with step, prompt, answer and reference. Sharded
    weights cannot generate on one rank: there it is left out, with a notice.

    Args:
        prompts: Prompts as the template words them; the first held-out ones of the data module by default.
        count: How many of those.
        max_new_tokens: The most tokens of an answer.

    Raises:
        ConfigError: If a number is less than 1, or at the start of fit if there are no prompts or the model writes
            nothing.

    >>> import lightning as L
    >>> trainer = L.Trainer(callbacks=[SampleAnswers()], logger=False, enable_checkpointing=False, accelerator="cpu")
    """

    def __init__(self, prompts: list[str] | None = None, count: int = 3, max_new_tokens: int = 64) -> None:
        for name, value in (("count", count), ("max_new_tokens", max_new_tokens)):
            if value < 1:
                raise ConfigError(f"{name}={value!r}: use 1 or more.")
        self.prompts = prompts
        self.count = count
        self.max_new_tokens = max_new_tokens
        self.shown_at: int | None = None
        """Optimiser step of the answers that were shown last."""
        self._can_generate = True

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not hasattr(pl_module, "generate"):
            raise ConfigError(f"SampleAnswers needs a model that writes text, got {type(pl_module).__name__}.")
        if self.prompts is None and not hasattr(_datamodule(trainer), "sample_prompts"):
            raise ConfigError(
                "SampleAnswers has no prompts: give prompts, or a data module with sample_prompts(count)."
            )
        strategy = trainer.strategy
        self._can_generate = isinstance(strategy, (SingleDeviceStrategy, DDPStrategy))
        if not self._can_generate:
            rank_zero_info(f"no sample answers: one rank alone cannot generate with {type(strategy).__name__}")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not in_fit or not self._can_generate or not trainer.is_global_zero:
            return
        datamodule = _datamodule(trainer)
        if self.prompts is None:
            asked = [SamplePrompt(*prompt) for prompt in datamodule.sample_prompts(self.count)]
        else:
            asked = [SamplePrompt(prompt) for prompt in self.prompts]
        with trainer.precision_plugin.forward_context():
            answers = _answers(
                cast("_Writes", pl_module), asked, self.max_new_tokens, getattr(datamodule, "stop_ids", ())
            )
        rows = [(prompt.text, answer.strip(), prompt.reference) for prompt, answer in zip(asked, answers, strict=True)]
        # Of the steps done: validation within an epoch comes before the loggers' own count goes up.
        step = self.shown_at = trainer.global_step
        _print(rows, step)
        for logger in trainer.loggers:
            _log(logger, rows, step)


def _datamodule(trainer: pl.Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]


def _answers(module: _Writes, asked: Sequence[SamplePrompt], max_new_tokens: int, stop_ids: Sequence[int]) -> list[str]:
    """Return the answers; texts and ids are asked apart where there are both."""
    answers: list[str] = []
    for prompt in asked:
        given: Any = [prompt.text] if prompt.ids is None else [prompt.ids]
        answers += module.generate(given, max_new_tokens=max_new_tokens, batch_size=1, stop_ids=stop_ids)
    return answers


def _print(rows: Sequence[tuple[str, str, str]], step: int) -> None:
    table = Table(title=f"answers after step {step}", show_lines=True)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")  # an answer may be one long word
    for row in rows:
        # Text, not str: brackets in data are no markup.
        table.add_row(*(Text(_short(text)) for text in row))
    get_console().print(table)


def _short(text: str) -> str:
    # Of a long prompt the end says what is asked.
    return text if len(text) <= 400 else f"{text[:150]} ... {text[-245:]}"


def _log(logger: Logger, rows: Sequence[tuple[str, str, str]], step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text("samples", "\n\n---\n\n".join(map(_markdown, rows)), step)
    elif isinstance(logger, WandbLogger):
        logger.log_table("samples", columns=["step", *_COLUMNS], data=[[step, *row] for row in rows])
    elif (folder := getattr(logger, "log_dir", None)) is not None:
        path = Path(folder) / _FILE
        lines = [
            json.dumps({"step": step, **dict(zip(_COLUMNS, row, strict=True))}, ensure_ascii=False) for row in rows
        ]
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, before + "".join(f"{line}\n" for line in lines))


def _markdown(row: Sequence[str]) -> str:
    # Indented, so that nothing in it is taken for Markdown.
    return "\n\n".join(
        f"**{name}**\n\n" + "\n".join(f"    {line}" for line in text.splitlines())
        for name, text in zip(_COLUMNS, row, strict=True)
        if text
    )
