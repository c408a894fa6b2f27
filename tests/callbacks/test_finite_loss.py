"""A fit ends at the first loss that is not finite, and no checkpoint or folder holds weights that are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from lightning_neft.callbacks.losses import FiniteLoss
from lightning_neft.errors import ModelError, NonFiniteError
from lightning_neft.models.description import ModelDescription
from lightning_neft.models.finite import first_non_finite
from lightning_neft.models.language_models import CausalLM
from lightning_neft.saving.folder import export_model, save_model
from models.words import fit

# What an export writes into its model card.
CARD: dict[str, Any] = {"name": "m", "config": {}, "run": None, "results": {}}
NAN, INF = float("nan"), float("inf")


class Broken(CausalLM):
    """Its training loss is NaN in one batch."""

    def __init__(self, base: str, batch: int, **options: Any) -> None:
        super().__init__(base, learning_rate=0.01, **options)
        self.batch = batch

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * NAN if self.trainer.fit_loop.total_batch_idx == self.batch else loss


@pytest.mark.parametrize(
    ("batch", "accumulated", "message"),
    [
        (0, 1, r"step 1, .*model.base=.*; try another base"),
        (2, 1, r"step 3; .*model.learning_rate than 0.01$"),
        (2, 2, r"step 2; .*model.learning_rate than 0.01$"),
    ],
    ids=["first", "third", "accumulated"],
)
def test_a_fit_ends_at_the_first_non_finite_training_loss(
    base: str, batch: int, accumulated: int, message: str, snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(NonFiniteError, match=message) as caught:
        fit(Broken(base, batch), 6, callbacks=[FiniteLoss()], accumulate_grad_batches=accumulated, max_steps=3)
    assert "\n" not in str(caught.value)
    snapshot(str(caught.value))


@pytest.mark.parametrize(("every", "saved_at", "last"), [(5, 9, 5), (100, 4, 4)], ids=["logging", "saving"])
def test_a_device_reports_the_first_non_finite_step_later(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, saved_at: int, last: int
) -> None:
    """As on a device: the losses are looked at when the Trainer logs, and before a checkpoint is written."""
    seen: list[int] = []

    class Saves(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            seen.append(trainer.global_step + 1)

        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            if trainer.global_step == saved_at:
                trainer.save_checkpoint(tmp_path / "c.ckpt")

    monkeypatch.setattr(L.Trainer, "world_size", property(lambda self: 2))
    with pytest.raises(NonFiniteError, match=r"training loss .* step 3;"):
        fit(Broken(base, 2), 8, callbacks=[FiniteLoss(), Saves()], log_every_n_steps=every)
    assert seen[-1] == last
    assert not (tmp_path / "c.ckpt").exists()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fit_ends_at_a_non_finite_validation_loss(base: str, is_first: bool, snapshot: Callable[[str], None]) -> None:
    class Scored(CausalLM):
        def computed_metrics(self) -> dict[str, Tensor]:
            is_bad = is_first or not self.trainer.sanity_checking
            return {**super().computed_metrics(), "loss": torch.tensor(INF if is_bad else 1.0)}

    module = Scored(base, learning_rate=0.01)
    when = "first step: .*model.base" if is_first else "step 2; .*model.learning_rate"
    with pytest.raises(NonFiniteError, match=f"loss is inf .*{when}") as caught:
        fit(module, 2, callbacks=[FiniteLoss()], limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=-1)
    snapshot(str(caught.value))


@pytest.mark.parametrize("broken", [NAN, INF, -INF])
def test_non_finite_weights_are_never_written(
    base: str, tmp_path: Path, broken: float, snapshot: Callable[[str], None]
) -> None:
    module = CausalLM(base, learning_rate=0.01)
    trainer = fit(module, 1)
    name, weight = list(module.model.named_parameters())[3]
    weight.data.view(-1)[0] = broken
    facts = ModelDescription(base, "LlamaForCausalLM", "causal_lm")
    messages = []
    for write, error in (
        (lambda: trainer.save_checkpoint(tmp_path / "c.ckpt"), NonFiniteError),
        (lambda: save_model(module, tmp_path / "folder"), ModelError),
        (lambda: export_model(module.model, module.tokenizer(), facts, tmp_path / "out", **CARD), ModelError),
    ):
        with pytest.raises(error, match=rf"{name}\)") as caught:
            write()
        messages.append(str(caught.value))
    snapshot("\n".join(messages))
    assert list(tmp_path.iterdir()) == []


def test_an_export_refuses_a_dtype_too_small_for_the_weights(base: str, tmp_path: Path) -> None:
    module = CausalLM(base)
    module.configure_model()
    module.model.lm_head.weight.data[0, 0] = 1e5
    facts = ModelDescription(base, "LlamaForCausalLM", "causal_lm")
    with pytest.raises(ModelError, match=r"float16 .*--dtype"):
        export_model(module.model, module.tokenizer(), facts, tmp_path / "o", dtype="float16", **CARD)


# The scheduler is asked for the next step although the optimiser has skipped one.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_steps_that_the_float16_scaler_skips_do_not_end_a_fit(base: str) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100, growth_interval=1000)
    module = CausalLM(base, learning_rate=0.01)
    trainer = fit(module, 2, callbacks=[FiniteLoss()], plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert trainer.global_step == 2
    assert scaler.get_scale() == 2.0**98
    assert first_non_finite(module.named_parameters()) is None
