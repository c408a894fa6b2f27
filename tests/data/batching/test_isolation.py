"""Documents of one row do not see each other: their logits are those of each document alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.batching.plan import PlannedBatch

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED: dict[str, Any] = {"intermediate_size": 48, "num_key_value_heads": 2}
# A window shorter than the documents, in some of the layers or in all.
WINDOW: dict[str, Any] = {**GROUPED, "sliding_window": 4}
ISOLATING: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": WINDOW,
    "qwen2": {**WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "gemma2": {**WINDOW, "head_dim": 8},
    "gemma3_text": {**WINDOW, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gpt_neox": {"intermediate_size": 48},
    "gpt2": {},
}
# transformers makes their masks without looking at positions, or they have none to make.
LEAKING: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "chunk_size": 8},
}
DOCUMENTS = ((7, 5, 3), (6, 1, 2))


def build(name: str, attention: str, **options: Any) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    if name == "gemma3_text":
        options["num_hidden_layers"] = 4
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**SIZES, **options})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@torch.no_grad()
def largest_difference(model: nn.Module, batching: Any) -> float:
    """Between the logits of each document in the batch, its padding included, and those of the document alone."""
    generator = torch.Generator().manual_seed(1)
    rows = tuple(
        tuple(
            SimpleNamespace(input_ids=ids, labels=ids)
            for ids in (torch.randint(1, 60, (length,), generator=generator).tolist() for length in lengths)
        )
        for lengths in DOCUMENTS
    )
    batch = Collator(0, batching=batching)(PlannedBatch(rows))
    inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
    logits = model(**inputs, use_cache=False).logits
    if batching == "packed":
        assert (batch["sequence_ids"] == -1).sum() > 0
        logits = logits[batch["sequence_ids"] >= 0]
    logits = logits.flatten(0, -2)
    alone = [model(input_ids=torch.tensor([d.input_ids]), use_cache=False).logits[0] for row in rows for d in row]
    return (logits - torch.cat(alone)).abs().max().item()


NO_SDPA = ("gemma2", "sdpa")
KINDS = [(name, attention) for name in ISOLATING for attention in ("sdpa", "eager") if (name, attention) != NO_SDPA]


@pytest.mark.parametrize("batching", ["packed", "flat"])
@pytest.mark.parametrize(("name", "attention"), KINDS)
def test_documents_do_not_see_each_other(name: str, attention: str, batching: str) -> None:
    assert largest_difference(build(name, attention, **ISOLATING[name]), batching) < 1e-5


@pytest.mark.parametrize("name", LEAKING)
def test_models_that_need_a_mask_or_cannot_be_packed(name: str) -> None:
    assert largest_difference(build(name, "eager", **LEAKING[name]), "packed") > 1e-4
