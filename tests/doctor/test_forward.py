"""A pass ends at the input of the first block, of an encoder-decoder at both, with the numbers of a full pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doctor.small import built, row_of
from lightning_neft.doctor.forward import PassToFirstBlock
from lightning_neft.errors import NoNoiseError
from lightning_neft.noise.embedding import EmbeddingTarget, find_embeddings
from lightning_neft.noise.injector import EmbeddingNoise
from lightning_neft.noise.probe import probe


def calls_in(model, run):
    """Names of the modules whose forward pass came to its end, in that order."""
    called = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
    ]
    run()
    for handle in handles:
        handle.remove()
    return called


def test_no_block_is_run():
    model, batch = built("Llama"), row_of("Llama").batch()
    called = calls_in(model, PassToFirstBlock(model, batch, find_embeddings(model)))
    assert called == ["model.embed_tokens", "model.rotary_emb"]


@pytest.mark.parametrize("name", ["T5", "BART", "LED", "EncoderDecoderModel, BERT to BERT"])
def test_an_encoder_decoder_runs_to_both_first_blocks(name):
    model, row = built(name), row_of(name)
    batch = row.batch()
    called = calls_in(model, PassToFirstBlock(model, batch, find_embeddings(model)))
    assert [embedding for embedding in called if embedding in row.expected] == list(row.expected)
    blocks = [module for module in called if ".0." in f"{module}." or ".1." in f"{module}."]
    assert blocks == []


def test_no_hook_stays():
    model, batch = built("T5"), row_of("T5").batch()
    PassToFirstBlock(model, batch, find_embeddings(model))()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_labels_and_unknown_keys_are_dropped():
    class Takes(nn.Module):
        def forward(self, input_ids, labels=None, use_cache=True):
            self.taken = (input_ids, labels, use_cache)

    model = Takes()
    PassToFirstBlock(model, {"input_ids": 1, "labels": 2, "odd": 3}, ())()
    assert model.taken == (1, None, False)


def test_a_model_without_blocks_runs_to_its_end():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9)

        def forward(self, input_ids):
            return self.head(self.embed(input_ids))

    model, batch = Flat(), {"input_ids": torch.tensor([[1, 2]])}
    assert calls_in(model, PassToFirstBlock(model, batch, find_embeddings(model))) == ["embed", "head", ""]


def test_blocks_before_the_embedding_do_not_end_it():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.before = nn.ModuleList([nn.Linear(4, 4)])
            self.embed = nn.Embedding(9, 4)
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

        def forward(self, input_ids):
            self.before[0](torch.ones(1, 2, 4))
            hidden = self.embed(input_ids)
            for layer in self.layers:
                hidden = layer(hidden)

    model, batch = Late(), {"input_ids": torch.tensor([[1, 2]])}
    assert calls_in(model, PassToFirstBlock(model, batch, find_embeddings(model))) == ["before.0", "embed"]


def test_it_continues_until_all_targets_were_called():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.first = nn.Embedding(9, 4), nn.ModuleList([nn.Linear(4, 4)])
            self.two, self.second = nn.Embedding(9, 4), nn.ModuleList([nn.Linear(4, 4)])

        def forward(self, input_ids):
            self.second[0](self.first[0](self.one(input_ids)) + self.two(input_ids))

    model, batch = Two(), {"input_ids": torch.tensor([[1, 2]])}
    targets = find_embeddings(model, ["one", "two"])
    assert calls_in(model, PassToFirstBlock(model, batch, targets)) == ["one", "first.0", "two"]
    assert calls_in(model, PassToFirstBlock(model, batch, targets[:1])) == ["one"]


def test_an_embedding_that_is_not_called_is_an_error():
    """Llama's own embedding is called, the module that is named never is."""
    model, batch = built("Llama"), row_of("Llama").batch()
    model.unused = nn.Embedding(9, 32)
    noise = EmbeddingNoise(target="unused")
    forward = PassToFirstBlock(model, batch, [EmbeddingTarget("unused", model.unused)])
    with pytest.raises(NoNoiseError, match="unused was never called"):
        probe(model, batch, noise=noise, forward=forward)
