"""Exported folders of models other than the tiny one: encoder-decoders, tied embeddings, sharded checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lightning_neft.cli.main import main
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.generation.sources import open_answerer
from lightning_neft.models.language_models import Seq2SeqLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.folder import save_model
from models.test_parallel import run
from models.words import batch, fit


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Logits are the same to 1e-4 of the largest one: merged adapters are summed in another order."""
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("lora", [None, LoraOptions(r=2)])
def test_an_encoder_decoder_is_loaded_by_transformers(
    encoder_decoder: str, tmp_path: Path, lora: LoraOptions | None
) -> None:
    module = Seq2SeqLM(encoder_decoder, lora=lora, learning_rate=0.05, warmup_ratio=0.0)
    fit(module, 2)
    save_model(module, tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model"), f"--output={tmp_path / 'out'}", "--template=plain"]) == 0
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    given = {**batch([7]), "decoder_input_ids": torch.tensor([[1, 4, 5, 6]])}
    given.pop("labels")
    with torch.no_grad():
        assert_close(loaded(**given).logits, module.model.eval()(**given).logits)
    # What its own generation gives is what ours does.
    answerer = open_answerer(str(tmp_path / "model"), template="plain", device="cpu")
    (answer,) = answerer.answers([Conversation((Message("user", "a b c"),))], max_new_tokens=5)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    written = loaded.generate(**tokenizer("a b c", return_tensors="pt", return_token_type_ids=False), max_new_tokens=5)
    assert tokenizer.decode(written[0], skip_special_tokens=True) == answer


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_sharded_checkpoint_is_consolidated(base: str, tmp_path: Path, method: str) -> None:
    first, _ = run("fsdp2", method, base, tmp_path / "run")
    assert (tmp_path / "run" / "step=4.ckpt").is_dir()
    options = ["--model.lora.r=2"] if method == "lora" else []
    args = [f"--model.base={base}", f"--ckpt_path={tmp_path / 'run' / 'step=4.ckpt'}", *options]
    assert main(["export", *args, "--template=plain", f"--output={tmp_path / 'out'}"]) == 0
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    trained: dict[str, Any] = first["weights"]
    if method == "full":
        for name, value in loaded.named_parameters():
            assert torch.equal(value, trained[f"model.{name}"]), name
    name = "model.layers.1.self_attn.q_proj"
    weight = loaded.get_parameter(f"{name}.weight")
    if method == "lora":
        down, up = (trained[f"model.base_model.model.{name}.lora_{side}.default.weight"] for side in "AB")
        expected = trained[f"model.base_model.model.{name}.base_layer.weight"] + up @ down * (16 / 2)
        assert not torch.allclose(expected, trained[f"model.base_model.model.{name}.base_layer.weight"])
        torch.testing.assert_close(weight, expected)
