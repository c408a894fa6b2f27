"""However a step is cut into micro-batches and ranks, its gradient is that of the mean over all its trained tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import TrainOrder
from lightning_neft.data.batching.plan import PlannedBatch, PlannedSamples, trained_weights

COUNT = 16


def samples() -> list[SimpleNamespace]:
    """Uneven lengths, uneven answers; every fourth is trained from its first token on."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(COUNT):
        ids = torch.randint(1, tiny.VOCABULARY, (3 + number * 5 % 13,), generator=generator).tolist()
        prompt = 0 if number % 4 == 0 else 1 + number % (len(ids) - 1)
        made.append(SimpleNamespace(input_ids=ids, labels=[-100] * prompt + ids[prompt:]))
    return made


def gradient(model: torch.nn.Module, loss: Tensor) -> Tensor:
    parameters = list(model.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


def of_one_batch(model: torch.nn.Module, prompt_loss: float) -> Tensor:
    """Each sample alone through the model, all token losses with their weights, one mean."""
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for sample in samples():
        ids = torch.tensor([sample.input_ids])
        losses = F.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="none")
        weights = torch.tensor([1.0 if label != -100 else prompt_loss for label in sample.labels[1:]])
        total, weight = total + (losses * weights).sum(), weight + weights.sum().item()
    return gradient(model, total / weight)


def own_loss(model: torch.nn.Module, batch: dict[str, Any]) -> Tensor:
    """The mean over the trained tokens of a micro-batch, from `loss_index` and `loss_targets`."""
    names = ("input_ids", "attention_mask", "position_ids")
    logits = model(**{name: batch[name] for name in names if name in batch}, use_cache=False).logits
    losses = F.cross_entropy(logits.flatten(0, 1)[batch["loss_index"]], batch["loss_targets"], reduction="none")
    weights = batch.get("loss_token_weights", torch.ones(len(losses))).double()
    return (losses * weights).sum() / weights.sum()


@pytest.mark.parametrize("prompt_loss", [0.0, 0.3])
@pytest.mark.parametrize("batching", ["random", "length_grouped", "packed", "flat"])
@pytest.mark.parametrize(
    ("batch_size", "accumulate", "world_size"), [(16, 1, 1), (4, 4, 1), (4, 2, 2), (5, 4, 1), (1, 8, 3)]
)
def test_the_gradient_is_that_of_one_batch(
    batch_size: int, accumulate: int, world_size: int, batching: Any, prompt_loss: float
) -> None:
    model = tiny.llama().double()
    data = samples()
    labels = [[label != -100 for label in sample.labels] for sample in data]
    lengths = [len(sample.input_ids) for sample in data]
    weights = trained_weights("causal_lm", lengths, [sum(x) for x in labels], [x[0] for x in labels], prompt_loss)
    options: dict[str, Any] = {"batching": batching, "batch_size": batch_size, "max_length": 16}
    options |= {"accumulate": accumulate, "world_size": world_size, "seed": 3}
    collate = Collator(0, batching=batching, prompt_loss=prompt_loss)
    added = torch.zeros(())
    for rank in range(world_size):
        plans = list(TrainOrder(lengths, weights, rank=rank, **options))
        assert len(plans) <= accumulate
        for plan in plans:
            batch = collate(PlannedSamples(data)[plan])
            loss = own_loss(model, batch) * batch["step_share"] * (accumulate * world_size)
            # Lightning divides by the one, DDP by the other.
            added = added + gradient(model, loss / accumulate) / world_size
    expected = of_one_batch(model, prompt_loss)
    assert ((added - expected).norm() / expected.norm()).item() < 1e-6


def test_the_labels_alone_give_the_same_loss() -> None:
    model = tiny.llama().double()
    for batching, rows in {"random": [[0], [1], [2]], "packed": [[0, 1], [2]], "flat": [[0, 1], [2]]}.items():
        documents = tuple(tuple(samples()[index] for index in row) for row in rows)
        batch = Collator(0, batching=batching)(PlannedBatch(documents, step_share=1.0))  # type: ignore[arg-type]
        names = ("input_ids", "attention_mask", "position_ids", "labels")
        theirs = model(**{name: batch[name] for name in names if name in batch}, use_cache=False).loss
        # transformers takes its loss in float32.
        torch.testing.assert_close(theirs.double(), own_loss(model, batch), rtol=1e-5, atol=0)
