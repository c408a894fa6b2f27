"""The model to examine: a small one is loaded whole, a large one is a skeleton with the few weights it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.doctor.report import ModelFacts
from lightning_neft.doctor.skeleton import build_skeleton, default_dtype, find_base, has_dropout
from lightning_neft.doctor.weights import LazyWeights
from lightning_neft.hub.names import loading

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["Subject", "open_subject"]

# 1.2 GB in float32, loaded in one or two seconds.
_SMALL = 300_000_000


@dataclass(frozen=True)
class Subject:
    """A model to examine.

    Attributes:
        root: The module to search for the embedding.
        model: The model of transformers inside it, which is run.
        weights: Source of its weights; None if it is loaded whole.
        facts: Facts known before the forward pass.
    """

    root: nn.Module
    model: Any
    weights: LazyWeights | None
    facts: ModelFacts

    def facts_after(self) -> ModelFacts:
        """Return the facts after the forward pass, which reads weights."""
        return self.facts if self.weights is None else replace(self.facts, parameters_read=self.weights.elements)


def open_subject(
    config: PretrainedConfig,
    base: str,
    *,
    trust_remote_code: bool = False,
    random_init: bool = False,
    dtype: torch.dtype | None = None,
    is_quantised: bool = False,
    mode_in_fit: Literal["train", "eval"] | None = None,
    load: Callable[[], nn.Module] | None = None,
) -> Subject:
    """Build the model of a config with the weights that the examination needs.

    Args:
        config: Config of the model.
        base: Its folder or hub id.
        trust_remote_code: Whether to run code that is part of the model.
        random_init: Initialise the weights instead of reading them.
        dtype: Dtype of the weights; None for the default of from_pretrained.
        is_quantised: Whether a fit quantises the weights, which needs packages and devices that may not be here.
        mode_in_fit: The mode of the model in a fit; None if the user's own code decides.
        load: Loads a small model whole, as a fit does, inside a LightningModule that holds it as `model`; None to use
            from_pretrained.

    Raises:
        ModelError: The model cannot be built, or has no safetensors weights.
    """
    path = find_base(base)
    checkpoint = None if random_init else Checkpoint(path)
    if dtype is None:
        dtype = _dtype_of(config, checkpoint)
    skeleton = build_skeleton(config, base, dtype, trust_remote_code)
    parameters = skeleton.num_parameters()
    facts = ModelFacts(
        base=base,
        architecture=type(skeleton).__name__,
        parameters=parameters,
        parameters_read=0,
        weights="random" if random_init else "checkpoint",
        dtype=str(dtype).removeprefix("torch."),
        mode_after_loading="eval",
        mode_in_fit=mode_in_fit,
        has_dropout=has_dropout(config),
    )
    # Quantisation does not change the weights before the first block.
    is_quantised = is_quantised or getattr(config, "quantization_config", None) is not None
    if checkpoint is not None and parameters <= _SMALL and not is_quantised:
        facts = replace(facts, parameters_read=parameters)
        if load is None:
            model = _load_whole(type(skeleton), path, base, dtype, trust_remote_code)
            return Subject(model, model, None, replace(facts, mode_after_loading=_mode(model)))
        with default_dtype(dtype):
            root = load()
        model = _inner_model(root)
        return Subject(root, model, None, replace(facts, mode_in_fit=_mode(model)))
    # The LightningModules of the program hold their model as `model`; this gives the names of a fit.
    root = skeleton if load is None else nn.ModuleDict({"model": skeleton})
    return Subject(root, skeleton, LazyWeights(skeleton, checkpoint, may_grow=load is not None), facts)


def _mode(model: nn.Module) -> Literal["train", "eval"]:
    return "train" if model.training else "eval"


def _load_whole(known: Any, path: str, base: str, dtype: torch.dtype, trust_remote_code: bool) -> nn.Module:
    with loading("weights", base):
        model: nn.Module = known.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    return model


def _dtype_of(config: PretrainedConfig, checkpoint: Checkpoint | None) -> torch.dtype:
    """Return the default dtype of from_pretrained: that of the config, else of the checkpoint."""
    if isinstance(config.dtype, torch.dtype):
        return config.dtype
    return torch.float32 if checkpoint is None else checkpoint.dtype()


def _inner_model(root: nn.Module) -> nn.Module:
    """Return the outermost model of transformers or peft in a module."""
    return next((module for module in root.modules() if hasattr(module, "get_input_embeddings")), root)
