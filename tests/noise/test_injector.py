"""EmbeddingNoise in custom loops: what it adds, to which pass, and that it leaves no trace."""

from __future__ import annotations

import copy
import math
import pickle
import re
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import (
    AmbiguousEmbeddingError,
    ConfigError,
    DuplicateNoiseError,
    EmbeddingNotFoundError,
    LengthsError,
    NoNoiseError,
)
from tiny import VOCABULARY, Recorder, batch, llama, transformers_hook


class Table(nn.Module):
    """A token embedding and nothing else: what it returns is what the noise does."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        nn.init.normal_(self.tokens.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, ids, **_):
        return self.tokens(ids)


def added(model, noise, given, step=0, call=None, **options):
    """The noise that one armed pass adds: (B, L, d)."""
    call = call or (lambda: model(given["input_ids"]))
    clean = call().detach()
    with noise.armed(given, step, **options):
        noisy = call().detach()
    return noisy - clean


def rms(tensor):
    return tensor.square().mean().sqrt().item()


def test_each_sequence_has_its_own_strength_and_padding_none():
    model, given = Table(width=2048), batch([4, 30], width=32)
    delta = added(model, EmbeddingNoise(5).attach(model), given)
    assert rms(delta[0, :4]) == pytest.approx(5 / math.sqrt(3 * 4 * 2048), rel=0.02)
    assert rms(delta[1, :30]) == pytest.approx(5 / math.sqrt(3 * 30 * 2048), rel=0.02)
    assert delta[given["attention_mask"] == 0].abs().max() == 0


def test_norm_over_a_sequence_is_alpha_over_root_three():
    model, given = Table(width=1024), batch([8, 64], width=64)
    norms = added(model, EmbeddingNoise(5).attach(model), given).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((2,), 5 / math.sqrt(3)), rtol=0.03, atol=0)


def test_padded_length_and_a_batch_without_mask():
    model, given = Table(width=2048), batch([4, 8], width=8)
    padded = added(model, EmbeddingNoise(5, length="padded").attach(model), given)
    assert rms(padded[0]) == pytest.approx(5 / math.sqrt(3 * 8 * 2048), rel=0.02)
    assert rms(padded[0, 4:]) > 0
    bare = added(model, EmbeddingNoise(5).attach(model), {"input_ids": given["input_ids"]})
    assert rms(bare[0]) == pytest.approx(5 / math.sqrt(3 * 8 * 2048), rel=0.02)
    fixed = added(model, EmbeddingNoise(5, length=100).attach(model), {"input_ids": given["input_ids"]})
    assert rms(fixed) == pytest.approx(5 / math.sqrt(3 * 100 * 2048), rel=0.02)


@pytest.mark.parametrize("form", ["position_ids", "sequence_ids", "cu_seqlens"])
def test_packed_documents_have_the_strength_of_unpacked_ones(form):
    """Given the same draw, scale for scale; and measured on each document."""
    sizes, model = [5, 40, 11], Table(width=4096)
    packed = {
        "input_ids": torch.randint(1, VOCABULARY, (1, sum(sizes)), generator=torch.Generator().manual_seed(1)),
        "position_ids": torch.cat([torch.arange(n) for n in sizes])[None],
        "sequence_ids": torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))[None],
        "cu_seqlens": torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()], dtype=torch.int32),
    }
    delta = added(model, EmbeddingNoise(5).attach(model), {key: packed[key] for key in ("input_ids", form)})
    unpacked = EmbeddingNoise(5).attach(model)
    for document in delta[0].split(sizes):
        alone = added(model, unpacked, {"input_ids": torch.ones(1, len(document)).long()})
        assert rms(document) == pytest.approx(5 / math.sqrt(3 * len(document) * 4096), rel=0.02)
        assert document.abs().max().item() == pytest.approx(alone.abs().max().item(), rel=1e-3)


def test_noise_is_a_function_of_seed_rank_step_and_call():
    model, given = Table(), batch([6, 6])

    def draw(seed=0, step=0, rank=0):
        return added(model, EmbeddingNoise(5, seed=seed).attach(model), given, step, rank=rank)

    first = draw()
    assert torch.equal(draw(), first)
    for other in (draw(seed=1), draw(step=1), draw(rank=1)):
        assert not torch.equal(other, first)


def test_each_forward_pass_of_a_batch_has_its_own_draw():
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    with noise.armed(given, 0):
        passes = [model(given["input_ids"]) for _ in range(3)]
    assert all(not torch.equal(passes[i], passes[j]) for i in range(3) for j in range(i))


def test_passes_of_different_shape_have_their_own_lengths():
    chosen, rejected, model = batch([3, 8]), batch([2, 5], seed=1), Table(width=2048)
    given = {f"chosen_{k}": v for k, v in chosen.items()} | {f"rejected_{k}": v for k, v in rejected.items()}
    noise = EmbeddingNoise(5).attach(model)
    first = added(model, noise, given, call=lambda: model(given["chosen_input_ids"]))
    second = added(model, noise, given, call=lambda: model(given["rejected_input_ids"]))
    assert rms(first[0, :3]) == pytest.approx(5 / math.sqrt(3 * 3 * 2048), rel=0.03)
    assert rms(second[0, :2]) == pytest.approx(5 / math.sqrt(3 * 2 * 2048), rel=0.03)


def test_passes_of_one_shape_are_distinguished_by_their_ids(snapshot):
    chosen, rejected, model = batch([3, 8]), batch([8, 5], seed=1), Table()
    given = {f"chosen_{k}": v for k, v in chosen.items()} | {f"rejected_{k}": v for k, v in rejected.items()}
    noise = EmbeddingNoise(5).attach(model)
    delta = added(model, noise, given, call=lambda: model(given["rejected_input_ids"].view(2, 8)))
    assert (delta.abs().sum(-1) > 0).long().tolist() == rejected["attention_mask"].tolist()
    with (
        noise.armed(given, 0),
        pytest.raises(LengthsError, match=r"chosen_attention_mask \(2, 8\), rejected_attention_mask \(2, 8\)") as error,
    ):
        model(given["rejected_input_ids"].clone())
    snapshot(str(error.value))
    model(given["chosen_input_ids"])


def test_micro_batches_and_shifted_inputs_use_part_of_the_mask():
    model, given = Table(), batch([3, 6, 2, 6], width=6)
    noise = EmbeddingNoise(5).attach(model)
    with noise.armed(given, 0):
        for rows in (slice(0, 2), slice(2, 4)):
            ids = given["input_ids"][rows]
            delta = model(ids) - nn.functional.embedding(ids, model.tokens.weight)
            assert (delta.abs().sum(-1) > 0).long().tolist() == given["attention_mask"][rows].tolist()
    shifted = given["input_ids"][:, :-1]
    delta = added(model, noise, given, call=lambda: model(shifted))
    assert (delta.abs().sum(-1) > 0).long().tolist() == given["attention_mask"][:, :-1].tolist()


def test_ids_beside_the_batch_in_memory_are_not_a_part_of_it():
    model, store = Table(), torch.ones(6, 4).long()
    given = {"input_ids": store[2:4], "attention_mask": torch.ones(2, 4)}
    noise = EmbeddingNoise(5).attach(model)
    for beside in (store[1:2], store[3:5], store[5:6]):
        if len(beside) == 2:
            continue  # has the batch's own shape, which is enough
        with pytest.raises(LengthsError, match="no rows fit"), noise.armed(given, 0):
            model(beside)
    with noise.armed(given, 0):
        model(store[3:4])


def test_ids_that_the_model_creates_belong_to_rows_without_ids():
    """One table for the encoder's ids and for a decoder's that are shifted from labels of the same shape."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = types.SimpleNamespace(is_encoder_decoder=True)
            self.table = nn.Embedding(VOCABULARY, 16)

        def get_input_embeddings(self):
            return self.table

        get_encoder = get_decoder = lambda self: self

        def forward(self, input_ids, labels):
            return self.table(input_ids), self.table(labels.clamp(min=0).roll(1, 1))

    model, given = Shared(), batch([2, 6])
    labels = torch.full((2, 6), -100)
    labels[:, :4] = 7
    given["labels"] = labels
    noise = EmbeddingNoise(5).attach(model)
    assert [target.side for target in noise.targets] == ["both"]
    clean = model(given["input_ids"], labels)
    with noise.armed(given, 0):
        noisy = model(given["input_ids"], labels)
    encoder, decoder = [((a - b).abs().sum(-1) > 0).long().tolist() for a, b in zip(noisy, clean, strict=True)]
    assert encoder == given["attention_mask"].tolist()
    assert decoder == (labels != -100).long().tolist()


@pytest.mark.parametrize("padding", ["kept", "removed"])
def test_flattened_tokens_get_the_noise_of_their_row(padding):
    model, given = Table(width=2048), batch([3, 8])
    keep = given["attention_mask"].bool() if padding == "removed" else torch.ones(2, 8).bool()
    ids = given["input_ids"][keep]
    delta = added(model, EmbeddingNoise(5).attach(model), given, call=lambda: model(ids))
    assert delta.shape == (len(ids), 2048)
    assert rms(delta[:3]) == pytest.approx(5 / math.sqrt(3 * 3 * 2048), rel=0.03)
    assert rms(delta[-8:]) == pytest.approx(5 / math.sqrt(3 * 8 * 2048), rel=0.03)
    assert (delta.abs().sum(-1) > 0).tolist() == given["attention_mask"][keep].bool().tolist()


def test_flattened_tokens_of_a_single_row():
    model = Table(width=2048)
    ids = torch.ones(7).long()
    delta = added(
        model,
        EmbeddingNoise(5).attach(model),
        {"input_ids": ids, "cu_seqlens": torch.tensor([0, 2, 7])},
        call=lambda: model(ids),
    )
    assert rms(delta[:2]) == pytest.approx(5 / math.sqrt(3 * 2 * 2048), rel=0.03)


def test_a_pass_that_no_mask_fits_is_an_error_that_lists_them(snapshot):
    model, given = Table(), batch([3, 8])
    noise = EmbeddingNoise(5).attach(model)
    with pytest.raises(LengthsError, match=r"\(3, 5\).*attention_mask \(2, 8\)") as error, noise.armed(given, 0):
        model(torch.ones(3, 5).long())
    snapshot(str(error.value))
    assert torch.equal(model(given["input_ids"]), nn.functional.embedding(given["input_ids"], model.tokens.weight))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputed_activations_repeat_their_noise(use_reentrant):
    """A second draw in backward would leave the loss as it is and make the gradients wrong."""

    class Checkpointed(Table):
        def forward(self, ids, x):
            def block(i, x):
                return (self.tokens(i) * x).pow(3)

            if self.training:
                return checkpoint(block, ids, x, use_reentrant=use_reentrant)
            return block(ids, x)

    given = batch([6, 6])

    def gradients(training, calls=2):
        model = Checkpointed().train(training)
        x = torch.ones((), requires_grad=True)
        noise = EmbeddingNoise(50).attach(model)
        noise.arm(given, 0)
        ids = [given["input_ids"], given["input_ids"].clone()][:calls]
        sum(model(i, x).sum() * (k + 1) for k, i in enumerate(ids)).backward()
        if use_reentrant:
            with pytest.raises(NoNoiseError, match="use_reentrant=False"):
                noise.disarm()
        else:
            noise.disarm()
        return model.tokens.weight.grad, x.grad

    for calls in (1, 2):
        plain = EmbeddingNoise(0)
        assert plain.alpha == 0
        recomputed, stored = gradients(training=True, calls=calls), None
        if use_reentrant:
            # The first pass of reentrant checkpointing has gradients disabled: clean, and loudly so.
            model = Checkpointed().eval()
            x = torch.ones((), requires_grad=True)
            sum(model(given["input_ids"], x).sum() * (k + 1) for k in range(calls)).backward()
            stored = model.tokens.weight.grad, x.grad
        else:
            stored = gradients(training=False, calls=calls)
        torch.testing.assert_close(recomputed, stored)


def test_two_lines_in_a_plain_loop_train_with_the_noise():
    def train(alpha):
        model = llama()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        noise = EmbeddingNoise(alpha).attach(model)
        for step in range(3):
            given = batch([4, 7], seed=step)
            with noise.armed(given, step):
                model(**given).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        noise.detach()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(train(5), train(5))
    assert not torch.equal(train(5), train(0))


def test_two_lines_in_a_fabric_loop_train_with_the_same_noise():
    from lightning.fabric import Fabric

    def train(fabric):
        model = llama()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        wrapped, optimizer = fabric.setup(model, optimizer) if fabric else (model, optimizer)
        noise = EmbeddingNoise(5).attach(wrapped)
        for step in range(3):
            given = batch([4, 7], seed=step)
            with noise.armed(given, step, rank=fabric.global_rank if fabric else 0):
                loss = wrapped(**given).loss
                fabric.backward(loss) if fabric else loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(train(Fabric(accelerator="cpu", devices=1)), train(None))


def test_attaching_leaves_no_trace_after_detach():
    model = llama()
    keys, names, attributes = list(model.state_dict()), [n for n, _ in model.named_modules()], set(vars(model))
    embedding = model.get_input_embeddings()
    with EmbeddingNoise(5).attach(model) as noise:
        assert len(embedding._forward_hooks) == 1
        noise.attach(model)
        assert len(embedding._forward_hooks) == 1
        assert [target.name for target in noise.targets] == ["model.embed_tokens"]
        assert list(model.state_dict()) == keys
    assert len(embedding._forward_hooks) == 0
    assert [n for n, _ in model.named_modules()] == names
    assert set(vars(model)) == attributes


def test_a_copied_or_pickled_model_never_adds_noise():
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    noise.arm(given, 0)
    clean = nn.functional.embedding(given["input_ids"], model.tokens.weight)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(given["input_ids"]), clean)
    assert not torch.equal(model(given["input_ids"]), clean)
    assert copy.deepcopy(noise).targets == []
    noise.disarm()


def test_gradients_disabled_means_clean():
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    noise.arm(given, 0)
    clean = nn.functional.embedding(given["input_ids"], model.tokens.weight)
    with torch.no_grad():
        assert torch.equal(model(given["input_ids"]), clean)
    with torch.inference_mode():
        assert torch.equal(model(given["input_ids"]), clean)
    assert not torch.equal(model(given["input_ids"]), clean)
    noise.disarm()
    assert torch.equal(model(given["input_ids"]), clean)


def test_an_exception_inside_the_block_is_raised_and_disarms():
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    with pytest.raises(KeyError, match="mine"), noise.armed(given, 0):
        raise KeyError("mine")
    assert torch.equal(model(given["input_ids"]), nn.functional.embedding(given["input_ids"], model.tokens.weight))


def test_strength_is_measured_on_request():
    model, given = Table(width=512), batch([20, 30])
    noise = EmbeddingNoise(5).attach(model)
    noise.arm(given, 0, measure=True)
    model(given["input_ids"])
    strength = noise.disarm()
    expected = 5 * math.sqrt((1 + 1) / (3 * 512 * 50))
    assert strength.noise_rms.item() == pytest.approx(expected, rel=0.02)
    assert strength.embedding_rms.item() == pytest.approx(1, rel=0.05)
    assert strength.noise_to_signal.item() == pytest.approx(strength.noise_rms.item() / strength.embedding_rms.item())
    assert strength.unchanged == 0
    noise.arm(given, 1)
    model(given["input_ids"])
    assert noise.disarm() is None


def test_rounding_that_eats_the_noise_shows():
    model, given = Table(width=512).bfloat16(), batch([200, 200])
    noise = EmbeddingNoise(1).attach(model)
    noise.arm(given, 0, measure=True)
    model(given["input_ids"])
    assert 0.3 < noise.disarm().unchanged.item() < 1


def test_the_gradient_of_the_embedding_is_the_clean_one():
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    with noise.armed(given, 0):
        model(given["input_ids"]).sum().backward()
    noisy = model.tokens.weight.grad.clone()
    model.tokens.weight.grad = None
    model(given["input_ids"]).sum().backward()
    assert torch.equal(model.tokens.weight.grad, noisy)


def test_target_by_name_module_callable_and_sequence():
    pair = nn.ModuleDict({"query": Table(), "document": Table()})
    expected = [("query.tokens",), ("document.tokens",), ("query.tokens", "document.tokens")]
    for target in (
        ["query.tokens", pair["document"].tokens, ["query.tokens", "document.tokens"]],
        [
            pair["query"].tokens,
            lambda root: root["document"].tokens,
            lambda root: [root["query"].tokens, root["document"].tokens],
        ],
    ):
        found = [tuple(t.name for t in EmbeddingNoise(target=each).attach(pair).targets) for each in target]
        assert found == expected


def test_several_candidates_are_an_error_that_lists_them(snapshot):
    with pytest.raises(AmbiguousEmbeddingError, match=r"query\.tokens 60x16, document\.tokens 60x16.*target=") as error:
        EmbeddingNoise().attach(nn.ModuleDict({"query": Table(), "document": Table()}))
    snapshot(str(error.value))


def test_a_wrong_name_suggests_near_ones(snapshot):
    with pytest.raises(EmbeddingNotFoundError, match=r"target='token': .* tokens") as near:
        EmbeddingNoise(target="token").attach(Table())
    with pytest.raises(EmbeddingNotFoundError, match=r"target='x': .* tokens") as other:
        EmbeddingNoise(target="x").attach(Table())
    snapshot(f"{near.value}\n{other.value}")


def test_position_and_type_tables_are_no_candidates(snapshot):
    model = nn.ModuleDict({"wte": nn.Embedding(9, 4), "wpe": nn.Embedding(9, 4), "token_type": nn.Embedding(2, 4)})
    assert [target.name for target in EmbeddingNoise().attach(model).targets] == ["wte"]
    with pytest.raises(EmbeddingNotFoundError, match="wpe") as positions:
        EmbeddingNoise().attach(nn.ModuleDict({"wpe": nn.Embedding(9, 4)}))
    with pytest.raises(EmbeddingNotFoundError, match="Linear") as nothing:
        EmbeddingNoise().attach(nn.Linear(2, 2))
    snapshot(f"{positions.value}\n{nothing.value}")


def test_a_frozen_reference_model_is_no_candidate(snapshot):
    pair = nn.ModuleDict({"policy": llama(), "reference": llama().requires_grad_(False)})
    assert [target.name for target in EmbeddingNoise().attach(pair).targets] == ["policy.model.embed_tokens"]
    with pytest.raises(AmbiguousEmbeddingError, match="policy, reference") as error:
        EmbeddingNoise().attach(nn.ModuleDict({"policy": llama(), "reference": llama()}))
    snapshot(str(error.value))


def test_wrappers_do_not_show_in_names():
    model = nn.ModuleDict({"net": torch.compile(llama())})
    for target in (None, "net.model.embed_tokens", "net"):
        assert [t.name for t in EmbeddingNoise(target=target).attach(model).targets] == ["net.model.embed_tokens"]


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": -1},
        {"alpha": math.nan},
        {"alpha": math.inf},
        {"alpha": "5"},
        {"alpha": True},
        {"distribution": "normal"},
        {"length": "mask"},
        {"length": 0},
        {"length": True},
        {"length": 512.0},
        {"scope": "labels"},
        {"scale": "rms"},
        {"reference_norm": 2.0},
        {"scale": "relative", "reference_norm": 0},
        {"scale": "relative", "reference_norm": math.nan},
        {"seed": 1.5},
        {"seed": True},
        {"antithetic": "no"},
        {"batch_to_mask": "attention_mask"},
        {"target": 3},
        {"target": ["tokens", 3]},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_errors(options, snapshot):
    name, value = list(options.items())[-1]
    with pytest.raises(ConfigError, match=re.escape(f"{name}={value!r}")) as error:
        EmbeddingNoise(**options)
    snapshot(str(error.value))


def test_numbers_of_numpy_are_numbers():
    noise = EmbeddingNoise(
        np.float32(5), seed=np.int64(3), length=np.int32(7), scale="relative", reference_norm=np.float64(2)
    )
    assert [noise.alpha, noise.seed, noise.length, noise.reference_norm] == [5, 3, 7, 2]
    assert {type(noise.seed), type(noise.length)} == {int}


@pytest.mark.parametrize("step", [1.0, None, "1", True])
def test_a_step_that_is_no_integer_is_an_error(step):
    noise = EmbeddingNoise(5).attach(Table())
    with pytest.raises(ConfigError, match=re.escape(f"step={step!r}")):
        noise.arm(batch([3]), step)
    with pytest.raises(ConfigError, match=re.escape(f"rank={step!r}")):
        noise.arm(batch([3]), np.int64(1), rank=step)


@pytest.mark.parametrize("given", [None, 3, ["tokens", None]], ids=str)
def test_a_callable_target_without_modules_is_an_error(given, snapshot):
    with pytest.raises(ConfigError, match=re.escape(repr(given))) as error:
        EmbeddingNoise(target=lambda root: given).attach(Table())
    snapshot(str(error.value))


def test_a_module_that_is_named_twice_has_its_noise_once():
    model, given = Table(width=2048), batch([9, 9])
    pair = nn.ModuleDict({"query": model, "document": model})
    for target in (["query.tokens", "document.tokens"], [model.tokens, "query.tokens"]):
        noise = EmbeddingNoise(5, target=target).attach(pair)
        assert len(noise.targets) == 1
        delta = added(model, noise, given)
        assert rms(delta) == pytest.approx(5 / math.sqrt(3 * 9 * 2048), rel=0.02)
    owner = nn.ModuleDict({"model": llama()})
    both = EmbeddingNoise(target=["model", "model.model.embed_tokens"]).attach(owner)
    assert [found.name for found in both.targets] == ["model.model.embed_tokens"]


@pytest.mark.parametrize("name", ["T5EncoderModel", "T5ForTokenClassification"])
def test_the_table_that_an_encoder_alone_calls_is_found(name):
    import transformers

    config = transformers.T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    model, given = getattr(transformers, name)(config), batch([3, 6])
    noise = EmbeddingNoise(5).attach(model)
    assert [found.name.removeprefix("transformer.") for found in noise.targets] == ["encoder.embed_tokens"]
    with noise.armed(given, 0):
        model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])


def test_an_input_embedding_of_images_is_an_error_unless_named(snapshot):
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8))
    given = {"pixel_values": torch.randn(2, 3, 16, 16)}
    with pytest.raises(NoNoiseError, match=r"target='embeddings.patch_embeddings'") as error:  # noqa: SIM117
        with EmbeddingNoise(5).attach(model) as noise, noise.armed(given, 0):
            model(**given)
    snapshot(str(error.value))
    with EmbeddingNoise(5, target="embeddings.patch_embeddings").attach(model) as noise, noise.armed(given, 0):
        model(**given)


def test_arming_without_a_model_is_an_error():
    with pytest.raises(NoNoiseError, match=r"attach\(model\)"):
        EmbeddingNoise().arm({}, 0)


def test_an_output_that_cannot_take_noise_is_an_error(snapshot):
    model = nn.LSTM(4, 4, batch_first=True)
    noise = EmbeddingNoise(target=lambda root: root).attach(model)
    with pytest.raises(NoNoiseError, match=r"tuple.*target=") as error, noise.armed({}, 0):
        model(torch.zeros(1, 2, 4))
    snapshot(str(error.value))


def test_recorder_sees_the_noisy_output_too():
    """Hooks added later, PEFT's and the user's, get the noisy embedding."""
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    later = Recorder(model.tokens)
    with noise.armed(given, 0):
        output = model(given["input_ids"])
    assert torch.equal(later.outputs[0], output)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("ids_made", ["outside", "inside"])
def test_recomputed_passes_repeat_their_noise_in_any_order(order, ids_made):
    first, second = batch([6, 6])["input_ids"], batch([6, 6], seed=1)["input_ids"]

    def gradient(recompute):
        model, w = Table(), torch.ones((), requires_grad=True)
        noise = EmbeddingNoise(50).attach(model)

        def block(ids):
            return (model.tokens(ids.clone() if ids_made == "inside" else ids) * w).pow(3).sum()

        # Without a mask, so that both passes belong to the batch.
        with noise.armed({"input_ids": first}, 0):
            losses = [checkpoint(block, i, use_reentrant=False) if recompute else block(i) for i in (first, second)]
            for index in order:
                (losses[index] * (index + 1)).backward()
        return w.grad

    torch.testing.assert_close(gradient(True), gradient(False))


@pytest.mark.parametrize("ids_made", ["outside", "inside"])
def test_recomputed_passes_over_equal_ids_are_an_error(ids_made, snapshot):
    model, ids = Table(), batch([6, 6])["input_ids"]
    noise = EmbeddingNoise(50).attach(model)

    def losses(*passes):
        def block(i):
            return model.tokens(i.clone() if ids_made == "inside" else i).pow(3).sum()

        return [checkpoint(block, i, use_reentrant=False) for i in passes]

    with pytest.raises(NoNoiseError, match=r"tokens.*ids\.clone\(\)") as error, noise.armed({"input_ids": ids}, 0):
        losses(ids, ids)[0].backward()
    snapshot(str(error.value))
    if ids_made == "outside":
        with noise.armed({"input_ids": ids}, 0):
            sum(losses(ids, ids.clone())).backward()


def test_a_recomputation_after_the_batch_is_an_error(snapshot):
    """One of a clean pass is not."""
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(50).attach(model)
    with noise.armed(given, 0):
        loss = checkpoint(lambda i: model(i).pow(3).sum(), given["input_ids"], use_reentrant=False)
    with pytest.raises(NoNoiseError, match=r"noise\.armed") as error:
        loss.backward()
    snapshot(str(error.value))
    noise.arm(given, 1, alpha=0)
    checkpoint(lambda i: model(i).pow(3).sum(), given["input_ids"], use_reentrant=False).backward()


def test_two_targets_draw_different_noise():
    pair = nn.ModuleDict({"query": Table(), "document": Table()})
    noise = EmbeddingNoise(5, target=["query.tokens", "document.tokens"]).attach(pair)
    given = batch([6, 6])
    clean = pair["query"](given["input_ids"])
    with noise.armed(given, 0):
        noisy = [pair[name](given["input_ids"]) for name in ("query", "document")]
    torch.testing.assert_close(clean, pair["document"](given["input_ids"]))
    assert not torch.equal(noisy[0] - clean, noisy[1] - clean)


def test_the_hook_of_transformers_on_the_embedding_is_refused(snapshot):
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    handle = model.tokens.register_forward_hook(transformers_hook())
    with pytest.raises(DuplicateNoiseError, match=r"tokens.*neftune_noise_alpha") as error:
        noise.arm(given, 0)
    with pytest.raises(DuplicateNoiseError, match=r"tokens.*neftune_noise_alpha"):
        EmbeddingNoise(5).attach(model)
    snapshot(str(error.value))
    handle.remove()
    noise.arm(given, 0)


def test_a_batch_that_trains_another_part_says_so(snapshot):
    model, given = Table(), batch([6, 6])
    noise = EmbeddingNoise(5).attach(model)
    with pytest.raises(NoNoiseError, match=r"required=False") as lack, noise.armed(given, 0):
        pass
    with noise.armed(given, 0, required=False):
        pass
    empty = {**given, "attention_mask": torch.zeros(2, 6)}
    with pytest.raises(NoNoiseError, match="batch 1: attention_mask") as masked, noise.armed(empty, 1, required=False):
        model(given["input_ids"])
    snapshot(f"{lack.value}\n{masked.value}")
