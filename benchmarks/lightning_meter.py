"""The `Meter` as a callback of Lightning, for the config of `lightning_neft fit`."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning as L
from meter import Meter
from typing_extensions import override


class LightningMeter(L.Callback):
    """Measures a fit. `result` and `precision` are of the last one in this process."""

    result: ClassVar[dict[str, Any]] = {}
    precision: ClassVar[str] = ""

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.meter = Meter(pl_module.model.config.pad_token_id)
        self.meter.begin_fit()
        LightningMeter.precision = str(trainer.precision)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.meter.watch(pl_module.model)
        self.answer_tokens: Any = 0

    @override
    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.meter.start_step()
        self.answer_tokens = self.answer_tokens + (batch["labels"] != -100).sum()

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.meter.add_loss(outputs["loss"])
        if batch_idx + 1 == trainer.num_training_batches:
            self.meter.stop()

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        LightningMeter.result = {**self.meter.result(), "answer_tokens": int(self.answer_tokens)}
