"""`SampleAnswers`: answers to a few prompts at each validation, to watch the model's texts during training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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

__all__ = ["SampleAnswers", "SamplePrompt", "answers_table", "answers_to", "can_generate"]

_COLUMNS = ("prompt", "answer", "reference")
_FILE = "samples.jsonl"


class SamplePrompt(NamedTuple):
    """A prompt, and the answer to it in the data.

    Attributes:
        text: The prompt as text; the model reads it if there are no ids.
        ids: Token ids that the model reads instead.
        reference: The answer in the data.
    """

    text: str
    ids: Sequence[int] | None = None
    reference: str = ""


class SampleAnswers(pl.Callback):
    """Shows the answers to a few fixed prompts at each validation of a fit, in the terminal and in the loggers.

    Decoding is greedy and draws no random number. TensorBoard gets a text and Weights & Biases a table, both named
    `samples`; other loggers with a folder get lines of `samples.jsonl` with step, prompt, answer and reference. One
    rank cannot generate with sharded weights: with those, a notice is printed instead.

    The module needs `generate(prompts, *, max_new_tokens, batch_size, stop_ids)`, which returns the answers as texts.

    Args:
        prompts: Prompts, rendered with the template; by default the first ones of the data module's validation set,
            from its `sample_prompts(count)`.
        count: Number of those.
        max_new_tokens: Maximum number of tokens in an answer.

    Raises:
        ConfigError: If a number is less than 1, or at the start of fit if there are no prompts or the module cannot
            generate.

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

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not hasattr(pl_module, "generate"):
            raise ConfigError(
                f"SampleAnswers needs a module with generate(prompts, ...), got {type(pl_module).__name__}."
            )
        if self.prompts is None and not hasattr(_datamodule(trainer), "sample_prompts"):
            raise ConfigError(
                "SampleAnswers has no prompts: give prompts, or a data module with sample_prompts(count)."
            )
        if not can_generate(trainer):
            name = type(trainer.strategy).__name__
            rank_zero_info(f"no sample answers: one rank cannot generate with the sharded weights of {name}")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not in_fit or not can_generate(trainer) or not trainer.is_global_zero:
            return
        data = _datamodule(trainer)
        given = data.sample_prompts(self.count) if self.prompts is None else [(text,) for text in self.prompts]
        with trainer.precision_plugin.forward_context():
            rows = answers_to(
                [SamplePrompt(*prompt) for prompt in given],
                pl_module,
                max_new_tokens=self.max_new_tokens,
                stop_ids=getattr(data, "stop_ids", ()),
            )
        # The loggers' own step is behind in a validation within an epoch.
        step = self.shown_at = trainer.global_step
        get_console().print(answers_table(f"answers after step {step}", rows))
        for logger in trainer.loggers:
            _log(logger, rows, step)


def can_generate(trainer: pl.Trainer) -> bool:
    """Return whether a rank holds all weights, so that it can generate alone."""
    return isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))


def answers_to(
    prompts: Sequence[SamplePrompt], module: Any, *, max_new_tokens: int, stop_ids: Sequence[int]
) -> list[tuple[str, str, str]]:
    """Return prompt, answer and reference of each prompt."""
    rows = []
    for text, ids, reference in prompts:
        given: Any = [text] if ids is None else [ids]
        (answer,) = module.generate(given, max_new_tokens=max_new_tokens, batch_size=1, stop_ids=stop_ids)
        rows.append((text, answer.strip(), reference))
    return rows


def answers_table(title: str, rows: Sequence[tuple[str, str, str]]) -> Table:
    """Return a table of prompts, answers and references for a terminal."""
    table = Table(title=title, show_lines=True)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")  # an answer may be one long word
    for row in rows:
        # Text, not str: brackets in data are not markup.
        table.add_row(*(Text(_short(text)) for text in row))
    return table


def _datamodule(trainer: pl.Trainer) -> Any:
    return trainer.datamodule  # type: ignore[attr-defined]


def _short(text: str) -> str:
    # The question is at the end of a long prompt.
    return text if len(text) <= 400 else f"{text[:150]} ... {text[-245:]}"


def _log(logger: Logger, rows: Sequence[tuple[str, str, str]], step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_text("samples", "\n\n---\n\n".join(map(_markdown, rows)), step)
    elif isinstance(logger, WandbLogger):
        logger.log_table("samples", columns=["step", *_COLUMNS], data=[[step, *row] for row in rows])
    elif (folder := getattr(logger, "log_dir", None)) is not None:
        path = Path(folder) / _FILE
        lines = [{"step": step, **dict(zip(_COLUMNS, row, strict=True))} for row in rows]
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_text(path, before + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _markdown(row: Sequence[str]) -> str:
    # Indented, so that nothing in it is read as Markdown.
    return "\n\n".join(
        f"**{name}**\n\n" + "\n".join(f"    {line}" for line in text.splitlines())
        for name, text in zip(_COLUMNS, row, strict=True)
        if text
    )
