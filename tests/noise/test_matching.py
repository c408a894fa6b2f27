"""Which rows of a batch a call belongs to: sides, padding that the model adds, and places that are no tokens."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_neft.errors import LengthsError
from lightning_neft.noise.documents import PaddingId
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
    with pytest.raises(LengthsError, match=r"\(2, 5\).*attention_mask \(2, 3\)"):
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
    assert lengths(row.window(slice(0, 1), slice(0, 2)).weight) == [[1, 0]]


def test_slots_keep_their_place_where_padding_is_taken_out():
    flat = IDS[MASK == 1]
    weight, _ = match_weight(rows(slots=[6]), flat.shape, flat, "tokens")
    assert lengths(weight) == [2, 0, 2, 2, 2]


def test_slots_are_read_from_the_config_for_any_target():
    model = case_of("Qwen2-VL").model
    for target in (None, "model.language_model", "model.language_model.embed_tokens"):
        [found] = find_embeddings(model, target)
        assert (found.name, found.slots) == ("model.language_model.embed_tokens", (99, 98))
    [found] = find_embeddings(case_of("Llama").model)
    assert found.slots == ()


def test_ids_that_are_longer_than_their_mask_are_an_error():
    (row,) = find_token_rows({"input_ids": IDS, "attention_mask": MASK[:, :2]})
    with pytest.raises(LengthsError, match=r"\(2, 3\).*attention_mask \(2, 2\)"):
        match_weight([row], IDS.shape, IDS, "tokens")


def seq2seq(**fields):
    return find_token_rows(
        {"input_ids": IDS, "attention_mask": MASK, **fields}, seq2seq=True, padding=PaddingId(0), undescribed=True
    )


DECODER_IDS = torch.tensor([[1, 9, 9], [1, 9, 0]])


def test_ids_of_the_decoder_are_rows_of_their_own():
    found = rows_of_side(seq2seq(decoder_input_ids=DECODER_IDS), "decoder")
    assert [row.source for row in found] == ["decoder_input_ids"]
    weight, _ = match_weight(found, DECODER_IDS.shape, DECODER_IDS, "decoder")
    assert lengths(weight) == [[3, 3, 3], [2, 2, 0]]
    # An encoder never has the lengths of a decoder.
    alone = find_token_rows({"labels": DECODER_IDS}, seq2seq=True)
    assert rows_of_side(alone, "encoder") == []


def test_a_decoder_without_tokens_reads_the_encoders_shifted(snapshot):
    found = rows_of_side(seq2seq(), "decoder")
    shifted = torch.cat([torch.ones(2, 1).long(), IDS[:, :-1]], 1)
    weight, _ = match_weight(found, shifted.shape, shifted, "decoder")
    assert lengths(weight) == [[3, 3, 3], [2, 2, 0]]
    with pytest.raises(LengthsError, match=r"decoder .*\(2, 3\)") as error:
        match_weight(found, DECODER_IDS.shape, DECODER_IDS, "decoder")
    snapshot(str(error.value))


def test_labels_of_classes_are_no_tokens_of_the_decoder():
    for classes in (torch.tensor([[0.0, 1, 1], [1, 0, 0]]), torch.tensor([0, 1])):
        assert [row.source for row in seq2seq(labels=classes)] == ["attention_mask"]


def test_labels_that_end_with_the_id_of_padding_are_shorter():
    labels = torch.tensor([[5, 0, 6, 0, 0], [7, 8, 0, -100, -100], [-100, 5, 6, 7, 8]])
    [decoder] = rows_of_side(seq2seq(labels=labels), "decoder")
    assert lengths(decoder.weight) == [[3, 3, 3, 0, 0], [2, 2, 0, 0, 0], [0, 4, 4, 4, 4]]
    assert decoder.doubt is None
    [plain] = find_token_rows({"labels": labels}, seq2seq=True)
    assert lengths(plain.weight) == [[5] * 5, [3, 3, 3, 0, 0], [0, 4, 4, 4, 4]]
    [unsure] = find_token_rows({"labels": labels[:2]}, seq2seq=True, padding=PaddingId(0, ends_rows=True))
    flag, reason = unsure.doubt
    assert bool(flag)
    assert "id 0" in reason


def test_the_padding_id_is_that_of_the_model_around_the_table():
    model = case_of("BERT, classification head").model
    [found] = find_embeddings(model)
    assert found.padding == PaddingId(0)
    [named] = find_embeddings(nn.ModuleDict({"own": nn.Embedding(9, 4, padding_idx=3)}))
    assert named.padding == PaddingId(3)
    assert find_embeddings(nn.ModuleDict({"own": nn.Embedding(9, 4)}))[0].padding is None
