"""Builds a model of transformers without weights: on the meta device, from its config only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import check_base_config
from lightning_neft.hub.names import loading, resolve_base

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["build_skeleton", "default_dtype", "find_base", "has_dropout", "load_config", "model_class"]

_DROPOUT = ("dropout", "pdrop")
# Entries about heads that most models with such an entry do not have.
_OF_HEADS = ("summary", "classifier")


def find_base(base: str) -> str:
    """Return the folder or hub id that a base names, or its path if it is a `config.json`.

    Raises:
        ModelError: There is no such folder, or it has no config.
    """
    path = user_path(base, "model base")
    if path.is_file() and path.suffix == ".json":
        return str(path)
    found = resolve_base(base)
    folder = Path(found)
    if folder.is_dir() and not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(f"model base {base!r} holds only adapters; give the model that they were trained on")
        raise ModelError(f"model base {base!r} has no config.json; give the folder of a transformers model")
    return found


def load_config(base: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the config of a base model without its weights.

    Args:
        base: Folder, hub id, `config.json`, or `tiny`.
        trust_remote_code: Whether to run code that is part of the model.

    Raises:
        ModelError: There is no config, or transformers does not know its architecture.
    """
    from transformers import AutoConfig

    path = find_base(base)
    check_base_config(path)
    with loading("config", base):
        # Eager attention needs no package and no GPU; nothing after the start of the first block runs anyway.
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, attn_implementation="eager")


def model_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that the config names, or None if transformers has no such class."""
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
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

    >>> build_skeleton(load_config("tiny"), "tiny", torch.float32).num_parameters()
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
