"""Logits at the places of the loss alone: the same loss and gradients as with all of them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neft.errors import ModelError
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import ResponseLogits, mean_loss
from lightning_neft.models.trainable import LoraOptions, add_lora

SPECIAL = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {
    **SPECIAL,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "intermediate_size": 48,
    # So large that logits differ.
    "initializer_range": 0.3,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    # Tied, and capped after the head.
    "gemma2": {**GROUPED, "final_logit_softcapping": 3.0},
    # Scaled after the head.
    "granite": {**GROUPED, "logits_scaling": 3.0, "embedding_multiplier": 2.0},
    "gpt2": {**SPECIAL, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3},
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.3, "dropout": 0.0},
    "falcon": {**SIZES, "ffn_hidden_size": 48},
    "mixtral": {**GROUPED, "num_local_experts": 4},
}


def tuner(name: str, **options: Any) -> CausalLM:
    """A module around a small random model, without dropout."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    module = CausalLM("unused")
    module.model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **ARCHITECTURES[name], **options))
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if isinstance(getattr(part, "attention_dropout", None), float):
            part.attention_dropout = 0.0
    module.model.train()
    module.on_model_built()
    return module


def batch() -> dict[str, Tensor]:
    """Rows of 12, 7 and 4 tokens; the labels leave out prompts and padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (3, 12), generator=generator)
    mask = (torch.arange(12) < torch.tensor([12, 7, 4])[:, None]).long()
    trained = (mask == 1) & (torch.arange(12) >= torch.tensor([8, 5, 1])[:, None])
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(trained, ids, -100)}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def check_same(module: CausalLM, expected: Tensor, computed: list[torch.Size]) -> None:
    """The module's loss and gradients, with logits at 9 places, are those of the model's own loss."""
    expected.backward()
    full = gradients(module.model)
    computed.clear()
    loss = mean_loss(module.predictions(batch()))
    loss.backward()
    part = gradients(module.model)
    assert computed == [(1, 9, 100)]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert part.keys() == full.keys()
    for name, gradient in full.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(part[name], gradient, rtol=1e-5, atol=1e-5 * scale + 1e-9)


def watch(model: Any) -> list[torch.Size]:
    """The shapes of what the head gives, a new one at each call."""
    shapes: list[torch.Size] = []
    model.get_output_embeddings().register_forward_hook(lambda m, a, output: shapes.append(output.shape))
    return shapes


# peft sets the option by itself, and what it says of a mixture's experts is about other versions of the model.
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys did not match any targeted module:RuntimeWarning"
)
@pytest.mark.parametrize("how", ["plain", "checkpointing", "lora", "lora and checkpointing"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_gradients_are_those_of_all_logits(name: str, how: str) -> None:
    module = tuner(name)
    if "lora" in how:
        module.model = add_lora(module.model, LoraOptions(r=4)).train()
        for parameter_name, parameter in module.model.named_parameters():
            if "lora_B" in parameter_name:  # 0 at first, which would hide the gradient of the other factor
                nn.init.normal_(parameter, std=0.1)
        module.on_model_built()
    if "checkpointing" in how:
        enable = getattr(module.model, "activation_checkpointing_enable", module.model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    computed = watch(module.model)
    check_same(module, module.model(**batch(), use_cache=False).loss, computed)
    assert not torch.allclose(module.model(**batch(), use_cache=False).logits[0, 0], torch.zeros(100), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_compiled_models_pick_too_and_are_not_compiled_for_each_number_of_places(name: str) -> None:
    module = tuner(name)
    eager = copy.deepcopy(module.model)
    count = 0

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        nonlocal count
        count += 1
        return graph.forward

    torch._dynamo.reset()
    module.model.compile(backend=backend)
    compiled_for = []
    for cut in range(9):  # other numbers of places, and other lengths
        given = {key: value[:, : 12 - cut // 2].clone() for key, value in batch().items()}
        given["labels"][:, : cut % 4] = -100
        given["labels"][1, :6] = -100
        expected = eager(**given, use_cache=False).loss
        assert mean_loss(module.predictions(given)).item() == pytest.approx(expected.item(), rel=1e-5)
        compiled_for.append(count)
    assert compiled_for[-1] == compiled_for[4], compiled_for
    torch._dynamo.reset()


class Headless(nn.Module):
    """Computes logits with a module that is not its output embedding, on states of another shape."""

    def __init__(self, head: nn.Module | None, flat: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 8)
        self.given, self.head, self.flat = head, head or nn.Linear(8, 100), flat

    def get_output_embeddings(self) -> nn.Module | None:
        return self.given

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Any:
        from transformers.modeling_outputs import CausalLMOutput

        states = self.table(input_ids)
        logits = self.head(states.flatten(0, 1)).unflatten(0, input_ids.shape) if self.flat else self.head(states)
        return CausalLMOutput(logits=logits)


@pytest.mark.parametrize("head", [None, nn.Linear(8, 100)])
def test_without_a_head_of_the_expected_kind_all_logits_are_picked_from(head: nn.Module | None) -> None:
    torch.manual_seed(0)
    module = CausalLM("unused")
    module.model = Headless(head, flat=head is not None)
    module.on_model_built()
    computed: list[torch.Size] = []
    module.model.head.register_forward_hook(lambda m, a, output: computed.append(output.shape))
    found = module.predictions(batch())
    assert computed == [(36, 100) if head is not None else (3, 12, 100)]
    logits = module.model(batch()["input_ids"], None, False).logits
    rows = [logits[row, place - 1] for row, place in (batch()["labels"] != -100).nonzero().tolist()]
    assert torch.equal(found.logits, torch.stack(rows))


def test_a_model_that_refuses_to_name_its_head_is_none_with_a_head() -> None:
    class Refusing(Headless):
        def get_output_embeddings(self) -> nn.Module | None:
            raise NotImplementedError

    module = CausalLM("unused")
    module.model = Refusing(None, flat=False)
    module.on_model_built()
    assert module.predictions(batch()).logits.shape == (9, 100)


def test_logits_of_another_length_are_an_error() -> None:
    responses = ResponseLogits(nn.Identity())
    index = torch.tensor([1, 2])
    with pytest.raises(ModelError, match=r"logits of shape \(2, 4, 7\) for tokens of shape \(2, 5\)"):
        responses.picked(torch.zeros(2, 4, 7), index, torch.Size((2, 5)))


def test_outside_of_a_step_all_logits_are_computed() -> None:
    module = tuner("llama")
    computed = watch(module.model)
    module.predictions(batch())
    module(batch())
    module.model.generate(input_ids=batch()["input_ids"][:, :3], max_new_tokens=2, eos_token_id=[])
    assert computed[:2] == [(1, 9, 100), (3, 12, 100)]
    assert {shape[0] for shape in computed[2:]} == {3}


def test_after_an_error_in_a_step_all_logits_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tuner("llama")
    computed = watch(module.model)
    with monkeypatch.context() as patch:
        patch.setattr(module.model, "forward", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            module.predictions(batch())
    module(batch())
    assert computed == [(3, 12, 100)]


@pytest.mark.parametrize("wanted", [False, True])
def test_the_routers_loss_is_added_where_the_config_asks_for_it(wanted: bool) -> None:
    module = tuner("mixtral", output_router_logits=wanted, router_aux_loss_coef=0.5)
    predictions = module.predictions(batch())
    expected = module.model(**batch(), use_cache=False).loss
    loss = mean_loss(predictions)
    assert (predictions.auxiliary is not None) == wanted
    if predictions.auxiliary is not None:
        assert predictions.auxiliary.item() > 0.1
        loss = loss + predictions.auxiliary
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_trained_loss_has_the_share_of_all_ranks_and_the_routers_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tuner("mixtral", output_router_logits=True, router_aux_loss_coef=0.5)
    module.trainer = SimpleNamespace(accumulate_grad_batches=2)  # type: ignore[assignment]
    monkeypatch.setattr("lightning_neft.models.finetuner.is_logging_step", lambda trainer: False)
    monkeypatch.setattr("lightning_neft.models.finetuner.replicas", lambda trainer: 3)
    predictions = module.predictions(batch())
    assert predictions.auxiliary is not None
    loss = module.training_step({**batch(), "step_share": torch.tensor(0.25)}, 0)
    # A quarter of the step's tokens, where two micro-batches of three ranks would have a sixth each.
    expected = 1.5 * mean_loss(predictions).item() + predictions.auxiliary.item()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
