"""In which dtype the attention computes on a CPU."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_neft.data.module import TextData
from lightning_neft.models.execution import fast_attention
from lightning_neft.models.language_models import CausalLM


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the dtypes that PyTorch's attention is called with, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtypes: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket).rpartition(".")[2]
        if "scaled_dot_product" in name:
            dtypes = {arg.dtype for arg in args if isinstance(arg, Tensor) and arg.is_floating_point()}
            self.dtypes.setdefault("backward" if name.endswith("backward") else "forward", set()).update(dtypes)
        return func(*args, **(kwargs or {}))


class WithoutDropout(CausalLM):
    """With dropout in the attention another kernel runs, which checks less."""

    def on_model_built(self) -> None:
        super().on_model_built()
        for layer in self.model.model.layers:
            layer.self_attn.attention_dropout = 0.0


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What the CPU is said to be able to do: at first no tiles, whatever it has."""
    abilities = {"avx2": True, "amx_tile": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    return abilities


def fit(base: str, source: str, precision: Any, **options: Any) -> dict[str, set[torch.dtype]]:
    """Train for a step and validate."""
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_steps=1,
        num_sanity_val_steps=0,
        limit_val_batches=1,
        val_check_interval=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = WithoutDropout(base, **options)
    watched = Watched()
    with watched:
        trainer.fit(model, TextData(source, base, batch_size=2, val_size=2))
    return watched.dtypes


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_bfloat16_models_have_it_in_float32(base: str, source: str, precision: str) -> None:
    assert fit(base, source, precision) == {"forward": {torch.float32}, "backward": {torch.float32}}


def test_a_cpu_with_tiles_has_it_in_bfloat16(base: str, source: str, tiles: dict[str, bool]) -> None:
    tiles["amx_tile"] = True
    assert fit(base, source, "bf16-mixed")["forward"] == {torch.bfloat16}


def test_a_torch_that_cannot_tell_of_the_cpu_has_it_in_bfloat16(
    base: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fit(base, source, "bf16-mixed")["forward"] == {torch.bfloat16}


def test_a_cpu_on_which_nobody_measured_has_it_in_bfloat16(base: str, source: str, tiles: dict[str, bool]) -> None:
    tiles["avx2"] = False
    assert fit(base, source, "bf16-mixed")["forward"] == {torch.bfloat16}


@pytest.mark.parametrize("kind", [True, "selective"])
def test_recomputed_attention_is_in_float32_too(base: str, source: str, kind: Any) -> None:
    found = fit(base, source, "bf16-mixed", gradient_checkpointing=kind)
    assert found == {"forward": {torch.float32}, "backward": {torch.float32}}


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64)])
def test_other_precisions_stay(base: str, source: str, precision: str, dtype: torch.dtype) -> None:
    assert fit(base, source, precision)["forward"] == {dtype}


def test_the_loss_is_nearer_to_the_one_in_float32(base: str) -> None:
    model = CausalLM(base, attn_implementation="sdpa").eval()
    model.configure_model()
    query, key, value = torch.randn(3, 1, 2, 16, 8, generator=torch.Generator().manual_seed(0)).unbind()
    attention = torch.nn.functional.scaled_dot_product_attention
    exact = attention(query, key, value, is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = attention(query, key, value, is_causal=True)
        with fast_attention(model.model):
            fast = attention(query, key, value=value, is_causal=True)
    assert torch.equal(fast, exact)
    assert not torch.equal(rounded.float(), exact)
