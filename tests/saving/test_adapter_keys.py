"""Adapters that do not fit their base are refused, with the keys; they are not left out in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_neft.errors import ModelError
from lightning_neft.generation.sources import load_model
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.trainable import LoraOptions
from lightning_neft.saving.folder import save_model

OTHER = "base_model.model.model.blocks.0.self_attn.q_proj.lora_A"
Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A"


@pytest.fixture
def adapters(base: str, tmp_path: Path) -> Path:
    save_model(CausalLM(base, LoraOptions(r=2, target_modules=["q_proj"])), tmp_path / "adapters")
    return tmp_path / "adapters"


def none_fits(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("layers", "blocks"): value for name, value in weights.items()}


def one_lacks(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name != f"{Q}.weight"}


def one_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**weights, "other.weight": torch.zeros(1)}


def one_of_another_shape(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**weights, f"{Q}.weight": torch.zeros(3, 3)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            none_fits,
            f"{Q}.default.weight and 3 more missing, {OTHER}.weight and 3 more unexpected;",
        ),
        (one_lacks, f"{Q}.default.weight missing;"),
        (one_more, "other.weight unexpected;"),
        (one_of_another_shape, f"{Q}.default.weight: copying a param with shape "),
    ],
)
def test_adapters_that_do_not_fit_are_refused_with_their_keys(
    base: str, adapters: Path, change: object, told: str
) -> None:
    load_model(str(adapters))
    path = adapters / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)  # type: ignore[operator]
    begin = f"the adapters of {adapters} do not fit their base {base}: {told}"
    with pytest.raises(ModelError, match=f"^{re.escape(begin)}") as caught:
        load_model(str(adapters))
    assert "\n" not in str(caught.value)
