"""Folders for `from_pretrained`: the same model comes back, and a folder is there whole or not at all."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lightning_neft import NEFTune
from lightning_neft.callbacks.model_folder import ModelFolder
from lightning_neft.data.module import TextData
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.models.description import read_description
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.sequence_classifier import SequenceClassifier
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.folder import save_model
from models.words import batch, fit
from tiny import Tuned, llama, loader, trainer

LORA = LoraOptions(r=2, target_modules=["q_proj", "v_proj"])


def trained(base: str, **options: Any) -> CausalLM:
    module = CausalLM(base, learning_rate=0.1, warmup_ratio=0.0, **options)
    fit(module, 2)
    return module


def logits(model: Any) -> Tensor:
    given = batch([7])
    with torch.no_grad():
        return model.eval()(input_ids=given["input_ids"]).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("freeze", [None, ["model.embed_tokens"]])
def test_all_weights_come_back(base: str, tmp_path: Path, freeze: list[str] | None) -> None:
    module = trained(base, freeze=freeze)
    save_model(module, tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(loaded), logits(module.model))
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("a b")["input_ids"] == module.tokenizer()("a b")["input_ids"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model.safetensors" in names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".md"))}


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_folder_records_how_its_model_was_trained(base: str, tmp_path: Path, lora: LoraOptions | None) -> None:
    module = CausalLM(base, lora=lora, learning_rate=0.1)
    module.recipe = "mine/toy"
    data = TextData("toy", base, template="vicuna", max_length=64, val_size=0, cache_dir=str(tmp_path / "cache"))
    fitted = trainer(max_steps=1, limit_val_batches=0, callbacks=[NEFTune(alpha=7), ModelFolder(str(tmp_path / "out"))])
    fitted.fit(module, datamodule=data)
    found = json.loads((tmp_path / "out" / "lightning_neft.json").read_text())
    assert found.pop("versions")["transformers"] == transformers.__version__
    assert found.pop("files") == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == {
        "format": 1,
        "base": base,
        "architecture": "LlamaForCausalLM",
        "task": "causal_lm",
        "template": "vicuna",
        "max_length": 64,
        "alpha": 7.0,
        "recipe": "mine/toy",
        "expanded_from": None,
        "dtype": "float32",
        "data": "toy",
        "labels": None,
    }
    assert read_description(tmp_path / "out").template == "vicuna"


@pytest.mark.parametrize("text", ["{", '{"format": 2}', '{"format": 1, "task": "x"}', '{"format": 1}', "[]"])
def test_broken_facts_are_reported_with_their_path(tmp_path: Path, text: str) -> None:
    assert read_description(tmp_path) is None
    (tmp_path / "lightning_neft.json").write_text(text)
    with pytest.raises(ModelError, match=rf"{tmp_path}/lightning_neft\.json .*--template$"):
        read_description(tmp_path)


def test_a_compiled_model_is_saved_as_any_other(base: str, tmp_path: Path) -> None:
    module = CausalLM(base, compile=True)
    save_model(module, tmp_path / "out")
    save_model(CausalLM(base), tmp_path / "plain")
    files = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("out", "plain")]
    assert files[0] == files[1]


def test_adapters_come_back_on_their_base(base: str, tmp_path: Path) -> None:
    module = trained(base, lora=LORA)
    save_model(module, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter_model.safetensors", "tokenizer.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".md")) or name == "model.safetensors"}
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(logits(loaded), logits(module.model))
    assert not torch.allclose(logits(loaded), logits(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)))


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
def test_new_rows_of_the_embedding_are_saved_with_the_adapters(base: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    module = trained(base, lora=LORA)
    module.has_new_tokens = True
    save_model(module, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert any("embed_tokens" in name for name in saved)
    assert any("lm_head" in name for name in saved)


@pytest.mark.parametrize("lora", [None, LORA])
def test_classifiers_come_back_with_their_head_and_names(
    classified: str, tmp_path: Path, lora: LoraOptions | None
) -> None:
    options = LoraOptions(r=2) if lora else None
    module = SequenceClassifier(classified, num_labels=3, lora=options, learning_rate=0.1, warmup_ratio=0.0)
    given = [{**batch([5, 5], n), "labels": torch.tensor([n % 3, 2])} for n in range(2)]
    fit(module, 2, DataLoader(given, batch_size=None))  # type: ignore[arg-type]
    save_model(module, tmp_path / "out")
    if lora is None:
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    else:
        loaded = AutoPeftModelForSequenceClassification.from_pretrained(
            tmp_path / "out", num_labels=3, dtype=torch.float32, pad_token_id=module.model.config.pad_token_id
        )
    # Not to the bit: where in memory the weights lie decides which kernel multiplies them.
    torch.testing.assert_close(logits(loaded), logits(module.model))
    if lora is None:
        assert all(torch.equal(value, module.model.state_dict()[name]) for name, value in loaded.state_dict().items())
        assert loaded.config.id2label == {0: "0", 1: "1", 2: "2"}


@pytest.mark.parametrize("lora", [None, LORA])
def test_a_checkpoints_weights_are_written_and_the_models_stay(
    base: str, tmp_path: Path, lora: LoraOptions | None
) -> None:
    first = trained(base, lora=lora)
    first.trainer.save_checkpoint(tmp_path / "c.ckpt")
    other = CausalLM(base, lora=lora)
    other.configure_model()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    save_model(other, tmp_path / "out", tmp_path / "c.ckpt")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    automatic = AutoModelForCausalLM if lora is None else AutoPeftModelForCausalLM
    loaded = automatic.from_pretrained(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(logits(loaded), logits(first.model))
    with pytest.raises(ModelError, match=r"model\.lora"):
        save_model(CausalLM(base, lora=None if lora else LORA), tmp_path / "out", tmp_path / "c.ckpt")


def test_a_folder_is_replaced_whole_or_not_at_all(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[str], None]
) -> None:
    module, folder = CausalLM(base), tmp_path / "runs" / "out"
    folder.mkdir(parents=True)
    (folder / "old.txt").write_text("old")
    with pytest.raises(ConfigError, match=rf"{folder} .*lightning_neft\.json") as caught:
        save_model(module, folder)
    snapshot(str(caught.value))
    (folder / "lightning_neft.json").write_text("{}")
    tokenizer = module.tokenizer()
    with monkeypatch.context() as patch:
        patch.setattr(module, "tokenizer", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_model(module, folder)
        assert [path.name for path in folder.parent.iterdir()] == ["out"]
        assert (folder / "old.txt").read_text() == "old"
    save_model(module, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert not (folder / "old.txt").exists()
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == tokenizer.get_vocab()


def test_a_template_from_a_file_is_that_of_the_folder(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = CausalLM(base)
    own, given = module.tokenizer().chat_template, "{{ messages[0].content }}"
    monkeypatch.setattr("lightning_neft.saving.folder._template_of_file", lambda _: given)
    save_model(module, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == given
    assert module.tokenizer().chat_template == own != given


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_end_of_a_fit_leaves_the_best_checkpoint(base: str, tmp_path: Path, lora: LoraOptions | None) -> None:
    losses = iter([3.0, 1.0, 2.0])
    kept: dict[str, Any] = {}

    class Scored(CausalLM):
        def computed_metrics(self) -> dict[str, Tensor]:
            return {**super().computed_metrics(), "loss": torch.tensor(next(losses))}

        def on_train_batch_end(self, *_: Any) -> None:
            kept[f"step={self.trainer.global_step}"] = {n: v.clone() for n, v in self.state_dict().items()}

    logger = CSVLogger(tmp_path, name="run")
    checkpoint = ModelCheckpoint(filename="{step}", monitor="val/loss", mode="min")
    options = {"limit_val_batches": 1, "val_check_interval": 2, "enable_checkpointing": True, "num_sanity_val_steps": 0}
    module = Scored(base, lora, learning_rate=0.1)
    fit(module, 6, callbacks=[checkpoint, ModelFolder()], logger=logger, **options)
    assert Path(checkpoint.best_model_path).stem == "step=4"
    folder = Path(logger.log_dir) / "model"
    automatic = AutoModelForCausalLM if lora is None else AutoPeftModelForCausalLM
    loaded = automatic.from_pretrained(folder, dtype=torch.float32)
    module.load_state_dict(kept["step=4"])
    torch.testing.assert_close(logits(loaded), logits(module.model))


def test_without_checkpoints_it_leaves_the_last_weights(base: str, tmp_path: Path) -> None:
    module = CausalLM(base, learning_rate=0.1)
    fit(module, 2, callbacks=[ModelFolder(str(tmp_path / "mine"))])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    torch.testing.assert_close(logits(loaded), logits(module.model))


def test_what_cannot_be_read_does_not_end_a_finished_run(
    base: str, tmp_path: Path, snapshot: Callable[[str], None]
) -> None:
    class Odd(ModelCheckpoint):
        def on_fit_end(self, *_: Any) -> None: ...

        def on_train_end(self, *_: Any) -> None:
            self.best_model_path = str(tmp_path)  # a folder that no strategy wrote

    options = {"enable_checkpointing": True, "callbacks": [Odd(), ModelFolder(str(tmp_path / "mine"))]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(CausalLM(base), 1, default_root_dir=tmp_path, **options)
    (line,) = [str(warning.message) for warning in caught if str(tmp_path) in str(warning.message)]
    assert "\n" not in line
    snapshot(line.partition(str(tmp_path))[0])
    assert not (tmp_path / "mine").exists()


def test_a_foreign_folder_ends_the_fit_before_its_first_step(base: str, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("x")
    module = CausalLM(base)
    with pytest.raises(ConfigError, match=r"lightning_neft\.json"):
        fit(module, 1, callbacks=[ModelFolder(str(tmp_path))])
    assert module.trainer.global_step == 0
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_other_modules_are_refused(snapshot: Callable[[str], None]) -> None:
    with pytest.raises(ConfigError, match=r"ModelFolder .*Tuned") as caught:
        trainer(callbacks=[ModelFolder()]).fit(Tuned(llama()), loader())
    snapshot(str(caught.value))
