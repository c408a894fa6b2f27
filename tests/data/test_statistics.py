"""Padding, counted from lengths, is the padding of the batches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.order import TrainOrder
from lightning_neft.data.batching.plan import PlannedSamples
from lightning_neft.data.statistics import padding_waste

LENGTHS = np.clip(np.random.default_rng(0).lognormal(3, 0.7, 300), 2, 100).astype(int)


@pytest.mark.parametrize("batching", ["random", "length_grouped", "packed", "flat"])
def test_the_places_are_those_of_the_collated_batches(batching: Any) -> None:
    waste = padding_waste(LENGTHS, batching, 8, 100, 2)
    samples = [SimpleNamespace(input_ids=[5] * n, labels=[5] * n) for n in LENGTHS]
    order = TrainOrder(LENGTHS, LENGTHS, batching=batching, batch_size=8, max_length=100, seed=2)
    collate, data = Collator(0, batching=batching), PlannedSamples(samples)
    batches = [collate(data[plan]) for plan in order]
    assert (waste.batches, waste.rows) == (len(batches), len(order.rows))
    assert waste.places == sum(batch["input_ids"].numel() for batch in batches)
    assert waste.tokens == sum((batch["input_ids"] == 5).sum().item() for batch in batches) == LENGTHS.sum()
    assert waste.share == pytest.approx(1 - waste.tokens / waste.places)


def test_grouping_and_packing_save_most_of_the_padding() -> None:
    share: dict[Any, float] = {
        batching: padding_waste(LENGTHS, batching, 8, 100, 0).share
        for batching in ("random", "length_grouped", "packed", "flat")
    }
    assert share["flat"] == 0
    assert share["length_grouped"] < 0.5 * share["random"]
    assert share["packed"] < 0.05 * share["random"]
