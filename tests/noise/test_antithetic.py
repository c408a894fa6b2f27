"""Antithetic pairs: each sample once with a noise and once with its opposite."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_neft import EmbeddingNoise, NEFTune
from lightning_neft.errors import LengthsError
from lightning_neft.noise.antithetic import double_rows
from tiny import Recorder, Samples, Tuned, batch, llama, loader, t5, trainer


def doubled(given):
    given = dict(given)
    double_rows(given)
    return given


def test_the_halves_get_opposite_noise_of_one_rows_strength():
    model, given = llama(64), batch([9, 4])
    table = model.get_input_embeddings()
    noise = EmbeddingNoise(5, distribution="rademacher", antithetic=True).attach(model)
    pairs = doubled(given)
    clean = table(pairs["input_ids"]).detach()
    with noise.armed(pairs, 0):
        noisy = table(pairs["input_ids"]).detach()
    noise.detach()
    first, second = (noisy - clean).chunk(2)
    torch.testing.assert_close(first, -second, rtol=0, atol=1e-6)
    torch.testing.assert_close(first[0, :9].abs(), torch.full((9, 64), 5 / (9 * 64) ** 0.5))
    assert first[1, 4:].abs().max() == 0
    assert 0.3 < (first[0, :9] > 0).float().mean() < 0.7


def test_the_gradient_is_the_mean_over_both_signs():
    model, given = llama(), batch([9, 9])
    with EmbeddingNoise(5, antithetic=True).attach(model) as noise, noise.armed(doubled(given), 3):
        model(**doubled(given)).loss.backward()
    of_pairs = [p.grad.clone() for p in model.parameters()]
    with EmbeddingNoise(5, antithetic=True).attach(model) as noise, noise.armed(doubled(given), 3):
        drawn = Recorder(model.get_input_embeddings())  # after the noise's hook, which it has to see
        model(**doubled(given))
    drawn.handle.remove()
    by_sign = []
    for half in drawn.outputs[0].chunk(2):
        model.zero_grad()
        handle = model.get_input_embeddings().register_forward_hook(
            lambda module, args, output, noisy=half: output + (noisy - output.detach())
        )
        model(**given).loss.backward()
        handle.remove()
        by_sign.append([p.grad.clone() for p in model.parameters()])
    for pair, plus, minus in zip(of_pairs, *by_sign, strict=True):
        torch.testing.assert_close(pair, (plus + minus) / 2, rtol=1e-4, atol=1e-6)


def test_a_fit_sees_each_sample_twice_and_twice_only():
    """Also where the loader gives the very same object in every epoch."""
    shapes = []

    class Watching(Tuned):
        def training_step(self, batch, batch_idx):
            shapes.append(tuple(batch["input_ids"].shape))
            assert torch.equal(*batch["input_ids"].chunk(2))
            return super().training_step(batch, batch_idx)

    same = DataLoader([batch([5, 8]), batch([8, 3])], batch_size=None)
    trainer(callbacks=[NEFTune(5, antithetic=True)], max_epochs=3, max_steps=-1).fit(Watching(llama()), same)
    assert shapes == [(4, 8)] * 6


def test_a_module_can_double_its_batch_itself():
    calls = []

    class Own(Tuned):
        def double_rows(self, batch):
            calls.append(len(batch["input_ids"]))
            double_rows(batch)

    trainer(callbacks=[NEFTune(5, antithetic=True)], max_steps=2).fit(Own(llama()), loader())
    assert calls == [4, 4]


def test_an_encoder_decoder_has_pairs_on_both_sides():
    class Recording(Tuned):
        def on_train_start(self):
            # After the noise's hooks, which they have to see.
            self.seen = {
                table: Recorder(table) for table in (self.model.encoder.embed_tokens, self.model.decoder.embed_tokens)
            }

    module = Recording(t5())
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    trainer(callbacks=[NEFTune(5, antithetic=True)], max_steps=1).fit(module, loader())
    for table, recorder in module.seen.items():
        plus, minus = recorder.outputs[0].chunk(2)
        assert not torch.equal(plus, minus)
        clean = ((plus + minus) / 2).flatten(0, 1)
        distance = (clean[:, None] - table.weight.detach()).norm(dim=-1).amin(1)
        assert distance.max() < 1e-4


class Tuples(Samples):
    def __getitem__(self, index):
        return tuple(super().__getitem__(index).values())


def test_batches_that_cannot_be_doubled_are_errors(snapshot):
    class OfTuples(Tuned):
        def training_step(self, batch, batch_idx):
            return self.model(*batch[:2], labels=batch[2]).loss

    data = DataLoader(Tuples(8), batch_size=4)
    with pytest.raises(LengthsError, match=r"got list.*double_rows\(batch\)") as kind:
        trainer(callbacks=[NEFTune(5, antithetic=True)]).fit(OfTuples(llama()), data)
    with pytest.raises(LengthsError, match="cu_seq_lens_q") as flat:
        double_rows({"input_ids": torch.ones(1, 9, dtype=torch.long), "cu_seq_lens_q": torch.tensor([0, 4, 9])})
    snapshot(f"{kind.value}\n{flat.value}")


def test_a_part_of_the_doubled_batch_is_an_error(snapshot):
    """Its halves are not pairs."""

    class InParts(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = llama()

        def training_step(self, batch, batch_idx):
            return sum(
                self.model(**{key: value[part : part + 4] for key, value in batch.items()}).loss for part in (0, 4)
            )

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(LengthsError, match=r"\(4, 12\).*antithetic=False") as error:
        trainer(callbacks=[NEFTune(5, antithetic=True)]).fit(InParts(), loader())
    snapshot(str(error.value))


@pytest.mark.parametrize("length", ["true", "padded"])
def test_flattened_tokens_have_no_pairs(length):
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(60, 8)

    model, given = Flat(), doubled(batch([4, 4]))
    noise = EmbeddingNoise(5, antithetic=True, length=length).attach(model)
    with pytest.raises(LengthsError, match=r"\(16,\).*antithetic=False"), noise.armed(given, 0):
        model.tokens(given["input_ids"].flatten())
