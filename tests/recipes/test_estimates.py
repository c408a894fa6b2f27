"""Estimates: against published counts, and against what a tiny model really keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lightning_neft.hub.base_models import base_models, find_base_model
from lightning_neft.recipes.estimates import PEAK_FLOPS, UTILISATION, Run, estimate, run_of

LLAMA = find_base_model("llama-2-7b")
FULL = Run(rows=4, length=512, weight_bytes=4, activation_bytes=2, samples=1000, epochs=1)


@pytest.mark.parametrize(("weight_bytes", "of_weight"), [(4, 16), (2, 8)])
def test_full_fine_tuning_takes_the_bytes_of_the_zero_paper(weight_bytes: int, of_weight: int) -> None:
    # ZeRO (arXiv 1910.02054, sec. 3.1): 16 bytes a weight with float32 states.
    found = estimate(LLAMA, replace(FULL, weight_bytes=weight_bytes))
    assert found.weights + found.gradients + found.states == of_weight * LLAMA.parameters


def test_shards_divide_all_but_the_activations() -> None:
    whole, quarter = estimate(LLAMA, FULL), estimate(LLAMA, replace(FULL, shards=4, devices=4))
    assert (quarter.weights, quarter.gradients, quarter.states) == (
        whole.weights / 4,
        whole.gradients / 4,
        whole.states / 4,
    )
    assert quarter.activations == whole.activations
    assert quarter.seconds == pytest.approx(whole.seconds / 4)


def test_adapters_are_as_many_as_peft_has() -> None:
    # peft's own count for rank 16 on all linear layers of LLaMA-2-7B.
    found = estimate(LLAMA, replace(FULL, lora_rank=16))
    assert found.gradients == 4 * 39_976_960
    assert found.states == 2 * found.gradients


def test_quantised_weights_take_half_a_byte_and_a_little() -> None:
    found = estimate(LLAMA, replace(FULL, lora_rank=64, is_quantised=True))
    # 6.48 billion weights in 4.127 bits, the two tables of 131 million each and 160 million of adapters in 32.
    assert found.weights == pytest.approx(6.476e9 * 4.127 / 8 + 0.262e9 * 4 + 0.160e9 * 4, rel=1e-3)


def test_a_classic_block_keeps_what_its_paper_counts() -> None:
    # Korthikanti et al., section 4.1: 34 bytes a token and width, two of which are the masks of dropout.
    entry = find_base_model("opt-6.7b")
    one, two = (estimate(replace(entry, layers=layers), FULL).activations for layers in (1, 2))
    assert two - one == 32 * 4 * 512 * entry.width


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_activations_are_about_what_a_model_keeps(is_checkpointed: bool) -> None:
    entry = replace(
        find_base_model("tiny"), width=64, heads=4, kv_heads=2, feed_forward=160, layers=8, vocabulary=64, parameters=0
    )
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=160,
        num_hidden_layers=8,
        vocab_size=64,
    )
    model = LlamaForCausalLM(config).train()
    if is_checkpointed:
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    rows, length = 4, 128
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = model.model(torch.zeros(rows, length, dtype=torch.long)).last_hidden_state
    found = estimate(entry, Run(rows, length, 4, 4, is_checkpointed=is_checkpointed)).activations
    found -= 2 * 4 * rows * length * 64  # the logits, which were not computed
    if is_checkpointed:
        # The block that is computed again is not there yet.
        found -= estimate(replace(entry, layers=1), Run(rows, length, 4, 4)).activations - 8 * rows * length * 64
    assert hidden.requires_grad
    # transformers' norms keep copies that a fused one would not.
    assert found <= sum(kept.values()) <= 2 * found


def test_a_classifier_has_no_logits_of_tokens() -> None:
    with_logits, without = estimate(LLAMA, FULL), estimate(LLAMA, replace(FULL, has_logits=False))
    assert with_logits.activations - without.activations == 4 * 512 * 32000 * 8


def test_time_is_six_operations_and_less_with_frozen_weights() -> None:
    found = estimate(LLAMA, FULL)
    assert found.seconds == pytest.approx(
        6 * 6.607e9 * 512_000 / (PEAK_FLOPS * UTILISATION), rel=0.03
    )  # the attention adds 2 %
    frozen = estimate(LLAMA, replace(FULL, lora_rank=16))
    again = estimate(LLAMA, replace(FULL, is_checkpointed=True))
    assert frozen.seconds / found.seconds == pytest.approx(2 / 3)
    assert again.seconds / found.seconds == pytest.approx(4 / 3)
    assert estimate(LLAMA, replace(FULL, samples=None)).seconds is None


def config(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": {"dtype": None, "lora": None, "quantization": None, "gradient_checkpointing": False},
        "data": {"batch_size": 16, "max_length": 512},
        "trainer": {"devices": "auto", "num_nodes": 1, "strategy": "auto", "precision": None, "max_epochs": 3},
        "global_batch_size": None,
        "task": "causal_lm",
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            found[section] = {**found[section], name: value}
        else:
            found[section] = value
    return found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Run(16, 512, 4, 4, samples=7)),
        ({"trainer__precision": "bf16-mixed"}, Run(16, 512, 4, 2, samples=7)),
        ({"trainer__precision": "bf16-true", "global_batch_size": 8}, Run(8, 512, 2, 2, samples=7)),
        ({"task": "sequence_classification"}, Run(16, 512, 4, 4, samples=7, has_logits=False)),
        (
            {"model__lora": {"r": 8}, "model__dtype": "bfloat16", "trainer__precision": "bf16-mixed"},
            Run(16, 512, 2, 2, lora_rank=8, samples=7),
        ),
        (
            {
                "trainer__devices": 8,
                "trainer__num_nodes": 2,
                "trainer__strategy": {"class_path": "x", "init_args": {"data_parallel_size": 16}},
                "global_batch_size": 64,
            },
            Run(4, 512, 4, 4, shards=16, devices=16, samples=7),
        ),
    ],
)
def test_a_resolved_config_says_what_the_run_is_like(changes: dict[str, Any], expected: Run) -> None:
    assert run_of(config(**changes), 7) == expected


def test_no_base_model_is_estimated_below_its_weights() -> None:
    for entry in base_models().values():
        assert estimate(entry, FULL).total > 16 * entry.parameters
