"""What is read of a batch, with and without what the data layer adds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import PlannedBatch
from lightning_neft.errors import LengthsError
from lightning_neft.models.batches import double_rows, model_inputs, next_tokens


def collated(batching: str = "random", **options: Any) -> dict[str, Any]:
    """Three documents of 5, 3 and 4 tokens whose first two tokens are prompt; two of them in one row if packed."""
    documents = []
    for first, length in ((10, 5), (20, 3), (30, 4)):
        ids = list(range(first, first + length))
        documents.append(SimpleNamespace(input_ids=ids, labels=[-100, -100, *ids[2:]]))
    one, two, three = documents
    rows = ((one, two), (three,)) if batching != "random" else ((one,), (two,), (three,))
    return Collator(0, batching=batching, **options)(PlannedBatch(rows, step_share=0.5))


@pytest.mark.parametrize("prompt_loss", [0.0, 0.3])
@pytest.mark.parametrize("batching", ["random", "packed", "flat"])
def test_the_labels_say_what_the_data_layer_says(batching: str, prompt_loss: float) -> None:
    batch = collated(batching, prompt_loss=prompt_loss)
    given = next_tokens(batch)
    found = next_tokens({name: batch[name] for name in ("labels", "loss_weights") if name in batch})
    assert len(given.index) == (6 if prompt_loss == 0 else 9)
    assert torch.equal(found.index, given.index)
    assert torch.equal(found.targets, given.targets)
    assert (found.weights is None) == (given.weights is None) == (prompt_loss == 0)
    if found.weights is not None:
        assert torch.equal(found.weights, given.weights)


@pytest.mark.parametrize("batching", ["random", "packed", "flat"])
def test_the_model_gets_only_what_models_take(batching: str) -> None:
    expected = {
        "random": {"input_ids", "attention_mask"},
        "packed": {"input_ids", "position_ids"},
        "flat": {"input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"},
    }
    assert set(model_inputs(collated(batching, prompt_loss=0.3))) == expected[batching]


@pytest.mark.parametrize("batching", ["random", "packed"])
@pytest.mark.parametrize("prompt_loss", [0.0, 0.3])
def test_doubled_rows_have_their_places_in_the_doubled_batch(batching: str, prompt_loss: float) -> None:
    batch = collated(batching, prompt_loss=prompt_loss)
    double_rows(batch)
    places = {name: batch.pop(name) for name in list(batch) if name in ("loss_index", "loss_targets")}
    weights = batch.pop("loss_token_weights", None)
    found = next_tokens(batch)  # from the doubled labels
    assert torch.equal(places["loss_index"], found.index)
    assert torch.equal(places["loss_targets"], found.targets)
    assert weights is None or torch.equal(weights, found.weights)
    assert batch["step_share"].item() == 0.5


def test_as_many_places_as_rows_are_no_rows() -> None:
    batch = {
        "input_ids": torch.zeros(2, 4, dtype=torch.int64),
        "loss_index": torch.tensor([1, 5]),
        "loss_targets": torch.tensor([3, 4]),
    }
    double_rows(batch)
    assert batch["loss_index"].tolist() == [1, 5, 9, 13]
    assert batch["loss_targets"].tolist() == [3, 4, 3, 4]


def test_a_flat_batch_cannot_be_doubled() -> None:
    with pytest.raises(LengthsError, match="cu_seq_lens_q"):
        double_rows(collated("flat"))
