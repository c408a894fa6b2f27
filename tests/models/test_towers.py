"""Text data on vision-language bases: the text model is trained, towers and projectors stay as they are."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForSequenceClassification

from lightning_neft import NEFTune
from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.errors import ConfigError
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.memory import Run, estimate
from lightning_neft.models.step_trace import Batch
from lightning_neft.models.towers import towers
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.noise.embedding import find_embeddings
from models.words import fit
from ranks import run_ranks
from vision_bases import FAMILIES, TOWERS, layout, save_base, tensors

PREFIXES = {name: tuple(f"model.{tower}." for tower in towers) for name, towers in TOWERS.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_trains_the_text_model_alone(family: str, tmp_path: Path) -> None:
    module = CausalLM(save_base(family, tmp_path / "base"), learning_rate=0.1, warmup_ratio=0.0)
    module.configure_model()
    before = {name: value.clone() for name, value in module.named_parameters()}
    trained = fit(module, 1, callbacks=[NEFTune(alpha=5)])
    assert module.towers == TOWERS[family]
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith(PREFIXES[family])}
    optimised = {id(p) for group in trained.optimizers[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for name, p in module.named_parameters() if not name.startswith(PREFIXES[family])}
    assert [found.name for found in find_embeddings(module)] == [f"model.{FAMILIES[family].expected[0]}"]


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_stay_out_of_the_towers(family: str, tmp_path: Path) -> None:
    module = CausalLM(save_base(family, tmp_path / "base"), LoraOptions(r=2))
    fit(module, 1)
    text = FAMILIES[family].expected[0].removesuffix("embed_tokens")
    assert module.trained
    assert all(name.startswith(f"model.base_model.model.{text}") for name in module.trained)


def test_adapters_for_towers_alone_are_refused(tmp_path: Path) -> None:
    module = CausalLM(save_base("Gemma 3", tmp_path / "base"), LoraOptions(target_modules=r".*vision_tower.*q_proj"))
    with pytest.raises(ConfigError, match=r"^model\.lora: .*excluded"):
        module.configure_model()


def test_a_line_names_the_frozen_towers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = CausalLM(save_base("Gemma 3", tmp_path / "base"))
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        module.configure_model()
    count = sum(p.numel() for p in module.parameters() if not p.requires_grad)
    (line,) = [line for line in caplog.messages if "vision" in line]
    expected = f"frozen model.vision_tower, model.multi_modal_projector ({count:,} parameters)"
    assert line == f"vision-language base, trained on text alone: {expected}"


@pytest.mark.parametrize("lora", [None, LoraOptions(r=2)])
def test_the_estimate_counts_what_is_trained(tmp_path: Path, lora: LoraOptions | None) -> None:
    base = save_base("Gemma 4", tmp_path / "base")
    module = CausalLM(base, lora)
    found = estimate(module, AutoConfig.from_pretrained(base), Run(Batch(rows=2, length=8, trained=4)))
    module.configure_model()
    assert found.parameters == sum(p.numel() for p in module.parameters())
    assert found.gradients == 4 * sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_many_blocks_are_estimated_from_few(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(save_base("Gemma 3", tmp_path / "base"))
    config.text_config.num_hidden_layers = 12
    config.text_config.layer_types = config.text_config.layer_types * 6
    module, run = CausalLM(str(tmp_path / "base")), Run(Batch(rows=2, length=8, trained=4))
    found = estimate(module, copy.deepcopy(config), run)
    with torch.device("meta"):
        assert found.parameters == AutoModelForImageTextToText.from_config(config).num_parameters()


def test_the_head_of_a_classifier_is_no_tower(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(save_base("Gemma 3", tmp_path / "base"), num_labels=3)
    model = AutoModelForSequenceClassification.from_config(config)
    assert towers(model) == TOWERS["Gemma 3"]


def _train(base: str, folder: Path) -> None:
    module = CausalLM(base, learning_rate=0.1, warmup_ratio=0.0)
    # Without a search for parameters that were not used, which are an error then.
    strategy = DDPStrategy(find_unused_parameters=False)
    callbacks = [NEFTune(alpha=5), ModelFolder(str(folder / "model"))]
    fit(module, 2, devices=2, strategy=strategy, callbacks=callbacks, use_distributed_sampler=False)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["Gemma 3", "Gemma 4", "Qwen3.5"])
def test_two_processes_train_and_leave_a_whole_folder(family: str, tmp_path: Path) -> None:
    base = save_base(family, tmp_path / "base")
    run_ranks(lambda: _train(base, tmp_path), tmp_path)
    assert layout(tensors(tmp_path / "model")) == layout(tensors(base))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("family", ["Gemma 3", "Qwen3.5"])
def test_a_resumed_run_ends_with_the_same_bits(family: str, tmp_path: Path) -> None:
    base = save_base(family, tmp_path / "base")
    weights = []
    for folder, ckpt_path in (("a", None), ("b", tmp_path / "a" / "step=2.ckpt")):
        module = CausalLM(base, learning_rate=0.1)
        kept = ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=2, save_top_k=-1)
        callbacks = [NEFTune(alpha=5), kept]
        fit(module, 4, ckpt_path=ckpt_path, callbacks=callbacks, enable_checkpointing=True)
        weights.append({name: value.clone() for name, value in module.state_dict().items()})
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
