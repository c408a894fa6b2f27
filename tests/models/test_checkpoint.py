"""What checkpoints hold, which ones are refused, and that no file is ever there in part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from lightning_neft.errors import ModelError
from lightning_neft.models.checkpoint import check_description, check_weights, keep_trained
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.checkpoints import AtomicCheckpointIO
from models.words import fit

LORA = LoraOptions(r=2)


def trained(base: str, path: Path, **options: Any) -> CausalLM:
    module = CausalLM(base, learning_rate=0.1, warmup_ratio=0.0, **options)
    fit(module, 2).save_checkpoint(path)
    return module


def test_with_adapters_it_holds_these_alone_and_names_the_base(base: str, tmp_path: Path) -> None:
    full, small = tmp_path / "full.ckpt", tmp_path / "small.ckpt"
    trained(base, full)
    module = trained(base, small, lora=LORA)
    checkpoint = torch.load(small, weights_only=True)
    assert set(checkpoint["state_dict"]) == module.trained
    assert all(".lora_" in name for name in module.trained)
    described = {"base": base, "architecture": "LlamaForCausalLM", "adapters": True}
    assert described.items() <= checkpoint["lightning_neft"].items()
    whole = torch.load(full, weights_only=True)
    assert set(whole["state_dict"]) == set(CausalLM_names(base))
    assert not whole["lightning_neft"]["adapters"]


def CausalLM_names(base: str) -> list[str]:
    module = CausalLM(base)
    module.configure_model()
    return list(module.state_dict())


@pytest.mark.parametrize(
    "options", [{}, {"lora": LORA}, {"freeze": ["model.embed_tokens"]}, {"lora": LORA, "dtype": "auto"}]
)
def test_loading_gives_the_model_that_was_saved(base: str, tmp_path: Path, options: dict[str, Any]) -> None:
    module = trained(base, tmp_path / "c.ckpt", **options)
    loaded = CausalLM.load_from_checkpoint(tmp_path / "c.ckpt", base=base, weights_only=True, **options)
    assert module.state_dict().keys() == loaded.state_dict().keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    validated = CausalLM(base, **options)
    fit(validated, 2, ckpt_path=tmp_path / "c.ckpt")  # nothing is left to train
    for name, value in module.state_dict().items():
        assert torch.equal(value, validated.state_dict()[name]), name


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"lora": LORA}, "holds all weights of a model without adapters; omit model.lora"),
    ({"lora": LORA}, {}, "holds adapters only; give the model.lora options of its run"),
    (
        {"lora": LORA},
        {"lora": LoraOptions(r=3)},
        r"in another shape .*lora_A.default.weight \(2, 32\) instead of \(3, 32\)",
    ),
    (
        {"lora": LoraOptions(r=2, target_modules=["q_proj"])},
        {"lora": LORA},
        r"does not fit the model: it lacks .*lora_.*weight and 23 more; give the model.\* options of its run",
    ),
    ({"lora": LORA}, {"lora": LoraOptions(r=2, target_modules=["q_proj"])}, "it has unknown .*lora_"),
    ({"lora": LORA}, {"lora": LORA, "base": "tiny"}, "holds adapters for model.base=.*, but model.base=tiny is conf"),
    ({}, {"base": "tiny"}, "does not fit the model: it lacks model.model.layers.2.* and 17 more"),
]


@pytest.mark.parametrize(("saved", "loaded", "message"), REFUSED)
def test_a_checkpoint_of_another_model_is_refused_in_one_line(
    base: str, tmp_path: Path, saved: dict[str, Any], loaded: dict[str, Any], message: str
) -> None:
    trained(base, tmp_path / "c.ckpt", **saved)
    options = {"base": base, **loaded}
    with pytest.raises(ModelError, match=message) as caught:
        CausalLM.load_from_checkpoint(tmp_path / "c.ckpt", **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=message):
        fit(CausalLM(**options), 2, ckpt_path=tmp_path / "c.ckpt")


def test_a_checkpoint_of_another_architecture_is_refused() -> None:
    found = {"base": "gpt2", "architecture": "GPT2LMHeadModel", "adapters": False}
    expected = {"base": "tiny", "architecture": "LlamaForCausalLM", "adapters": False}
    with pytest.raises(
        ModelError, match=r"of a GPT2LMHeadModel \(model.base=gpt2\), but model.base=tiny gives a Llama"
    ):
        check_description(found, expected)
    check_description(None, expected)


@pytest.mark.parametrize("lora", [None, LORA])
def test_tokens_that_the_data_added_are_loaded_too(base: str, tmp_path: Path, lora: LoraOptions | None) -> None:
    module = CausalLM(base, lora=lora)
    module.special_tokens = ("<|turn|>",)
    fit(module, 2).save_checkpoint(tmp_path / "c.ckpt")
    loaded = CausalLM.load_from_checkpoint(tmp_path / "c.ckpt", base=base, lora=lora, weights_only=True)
    assert loaded.tokenizer().convert_tokens_to_ids("<|turn|>") == module.tokenizer().convert_tokens_to_ids("<|turn|>")
    for name, value in module.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name


def test_a_classifier_of_other_classes_is_refused() -> None:
    found = {"base": "a", "architecture": "L", "adapters": False, "labels": ["bad", "good"]}
    for same in (["bad", "good"], ["0", "1"], []):
        check_description(found, {**found, "labels": same})
    check_description({**found, "labels": None}, found)
    with pytest.raises(ModelError, match="classifier of bad, good, but the classes of the data are no, yes"):
        check_description(found, {**found, "labels": ["no", "yes"]})


def test_the_folder_of_an_adapters_base_may_have_moved() -> None:
    found = {"base": "meta-llama/Llama-2-7b-hf", "architecture": "L", "adapters": True}
    check_description(found, {**found, "base": "/models/Llama-2-7b-hf"})
    with pytest.raises(ModelError, match="give the base of the checkpoint"):
        check_description(found, {**found, "base": "/models/Llama-2-7b-chat-hf"})


def test_without_a_description_the_weights_decide(base: str, tmp_path: Path) -> None:
    trained(base, tmp_path / "c.ckpt")
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    del checkpoint["lightning_neft"]
    torch.save(checkpoint, tmp_path / "c.ckpt")
    CausalLM.load_from_checkpoint(tmp_path / "c.ckpt", base=base)
    del checkpoint["state_dict"]["model.lm_head.weight"]
    torch.save(checkpoint, tmp_path / "c.ckpt")
    with pytest.raises(ModelError, match=r"it lacks model\.lm_head\.weight; give"):
        CausalLM.load_from_checkpoint(tmp_path / "c.ckpt", base=base)


def test_shards_are_kept_whole() -> None:
    class Shard(torch.Tensor):
        def full_tensor(self) -> Tensor: ...

    weights: dict[str, Tensor] = {"frozen": torch.zeros(1), "trained": torch.zeros(1).as_subclass(Shard)}
    assert keep_trained(weights, {"trained"}) == weights
    plain = {name: value.as_subclass(Tensor) for name, value in weights.items()}
    assert list(keep_trained(plain, {"trained"})) == ["trained"]


def test_weights_that_fit_pass() -> None:
    check_weights({"a": torch.zeros(2)}, {"a": torch.ones(2), "b": torch.ones(1)}, ["a"])


class Stopped(Exception):
    """Stands for a run that is killed."""


@pytest.mark.parametrize("moment", ["write", "sync", "move"])
def test_a_run_killed_while_saving_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path, plugin = tmp_path / "sub" / "last.ckpt", AtomicCheckpointIO()
    plugin.save_checkpoint({"step": torch.tensor(1)}, path)
    save = torch.save

    def stop(*args: Any, **options: Any) -> None:
        if moment == "write":
            save({"half": torch.zeros(3)}, args[1])
        raise Stopped

    where = {"write": (torch, "save"), "sync": (os, "fsync"), "move": (Path, "replace")}[moment]
    monkeypatch.setattr(*where, stop)
    with pytest.raises(Stopped):
        plugin.save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(1)}
    assert list(path.parent.iterdir()) == [path]


def test_lightnings_callbacks_save_and_resume_through_it(base: str, tmp_path: Path) -> None:
    def run(folder: Path, ckpt_path: Path | None = None) -> dict[str, Tensor]:
        L.seed_everything(0)
        module = CausalLM(base, learning_rate=0.1, keep_eval=True)
        callback = ModelCheckpoint(folder, "best-{step}", monitor="val/loss", save_last=True)
        plugin = AtomicCheckpointIO()
        options = {"limit_val_batches": 2, "val_check_interval": 2, "enable_checkpointing": True, "plugins": [plugin]}
        fitted = fit(module, 4, ckpt_path=ckpt_path, callbacks=[callback], **options)
        assert fitted.strategy.checkpoint_io is plugin
        return module.state_dict()

    unbroken = run(tmp_path / "a")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names[-1] == "last.ckpt"
    assert names[0] in ("best-step=2.ckpt", "best-step=4.ckpt")
    stopped = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)
    assert stopped["global_step"] == 4
    assert all(torch.equal(stopped["state_dict"][name], value) for name, value in unbroken.items())


def test_object_stores_are_left_to_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(
        "lightning.fabric.plugins.TorchCheckpointIO.save_checkpoint",
        lambda self, checkpoint, path, options=None: saved.append(path),
    )
    AtomicCheckpointIO().save_checkpoint({}, "s3://bucket/last.ckpt")
    assert saved == ["s3://bucket/last.ckpt"]
