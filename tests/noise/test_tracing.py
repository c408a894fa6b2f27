"""Batches that do not describe padding: ids of the batch have none, ids that training_step creates may have some."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import LengthsError
from lightning_neft.noise.tracing import BatchIds
from tiny import VOCABULARY, batch

IDS, OTHER = batch([9, 9, 9])["input_ids"], batch([9, 9, 9], seed=1)["input_ids"]
RAGGED = [IDS[0, :4].clone(), IDS[1, :9].clone(), IDS[2, :8].clone()]
PADDED = nn.utils.rnn.pad_sequence(RAGGED, batch_first=True)
START = torch.full((3, 1), 1)


def armed(given, ids, step=0, noise=None, **options):
    table = nn.Embedding(VOCABULARY, 8)
    noise = noise or EmbeddingNoise(5, **options)
    if not noise.targets:
        noise.attach(table)
    with noise.armed(given, step):
        return noise.targets[0].module(ids)


OWN = {
    "the batch's": IDS,
    "a view": IDS[1:, 2:7],
    "a copy": IDS.clone(),
    "some replaced": torch.where(torch.arange(9) % 3 == 0, 7, IDS),
    "renamed": (IDS + 3) % VOCABULARY,
    "backwards": IDS.flip(1),
    "in another order": IDS[[2, 0, 1]],
    "twice": torch.cat([IDS, IDS]),
    "all but the last": IDS[:, :-1].clone(),
    "one row after the other": IDS[1:2].clone(),
    "after a token of the start": torch.cat([START, IDS], 1),
    "shifted to the right": torch.cat([START, IDS[:, :-1]], 1),
    "with both ends": torch.cat([START, IDS, START], 1),
    "int32": IDS.int(),
}


@pytest.mark.parametrize("form", OWN)
@pytest.mark.parametrize("given", [(IDS, torch.ones(3)), {"text": IDS.clone()}], ids=["tuple", "dict"])
def test_ids_of_the_batch_are_known_in_every_form(form, given):
    assert armed(given, OWN[form]).shape[:2] == OWN[form].shape


SHORT = OTHER[:, :5].clone()
KNOWN = {
    "prompt and answer": ({"prompt": IDS, "answer": SHORT}, torch.cat([IDS, SHORT], 1)),
    "after a token of the start": ({"prompt": IDS, "answer": SHORT}, torch.cat([START, IDS, SHORT], 1)),
    "both rows of a pair": ({"chosen": IDS, "rejected": OTHER}, torch.cat([IDS, OTHER])),
    "floats": ({"tokens": IDS.float()}, IDS),
    "one row": ([IDS[0]], IDS[0].clone()[None]),
    "replaced under their name": ({"input_ids": IDS}, OTHER),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_ids_are_known_when_joined_converted_or_replaced(kind):
    given, ids = KNOWN[kind]
    noise = EmbeddingNoise(5)
    noisy = armed(given, ids, noise=noise)
    assert (noisy != noise.targets[0].module(ids)).any(-1).all()


def test_other_ids_than_those_of_another_name_are_an_error():
    with pytest.raises(LengthsError, match="no tensor of the batch holds"):
        armed({"tokens": IDS}, OTHER)


STRANGE = {
    "texts": {"text": ["a", "b", "c"]},
    "texts and classes": {"text": ["a", "b", "c"], "labels": torch.tensor([0, 1, 0])},
    "texts and labels of tokens": {"text": ["a", "b", "c"], "labels": torch.randint(0, 3, (3, 9))},
    "rows of their own length": RAGGED,
    "samples with ids of their own length": [{"input_ids": ids} for ids in RAGGED],
    "rows of one token less": [PADDED[1:2].clone(), PADDED[2:, :8].clone(), PADDED[:1, :8].clone()],
}


@pytest.mark.parametrize("kind", STRANGE)
def test_ids_that_training_step_makes_or_pads_are_an_error(kind, snapshot):
    with pytest.raises(LengthsError, match=r"^Embedding .*\(3, 9\).*batch_to_mask") as error:
        armed(STRANGE[kind], PADDED)
    snapshot(str(error.value))
    armed(STRANGE[kind], PADDED, length=9)
    armed(STRANGE[kind], PADDED, length="padded")
    armed(STRANGE[kind], PADDED, batch_to_mask=lambda given: PADDED != 0)


def test_later_batches_with_other_widths_are_checked():
    """As long as all rows are as long, nothing is padded."""
    noise = EmbeddingNoise(5)
    armed({"chosen": IDS, "rejected": OTHER}, torch.cat([IDS, OTHER]), noise=noise)
    short = OTHER[:, :7].clone()
    with pytest.raises(LengthsError, match=r"ids of shape \(6, 9\)"):
        armed({"chosen": IDS, "rejected": short}, torch.cat([IDS, F.pad(short, (0, 2))]), step=1, noise=noise)
    # The model pads to a multiple of its window.
    with pytest.raises(LengthsError, match=r"ids of shape \(3, 16\)"):
        armed({"input_ids": IDS}, F.pad(IDS, (0, 7)), step=2, noise=noise)


def test_values_are_read_once_for_each_relation_of_widths(monkeypatch):
    reads = []
    from lightning_neft.noise import tracing

    traced = tracing._is_traced
    monkeypatch.setattr(tracing, "_is_traced", lambda *args: reads.append(1) or traced(*args))
    noise = EmbeddingNoise(5)
    for step in range(4):
        armed({"text": IDS.clone()}, torch.cat([START, IDS], 1), step=step, noise=noise)
    assert len(reads) == 1


def test_a_layer_called_with_features_needs_a_batch_with_rows():
    known = BatchIds([torch.ones(3, 9)], [], True, set())
    known.require(torch.ones(3, 9, 2), "signal")
    with pytest.raises(LengthsError, match=r"signal .*length=512"):
        BatchIds([torch.ones(3)], [], True, set()).require(torch.ones(3, 9, 2), "signal")


@pytest.mark.slow
def test_a_compiled_pass_over_texts_is_an_error_too():
    table = nn.Embedding(VOCABULARY, 8)
    noise = EmbeddingNoise(5).attach(table)
    compiled = torch.compile(table, fullgraph=True, backend="eager")
    with noise.armed((IDS,), 0):
        compiled(IDS)
    with pytest.raises((LengthsError, torch._dynamo.exc.TorchDynamoException)), noise.armed({"text": ["a"]}, 1):
        compiled(PADDED)
    torch._dynamo.reset()


def test_a_scope_without_labels_is_an_error(snapshot):
    with pytest.raises(LengthsError, match=r"\(3, 9\).*labels.*scope='all'") as error:
        armed((IDS,), IDS, scope="response")
    snapshot(str(error.value))
    with pytest.raises(LengthsError, match=r"scope='response' needs labels"):
        armed({"input_ids": IDS}, IDS, scope="response")
