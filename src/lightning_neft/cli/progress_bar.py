"""The progress bars of a run, in a terminal and elsewhere: they end with the last step."""

from __future__ import annotations

import logging
import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomBarColumn
from rich.console import Console
from typing_extensions import override

__all__ = ["PlainProgressBar", "RunProgressBar"]

# Loggers whose handlers keep the standard error of their import.
_LOGGERS = ("lightning.pytorch", "lightning.fabric", "transformers")
# Shown first: a narrow terminal has room for these two only.
_LOSSES = ("train/loss", "val/loss")
# Columns of "Validation", "1200/1200", "0:00:00 • 0:00:00" and the spaces between them.
_FIXED = 10 + 9 + 17 + 4
_LEAST_BAR, _WIDEST_BAR = 4, 40


class _ToLastStep(ProgressBar):
    """Counts the batches of an epoch up to the last step, so that no time is shown for batches that are not trained.

    Lightning counts those of the whole epoch, unless `max_epochs` is -1, and then steps in place of batches.
    """

    _done = 0

    @property
    @override
    def total_train_batches(self) -> int | float:
        trainer = self.trainer
        if trainer.max_steps == -1:
            return trainer.num_training_batches
        each = trainer.accumulate_grad_batches
        stepped = self._done // each * each
        return min(trainer.num_training_batches, stepped + (trainer.max_steps - trainer.global_step) * each)

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._done = 0
        super().on_train_epoch_start(trainer, pl_module)

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A run that resumes within an epoch shows its bar from here on.
        self._done = batch_idx + 1
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class PlainProgressBar(_ToLastStep, TQDMProgressBar):
    """The bar in a file or a pipe: few lines.

    >>> PlainProgressBar().refresh_rate
    50
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=50)


class _StandardError:
    """The current standard error: while a bar is shown, the one of rich, which prints above it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class RunProgressBar(_ToLastStep, RichProgressBar):
    """Lightning's bar for a terminal, with as many numbers as fit into one line, and with log messages above it.

    Lightning's own bar wraps numbers onto further lines and cuts off messages that are logged meanwhile.

    >>> RunProgressBar().is_enabled
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self._streams: list[tuple[logging.StreamHandler[Any], Any]] = []
        self._had_bars = False
        self._bar: CustomBarColumn | None = None

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if self._streams or not sys.stderr.isatty():
            return
        for name in _LOGGERS:
            for handler in logging.getLogger(name).handlers:
                if type(handler) is logging.StreamHandler:
                    self._streams.append((handler, handler.setStream(_StandardError())))

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        from transformers.utils import logging as transformers_logging

        # The weights are loaded; bars for the files that a fit writes would be drawn into this one.
        self._had_bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()

    @override
    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._put_back()

    @override
    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._put_back()

    def _put_back(self) -> None:
        for handler, stream in self._streams:
            handler.setStream(stream)
        self._streams.clear()
        if self._had_bars:
            from transformers.utils import logging as transformers_logging

            transformers_logging.enable_progress_bar()
            self._had_bars = False

    @override
    def configure_columns(self, trainer: L.Trainer) -> list[Any]:
        description, _, batches, time, _ = super().configure_columns(trainer)
        theme = self.theme
        self._bar = CustomBarColumn(
            bar_width=_bar_width(_width()),
            complete_style=theme.progress_bar,
            finished_style=theme.progress_bar_finished,
            pulse_style=theme.progress_bar_pulse,
        )
        return [description, self._bar, batches, time]

    @override
    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)  # the number of the run folder, which is printed above
        ordered = sorted(metrics, key=lambda name: _LOSSES.index(name) if name in _LOSSES else len(_LOSSES))
        width = _width()
        if self._bar is not None:
            self._bar.bar_width = _bar_width(width)  # the terminal may have been resized
        room = width - _FIXED - _WIDEST_BAR
        shown: dict[str, Any] = {}
        for name in ordered:
            value = metrics[name]
            text = f"{value:{self.theme.metrics_format}}" if isinstance(value, float) else str(value)
            room -= len(f" {name}: {text}")
            # The bar shrinks for the losses only.
            if name in _LOSSES or room >= 0:
                shown[name] = value
        return shown

    # A private name: Lightning has no public one for the text. The screen tests notice if it disappears.
    @override
    def _get_train_description(self, current_epoch: int) -> str:
        text = super()._get_train_description(current_epoch)
        if self.trainer.max_epochs == -1:  # Lightning subtracts 1 as from a count
            text = f"Epoch {current_epoch}".ljust(len(self.validation_description))
        return text


def _width() -> int:
    return Console().width


def _bar_width(width: int) -> int:
    """Return the columns of a terminal that remain for the bar next to the two losses.

    Example:
        >>> [_bar_width(columns) for columns in (60, 80, 100, 200)]
        [4, 6, 26, 40]
    """
    losses = sum(len(f" {name}: 0.000") for name in _LOSSES)
    return min(_WIDEST_BAR, max(_LEAST_BAR, width - _FIXED - losses))
