"""Each kind of adapters: resumed to the bit, loaded by plain peft, and merged to the model that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from lightning_neft.callbacks.step_checkpoint import StepCheckpoint
from lightning_neft.callbacks.step_seed import StepSeed
from lightning_neft.data.module import TextData
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.generation.sources import build_module, load_model
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.optimizer import build_optimizer
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.folder import export_model, save_model

KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "PiSSA": {"init_lora_weights": "pissa"},
    "fast PiSSA": {"init_lora_weights": "pissa_niter_2"},
    "PiSSA, rsLoRA": {"init_lora_weights": "pissa", "use_rslora": True},
    "OLoRA": {"init_lora_weights": "olora", "modules_to_save": ["input_layernorm"]},
    "whole head": {"modules_to_save": ["lm_head"]},
    "whole embedding": {"modules_to_save": ["embed_tokens"]},
    "first block": {"layers_to_transform": [0], "target_modules": ["q_proj", "up_proj"]},
    "LoRA+": {"loraplus_lr_ratio": 16.0},
}
IDS = torch.arange(3, 20)[None]


def options_of(kind: str) -> LoraOptions:
    return LoraOptions(**{"r": 4, "alpha": 8, **KINDS[kind]})


def fit(base: str, source: str, folder: Path, kind: str, ckpt_path: Path | None = None) -> CausalLM:
    L.seed_everything(1)
    model = CausalLM(base, lora=options_of(kind), learning_rate=0.05, warmup_ratio=0.0, dtype="float32")
    trainer = L.Trainer(
        callbacks=[StepSeed(), StepCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_steps=3,
    )
    trainer.fit(model, TextData(source, base, batch_size=2, val_size=1), ckpt_path=ckpt_path, weights_only=True)
    return model


def logits(model: Any) -> Tensor:
    model.eval()
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_adapters(base: str, source: str, tmp_path: Path, kind: str) -> None:
    module = fit(base, source, tmp_path / "run", kind)
    trained = module.state_dict()
    before = logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    expected = logits(module.model)
    assert (expected - before).abs().max() > 0.05

    # Resumed, from a state of PyTorch's random numbers that is another one.
    torch.rand(7)
    resumed = fit(base, source, tmp_path / "resumed", kind, tmp_path / "run" / "step=1.ckpt").state_dict()
    assert [name for name, value in trained.items() if not torch.equal(value, resumed[name])] == []

    # The folder, in plain peft, on the base as it is.
    save_model(module, tmp_path / "model")
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(tmp_path / "model")
    )
    torch.testing.assert_close(logits(plain), expected, rtol=0, atol=1e-4)

    # The checkpoint, loaded as export and generate do.
    other = CausalLM(base, lora=options_of(kind), dtype="float32")
    torch.rand(3)
    build_module(other, None, tmp_path / "run" / "step=3.ckpt")
    torch.testing.assert_close(logits(other.model), expected, rtol=0, atol=1e-5)

    # Exported from the folder, with plain transformers.
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.facts is not None
    export_model(
        loaded.model, loaded.tokenizer, loaded.facts, tmp_path / "export", name="x", config={}, run=None, results={}
    )
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "export", dtype=torch.float32)
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)


def test_another_beginning_than_the_checkpoints_is_refused(base: str, source: str, tmp_path: Path) -> None:
    fit(base, source, tmp_path / "run", "PiSSA")
    other = CausalLM(base, lora=options_of("LoRA"))
    with pytest.raises(ModelError, match="init_lora_weights=pissa, but true is configured"):
        build_module(other, None, tmp_path / "run" / "step=3.ckpt")


def test_the_adapters_b_learn_faster_with_lora_plus(base: str) -> None:
    module = CausalLM(base, lora=LoraOptions(r=2, modules_to_save=["input_layernorm"]))
    module.configure_model()
    optimizer = build_optimizer(module.model, "adamw_torch", 1e-4, 0.1, loraplus_lr_ratio=16.0)
    names = {id(parameter): name for name, parameter in module.model.named_parameters()}
    parts = ("lora_A", "lora_B", "modules_to_save")
    found = [
        ({part for p in group["params"] for part in names[id(p)].split(".") if part in parts}, group)
        for group in optimizer.param_groups
    ]
    assert [kind for kind, _ in found] == [{"lora_A"}, {"lora_B"}, {"modules_to_save"}]
    assert [group["lr"] for _, group in found] == pytest.approx([1e-4, 16e-4, 16e-4])
    assert [group["weight_decay"] for _, group in found] == [0.1, 0.1, 0.0]


@pytest.mark.parametrize(
    ("lora", "others", "expected"),
    [
        ({"init_lora_weights": "eva"}, {}, "=eva, which needs a pass over data .*; choose one of true, gaussian"),
        ({"init_lora_weights": "pisa"}, {}, "=pisa; choose one of true, gaussian, orthogonal, pissa"),
        ({"init_lora_weights": False}, {}, "=false; choose one of"),
        ({"init_lora_weights": "pissa", "dora": True}, {}, "=pissa cannot be combined with model.lora.dora"),
        ({"init_lora_weights": "olora"}, {"quantization": "nf4"}, "=olora cannot be .* model.quantization=nf4"),
        ({"loraplus_lr_ratio": 0.0}, {}, "loraplus_lr_ratio must be above 0, got 0.0"),
    ],
)
def test_options_that_are_refused_at_once(lora: dict[str, Any], others: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        CausalLM("nowhere", lora=LoraOptions(**lora), **others)


@pytest.mark.parametrize(
    ("lora", "expected"),
    [
        ({"layers_to_transform": [0]}, "model.lora: `layers_to_transform` cannot be used when `target_modules` is a"),
        ({"modules_to_save": ["lm_haed"]}, r"'lm_haed' is not a module of the model; did you mean lm_head\?"),
    ],
)
def test_options_that_do_not_fit_the_model(base: str, lora: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        CausalLM(base, lora=LoraOptions(**lora)).configure_model()
