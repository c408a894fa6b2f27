"""What is examined: a model loaded whole where it is small, else its skeleton with the few weights that are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.doctor.lazy import LazyWeights
from lightning_neft.doctor.report import ModelFacts
from lightning_neft.doctor.skeleton import build_skeleton, count_parameters, find_base, has_dropout
from lightning_neft.hub.names import loading

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["Subject", "open_subject"]

# 1.2 GB in float32, loaded in a second or two.
_SMALL = 300_000_000


@dataclass(frozen=True)
class Subject:
    """A model to examine.

    Attributes:
        root: The module that is searched for the embedding.
        model: The model of transformers inside it, which is run.
        weights: What gives it weights; None if it has its own.
        facts: What is known of it before it is run.
    """

    root: nn.Module
    model: Any
    weights: LazyWeights | None
    facts: ModelFacts

    def facts_after(self) -> ModelFacts:
        """What is known of it after it was run."""
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
    """Build the model of a config, with as many of its weights as are needed.

    Args:
        config: Config of the model.
        base: The folder or hub id that has it.
        trust_remote_code: Whether code that comes with the model may run.
        random_init: Leave its weights alone and take those of its own initialisation.
        dtype: Dtype of its weights; None for the one that from_pretrained gives.
        is_quantised: Whether a fit quantises its weights, which needs packages and devices of its own.
        mode_in_fit: The mode in which a fit would have it; None where the user's own code decides.
        load: Loads a small model whole, as a fit would, inside a LightningModule that holds it as `model`; None for
            from_pretrained.

    Raises:
        ModelError: It cannot be built, or has no weights in safetensors.
    """
    path = find_base(base)
    checkpoint = None if random_init else Checkpoint(path)
    if dtype is None:
        dtype = _dtype_of(config, checkpoint)
    skeleton = build_skeleton(config, base, dtype, trust_remote_code)
    parameters = count_parameters(skeleton)
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
    # What is in front of the first block is not quantised.
    is_quantised = is_quantised or getattr(config, "quantization_config", None) is not None
    if checkpoint is not None and parameters <= _SMALL and not is_quantised:
        facts = replace(facts, parameters_read=parameters)
        if load is None:
            model = _load_whole(type(skeleton), path, base, dtype, trust_remote_code)
            return Subject(model, model, None, replace(facts, mode_after_loading=_mode(model)))
        with _default_dtype(dtype):
            root = load()
        model = _inner_model(root)
        return Subject(root, model, None, replace(facts, mode_in_fit=_mode(model)))
    # A LightningModule of the program holds its model under this name: names are then those of a fit.
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
    """The dtype that from_pretrained gives a model: its config's, else its checkpoint's."""
    if isinstance(config.dtype, torch.dtype):
        return config.dtype
    return torch.float32 if checkpoint is None else checkpoint.dtype()


def _inner_model(root: nn.Module) -> nn.Module:
    """The outermost model of transformers or peft in a module."""
    return next((module for module in root.modules() if hasattr(module, "get_input_embeddings")), root)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
