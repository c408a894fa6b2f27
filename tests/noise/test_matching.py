"""Which rows of a batch a call belongs to: sides, padding that the model adds, and places that are no tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_neft.errors import LengthsError
from lightning_neft.noise.embedding import find_embeddings
from lightning_neft.noise.lengths import find_token_rows
from lightning_neft.noise.matching import match_weight, rows_of_side
from matrix.checks import case_of

IDS = torch.tensor([[5, 6, 7], [8, 9, 0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def rows(**options):
    return find_token_rows({"input_ids": IDS, "attention_mask": MASK}, **options)


def lengths(weight):
    """1 / weight^2 where there is noise, else 0."""
    return torch.where(weight > 0, weight**-2, 0.0).round().int().tolist()


def test_padding_that_the_model_adds_on_the_right_gets_no_noise():
    longer = nn.functional.pad(IDS, (0, 2))
    weight, _ = match_weight(rows(), longer.shape, longer, "tokens")
    assert lengths(weight) == [[3, 3, 3, 0, 0], [2, 2, 0, 0, 0]]


def test_other_ids_of_that_shape_are_an_error():
    longer = nn.functional.pad(IDS, (2, 0))
    with pytest.raises(LengthsError, match=r"tokens of shape \(2, 5\), the batch has attention_mask \(2, 3\)"):
        match_weight(rows(), longer.shape, longer, "tokens")


def test_sides():
    labels = torch.tensor([[5, 6], [7, -100]])
    found = find_token_rows({"input_ids": IDS, "attention_mask": MASK, "labels": labels}, seq2seq=True)
    encoder, decoder = rows_of_side(found, "encoder"), rows_of_side(found, "decoder")
    assert [row.source for row in encoder] == ["attention_mask"]
    assert [row.source for row in decoder] == ["labels"]
    assert rows_of_side(found, "both") == found
    assert rows_of_side(found, None) == found
    # Shifted by the model, so that their values are not those of the batch.
    [shifted] = rows_of_side(encoder, "decoder")
    assert (shifted.source, shifted.ids) == ("attention_mask", None)


@pytest.mark.parametrize("has_mask", [True, False])
def test_slots_get_no_noise_and_do_not_count(has_mask):
    batch = {"input_ids": IDS, "attention_mask": MASK} if has_mask else {"input_ids": IDS}
    [row] = find_token_rows(batch, slots=[6, 77])
    assert lengths(row.weight) == [[2, 0, 2], [2, 2, 0] if has_mask else [3, 3, 3]]
    assert lengths(row.window(slice(0, 1), slice(0, 2))) == [[1, 0]]


def test_slots_keep_their_place_where_padding_is_taken_out():
    flat = IDS[MASK == 1]
    weight, _ = match_weight(rows(slots=[6]), flat.shape, flat, "tokens")
    assert lengths(weight) == [2, 0, 2, 2, 2]


def test_slots_are_read_from_the_config_wherever_the_target_is_named():
    model = case_of("Qwen2-VL").model
    for target in (None, "model.language_model", "model.language_model.embed_tokens"):
        [found] = find_embeddings(model, target)
        assert (found.name, found.slots) == ("model.language_model.embed_tokens", (99, 98))
    [found] = find_embeddings(case_of("Llama").model)
    assert found.slots == ()


def test_ids_that_are_longer_than_their_mask_are_an_error():
    (row,) = find_token_rows({"input_ids": IDS, "attention_mask": MASK[:, :2]})
    with pytest.raises(LengthsError, match=r"tokens of shape \(2, 3\), the batch has attention_mask \(2, 2\)"):
        match_weight([row], IDS.shape, IDS, "tokens")
