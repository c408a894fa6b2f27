"""How the model is built: dtype, adapters, freezing, checkpointing of activations, compilation, modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from torch import Tensor, nn
from transformers import AutoModel

from lightning_neft import NEFTune
from lightning_neft.data.module import TextData
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.models import pretrained
from lightning_neft.models import weights as quantization
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import mean_loss
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.models.weights import load_weights
from models.words import batch, fit
from tiny import trainer


def built(base: str, **options: Any) -> CausalLM:
    module = CausalLM(base, **options)
    module.configure_model()
    return module


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.float32),
        ("auto", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        ("float32", torch.float32),
    ],
)
def test_weights_have_the_dtype_that_is_asked_for(base: str, dtype: Any, expected: torch.dtype) -> None:
    assert {parameter.dtype for parameter in built(base, dtype=dtype).parameters()} == {expected}


def test_adapters_of_half_precision_weights_are_float32(base: str) -> None:
    module = built(base, dtype="auto", lora=LoraOptions(r=2))
    trained = {parameter.dtype for parameter in module.parameters() if parameter.requires_grad}
    frozen = {parameter.dtype for parameter in module.parameters() if not parameter.requires_grad}
    assert (trained, frozen) == ({torch.float32}, {torch.bfloat16})


def test_the_tokenizer_is_loaded_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Any] = []

    def load(*args: Any) -> Any:
        loaded.append(load_tokenizer(*args))
        return loaded[-1]

    monkeypatch.setattr(pretrained, "load_tokenizer", load)
    module = built(base)
    for _ in range(2):
        module.generate(["a b"], max_new_tokens=1)
    assert loaded == [module.tokenizer()]
    # Tokens of a template belong to it.
    module.special_tokens = ("<new>",)
    assert module.tokenizer()("<new>", add_special_tokens=False)["input_ids"] == [len(loaded[0])]
    assert loaded == [loaded[0], module.tokenizer()]


@pytest.mark.parametrize(
    ("dtype", "precision", "fits"),
    [
        ("float32", "bf16-true", False),
        ("auto", "16-true", False),
        ("auto", "bf16-true", True),
        ("bfloat16", "32-true", True),
        ("float32", "bf16-mixed", True),
    ],
)
def test_a_dtype_that_the_trainer_would_convert_is_refused(base: str, dtype: Any, precision: Any, fits: bool) -> None:
    module = CausalLM(base, dtype=dtype)
    if fits:
        fit(module, precision=precision, max_steps=1)
        assert module.model.dtype == (torch.float32 if dtype == "float32" else torch.bfloat16)
        return
    with pytest.raises(ConfigError, match=rf"model.dtype={dtype} .* trainer.precision={precision} would convert them"):
        fit(module, precision=precision, max_steps=1)


def test_dora_adapts_magnitudes_too(base: str) -> None:
    module = built(base, lora=LoraOptions(r=2, dora=True))
    kinds = {name.split(".lora_")[1].split(".")[0] for name in module.trained}
    assert kinds == {"A", "B", "magnitude_vector"}


def unfrozen(module: nn.Module) -> set[str]:
    return {name.removeprefix("model.") for name, parameter in module.named_parameters() if parameter.requires_grad}


LAYER_0 = "model.layers.0"


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["model.embed_tokens"], lambda name: name == "model.embed_tokens.weight"),
        (["lm_head.weight"], lambda name: name == "lm_head.weight"),
        ([LAYER_0], lambda name: name.startswith(LAYER_0)),
        ([r".*norm.*"], lambda name: "norm" in name),
        ([r"model\.layers\.[01]\.mlp\..*", "model.norm"], lambda name: ".mlp." in name or name == "model.norm.weight"),
    ],
)
def test_freezing_by_name_module_or_expression(base: str, patterns: list[str], frozen: Any) -> None:
    everything = unfrozen(built(base))
    module = built(base, freeze=patterns, learning_rate=0.1, warmup_ratio=0.0)
    expected = {name for name in everything if not frozen(name)}
    assert 0 < len(expected) < len(everything)
    assert unfrozen(module) == expected
    before = {name: value.clone() for name, value in module.named_parameters()}
    fit(module, 2)
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {f"model.{name}" for name in expected}


def test_a_tied_weight_is_frozen_under_both_names() -> None:
    for name in ("lm_head", "model.embed_tokens"):
        module = built("tiny", freeze=[name])
        assert module.model.lm_head.weight is module.model.model.embed_tokens.weight
        assert not module.model.lm_head.weight.requires_grad


def test_adapters_can_be_frozen_too(base: str) -> None:
    module = built(base, lora=LoraOptions(r=2), freeze=[LAYER_0])
    assert module.trained
    assert all(".layers.1." in name for name in module.trained)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["model.embed_token"], "'model.embed_token' matches no parameter; the nearest names are model.embed_tokens"),
        (["model.layers.1", "model.layers.7"], "'model.layers.7' matches no parameter; the nearest names are model.la"),
        (["zzzzz"], "'zzzzz' matches no parameter; names begin with model, lm_head"),
        (["*"], r"'\*' is neither a name nor a regular expression"),
        ([".*"], r"model.freeze=\['.\*'\] freezes all parameters"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(base: str, patterns: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(base, freeze=patterns)


def recomputed(module: CausalLM, given: dict[str, Tensor]) -> tuple[float, int, dict[str, Tensor]]:
    """Loss, how often the first block ran in forward and backward pass, and the gradients."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    layers = next(part for name, part in module.named_modules() if name.endswith("layers"))
    with layers[0].input_layernorm.register_forward_hook(count):
        loss = mean_loss(module.predictions(given))
        loss.backward()
    return loss.item(), calls, {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", [True, "selective"])
@pytest.mark.parametrize("lora", [None, LoraOptions(r=2), LoraOptions(r=2, dora=True)])
def test_checkpointing_of_activations_changes_no_gradient(base: str, lora: LoraOptions | None, kind: Any) -> None:
    plain, saving = built(base, lora=lora), built(base, lora=lora, gradient_checkpointing=kind)
    saving.load_state_dict(plain.state_dict())
    given, found = batch([9, 5]), []
    for module in (plain, saving):
        torch.manual_seed(1)  # of the dropout
        found.append(recomputed(module, given))
    (loss, calls, gradients), (other_loss, other_calls, other_gradients) = found
    assert other_calls == calls + 1
    assert loss == other_loss
    assert gradients.keys() == other_gradients.keys() == plain.trained
    assert all(torch.equal(gradients[name], other_gradients[name]) for name in gradients)


def test_a_frozen_embedding_and_checkpointing_train_the_rest(base: str) -> None:
    """As with LoRA nothing that enters a block requires a gradient."""
    module = built(base, freeze=["model.embed_tokens"], gradient_checkpointing=True)
    _, _, gradients = recomputed(module, batch([9, 5]))
    assert gradients.keys() == module.trained
    assert all(gradient.any() for gradient in gradients.values())


# The compiler looks at the gradient of a block's input.
of_compiler = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@of_compiler
@pytest.mark.slow
def test_a_compiled_model_trains_as_an_eager_one(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, compile_ = [], nn.Module.compile
    # Without the compiler of C++ behind it, which takes a minute.
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compile_(self, backend="aot_eager", **options))
    for is_compiled in (False, True):
        torch._dynamo.reset()
        # Dropout draws other numbers in compiled code.
        module = built(base, compile=is_compiled, keep_eval=True, learning_rate=0.01)
        trained = fit(module, 6, callbacks=[NEFTune(alpha=5)])
        assert trained.global_step == 6
        weights.append(module.state_dict())
    torch._dynamo.reset()
    plain, compiled = weights
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


@of_compiler
@pytest.mark.parametrize("checkpointing", [False, True])
def test_equal_blocks_of_all_lengths_share_their_code(base: str, checkpointing: bool, monkeypatch: Any) -> None:
    graphs, compile_ = 0, nn.Module.compile

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compile_(self, backend=backend, **options))
    torch._dynamo.reset()
    module, plain = built(base, compile=True, gradient_checkpointing=checkpointing), built(base)
    assert sum(part._compiled_call_impl is not None for part in module.modules()) == 2
    for part in [*module.modules(), *plain.modules()]:
        if hasattr(part, "attention_dropout"):  # draws other numbers in compiled code
            part.attention_dropout = 0.0
    for lengths in ([9, 5], [7, 7], [30, 12, 3], [4, 2]):
        given = batch(lengths)
        loss, expected = (mean_loss(one.predictions(given)) for one in (module, plain))
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
        loss.backward()
    torch._dynamo.reset()
    # One graph with padding, which a mask hides, and one without; not one for each block or length.
    assert graphs <= 2


def test_a_compiled_model_generates_without_recompiling(base: str) -> None:
    module, count = built(base), 0

    def backend(graph: Any, inputs: Any) -> Any:
        nonlocal count
        count += 1
        return graph.forward

    module.model.compile(backend=backend)
    assert module.generate(["a b", "c"], max_new_tokens=3) == built(base).generate(["a b", "c"], max_new_tokens=3)
    assert count == 0
    torch._dynamo.reset()


def test_eval_mode_can_be_kept(base: str) -> None:
    seen: set[bool] = set()

    class Watched(CausalLM):
        def training_step(self, given: dict[str, Tensor], batch_idx: int) -> Tensor:
            seen.update(part.training for part in self.model.modules())
            return super().training_step(given, batch_idx)

    fit(Watched(base, keep_eval=True), 2, limit_val_batches=1, val_check_interval=1)
    assert seen == {False}


def test_weights_that_the_base_lacks_are_named(base: str, tmp_path: Path) -> None:
    headless = AutoModel.from_pretrained(base)
    headless.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="lacks weights of a LlamaForCausalLM, which begin at random: lm_head.weight"):
        built(str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "nf4"}, "model.quantization=nf4 needs model.lora"),
        ({"gradient_checkpointing": True, "keep_eval": True}, "model.gradient_checkpointing needs train mode"),
        ({"gradient_checkpointing": "selective", "compile": True}, "selective does not go with model.compile"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CausalLM(**options)


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], r"needs bitsandbytes and accelerate: pip install 'lightning-neft\[qlora\]'"),
        (["accelerate"], "needs bitsandbytes: pip install"),
        (["accelerate", "bitsandbytes"], "needs a CUDA device, torch finds none"),
    ],
)
def test_what_4_bit_weights_need_is_named(
    base: str, present: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: object() if name in present else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        built(base, quantization="nf4", lora=LoraOptions())


def test_4_bit_weights_are_those_of_the_qlora_paper(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    given: dict[str, Any] = {}

    def load(path: str, **options: Any) -> tuple[nn.Module, dict[str, set[str]]]:
        given.update(options)
        return nn.ModuleDict({"norm": nn.LayerNorm(2).to(torch.bfloat16)}), {
            "missing_keys": set(),
            "mismatched_keys": set(),
        }

    monkeypatch.setattr("lightning_neft.models.weights.check_quantization", lambda: None)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", load)
    model, _ = load_weights("AutoModelForCausalLM", base, quantization="nf4")
    config = given["quantization_config"]
    assert config.quantization_method() == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    # What is not quantised is kept in float32, and nothing but adapters is trained.
    assert {(parameter.dtype, parameter.requires_grad) for parameter in model.parameters()} == {(torch.float32, False)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, torch finds none")
def test_adapters_on_4_bit_weights_train(base: str) -> None:
    pytest.importorskip("bitsandbytes")
    module = CausalLM(base, quantization="nf4", lora=LoraOptions(r=2), learning_rate=0.01, warmup_ratio=0.0)
    fit(module, 4, accelerator="gpu", devices=1, precision="bf16-mixed", callbacks=[NEFTune(alpha=5)])
    classes = {type(parameter).__name__ for parameter in module.parameters() if not parameter.requires_grad}
    assert "Params4bit" in classes
    assert all(parameter.any() for name, parameter in module.named_parameters() if "lora_B" in name)


def test_a_model_built_before_its_data_lacks_what_they_add(base: str, source: str, tmp_path: Path) -> None:
    options = {"source": source, "tokenizer": base, "val_size": 2, "cache_dir": str(tmp_path)}
    module = CausalLM(base)
    module.configure_model()
    trainer(max_steps=1).fit(module, datamodule=TextData(**options, template="alpaca"))
    with pytest.raises(ModelError, match=r"built without rows for <\|im_start\|>, <\|im_end\|>"):
        trainer(max_steps=1).fit(module, datamodule=TextData(**options, template="chatml"))


def test_averaging_that_would_average_nothing_is_refused(base: str) -> None:
    with pytest.raises(ConfigError, match="would average nothing; use EMAWeightAveraging"):
        fit(CausalLM(base), 1, callbacks=[StochasticWeightAveraging(swa_lrs=1e-3)])


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model that overrides")
def test_averaged_weights_are_those_of_the_fit() -> None:
    module = CausalLM("tiny", learning_rate=0.1, warmup_ratio=0.0, lr_scheduler="constant")
    fit(module, 2, callbacks=[EMAWeightAveraging(decay=0.0)])
    other = CausalLM("tiny", learning_rate=0.1, warmup_ratio=0.0, lr_scheduler="constant")
    fit(other, 2)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, msg=name)
