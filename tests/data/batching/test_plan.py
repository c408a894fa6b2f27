"""What a sample weighs in the loss is what the loss sees of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import BatchPlan, PlannedSamples, trained_weights

MASKS = st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=5)


def samples_of(masks: list[list[bool]]) -> list[SimpleNamespace]:
    """Samples with labels where the mask is true."""
    return [
        SimpleNamespace(input_ids=list(range(3, 3 + len(mask))), labels=[5 if kept else -100 for kept in mask])
        for mask in masks
    ]


@given(MASKS, st.sampled_from([0.0, 0.25]), st.sampled_from(["random", "packed", "flat"]))
def test_weights_are_the_sum_of_the_token_weights_in_the_batch(
    masks: list[list[bool]], prompt_loss: float, batching: str
) -> None:
    weights = trained_weights(
        "causal_lm", [len(m) for m in masks], [sum(m) for m in masks], [m[0] for m in masks], prompt_loss
    )
    collate = Collator(0, batching=batching, prompt_loss=prompt_loss)  # type: ignore[arg-type]
    indices = tuple(range(len(masks)))
    rows = (indices,) if batching != "random" else tuple((index,) for index in indices)
    batch = collate(PlannedSamples(samples_of(masks))[BatchPlan(rows)])
    seen = batch["loss_token_weights"].sum() if prompt_loss else len(batch["loss_targets"])
    assert float(seen) == weights.sum()


def test_labels_of_a_decoder_are_not_shifted() -> None:
    counts = [[5, 9], [3, 1], [True, True]]
    assert trained_weights("seq2seq_lm", *counts).tolist() == [3.0, 1.0]
    assert trained_weights("sequence_classification", *counts).tolist() == [1.0, 1.0]


def test_first_tokens_without_a_label_need_not_be_told() -> None:
    assert trained_weights("causal_lm", [6, 4], [2, 3], prompt_loss=0.5).tolist() == [3.5, 3.0]


def test_samples_are_fetched_as_planned() -> None:
    samples = samples_of([[False, True], [True], [True, True, True]])
    data = PlannedSamples(samples)
    assert len(data) == 3
    batch = data[BatchPlan(((2, 0), (3,)), 0.5)]
    assert batch.rows[0] == (samples[2], samples[0])
    assert batch.step_share == 0.5
    ((filler,),) = batch.rows[1:]
    assert (list(filler.input_ids), list(filler.labels)) == ([3, 4], [-100, -100])


def test_memory_mapped_samples_are_not_written_to() -> None:
    stored = SimpleNamespace(input_ids=np.array([4, 5, 6], np.int32), labels=np.array([4, 5, 6], np.int32))
    for array in (stored.input_ids, stored.labels):
        array.flags.writeable = False
    batch = Collator(0, batching="packed")(PlannedSamples([stored])[BatchPlan(((0, 0),), 1.0)])
    assert batch["labels"].tolist() == [[-100, 5, 6, -100, 5, 6]]
    assert batch["labels"].dtype == batch["input_ids"].dtype == torch.int64
