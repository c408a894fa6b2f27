"""Packed rows are trained on only by models whose documents do not see each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_neft import NEFTune
from lightning_neft.errors import ModelError
from lightning_neft.models.batches import check_packing
from lightning_neft.models.language_models import CausalLM
from models.words import fit

SPECIAL = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {**SPECIAL, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
LLAMA = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 48}
ISOLATING: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gemma2": {**LLAMA, "head_dim": 8},
    "mixtral": {**LLAMA, "num_local_experts": 4},
    "gpt2": {**SPECIAL, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neox": {**SIZES, "intermediate_size": 48},
}
LEAKING: dict[str, dict[str, Any]] = {
    "opt": {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32},  # positions from a mask that counts on
    "bloom": {**SPECIAL, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mpt": {**SPECIAL, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "mamba": {**SPECIAL, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}


def model(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**LEAKING, **ISOLATING}[name], **options))


def packed(is_flat: bool = False, lengths: tuple[int, ...] = (9, 14, 7)) -> dict[str, Any]:
    """One row of three documents, as the data layer makes it."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 29, (1, sum(lengths)), generator=generator)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    batch: dict[str, Any] = {
        "input_ids": ids,
        "position_ids": positions,
        "labels": ids.masked_fill(positions == 0, -100),
    }
    if is_flat:
        ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        batch |= {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
        }
    else:
        batch["sequence_ids"] = (positions == 0).cumsum(-1) - 1
    return batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_flat", [False, True])
@pytest.mark.parametrize("name", ISOLATING)
def test_models_that_keep_documents_apart_pass(name: str, is_flat: bool, dtype: torch.dtype) -> None:
    check_packing(model(name).to(dtype), packed(is_flat), name)


@pytest.mark.parametrize("name", LEAKING)
def test_models_that_do_not_are_named_with_the_way_round(name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} .*; use data.batching=length_grouped") as caught:
        check_packing(model(name), packed(), name)
    assert "\n" not in str(caught.value)


def test_leaking_attention_is_found_in_half_precision() -> None:
    class Leaking(nn.Module):
        """Llama that is not told where documents begin."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = model("llama", initializer_range=0.2)
            self.dtype = self.inner.dtype

        def forward(self, input_ids: Tensor, position_ids: Tensor, use_cache: bool) -> Any:
            return self.inner(input_ids=input_ids, use_cache=use_cache)

    with pytest.raises(ModelError, match="see each other"), torch.autocast("cpu", torch.bfloat16):
        check_packing(Leaking(), packed(), "Leaking")
    with pytest.raises(ModelError, match="see each other"):
        check_packing(Leaking().to(torch.bfloat16), packed(), "Leaking")


def test_a_model_without_positions_does_not_take_packed_rows() -> None:
    class Short(nn.Module):
        def forward(self, input_ids: Tensor, use_cache: bool) -> Any: ...

    with pytest.raises(ModelError, match=r"Short does not take packed rows \(.*position_ids.*\)"):
        check_packing(Short(), packed(), "Short")


def test_modes_and_random_state_stay_as_they_are() -> None:
    subject = model("gpt2").train()
    subject.transformer.h[0].eval()
    modes, state = [part.training for part in subject.modules()], torch.get_rng_state()
    check_packing(subject, packed(), "GPT-2")
    assert [part.training for part in subject.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("is_flat", [False, True])
def test_the_first_batch_of_each_fit_is_checked_and_no_other(
    base: str, is_flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Any] = []
    monkeypatch.setattr(
        "lightning_neft.models.language_models.check_packing",
        lambda given, batch, name: (checked.append(name), check_packing(given, batch, name)),
    )
    module = CausalLM(base)
    data = DataLoader([packed(is_flat) for _ in range(3)], batch_size=None)  # type: ignore[arg-type]
    for fits in (1, 2):
        fit(module, 3, data, callbacks=[NEFTune(alpha=5)])
        assert checked == ["LlamaForCausalLM"] * fits
    fit(module, 3)  # single documents
    assert len(checked) == 2


def test_a_fit_of_a_leaking_model_ends_at_its_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = CausalLM("unused")
    module.model, module.architecture = model("opt"), "OPTForCausalLM"
    module.on_model_built()
    data = DataLoader([packed()], batch_size=None)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="OPTForCausalLM lets packed documents see each other"):
        fit(module, 1, data, callbacks=[NEFTune(alpha=5)])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_check_changes_nothing_of_the_training(base: str, precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for is_checked in (True, False):
        if not is_checked:
            monkeypatch.setattr("lightning_neft.models.language_models.check_packing", lambda *_: None)
        torch.manual_seed(0)
        module = CausalLM(base, learning_rate=0.01, warmup_ratio=0.0)
        data = DataLoader([packed() for _ in range(3)], batch_size=None)  # type: ignore[arg-type]
        fit(module, 3, data, callbacks=[NEFTune(alpha=5)], precision=precision)
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
