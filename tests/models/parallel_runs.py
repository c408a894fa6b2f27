"""Runs that two ranks make together, with results written to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft import NEFTune
from lightning_neft.callbacks.losses import CleanLoss
from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.callbacks.sample_answers import SampleAnswers
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.checkpoints import AtomicCheckpointIO
from models.words import batch
from tiny import trainer

STEPS = 4


class Batches(Dataset[dict[str, Tensor]]):
    """Other batches on each rank: of the epoch's first half the even ones are the first rank's."""

    def __init__(self, rank: int, count: int = STEPS) -> None:
        self.rank, self.count = rank, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number = 2 * index + self.rank
        return batch([4 + number % 5, 12 - number % 7], seed=number)


class Watched(CausalLM):
    """Keeps what it drew in each step, and its losses."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.drawn: list[float] = []

    def configure_model(self) -> None:
        torch.manual_seed(0)  # of the adapters
        super().configure_model()

    def training_step(self, given: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(given, batch_idx)
        self.drawn.append(torch.rand(()).item())
        return loss

    def train_dataloader(self) -> Any:
        return StatefulDataLoader(Batches(self.global_rank), batch_size=None)

    def val_dataloader(self) -> Any:
        return StatefulDataLoader(Batches(self.global_rank, 2), batch_size=None)


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def run(strategy: str, method: str, base: str, folder: Path, ckpt_path: Path | None = None) -> None:
    """Train on the rank of this process, and write `rank-RANK.pt`."""
    options: dict[str, Any] = {}
    if method.startswith("lora"):
        options = {"lora": LoraOptions(r=2, dropout=0.3), "dtype": "auto" if method == "lora_half" else None}
    if method == "checkpointing":
        options = {"gradient_checkpointing": True}
    module = Watched(base, learning_rate=0.01, warmup_ratio=0.0, **options)
    sharded = strategy.startswith("fsdp2")
    engine = ModelParallelStrategy(2, 1, save_distributed_checkpoint=strategy == "fsdp2") if sharded else DDPStrategy()
    checkpoint = ModelCheckpoint(folder, "{step}", every_n_train_steps=2, save_top_k=-1)
    logger = CSVLogger(folder, name=None, version="log")
    fit = trainer(
        strategy=engine,
        devices=2,
        max_steps=STEPS,
        logger=logger,
        log_every_n_steps=1,
        limit_val_batches=2,
        use_distributed_sampler=False,
        enable_checkpointing=True,
        plugins=[] if sharded else [AtomicCheckpointIO()],
        callbacks=[
            StepSeed(),
            NEFTune(alpha=5),
            CleanLoss(2),
            SampleAnswers(["a b"], max_new_tokens=3),
            checkpoint,
            ModelFolder(f"{folder}/model"),
        ],
    )
    fit.fit(module, ckpt_path=ckpt_path, weights_only=True)
    result = {
        "weights": {name: whole(value) for name, value in module.named_parameters()},
        "trained": sorted(module.trained),
        "drawn": module.drawn,
        "sharded": sum(hasattr(value, "full_tensor") for value in module.parameters()),
        "val_loss": float(fit.callback_metrics["val/loss"]),
    }
    torch.save(result, folder / f"rank-{fit.global_rank}.pt")
