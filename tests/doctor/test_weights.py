"""Weights that are read or initialised on use: the numbers of the whole model, while few weights are read."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from doctor.small import NAMES, built, on_meta, outside_of_blocks, rms, row_of
from lightning_neft.doctor import weights as weights_module
from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.doctor.forward import PassToFirstBlock
from lightning_neft.doctor.weights import LazyWeights, TooManyWeightsError, initial_values
from lightning_neft.errors import ModelError
from lightning_neft.noise.embedding import find_embeddings
from lightning_neft.noise.probe import probe


@pytest.fixture(autouse=True)
def all_tables_are_large(monkeypatch):
    """The tables of tiny models are read by rows too."""
    monkeypatch.setattr(weights_module, "_SMALL_TABLE", 0)


def without_weights(model, checkpoint):
    skeleton = on_meta(model)
    return skeleton, LazyWeights(skeleton, checkpoint)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_those_of_the_whole_model(name, saved):
    model, row = built(name), row_of(name)
    batch = row.batch()
    whole = probe(model, batch, forward=lambda: row.forward(model, batch))
    skeleton, weights = without_weights(model, Checkpoint(str(saved(model))))
    forward = PassToFirstBlock(skeleton, batch, find_embeddings(skeleton), weights)
    found = probe(skeleton, batch, forward=forward)
    assert len(found) == len(whole) == len(row.expected)
    for one, other in zip(found, whole, strict=True):
        for key, value in dataclasses.asdict(other).items():
            got = getattr(one, key)
            assert got == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), (name, key)
    # Images pass their own blocks on the way to the text's.
    bound = outside_of_blocks(model) if "pixel_values" not in batch else model.num_parameters() / 2
    assert 0 < weights.elements <= bound
    assert weights.missing == []
    assert all(tensor.is_meta for tensor in [*skeleton.parameters(), *skeleton.buffers()])


@pytest.mark.parametrize("name", ["Llama", "Gemma 2", "GPT-2", "BLOOM", "T5", "mBART", "M2M100 (NLLB)", "Mamba-2"])
def test_random_weights_are_as_strong_as_in_a_whole_model(name):
    model, row = built(name), row_of(name)
    batch = row.batch()
    whole = probe(model, batch, forward=lambda: row.forward(model, batch))
    skeleton, weights = without_weights(model, None)
    found = probe(skeleton, batch, forward=PassToFirstBlock(skeleton, batch, find_embeddings(skeleton), weights))
    for one, other in zip(found, whole, strict=True):
        # Other draws: 500 to 700 elements at least, 3 % standard error each.
        assert one.embedding_rms == pytest.approx(other.embedding_rms, rel=0.15)
        assert one.noise_rms == pytest.approx(other.noise_rms, rel=1e-4)


def test_only_the_rows_of_a_table_that_are_used_are_read(saved):
    model = built("Llama")
    skeleton, weights = without_weights(model, Checkpoint(str(saved(model))))
    ids = torch.tensor([[7, 3, 7], [3, 50, 9]])
    table = skeleton.get_input_embeddings().weight
    with weights:
        first = F.embedding(ids, table)
    assert weights.elements == 4 * 32
    assert torch.equal(first, model.get_input_embeddings()(ids))
    with weights:
        again = F.embedding(ids.flip(0), table, padding_idx=3)
        more = F.embedding(torch.tensor([2, 9, 99]), table)
    assert weights.elements == 6 * 32
    assert torch.equal(again, first.flip(0))
    assert torch.equal(more, model.get_input_embeddings()(torch.tensor([2, 9, 99])))


def test_an_id_beyond_the_table_is_an_error(saved):
    model = built("Llama")
    skeleton, weights = without_weights(model, Checkpoint(str(saved(model))))
    with weights, pytest.raises(IndexError, match=r"model\.embed_tokens\.weight has 100 rows, the batch .* number 100"):
        F.embedding(torch.tensor([1, 100]), skeleton.get_input_embeddings().weight)


def test_an_id_beyond_a_table_that_may_grow_is_a_row_of_zeros(saved):
    model = built("Llama")
    skeleton = on_meta(model)
    weights = LazyWeights(skeleton, Checkpoint(str(saved(model))), may_grow=True)
    with weights:
        rows = F.embedding(torch.tensor([100, 1, 103]), skeleton.get_input_embeddings().weight)
    assert weights.beyond == {100, 103}
    assert torch.equal(rows[1], model.get_input_embeddings().weight[1])
    assert rows[[0, 2]].count_nonzero() == 0


def test_metadata_of_a_weight_reads_nothing():
    skeleton, weights = without_weights(built("Llama"), None)
    weight = skeleton.model.layers[0].mlp.up_proj.weight
    with weights:
        assert weight.shape == (64, 32)
        assert (weight.dtype, weight.ndim, weight.numel()) == (torch.float32, 2, 64 * 32)
        assert weight.device == torch.device("cpu")
    assert weights.elements == 0
    with weights:
        assert torch.nn.functional.linear(torch.ones(32), weight).shape == (64,)
    assert weights.elements == 64 * 32


def test_weights_have_the_dtype_of_the_skeleton(saved):
    model = built("Llama").to(torch.bfloat16)
    folder = saved(model)
    skeleton, weights = without_weights(model.float(), Checkpoint(str(folder)))
    with weights:
        rows = skeleton.get_input_embeddings()(torch.tensor([4]))
    assert rows.dtype == torch.float32
    assert torch.equal(rows, model.get_input_embeddings()(torch.tensor([4])))


def test_a_pass_that_uses_too_many_weights_is_stopped(monkeypatch):
    monkeypatch.setattr(weights_module, "_MAX_ELEMENTS", 1000)
    skeleton, weights = without_weights(built("Llama"), None)
    with weights, pytest.raises(TooManyWeightsError):
        skeleton.model.layers[0].mlp.up_proj(torch.ones(32))


def test_a_missing_parameter_is_initialised_and_named(saved):
    model = built("GPT-2")
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "transformer.wpe.weight"}
    folder = saved(model, state_dict=state)
    skeleton, weights = without_weights(model, Checkpoint(str(folder)))
    batch = row_of("GPT-2").batch()
    probe(skeleton, batch, forward=PassToFirstBlock(skeleton, batch, find_embeddings(skeleton), weights))
    assert weights.missing == ["transformer.wpe.weight"]


def test_a_weight_without_a_source_is_an_error(saved):
    model = built("Llama")
    skeleton = on_meta(model)
    skeleton.register_parameter("odd", nn.Parameter(torch.empty(3, device="meta")))
    weights = LazyWeights(skeleton, Checkpoint(str(saved(model))))
    with weights, pytest.raises(ModelError, match="odd is neither in the checkpoint nor initialised by LlamaForCausal"):
        skeleton.odd + 1


def test_rows_have_the_standard_deviation_of_the_config():
    model = built("Llama")
    model.config.initializer_range = 0.3
    made = initial_values(on_meta(model), (skeleton := on_meta(model)).get_input_embeddings().weight)
    assert made is None  # the weight of another model
    made = initial_values(skeleton, skeleton.get_input_embeddings().weight, torch.arange(90))
    assert made.shape == (90, 32)
    assert rms(made) == pytest.approx(0.3, rel=0.05)  # 2880 draws: 1.3 % standard error


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        # Initialised by the model around it, with a standard deviation of 1.
        ("T5", "shared.weight", 1.0),
        # A normal distribution of 0.02 that is cut at two standard deviations; the tied head has another one.
        ("ModernBERT, masked LM", "model.embeddings.tok_embeddings.weight", 0.0176),
        ("Llama", "model.norm.weight", 1.0),
        ("BERT, masked LM", "bert.embeddings.LayerNorm.weight", 1.0),
    ],
)
def test_other_initialisations_are_found(name, path, expected):
    skeleton = on_meta(built(name))
    assert rms(initial_values(skeleton, skeleton.get_parameter(path))) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Llama", "model.rotary_emb.inv_freq"),
        ("Gemma 2", "model.embed_tokens.embed_scale"),
        ("BERT, masked LM", "bert.embeddings.position_ids"),
        ("Marian", "model.encoder.embed_positions.weight"),
    ],
)
def test_computed_values_equal_those_of_a_whole_model(name, path):
    model = built(name)
    skeleton = on_meta(model)
    named = {**dict(skeleton.named_parameters()), **dict(skeleton.named_buffers())}
    expected = {**dict(model.named_parameters()), **dict(model.named_buffers())}[path]
    assert torch.equal(initial_values(skeleton, named[path]), expected)


def test_an_outer_module_may_initialise_a_weight():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Embedding(9, 4, device="meta"))

        def _init_weights(self, module):
            if module is self:
                self.inner[0].weight.fill_(7)
            elif module is self.inner:
                self.inner[0].weight.fill_(3)

    model = Around()
    assert initial_values(model, model.inner[0].weight, torch.tensor([5, 2])).tolist() == [[7.0] * 4] * 2


def test_initial_values_repeat_and_move_no_random_state():
    skeleton = on_meta(built("Llama"))
    weight, rows = skeleton.get_input_embeddings().weight, torch.tensor([3, 9])
    before = torch.get_rng_state()
    made = initial_values(skeleton, weight, rows)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(initial_values(skeleton, weight, rows), made)
    assert not torch.equal(initial_values(skeleton, weight, torch.tensor([4, 9])), made)


def test_the_model_stays_as_it_was():
    model = built("BERT, masked LM")
    skeleton = on_meta(model)
    table = skeleton.get_input_embeddings()
    assert table.padding_idx == 0
    before = {name: id(tensor) for name, tensor in skeleton.state_dict(keep_vars=True).items()}
    made = initial_values(skeleton, table.weight, torch.tensor([50, 0]))
    assert (made != 0).all()
    assert {name: id(tensor) for name, tensor in skeleton.state_dict(keep_vars=True).items()} == before
    assert table.padding_idx == 0
    assert all(parameter.is_meta for parameter in skeleton.parameters())


def test_what_the_model_does_not_initialise_is_none():
    skeleton = on_meta(built("Llama"))
    skeleton.register_parameter("odd", nn.Parameter(torch.empty(3, device="meta")))
    assert initial_values(skeleton, skeleton.odd) is None
