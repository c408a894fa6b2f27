"""The loss without the logits of the batch: the same loss and gradients as the model's own, or the plain path."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_neft.errors import ModelError
from lightning_neft.models import blocked_loss
from lightning_neft.models.blocked_loss import Adjustment, HeadInput
from lightning_neft.models.head import OutputHead
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import mean_loss, token_scores
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
    "cohere": {**GROUPED, "logit_scale": 0.0625},
    # A bias in the head.
    "phi": SIZES,
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
    """Rows of 12, 7 and 4 tokens; the labels omit prompts and padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 90, (3, 12), generator=generator)
    mask = (torch.arange(12) < torch.tensor([12, 7, 4])[:, None]).long()
    trained = (mask == 1) & (torch.arange(12) >= torch.tensor([8, 5, 1])[:, None])
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(trained, ids, -100)}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tokens a block, of a vocabulary of 100."""
    monkeypatch.setattr(blocked_loss, "_BLOCK_BYTES", 4 * 4 * 100)


def check_same(module: CausalLM, is_linear: bool = True) -> None:
    """The module's loss and gradients, without logits, are those of the model's own loss."""
    expected = module.model(**batch(), use_cache=False).loss
    expected.backward()
    full = gradients(module.model)
    module.predictions(batch())
    computed = watch(module.model)
    predictions = module.predictions(batch())
    assert isinstance(predictions.logits, HeadInput)
    assert predictions.logits.is_linear == is_linear
    assert computed == [(1, 0, 100)]
    loss = mean_loss(predictions)
    loss.backward()
    part = gradients(module.model)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert part.keys() == full.keys()
    whole = torch.cat([gradient.flatten() for gradient in full.values()]).norm().item()
    off = {name: (part[name] - gradient).norm().item() for name, gradient in full.items()}
    assert torch.tensor(list(off.values())).norm().item() < 1e-6 * whole
    for name, gradient in full.items():  # some are 0 but for rounding
        assert off[name] < 5e-6 * gradient.norm().item() + 1e-7 * whole, name


def watch(model: Any) -> list[torch.Size]:
    """The shapes of what the head gives, a new one at each call."""
    shapes: list[torch.Size] = []
    head = model.get_output_embeddings()
    forward = head.forward

    def watched(*args: Any) -> Tensor:
        shapes.append((output := forward(*args)).shape)
        return output  # type: ignore[no-any-return]

    head.forward = watched
    return shapes


def adapted(module: CausalLM, **options: Any) -> CausalLM:
    """The module with adapters that are not 0 at first, which would hide the gradient of the other factor."""
    module.model = add_lora(module.model, LoraOptions(r=4, **options)).train()
    for name, parameter in module.model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    module.on_model_built()
    return module


# peft sets the option by itself, and what it says of a mixture's experts is about other versions of the model.
@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.filterwarnings(
    "ignore:The following (rank|alpha)_pattern keys did not match any targeted module:RuntimeWarning"
)
@pytest.mark.parametrize("how", ["full", "checkpointing", "lora", "lora and checkpointing"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_gradients_are_the_models_own(name: str, how: str) -> None:
    module = tuner(name)
    if "lora" in how:
        adapted(module)
    if "checkpointing" in how:
        enable = getattr(module.model, "activation_checkpointing_enable", module.model.gradient_checkpointing_enable)
        enable({"use_reentrant": False})
    check_same(module)


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapted_head_is_called_block_by_block(dora: bool) -> None:
    check_same(adapted(tuner("llama"), target_modules=["q_proj", "lm_head"], dora=dora), is_linear=False)


def test_so_is_a_head_that_peft_trains_as_a_whole() -> None:
    module = tuner("llama")
    module.model = add_lora(module.model, LoraOptions(r=4), new=["lm_head.weight"]).train()
    module.on_model_built()
    check_same(module, is_linear=False)


def test_a_frozen_head_has_no_gradient() -> None:
    module = tuner("llama")
    module.model.lm_head.requires_grad_(False)
    check_same(module)
    assert module.model.lm_head.weight.grad is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_a_compiled_model_has_one_graph_for_all_places(name: str) -> None:
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


class Unusual(nn.Module):
    """A model of a head alone; `kind` says what is unusual about it."""

    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace())

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.table, self.head, self.offset = nn.Embedding(100, 8), nn.Linear(8, 100), nn.Parameter(torch.zeros(100))

    def get_output_embeddings(self) -> nn.Module | None:
        if self.kind == "refuses":
            raise NotImplementedError
        return None if self.kind == "none" else self.head

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> Any:
        from transformers.modeling_outputs import CausalLMOutput

        states = self.table(input_ids)
        if self.kind == "flat":
            logits = self.head(states.flatten(0, 1)).unflatten(0, input_ids.shape)
        else:
            logits = self.head(states)
        if self.kind == "parameter":  # 0 at first: values alone would not show it
            logits = logits + self.offset
        if self.kind == "twice":
            logits = self.head(states)
        if self.kind == "unknown":
            logits = logits.sin()
        if self.kind == "indexed":
            logits[:, 0, :5] -= 1e9
        return CausalLMOutput(logits=logits)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("none", "names no output embedding"),
        ("refuses", "names no output embedding"),
        ("flat", "not those of its output embedding"),
        ("parameter", "has parameters behind its output embedding"),
        ("twice", "is called 2 times"),
        ("unknown", "not those of its output embedding"),
        ("indexed", "not those of its output embedding"),
        ("sharded", "is sharded"),
        ("other weight", "something else than its weight"),
    ],
)
def test_other_models_compute_logits_and_say_why(
    kind: str, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    module = CausalLM("unused")
    module.model = Unusual(kind)
    if kind == "sharded":
        monkeypatch.setattr(Tensor, "full_tensor", lambda self: self, raising=False)
    if kind == "other weight":
        monkeypatch.setattr(nn.Linear, "forward", lambda self, x: torch.nn.functional.linear(x, 2 * self.weight))
    module.on_model_built()
    with caplog.at_level("INFO"):
        found = module.predictions(batch())
        module.predictions(batch())
    assert [record.getMessage() for record in caplog.records if "at once" in record.getMessage()] == [
        f"The loss is computed from the logits of all trained tokens at once ({module.output_head.plan})."
    ]
    assert reason in str(module.output_head.plan)
    logits = module.model(batch()["input_ids"], None, False).logits
    rows = [logits[row, place - 1] for row, place in (batch()["labels"] != -100).nonzero().tolist()]
    assert isinstance(found.logits, Tensor)
    if kind != "indexed":  # with the picked places in one row, its first one is another
        assert torch.equal(found.logits, torch.stack(rows))


def test_an_error_of_the_check_leaves_the_plain_loss() -> None:
    module = tuner("llama")
    plain = module.forward

    def refusing(given: dict[str, Any]) -> Any:
        if len(given["input_ids"]) == 1:
            raise RuntimeError("not one row")
        return plain(given)

    module.forward = refusing  # type: ignore[method-assign]
    expected = module.model(**batch(), use_cache=False).loss.item()
    assert mean_loss(module.predictions(batch())).item() == pytest.approx(expected, rel=1e-6)
    assert module.output_head.plan == "RuntimeError: not one row"


def test_without_gradients_it_gives_losses_and_hits() -> None:
    module = tuner("gemma2")
    with torch.no_grad():
        predictions = module.predictions(batch())
        losses, hits = token_scores(predictions)
        output = module.model(**batch(), use_cache=False)
    assert mean_loss(predictions).item() == pytest.approx(output.loss.item(), rel=1e-6)
    assert losses.mean().item() == pytest.approx(output.loss.item(), rel=1e-6)
    trained = (batch()["labels"] != -100)[:, 1:]
    guesses = output.logits[:, :-1].argmax(-1)[trained]
    assert torch.equal(hits, guesses == batch()["labels"][:, 1:][trained])


def test_the_check_runs_once_and_moves_nothing() -> None:
    module = tuner("llama")
    module.model.model.layers[0].self_attn.train(False)
    modes = [part.training for part in module.model.modules()]
    calls: list[bool] = []
    module.model.model.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    state = torch.get_rng_state()
    for _ in range(2):
        module.predictions(batch())
    assert calls == [False, False, True, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in module.model.modules()] == modes
    assert isinstance(module.output_head.plan, HeadInput)
    assert module.output_head.plan.adjustment == Adjustment()


def test_logits_of_another_length_are_an_error() -> None:
    head = OutputHead(nn.Identity())
    with (
        head.at(torch.tensor([1, 2]), torch.zeros(2, 5)) as request,
        pytest.raises(ModelError, match=r"logits of shape \(2, 4, 7\) for tokens of shape \(2, 5\)"),
    ):
        head.taken(torch.zeros(2, 4, 7), request)


def test_outside_of_a_step_all_logits_are_computed() -> None:
    module = tuner("llama")
    module.predictions(batch())
    computed = watch(module.model)
    module.predictions(batch())
    module(batch())
    module.model.generate(input_ids=batch()["input_ids"][:, :3], max_new_tokens=2, eos_token_id=[])
    assert computed[:2] == [(1, 0, 100), (3, 12, 100)]
    assert {shape[0] for shape in computed[2:]} == {3}


def test_after_an_error_in_a_step_all_logits_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tuner("llama")
    module.predictions(batch())
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


def test_the_trained_loss_includes_the_loss_of_the_router(monkeypatch: pytest.MonkeyPatch) -> None:
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
