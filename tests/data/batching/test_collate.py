"""Every kind of batch, tensor for tensor, and how the noise reads it."""

from __future__ import annotations

from itertools import count, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DataCollatorWithFlattening

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import PlannedBatch
from lightning_neft.errors import ConfigError, DataError
from lightning_neft.noise.lengths import find_token_rows


def sample(input_ids: list[int], labels: Any) -> SimpleNamespace:
    return SimpleNamespace(input_ids=input_ids, labels=labels)


A = sample([1, 10, 11, 12], [-100, -100, 11, 12])
B = sample([1, 20], [-100, 20])
C = sample([30, 31, 32], [30, 31, 32])  # trained from its first token on
ROWS = ((A, B), (C,))
SINGLE = ((A,), (B,), (C,))


def assert_same(batch: dict[str, Any], expected: dict[str, Any]) -> None:
    listed = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    assert listed == expected


def dtypes(batch: dict[str, Any]) -> dict[str, torch.dtype]:
    return {name: value.dtype for name, value in batch.items() if isinstance(value, torch.Tensor)}


PADDED: dict[str, Any] = {
    "input_ids": [[1, 10, 11, 12], [1, 20, 9, 9], [30, 31, 32, 9]],
    "labels": [[-100, -100, 11, 12], [-100, 20, -100, -100], [30, 31, 32, -100]],
    "attention_mask": [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]],
    "loss_index": [1, 2, 4, 8, 9],
    "loss_targets": [11, 12, 20, 31, 32],
}
PACKED: dict[str, Any] = {
    "input_ids": [[1, 10, 11, 12, 1, 20], [30, 31, 32, 9, 9, 9]],
    "labels": [[-100, -100, 11, 12, -100, 20], [-100, 31, 32, -100, -100, -100]],
    "position_ids": [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]],
    "sequence_ids": [[0, 0, 0, 0, 1, 1], [0, 0, 0, -1, -1, -1]],
    "loss_index": [1, 2, 4, 6, 7],
    "loss_targets": [11, 12, 20, 31, 32],
}
FLAT: dict[str, Any] = {
    "input_ids": [[1, 10, 11, 12, 1, 20, 30, 31, 32]],
    "labels": [[-100, -100, 11, 12, -100, 20, -100, 31, 32]],
    "position_ids": [[0, 1, 2, 3, 0, 1, 0, 1, 2]],
    "cu_seq_lens_q": [0, 4, 6, 9],
    "cu_seq_lens_k": [0, 4, 6, 9],
    "max_length_q": 4,
    "max_length_k": 4,
    "loss_index": [1, 2, 4, 6, 7],
    "loss_targets": [11, 12, 20, 31, 32],
}


@pytest.mark.parametrize("batching", ["random", "length_grouped"])
def test_padded(batching: str) -> None:
    batch = Collator(9, batching=batching)(PlannedBatch(SINGLE))  # type: ignore[arg-type]
    assert_same(batch, PADDED)
    assert set(dtypes(batch).values()) == {torch.int64}


def test_packed() -> None:
    batch = Collator(9, batching="packed")(PlannedBatch(ROWS))
    assert_same(batch, PACKED)
    assert set(dtypes(batch).values()) == {torch.int64}


def test_flat() -> None:
    batch = Collator(9, batching="flat")(PlannedBatch(ROWS))
    assert_same(batch, FLAT)
    assert dtypes(batch) == dict.fromkeys(dtypes(batch), torch.int64) | {
        "cu_seq_lens_q": torch.int32,
        "cu_seq_lens_k": torch.int32,
    }


def test_flat_is_what_transformers_makes_of_the_same_documents() -> None:
    theirs = DataCollatorWithFlattening(return_flash_attn_kwargs=True)([vars(A), vars(B), vars(C)])
    ours = Collator(9, batching="flat")(PlannedBatch(ROWS))
    for name, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(ours[name], value), name
            assert ours[name].dtype == value.dtype, name
        else:
            assert ours[name] == value, name


def test_prompts_with_a_loss_of_their_own() -> None:
    padded = Collator(9, prompt_loss=0.25)(PlannedBatch(SINGLE))
    assert_same(
        padded,
        PADDED
        | {
            "labels": [[1, 10, 11, 12], [1, 20, -100, -100], [30, 31, 32, -100]],
            "loss_index": [0, 1, 2, 4, 8, 9],
            "loss_targets": [10, 11, 12, 20, 31, 32],
            "loss_weights": [[0.25, 0.25, 1, 1], [0.25, 1, 0, 0], [1, 1, 1, 0]],
            "loss_token_weights": [0.25, 1, 1, 1, 1, 1],
        },
    )
    assert padded["loss_weights"].dtype == padded["loss_token_weights"].dtype == torch.float32
    packed = Collator(9, batching="packed", prompt_loss=0.25)(PlannedBatch(ROWS))
    assert_same(
        packed,
        PACKED
        | {
            "labels": [[-100, 10, 11, 12, -100, 20], [-100, 31, 32, -100, -100, -100]],
            "loss_index": [0, 1, 2, 4, 6, 7],
            "loss_targets": [10, 11, 12, 20, 31, 32],
            "loss_weights": [[0, 0.25, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0]],
            "loss_token_weights": [0.25, 1, 1, 1, 1, 1],
        },
    )


def test_an_encoder_decoder() -> None:
    pair, other = sample([4, 5, 6], [7]), sample([4], [8, 9])
    assert_same(
        Collator(0, "seq2seq_lm")(PlannedBatch(((pair,), (other,)))),
        {
            "input_ids": [[4, 5, 6], [4, 0, 0]],
            "attention_mask": [[1, 1, 1], [1, 0, 0]],
            "labels": [[7, -100], [8, 9]],
        },
    )


@pytest.mark.parametrize("label", [1, [1]])
def test_classes(label: Any) -> None:
    batch = Collator(0, "sequence_classification")(PlannedBatch(((sample([4, 5], label),), (sample([4], [0]),))))
    assert_same(batch, {"input_ids": [[4, 5], [4, 0]], "attention_mask": [[1, 1], [1, 0]], "labels": [1, 0]})
    assert batch["labels"].dtype == torch.int64


@pytest.mark.parametrize("task", ["causal_lm", "seq2seq_lm", "sequence_classification"])
def test_training_batches_know_their_share(task: Any) -> None:
    labels = [-100] if task == "sequence_classification" else [5, -100] if task == "causal_lm" else [-100, -100]
    nothing = sample([5, 6], labels)
    collate = Collator(0, task)
    assert "step_share" not in collate(PlannedBatch(((nothing,),)))
    with pytest.raises(DataError, match=r"^a training batch of 1 rows has no label to train on"):
        collate(PlannedBatch(((nothing,),), 0.5))
    something = sample([5, 6], [1] if task == "sequence_classification" else [-100, 6])
    share = collate(PlannedBatch(((something,), (nothing,)), 0.5))["step_share"]
    assert (share.item(), share.shape, share.dtype) == (0.5, (), torch.float32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "seq2seq_lm", "batching": "packed"}, "batching='packed' is for the task causal_lm, got"),
        (
            {"task": "seq2seq_lm", "prompt_loss": 0.1},
            "prompt_loss must be 0 or more, and 0 except for causal_lm; got",
        ),
        ({"prompt_loss": -1.0}, "prompt_loss must be 0 or more"),
    ],
)
def test_what_cannot_be_collated_is_said_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Collator(0, **options)


def lengths_read_by_the_noise(batch: dict[str, Any], **options: Any) -> list[list[int]]:
    """1 / weight^2 of each place, which is the length of its document, and 0 on padding."""
    (rows,) = find_token_rows(batch, **options)
    weight = rows.weight.double()
    return torch.where(weight > 0, weight.clamp(min=1e-9) ** -2, 0).round().long().tolist()


@pytest.mark.parametrize("prompt_loss", [0.0, 0.5])
@pytest.mark.parametrize("step_share", [None, 0.5])
def test_the_noise_reads_the_true_lengths(prompt_loss: float, step_share: float | None) -> None:
    padded = Collator(9, prompt_loss=prompt_loss)(PlannedBatch(SINGLE, step_share))
    assert lengths_read_by_the_noise(padded) == [[4, 4, 4, 4], [2, 2, 0, 0], [3, 3, 3, 0]]
    packed = Collator(9, batching="packed", prompt_loss=prompt_loss)(PlannedBatch(ROWS, step_share))
    assert lengths_read_by_the_noise(packed) == [[4, 4, 4, 4, 2, 2], [3, 3, 3, 0, 0, 0]]


def test_the_noise_reads_the_true_lengths_of_a_flat_batch() -> None:
    flat = Collator(9, batching="flat")(PlannedBatch(ROWS, 0.5))
    assert lengths_read_by_the_noise(flat) == [[4, 4, 4, 4, 2, 2, 3, 3, 3]]


def test_the_noise_reads_other_tasks_and_scopes() -> None:
    classes = Collator(0, "sequence_classification")(PlannedBatch(((sample([4, 5], [1]),), (sample([4], [0]),)), 0.5))
    assert lengths_read_by_the_noise(classes) == [[2, 2], [1, 0]]
    pairs = Collator(0, "seq2seq_lm")(PlannedBatch(((sample([4, 5, 6], [7]),), (sample([4], [8, 9]),)), 0.5))
    encoder, decoder = find_token_rows(pairs, seq2seq=True)
    assert (encoder.weight > 0).tolist() == [[True, True, True], [True, False, False]]
    assert (decoder.weight > 0).tolist() == [[True, False], [True, True]]
    packed = Collator(9, batching="packed")(PlannedBatch(ROWS, 0.5))
    answers = [[0, 0, 4, 4, 0, 2], [0, 3, 3, 0, 0, 0]]
    assert lengths_read_by_the_noise(packed, scope="response") == answers


@given(
    st.lists(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from(["packed", "flat"]),
)
def test_documents_come_out_of_a_batch_as_they_went_in(rows: list[list[list[bool]]], batching: str) -> None:
    # Every token of the batch has a number of its own, so that nothing can change places unseen.
    numbers = count(10)
    documents = []
    for row in rows:
        documents.append([])
        for trained in row:
            ids = [next(numbers) for _ in trained]
            documents[-1].append(
                sample(ids, [token if is_on else -100 for token, is_on in zip(ids, trained, strict=True)])
            )
    batch = Collator(9, batching=batching)(PlannedBatch(tuple(map(tuple, documents))))
    flat = [document for row in documents for document in row]
    if batching == "flat":
        starts = batch["cu_seq_lens_q"].tolist()
        places = [(0, slice(*pair)) for pair in pairwise(starts)]
    else:
        owner = batch["sequence_ids"]
        found = [
            (row, (owner[row] == number).nonzero()[:, 0])
            for row in range(len(rows))
            for number in range(len(rows[row]))
        ]
        assert all((where.diff() == 1).all() for _, where in found)
        places = [(row, slice(int(where[0]), int(where[-1]) + 1)) for row, where in found]
        assert (batch["input_ids"][owner == -1] == 9).all()
        assert (batch["labels"][owner == -1] == -100).all()
    assert len(places) == len(flat)
    lengths = torch.tensor(lengths_read_by_the_noise(batch))
    for document, place in zip(flat, places, strict=True):
        assert batch["input_ids"][place].tolist() == document.input_ids
        assert batch["position_ids"][place].tolist() == list(range(len(document.input_ids)))
        # The first token has nothing before it that could predict it.
        assert batch["labels"][place].tolist() == [-100, *document.labels[1:]]
        assert set(lengths[place].tolist()) == {len(document.input_ids)}
    trained = [label for document in flat for label in document.labels[1:] if label != -100]
    assert batch["loss_targets"].tolist() == trained
    # What predicts a token is the one just before it, whose number is one less.
    assert batch["input_ids"].flatten()[batch["loss_index"]].tolist() == [token - 1 for token in trained]
