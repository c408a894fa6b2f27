"""The model to examine: a small one is loaded whole, of a large one only the few weights that are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.doctor.report import ModelReport
from lightning_neft.doctor.weights import LazyWeights
from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import find_base
from lightning_neft.hub.names import loading
from lightning_neft.models.towers import towers, towers_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["Subject", "build_skeleton", "default_dtype", "has_dropout", "model_class", "open_subject"]

# 1.2 GB in float32, loaded in one or two seconds.
_SMALL = 300_000_000
_DROPOUT = ("dropout", "pdrop")
# Entries about heads that most models with such an entry do not have.
_OF_HEADS = ("summary", "classifier")


@dataclass(frozen=True)
class Subject:
    """A model to examine.

    Attributes:
        root: The module to search for the embedding.
        model: The model of transformers inside it, which is run.
        weights: Source of its weights; None if it is loaded whole.
        report: What is known of it before the forward pass.
    """

    root: nn.Module
    model: Any
    weights: LazyWeights | None
    report: ModelReport

    def report_after(self) -> ModelReport:
        """Return its report after the forward pass, which reads weights."""
        return self.report if self.weights is None else replace(self.report, parameters_read=self.weights.elements)


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
    report = ModelReport(
        base=base,
        architecture=type(skeleton).__name__,
        parameters=parameters,
        parameters_read=0,
        weights="random" if random_init else "checkpoint",
        dtype=str(dtype).removeprefix("torch."),
        mode_after_loading="eval",
        mode_in_fit=mode_in_fit,
        has_dropout=has_dropout(config),
        towers=towers_line(skeleton, found) if (found := towers(skeleton)) else None,
    )
    # Quantisation does not change the weights before the first block.
    is_quantised = is_quantised or getattr(config, "quantization_config", None) is not None
    if checkpoint is not None and parameters <= _SMALL and not is_quantised:
        report = replace(report, parameters_read=parameters)
        if load is None:
            model = _load_whole(type(skeleton), path, base, dtype, trust_remote_code)
            return Subject(model, model, None, replace(report, mode_after_loading=_mode(model)))
        with default_dtype(dtype):
            root = load()
        model = _inner_model(root)
        return Subject(root, model, None, replace(report, mode_in_fit=_mode(model)))
    # The LightningModules of the program hold their model as `model`; this gives the names of a fit.
    root = skeleton if load is None else nn.ModuleDict({"model": skeleton})
    return Subject(root, skeleton, LazyWeights(skeleton, checkpoint, may_grow=load is not None), report)


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


def model_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that the config names, or None if transformers has no such class."""
    import transformers

    for name in config.architectures or ():
        known = getattr(transformers, name, None)
        if isinstance(known, type) and issubclass(known, transformers.PreTrainedModel):
            return known
    return None


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set the default dtype of torch for the duration of the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build_skeleton(
    config: PretrainedConfig, base: str, dtype: torch.dtype, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Build the model of a config on the meta device: all modules, no weights.

    Args:
        config: Config of the model.
        base: The name from the user, for messages.
        dtype: Dtype of its weights.
        trust_remote_code: Whether to run code that is part of the model.

    Raises:
        ModelError: It cannot be built, or does not read tokens.

    >>> from lightning_neft.hub.base_config import load_base_config
    >>> build_skeleton(load_base_config("tiny"), "tiny", torch.float32).num_parameters()
    984192
    """
    import transformers

    with loading("architecture", base), default_dtype(dtype), torch.device("meta"):
        known = model_class(config)
        if known is not None:
            model: Any = known(config)
        else:
            auto = getattr(transformers, _auto_class(config))
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
    if model.main_input_name != "input_ids":
        raise ModelError(
            f"{type(model).__name__} reads {model.main_input_name}, but doctor only has samples of tokens; measure it "
            "with lightning_neft.noise.probe and a batch of your own"
        )
    model.eval()
    return model


def _auto_class(config: PretrainedConfig) -> str:
    """Return the name of the automatic class for a config that names no class of transformers."""
    mapped = getattr(config, "auto_map", None) or {}
    own: list[str] = [name for name in mapped if name.startswith("AutoModel")]
    # Prefer a class with a head: it is what is trained.
    heads = [name for name in own if name != "AutoModel"]
    if own:
        return (heads or own)[0]
    return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"


def has_dropout(config: PretrainedConfig) -> bool:
    """Return whether a config, or one nested in it, enables dropout."""
    return _any_dropout(config.to_dict())


def _any_dropout(values: dict[Any, Any]) -> bool:
    for key, value in values.items():
        name = str(key)
        is_dropout = any(part in name for part in _DROPOUT) and not name.startswith(_OF_HEADS)
        if _any_dropout(value) if isinstance(value, dict) else is_dropout and isinstance(value, float) and value > 0:
            return True
    return False
