"""One optimiser step over 16 samples of uneven length, in micro-batches and ranks; also a script for several processes.

Usage: python step_runs.py BASE FOLDER BATCHING LORA DEVICES
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_neft.common.trainer import data_parallel_rank, replicas
from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import TrainOrder
from lightning_neft.data.batching.plan import Batching, PlannedSamples
from lightning_neft.data.tokenization import EncodedSample
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from tiny import trainer

COUNT = 16


def samples() -> list[EncodedSample]:
    """16 samples of 5 to 20 tokens, of which 1 to 10 are trained."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(COUNT):
        ids = torch.randint(3, 29, (5 + number,), generator=generator).tolist()
        trained = 1 + (7 * number) % 10 if number > 4 else 1 + number % 3
        found.append(EncodedSample(ids, [-100] * (len(ids) - trained) + ids[-trained:]))
    return found


class Recorded(CausalLM):
    """Keeps the gradients of the first optimiser step. Without dropout, in float64."""

    gradients: dict[str, Tensor]

    def __init__(self, base: str, lora: bool) -> None:
        super().__init__(base, LoraOptions(r=2) if lora else None, keep_eval=True)

    def configure_model(self) -> None:
        super().configure_model()
        generator = torch.Generator().manual_seed(1)
        for name, parameter in self.named_parameters():
            if "lora_" in name:  # one factor is 0 at first, and with it the gradient of the other
                parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients = {n: p.grad.clone() for n, p in self.named_parameters() if p.grad is not None}


def run(base: str, batching: Batching, lora: bool, batch_size: int, accumulate: int, devices: int = 1) -> Recorded:
    """Make one optimiser step with all samples and return the module."""
    options: dict[str, Any] = {"strategy": "ddp", "devices": devices} if devices > 1 else {"devices": 1}
    fit = trainer(
        max_steps=1,
        accumulate_grad_batches=accumulate,
        precision="64-true",
        use_distributed_sampler=False,
        limit_val_batches=0,
        **options,
    )
    module, data = Recorded(base, lora), samples()
    rank, ranks = data_parallel_rank(fit), replicas(fit)
    order = TrainOrder(
        [len(sample.input_ids) for sample in data],
        [sum(label != -100 for label in sample.labels) for sample in data],
        batching=batching,
        batch_size=batch_size,
        max_length=40,
        rank=rank,
        world_size=ranks,
        accumulate=accumulate,
    )
    assert order.used == accumulate
    loader = DataLoader(PlannedSamples(data), batch_size=None, sampler=order, collate_fn=Collator(0, batching=batching))
    # Lightning warns of a module that could validate and has no data for it.
    fit.fit(module, loader, val_dataloaders=loader)
    return module
