"""Initial values of single weights: from the model's own initialisation, which may sit anywhere around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doctor.small import built, on_meta, rms
from lightning_neft.doctor.initial import initial_values


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
def test_what_is_computed_equals_that_of_a_model_built_whole(name, path):
    model = built(name)
    skeleton = on_meta(model)
    named = {**dict(skeleton.named_parameters()), **dict(skeleton.named_buffers())}
    expected = {**dict(model.named_parameters()), **dict(model.named_buffers())}[path]
    assert torch.equal(initial_values(skeleton, named[path]), expected)


def test_a_weight_may_be_initialised_by_a_module_around_the_one_that_holds_it():
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


def test_it_is_the_same_at_each_call_and_moves_no_random_state():
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
