"""The order under Lightning: left as it is, told the epoch, continued after a stop, and exact over two processes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torchdata.stateful_dataloader import StatefulDataLoader

import tiny
from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import HeldOutOrder, TrainOrder
from lightning_neft.data.batching.plan import PlannedSamples

COUNT = 21
SAMPLES = [
    SimpleNamespace(
        input_ids=[1 + (n + i) % 59 for i in range(2 + n * 5 % 11)], labels=[-100] + [1 + n] * (1 + n * 5 % 11)
    )
    for n in range(COUNT)
]
LENGTHS = [len(sample.input_ids) for sample in SAMPLES]
WEIGHTS = [length - 1.0 for length in LENGTHS]


class Data(L.LightningDataModule):
    def __init__(self, batching: Any = "random", batch_size: int = 2, num_workers: int = 0) -> None:
        super().__init__()
        self.batching, self.batch_size, self.num_workers = batching, batch_size, num_workers

    def train_dataloader(self) -> StatefulDataLoader:
        trainer = self.trainer
        assert trainer is not None
        self.order = TrainOrder(
            LENGTHS,
            WEIGHTS,
            batching=self.batching,
            batch_size=self.batch_size,
            max_length=14,
            seed=5,
            accumulate=trainer.accumulate_grad_batches,
            limit_batches=trainer.limit_train_batches,
            **self.rank(),
        )
        self.order.set_epoch(trainer.fit_loop.epoch_progress.current.processed)
        return self.loader(self.order, self.batching)

    def val_dataloader(self) -> StatefulDataLoader:
        return self.loader(HeldOutOrder(LENGTHS, 2, **self.rank()), "random")

    def loader(self, order: Any, batching: Any) -> StatefulDataLoader:
        collate = Collator(0, batching=batching)
        return StatefulDataLoader(
            PlannedSamples(SAMPLES), sampler=order, batch_size=None, collate_fn=collate, num_workers=self.num_workers
        )

    def rank(self) -> dict[str, int]:
        kwargs = (self.trainer and self.trainer.distributed_sampler_kwargs) or {"rank": 0, "num_replicas": 1}
        return {"rank": kwargs["rank"], "world_size": kwargs["num_replicas"]}


class Bigrams(L.LightningModule):
    """Predicts a token from the one before; keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Sequential(nn.Embedding(60, 8), nn.Linear(8, 60))
        self.seen: list[list[list[int]]] = []
        self.held_out: list[int] = []

    def losses(self, batch: dict[str, Tensor]) -> Tensor:
        logits = self.table(batch["input_ids"].flatten()[batch["loss_index"]])
        return F.cross_entropy(logits, batch["loss_targets"], reduction="none")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch["input_ids"].tolist())
        return (
            self.losses(batch).mean()
            * batch["step_share"]
            * self.trainer.accumulate_grad_batches
            * self.trainer.world_size
        )

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.held_out.append(len(batch["loss_targets"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=2.0)

    def on_fit_end(self) -> None:
        """Write down what came of it: other processes can say it in no other way."""
        trainer: Any = self.trainer
        result = {
            "seen": self.seen,
            "held_out": self.held_out,
            "sampler": type(trainer.train_dataloader.sampler).__name__,
            "is_ours": trainer.train_dataloader.sampler is trainer.datamodule.order,
            "epoch": trainer.datamodule.order.epoch,
            "steps": trainer.global_step,
            "weights": torch.cat([p.detach().flatten() for p in self.parameters()]).tolist(),
        }
        (Path(trainer.default_root_dir) / f"rank {trainer.global_rank}.json").write_text(json.dumps(result))


def fit(folder: Path, data: Data, ckpt_path: Path | None = None, **options: Any) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    options = {"max_epochs": 2, "max_steps": -1, "num_sanity_val_steps": 0, "limit_val_batches": 0, **options}
    trainer = tiny.trainer(default_root_dir=folder, **options)
    trainer.fit(Bigrams(), data, ckpt_path=ckpt_path, weights_only=True)
    return [json.loads(path.read_text()) for path in sorted(folder.glob("rank *.json"))]


@pytest.mark.parametrize("workers", [0, 2])
def test_two_processes_take_the_steps_of_one(tmp_path: Path, workers: int) -> None:
    # 21 rows make steps of 8, 8 and 5. The last one is made of micro-batches of 2 and 1 rows of one rank, and of 2 rows
    # and a stand-in of the other.
    options: dict[str, Any] = {"precision": "64-true", "limit_val_batches": 1.0}
    (single,) = fit(tmp_path / "one", Data(batch_size=8), **options)
    two = fit(
        tmp_path / "two",
        Data(batch_size=2, num_workers=workers),
        strategy="ddp_fork",
        devices=2,
        accumulate_grad_batches=2,
        **options,
    )
    start = torch.cat([p.detach().flatten() for p in Bigrams().double().parameters()])
    moved = torch.tensor(single["weights"]) - start
    for rank in two:
        assert (rank["sampler"], rank["is_ours"], rank["epoch"], rank["steps"]) == ("TrainOrder", True, 1, 6)
        difference = torch.tensor(rank["weights"]) - torch.tensor(single["weights"])
        assert difference.norm() / moved.norm() < 1e-6
    # Each held-out token once.
    assert sum(single["held_out"]) == sum(sum(rank["held_out"]) for rank in two) == 2 * sum(WEIGHTS)


# 21 samples make 11 batches of 2, or of 1 packed row, an optimiser step every 3 of them. The numbers: batches of an
# epoch, and for each step with a checkpoint how many of all batches are left after it.
TRIGGERS: dict[str, tuple[dict[str, Any], dict[str, Any], int, dict[int, int]]] = {
    "each step": ({"every_n_train_steps": 1}, {}, 11, {1: 19, 2: 16, 3: 13, 4: 11, 5: 8, 6: 5, 7: 2, 8: 0}),
    "end of an epoch": ({"save_on_train_epoch_end": True}, {}, 11, {4: 11, 8: 0}),
    "validation in an epoch": ({}, {"val_check_interval": 6, "limit_val_batches": 1}, 11, {2: 16, 6: 5}),
    "part of an epoch": (
        {"every_n_train_steps": 1},
        {"limit_train_batches": 7},
        7,
        {1: 11, 2: 8, 3: 7, 4: 4, 5: 1, 6: 0},
    ),
}


# Each resumed run writes into a folder of its own here.
@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batching", ["length_grouped", "packed"])
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_run_goes_on_from_each_checkpoint(tmp_path: Path, trigger: str, batching: str, workers: int) -> None:
    checkpoint, options, batches, left = TRIGGERS[trigger]

    def run(name: str, ckpt_path: Path | None = None) -> dict[str, Any]:
        data = Data(batching, batch_size=1 if batching == "packed" else 2, num_workers=workers)
        saving = ModelCheckpoint(tmp_path / name, "{step}", save_top_k=-1, **checkpoint)
        options_here = {**options, "callbacks": [saving], "enable_checkpointing": True, "accumulate_grad_batches": 3}
        (result,) = fit(tmp_path / name, data, ckpt_path, **options_here)
        return result

    unbroken = run("unbroken")
    assert len(unbroken["seen"]) == 2 * batches
    assert unbroken["seen"][:batches] != unbroken["seen"][batches:]
    assert {path.stem for path in (tmp_path / "unbroken").glob("*.ckpt")} == {f"step={step}" for step in left}
    for step, count in left.items():
        resumed = run(f"from {step}", tmp_path / "unbroken" / f"step={step}.ckpt")
        assert resumed["seen"] == unbroken["seen"][2 * batches - count :], step
        assert resumed["weights"] == unbroken["weights"], step
