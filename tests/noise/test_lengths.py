"""From a batch, whatever it is made of, to the rows of tokens in it."""

from __future__ import annotations

import collections
import dataclasses
import math
import types
from typing import Any

import pytest
import torch

from lightning_neft.errors import LengthsError
from lightning_neft.noise.lengths import find_token_rows
from tiny import batch

GIVEN = batch([3, 2], width=4)
WEIGHT = torch.tensor([[3**-0.5] * 3 + [0], [2**-0.5] * 2 + [0, 0]])


@dataclasses.dataclass
class Fields:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor


Named = collections.namedtuple("Named", ["input_ids", "attention_mask"])


def containers() -> dict[str, Any]:
    from transformers import BatchEncoding

    ids, mask = GIVEN["input_ids"], GIVEN["attention_mask"]
    return {
        "dict": {"input_ids": ids, "attention_mask": mask},
        "BatchEncoding": BatchEncoding({"input_ids": ids, "attention_mask": mask}),
        "dataclass": Fields(ids, mask),
        "namedtuple": Named(ids, mask),
        "attributes": types.SimpleNamespace(input_ids=ids, attention_mask=mask),
        "tuple of dict and target": ({"input_ids": ids, "attention_mask": mask}, torch.zeros(2)),
        "nested dict": {"inputs": {"text": {"input_ids": ids, "attention_mask": mask}}, "idx": [1, 2], "name": "x"},
        "prefix": {"query_input_ids": ids, "query_attention_mask": mask},
        "suffix": {"input_ids_a": ids, "attention_mask_a": mask},
        "one mask for each kind of layer": {"input_ids": ids, "attention_mask": {"full_attention": mask}},
    }


@pytest.mark.parametrize("kind", containers())
def test_every_container_is_recognised(kind):
    (rows,) = find_token_rows(containers()[kind])
    torch.testing.assert_close(rows.weight, WEIGHT)


@pytest.mark.parametrize(
    "nothing", [torch.ones(2, 3).long(), (torch.ones(2, 3).long(),), {"input_ids": torch.ones(2, 3)}, None, []]
)
def test_a_batch_without_fields_gives_no_rows(nothing):
    assert find_token_rows(nothing) == []


PACKED = {
    "position_ids": torch.tensor([[0, 1, 0, 1, 2, 0]]),
    "seq_idx": torch.tensor([[0, 0, 1, 1, 1, 2]]),
    "sequence_ids": torch.tensor([[5, 5, 9, 9, 9, 5]]),
    "segment_ids": torch.tensor([[1, 1, 2, 2, 2, 3]]),
    "attention_mask": torch.tensor([[1, 1, 2, 2, 2, 3]]),
    "cu_seqlens": torch.tensor([0, 2, 5, 6]),
    "cu_seq_lens_q": torch.tensor([0, 2, 5, 6]),
}


@pytest.mark.parametrize("field", PACKED)
def test_packed_rows_have_the_length_of_each_document(field):
    (rows,) = find_token_rows({"input_ids": torch.ones(1, 6).long(), field: PACKED[field]})
    torch.testing.assert_close(rows.weight, torch.tensor([[2.0, 2, 3, 3, 3, 1]]).rsqrt())
    assert rows.source == field


def test_the_mask_takes_padding_out_of_packed_rows():
    given = {
        "input_ids": torch.ones(1, 4).long(),
        "position_ids": torch.tensor([[0, 1, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0]]),
    }
    (rows,) = find_token_rows(given)
    torch.testing.assert_close(rows.weight, torch.tensor([[2.0, 2, 1, torch.inf]]).rsqrt())
    assert rows.source == "position_ids and attention_mask"


def test_zero_segment_and_negative_sequence_ids_are_padding():
    ids = torch.ones(1, 3).long()
    for field, value in {"segment_ids": [[1, 1, 0]], "seq_idx": [[0, 0, -1]]}.items():
        (rows,) = find_token_rows({"input_ids": ids, field: torch.tensor(value)})
        assert rows.weight[0, 2] == 0
        assert rows.weight[0, 0].item() == pytest.approx(2**-0.5)


def test_left_padded_positions_do_not_make_documents():
    positions = torch.tensor([[1, 1, 0, 1, 2]])
    (rows,) = find_token_rows({"position_ids": positions, "attention_mask": torch.tensor([[0, 0, 1, 1, 1]])})
    torch.testing.assert_close(rows.weight, torch.tensor([[torch.inf, torch.inf, 3, 3, 3]]).rsqrt())


def test_spatial_positions_say_nothing_of_documents():
    given = {"position_ids": torch.zeros(3, 2, 4).long(), "attention_mask": GIVEN["attention_mask"]}
    (rows,) = find_token_rows(given)
    torch.testing.assert_close(rows.weight, WEIGHT)


def test_scopes_divide_the_tokens_and_keep_the_length():
    given = {**GIVEN, "labels": torch.tensor([[-100, 5, 5, -100], [-100, 5, -100, -100]])}
    (prompt,) = find_token_rows(given, scope="prompt")
    (response,) = find_token_rows(given, scope="response")
    torch.testing.assert_close(prompt.weight + response.weight, WEIGHT)
    assert (response.weight > 0).tolist() == [[False, True, True, False], [False, True, False, False]]


def test_a_scope_without_labels_is_an_error(snapshot):
    given = {"input_ids": GIVEN["input_ids"], "attention_mask": GIVEN["attention_mask"]}
    with pytest.raises(LengthsError, match=r"scope='response'.*\(2, 4\)") as missing:
        find_token_rows(given, scope="response")
    with pytest.raises(LengthsError, match=r"scope='prompt'.*\(2,\)") as shape:
        find_token_rows({**given, "labels": torch.ones(2)}, scope="prompt")
    snapshot(f"{missing.value}\n{shape.value}")


def test_padded_and_fixed_lengths():
    (padded,) = find_token_rows(GIVEN, length="padded")
    assert (padded.weight == 0.5).all()
    (fixed,) = find_token_rows(GIVEN, length=100)
    torch.testing.assert_close(fixed.weight, (WEIGHT > 0) * 0.1)


def test_an_encoder_decoder_has_rows_for_both_sides():
    labels = torch.tensor([[5, 5, 5], [5, -100, -100]])
    encoder, decoder = find_token_rows({**GIVEN, "labels": labels}, seq2seq=True)
    assert (encoder.is_decoder, decoder.is_decoder) == (False, True)
    torch.testing.assert_close(encoder.weight, WEIGHT)
    torch.testing.assert_close(decoder.weight, torch.tensor([[3**-0.5] * 3, [1, 0, 0]]))
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    _, masked = find_token_rows({**GIVEN, "labels": labels, "decoder_attention_mask": mask}, seq2seq=True)
    assert (masked.weight > 0).long().tolist() == mask.tolist()


def test_scopes_of_an_encoder_decoder_are_its_sides():
    given = {**GIVEN, "labels": torch.tensor([[5, 5, 5], [5, -100, -100]])}
    encoder, decoder = find_token_rows(given, seq2seq=True, scope="prompt")
    assert encoder.weight.sum() > 0
    assert decoder.weight.sum() == 0
    encoder, decoder = find_token_rows(given, seq2seq=True, scope="response")
    assert encoder.weight.sum() == 0
    assert decoder.weight.sum() > 0


def test_batch_to_mask_comes_first_and_may_return_none():
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    (rows,) = find_token_rows(GIVEN, batch_to_mask=lambda given: mask)
    assert (rows.weight > 0).long().tolist() == mask.tolist()
    assert rows.source == "batch_to_mask"
    assert len(find_token_rows(GIVEN, batch_to_mask=lambda given: [mask, mask[:1]])) == 2
    (searched,) = find_token_rows(GIVEN, batch_to_mask=lambda given: None)
    torch.testing.assert_close(searched.weight, WEIGHT)
    (response,) = find_token_rows(GIVEN, batch_to_mask=lambda given: mask, scope="response")
    assert response.weight[0, 3] == 0  # the batch's label there is -100
    assert response.weight[0, 0].item() == pytest.approx(0.5)


@pytest.mark.parametrize("answer", [torch.ones(3), ["mask"]])
def test_a_users_function_that_returns_no_mask_is_an_error(answer):
    with pytest.raises(LengthsError, match=r"batch_to_mask.*\(B, L\)"):
        find_token_rows(GIVEN, batch_to_mask=lambda given: answer)


def test_cumulative_lengths_need_a_single_row(snapshot):
    with pytest.raises(LengthsError, match=r"cu_seqlens.*input_ids") as alone:
        find_token_rows({"cu_seqlens": torch.tensor([0, 3])})
    with pytest.raises(LengthsError, match=r"cu_seqlens.*input_ids has shape \(2, 3\)") as several:
        find_token_rows({"cu_seqlens": torch.tensor([0, 3]), "input_ids": torch.ones(2, 3)})
    snapshot(f"{alone.value}\n{several.value}")


def test_a_mask_of_one_dimension_is_an_error():
    with pytest.raises(LengthsError, match=r"attention_mask has shape \(3,\)"):
        find_token_rows({"attention_mask": torch.ones(3)})


def test_weights_of_a_part_count_its_own_tokens():
    (rows,) = find_token_rows(GIVEN)
    part = rows.window(slice(0, 1), slice(0, 2))
    assert part.weight.tolist() == [[pytest.approx(1 / math.sqrt(2))] * 2]


def test_the_flattening_collator_of_transformers_is_recognised():
    from transformers import DataCollatorWithFlattening

    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_position_ids=True)
    given = collate([{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8], "labels": [8]}])
    assert {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q"} <= set(given)
    (rows,) = find_token_rows(given)
    torch.testing.assert_close(rows.weight, torch.tensor([[3**-0.5] * 3 + [1.0]]))
