"""Callbacks of this package's fits; each also works in your own Trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_neft.callbacks.losses import CleanLoss, FiniteLoss
    from lightning_neft.callbacks.model_folder import ModelFolder
    from lightning_neft.callbacks.sample_answers import SampleAnswers
    from lightning_neft.callbacks.signals import StopOnSignal, StoppedBySignal
    from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
    from lightning_neft.callbacks.step_seed import StepSeed
    from lightning_neft.callbacks.token_rate import TokenRate

__all__ = [
    "CleanLoss",
    "FiniteLoss",
    "ModelFolder",
    "SampleAnswers",
    "StepCheckpoint",
    "StepSeed",
    "StopOnSignal",
    "StoppedBySignal",
    "TokenRate",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CleanLoss": "losses",
        "FiniteLoss": "losses",
        "ModelFolder": "model_folder",
        "SampleAnswers": "sample_answers",
        "StepCheckpoint": "step_checkpoint",
        "StepSeed": "step_seed",
        "StopOnSignal": "signals",
        "StoppedBySignal": "signals",
        "TokenRate": "token_rate",
    },
)
