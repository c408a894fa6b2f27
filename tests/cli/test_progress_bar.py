"""The total of the bars: the batches that an epoch still trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel, RandomDataset
from torchdata.stateful_dataloader import StatefulDataLoader
from typing_extensions import override

from lightning_neft.cli.progress_bar import PlainProgressBar, RunProgressBar


class Totals(L.Callback):
    """Keeps the total of each epoch, as the bar shows it after a batch."""

    def __init__(self) -> None:
        self.found: dict[int, float] = {}

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        bar: Any = trainer.progress_bar_callback
        self.found.setdefault(trainer.current_epoch, bar.total_train_batches)


def totals(bar: L.Callback, folder: Path, ckpt_path: Path | None = None, **options: Any) -> dict[int, float]:
    """The totals in a fit with 5 batches in an epoch."""
    found = Totals()
    trainer = L.Trainer(
        default_root_dir=folder,
        limit_val_batches=0,
        logger=False,
        enable_model_summary=False,
        callbacks=[bar, found, ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)],
        **options,
    )
    trainer.fit(BoringModel(), StatefulDataLoader(RandomDataset(32, 5)), ckpt_path=ckpt_path, weights_only=True)
    return found.found


@pytest.mark.parametrize("bar", [PlainProgressBar, RunProgressBar])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_epochs": 2}, {0: 5, 1: 5}),
        ({"max_steps": 7, "max_epochs": 3}, {0: 5, 1: 2}),
        ({"max_steps": 7}, {0: 5, 1: 2}),
        # The last batch of an epoch ends a step of its own: 3 steps in an epoch.
        ({"max_steps": 5, "max_epochs": 3, "accumulate_grad_batches": 2}, {0: 5, 1: 4}),
        ({"max_steps": 2, "max_epochs": 3, "accumulate_grad_batches": 2}, {0: 4}),
    ],
)
def test_a_bar_ends_with_the_last_step(
    bar: type[L.Callback], options: dict[str, Any], expected: dict[int, float], tmp_path: Path
) -> None:
    assert totals(bar(), tmp_path, **options) == expected


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("bar", [PlainProgressBar, RunProgressBar])
def test_a_run_resumed_within_an_epoch_has_the_same_total(bar: type[L.Callback], tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_steps": 5, "max_epochs": 3, "accumulate_grad_batches": 2}
    totals(bar(), tmp_path / "first", **options)
    assert totals(bar(), tmp_path / "second", tmp_path / "first" / "step=1.ckpt", **options) == {0: 5, 1: 4}


def test_a_bar_in_a_pipe_ends_at_its_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    totals(PlainProgressBar(), tmp_path, max_steps=2, max_epochs=3)
    assert "| 2/2 " in "".join(capsys.readouterr())
