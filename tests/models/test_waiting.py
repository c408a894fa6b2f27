"""No training or validation step waits for its device between the logging steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from lightning_neft.callbacks.losses import CleanLoss
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import PlannedBatch
from lightning_neft.data.tokenization import EncodedSample
from lightning_neft.models.language_models import CausalLM
from tiny import LoggedRows, trainer

# What asks a device for a value: item() and truth, places that are not 0.
WAITING = ("aten._local_scalar_dense", "aten.nonzero")


class Waits(TorchDispatchMode):
    """Counts them while `counts`, but not within the model, which is transformers' own."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = False
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.counts and str(func).startswith(WAITING):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def data(batching: str, step_share: float | None) -> Any:
    def sample(number: int) -> EncodedSample:
        ids = list(range(3, 9 + number))
        return EncodedSample(ids, [-100, -100, *ids[2:]])

    rows = [PlannedBatch(((sample(n),), (sample(n + 3),)), step_share) for n in range(8)]
    return DataLoader(rows, batch_size=None, collate_fn=Collator(0, batching=batching))  # type: ignore[arg-type]


@pytest.mark.parametrize("batching", ["random", "packed"])
def test_only_logging_steps_wait(base: str, batching: Any) -> None:
    waits = Waits()
    by_step: dict[int, int] = {}
    by_validation: list[int] = []

    class Counted(CausalLM):
        def predictions(self, batch: dict[str, Any]) -> Any:
            def outside(*_: Any) -> None:
                waits.counts = not waits.counts

            with self.model.register_forward_pre_hook(outside), self.model.register_forward_hook(outside):
                return super().predictions(batch)

        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
            waits.counts, before = True, len(waits.found)
            loss = super().training_step(batch, batch_idx)
            by_step[batch_idx] = len(waits.found) - before
            waits.counts = False
            return loss

        def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
            waits.counts, before = True, len(waits.found)
            super().validation_step(batch, batch_idx)
            by_validation.append(len(waits.found) - before)
            waits.counts = False

    callbacks = [StepSeed(), CleanLoss(4)]
    fitted = trainer(callbacks=callbacks, logger=LoggedRows(), max_steps=8, log_every_n_steps=4, limit_val_batches=2)
    with waits:
        fitted.fit(Counted(base), data(batching, 0.5), data("random", None))
    assert len(by_step) == 8
    # The first batch of all shows how the loss can be computed, the first packed one whether its documents are apart.
    assert by_validation.pop(0) > 0
    assert (by_step.pop(0) > 0) == (batching == "packed")
    assert not any((*by_step.values(), *by_validation))


def test_the_progress_bar_shows_a_value_on_the_cpu(base: str) -> None:
    """Lightning turns what the bar shows to a number after each step: on a device each would wait."""
    seen: list[torch.device] = []

    class Watched(CausalLM):
        def log(self, name: str, value: Any, **options: Any) -> None:
            if options.get("prog_bar") and name == "train/loss":
                seen.append(value.device)
            super().log(name, value, **options)

    fitted = trainer(max_steps=8, log_every_n_steps=4, limit_val_batches=0)
    fitted.fit(Watched(base), data("random", 0.5), data("random", None))
    assert seen == [torch.device("cpu")] * 2
    assert set(fitted.progress_bar_metrics) == {"train/loss"}
