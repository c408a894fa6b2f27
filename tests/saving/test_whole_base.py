"""Model folders of vision-language bases have every tensor of the base, for transformers and other programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from lightning_neft.errors import ModelError
from lightning_neft.generation.sources import load_model
from lightning_neft.models.description import ModelDescription
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.folder import export_model, save_model
from models.words import fit
from vision_bases import FAMILIES, NOT_LOADED, TOWERS, layout, save_base, tensors


def trained(base: str, lora: LoraOptions | None = None) -> CausalLM:
    module = CausalLM(base, lora, learning_rate=0.1, warmup_ratio=0.0)
    fit(module, 1)
    return module


def export(folder: Path, output: Path, **options: Any) -> None:
    loaded = load_model(str(folder))
    facts = loaded.facts
    assert facts is not None
    export_model(loaded.model, loaded.tokenizer, facts, output, name="x", config={}, run=None, results={}, **options)


def check_reloads(folder: Path, module: CausalLM) -> None:
    """The folder loads with nothing missing or left over, as the trained weights, rounded."""
    loaded, report = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(report.values())
    own = module.model.state_dict()
    assert own.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, own[name].bfloat16().float()) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_has_each_tensor_of_its_base(family: str, tmp_path: Path) -> None:
    base, folder = save_base(family, tmp_path / "base"), tmp_path / "out"
    module = trained(base)
    save_model(module, folder)
    before, after = tensors(base), tensors(folder)
    assert layout(after) == layout(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    levels = {tower.rpartition(".")[2] for tower in TOWERS[family]}
    assert not {name for name in changed if not levels.isdisjoint(name.split("."))}
    assert len(changed) == sum(parameter.requires_grad for parameter in module.parameters())
    for name in ("config.json", "preprocessor_config.json"):
        assert json.loads((folder / name).read_text()) == json.loads((tmp_path / "base" / name).read_text())
    check_reloads(folder, module)


@pytest.mark.parametrize("family", ["Gemma 3", "Qwen3.5", "SmolVLM"])
def test_merged_adapters_give_each_tensor_too(family: str, tmp_path: Path) -> None:
    base = save_base(family, tmp_path / "base")
    module = trained(base, LoraOptions(r=2))
    save_model(module, tmp_path / "adapters")
    assert not tensors(tmp_path / "adapters")
    export(tmp_path / "adapters", tmp_path / "out")
    before, after = tensors(base), tensors(tmp_path / "out")
    assert layout(after) == layout(before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    module.model = module.model.merge_and_unload()
    check_reloads(tmp_path / "out", module)


def test_a_folder_is_exported_in_another_dtype(tmp_path: Path) -> None:
    base = save_base("Gemma 3", tmp_path / "base")
    save_model(trained(base), tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out", dtype="float16")
    before, after = tensors(base), tensors(tmp_path / "out")
    assert layout(after) == {name: (torch.float16, value.shape) for name, value in before.items()}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert AutoModelForImageTextToText.from_pretrained(tmp_path / "out").dtype is torch.float16


def test_what_transformers_does_not_load_is_copied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, snapshot: Callable[[str], None]
) -> None:
    extra = torch.arange(6.0).view(2, 3)
    base = save_base("Qwen3.5", tmp_path / "base", **{NOT_LOADED: extra, "mtp.norm.weight": torch.ones(3)})
    module = trained(base)
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        save_model(module, tmp_path / "out")
    found = tensors(tmp_path / "out")
    assert layout(found) == layout(tensors(base))
    assert torch.equal(found[NOT_LOADED], extra)
    lines = [line for line in caplog.messages if line.startswith("model folder")]
    assert NOT_LOADED in lines[0]
    snapshot("\n".join(lines))


def test_tied_weights_are_written_where_the_base_has_them(tmp_path: Path) -> None:
    base = save_base("Gemma 3", tmp_path / "base")
    table = next(value for name, value in tensors(base).items() if name.endswith("embed_tokens.weight"))
    file = Path(base) / "model.safetensors"
    save_file({**load_file(file), "language_model.lm_head.weight": table.clone()}, file, metadata={"format": "pt"})
    module = trained(base)
    save_model(module, tmp_path / "out")
    found = tensors(tmp_path / "out")
    assert layout(found) == layout(tensors(base))
    assert torch.equal(found["language_model.lm_head.weight"], found["language_model.model.embed_tokens.weight"])
    assert not torch.equal(found["language_model.lm_head.weight"], table)


def test_files_and_keys_of_a_newer_layout_stay(tmp_path: Path) -> None:
    """As transformers names them, in several files, some in float32."""
    base = Path(save_base("Gemma 3", tmp_path / "base"))
    model = AutoModelForImageTextToText.from_pretrained(base)
    (base / "model.safetensors").unlink()
    model.model.language_model.norm.weight.data = model.model.language_model.norm.weight.data.float()
    model.save_pretrained(base, save_original_format=False, max_shard_size="60KB")
    files = sorted(path.name for path in base.glob("model*"))
    assert len(files) > 2
    module = trained(str(base))
    save_model(module, tmp_path / "out")
    found = tensors(tmp_path / "out")
    assert "model.language_model.norm.weight" in found
    assert layout(found) == layout(tensors(base))
    assert sorted(path.name for path in (tmp_path / "out").glob("model*")) == files
    indices = [json.loads((one / "model.safetensors.index.json").read_text()) for one in (base, tmp_path / "out")]
    assert indices[0]["weight_map"] == indices[1]["weight_map"]


def test_new_tokens_add_rows(tmp_path: Path) -> None:
    base = save_base("Mistral Small 3", tmp_path / "base")
    module = CausalLM(base)
    module.configure_model()
    module.model.resize_token_embeddings(120, mean_resizing=False)
    save_model(module, tmp_path / "out")
    before, after = layout(tensors(base)), layout(tensors(tmp_path / "out"))
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
    }
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert loaded.get_input_embeddings().weight.shape[0] == loaded.get_output_embeddings().weight.shape[0] == 120


def test_a_base_without_safetensors_is_an_error(tmp_path: Path, snapshot: Callable[[str], None]) -> None:
    module = CausalLM(save_base("SmolVLM", tmp_path / "base"))
    module.configure_model()
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "other.safetensors")
    with pytest.raises(ModelError, match=r"base' has no weights in safetensors") as caught:
        save_model(module, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    snapshot(str(caught.value))


def test_trained_tensors_are_never_copied_untrained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[str], None]
) -> None:
    base = save_base("SmolVLM", tmp_path / "base")
    module = CausalLM(base)
    module.configure_model()

    def renamed(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
        return {f"other.{name}": value for name, value in weights.items()}

    monkeypatch.setattr("transformers.core_model_loading.revert_weight_conversion", renamed)
    with pytest.raises(ModelError, match=r"save_pretrained") as caught:
        save_model(module, tmp_path / "out")
    snapshot(str(caught.value))


def test_a_processor_keeps_its_place_and_a_missing_one_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = CausalLM(save_base("SmolVLM", tmp_path / "base"))
    (tmp_path / "base" / "preprocessor_config.json").unlink()
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        save_model(module, tmp_path / "out")
    assert any("has no preprocessor_config.json" in line for line in caplog.messages)


def test_facts_name_the_class_of_the_base(tmp_path: Path) -> None:
    module = CausalLM(save_base("Qwen3.5", tmp_path / "base"))
    module.configure_model()
    facts = ModelDescription.of(module.description())
    assert (facts.architecture, facts.task) == ("Qwen3_5ForConditionalGeneration", "causal_lm")
