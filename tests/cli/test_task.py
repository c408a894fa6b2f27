"""Metrics that callbacks watch: the names that are known before a run are those that it logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint

from lightning_neft.cli.fit import execute
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.cli.task import check_monitors, logged_metrics
from lightning_neft.errors import ConfigError


def test_a_run_logs_the_metrics_that_can_be_watched(folder: Path, short: list[str]) -> None:
    with quiet():
        program = Program("fit", [*short, "--trainer.log_every_n_steps=1", "--trainer.max_epochs=2"])
        execute("fit", program)
    found = {name for name in program.trainer.callback_metrics if not name.endswith(("_step", "_epoch"))}
    assert found == set(logged_metrics("causal_lm", with_noise=True))


def test_what_lightning_logs_can_be_watched_too() -> None:
    check_monitors(
        [ModelCheckpoint(monitor="step"), LearningRateMonitor(), EarlyStopping(monitor="lr-AdamW")],
        logged_metrics("causal_lm", with_noise=True),
    )


def test_the_noise_is_not_logged_without_it() -> None:
    with pytest.raises(ConfigError, match="neft/noise_to_signal"):
        check_monitors(
            [EarlyStopping(monitor="neft/noise_to_signal")], logged_metrics("sequence_classification", with_noise=False)
        )


class Logs(Callback):
    """Of another package, for all that is known."""


def test_a_callback_of_the_user_can_log_what_another_watches() -> None:
    check_monitors([EarlyStopping(monitor="mine"), Logs()], ["val/loss"])
