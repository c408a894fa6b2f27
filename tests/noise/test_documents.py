"""Documents of a batch, in each form in which a batch can say them; padding left and right."""

from __future__ import annotations

from inspect import signature

import pytest
import torch

from lightning_neft.noise.documents import (
    document_lengths,
    documents_from_cu_seqlens,
    documents_from_mask,
    documents_from_position_ids,
    documents_from_sequence_ids,
)

LENGTHS = [[2, 2, 3, 3, 3, 0]]  # two documents of 2 and 3 tokens, one of padding


def lengths(documents):
    return document_lengths(documents).tolist()


def block_diagonal(causal):
    sizes = [2, 3]
    visible = torch.block_diag(*[torch.ones(n, n).tril() if causal else torch.ones(n, n) for n in [*sizes, 1]]).bool()
    visible[5, 5] = False
    return visible[None]


def test_mask_with_padding_on_either_side():
    assert lengths(documents_from_mask(torch.tensor([[0, 1, 1], [1, 0, 0]]))) == [[0, 2, 2], [1, 0, 0]]


def test_mask_that_numbers_documents():
    assert lengths(documents_from_mask(torch.tensor([[1, 1, 2, 2, 2, 0]]))) == LENGTHS


def test_mask_with_a_hole_counts_its_tokens():
    assert lengths(documents_from_mask(torch.tensor([[1, 0, 1, 1]]))) == [[3, 0, 3, 3]]


def test_boolean_and_floating_masks_of_two_dimensions():
    assert lengths(documents_from_mask(torch.tensor([[True, True, False]]))) == [[2, 2, 0]]
    assert lengths(documents_from_mask(torch.tensor([[1.0, 1.0, 0.0]]))) == [[2, 2, 0]]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("form", ["bool", "int", "minus infinity", "smallest", "minus 10000", "three dimensions"])
def test_block_diagonal_masks(causal, form):
    visible = block_diagonal(causal)
    smallest = torch.finfo(torch.bfloat16).min
    mask = {
        "bool": visible[:, None],
        "int": visible[:, None].long(),
        "minus infinity": torch.zeros(1, 1, 6, 6).masked_fill(~visible[:, None], -torch.inf),
        "smallest": torch.zeros(1, 1, 6, 6, dtype=torch.bfloat16).masked_fill(~visible[:, None], smallest),
        "minus 10000": torch.zeros(1, 1, 6, 6).masked_fill(~visible[:, None], -10_000.0),
        "three dimensions": visible,
    }[form]
    assert lengths(documents_from_mask(mask)) == LENGTHS


def test_causal_masks_of_four_dimensions_with_padding():
    padding = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()
    visible = torch.ones(5, 5).tril().bool() & padding[:, None, :]
    expected = [[3, 3, 3, 0, 0], [0, 0, 3, 3, 3], [5, 5, 5, 5, 5]]
    assert lengths(documents_from_mask(visible[:, None])) == expected
    # Fully masked queries that were opened, so that softmax stays finite.
    opened = visible | ~visible.any(-1, keepdim=True)
    assert lengths(documents_from_mask(opened[:, None])) == expected


def test_a_mask_over_keys_alone():
    assert lengths(documents_from_mask(torch.tensor([[[[1, 1, 0]]]]).bool())) == [[2, 2, 0]]


def test_a_mask_that_hides_nothing_is_one_document():
    assert lengths(documents_from_mask(torch.ones(1, 1, 4, 4).bool())) == [[4, 4, 4, 4]]


def test_masks_agree_with_what_transformers_builds():
    from transformers.masking_utils import create_causal_mask

    from tiny import batch, llama

    model = llama(attn_implementation="eager")
    given = batch([4, 2], width=5, side="left")
    mask = create_causal_mask(
        model.config,
        torch.zeros(2, 5, 32),
        given["attention_mask"],
        past_key_values=None,
        # transformers 5.0 asks for it.
        **({"cache_position": torch.arange(5)} if "cache_position" in signature(create_causal_mask).parameters else {}),
    )
    assert mask.dim() == 4
    assert lengths(documents_from_mask(mask)) == lengths(documents_from_mask(given["attention_mask"]))


def test_positions_that_restart():
    positions = torch.tensor([[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])
    assert lengths(documents_from_position_ids(positions)) == [[2, 2, 3, 3, 3], [5] * 5]


def test_sequence_ids_of_any_value():
    assert lengths(documents_from_sequence_ids(torch.tensor([[90_000, 90_000, 7, 7, 7, -1]]))) == LENGTHS


@pytest.mark.parametrize("shape", [(1, 6), (6,)])
def test_cumulative_lengths(shape):
    documents = documents_from_cu_seqlens(torch.tensor([0, 2, 5], dtype=torch.int32), torch.Size(shape))
    assert documents.shape == shape
    assert document_lengths(documents).reshape(1, 6).tolist() == LENGTHS
