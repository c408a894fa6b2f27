"""A model of transformers without its weights: built from the config alone, on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import check_base_config
from lightning_neft.hub.names import loading, resolve_base

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

__all__ = ["build_skeleton", "count_parameters", "find_base", "has_dropout", "load_config", "model_class"]

_DROPOUT = ("dropout", "pdrop")
# Of heads that most models with such an entry do not have.
_OF_HEADS = ("summary", "classifier")


def find_base(base: str) -> str:
    """Return the folder or hub id that a base names; a `config.json` itself is allowed too.

    Raises:
        ModelError: There is no such folder, or no config in it.
    """
    path = user_path(base, "model base")
    if path.is_file():
        if path.suffix != ".json":
            raise ModelError(f"model base {base!r} is a file; give the folder that holds config.json, or a hub id")
        return str(path)
    found = resolve_base(base)
    folder = Path(found)
    if folder.is_dir() and not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise ModelError(f"model base {base!r} holds adapters alone; give the model that they were trained on")
        raise ModelError(f"model base {base!r} has no config.json; give the folder of a model of transformers")
    return found


def load_config(base: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the config of a base model; no weights are read.

    Args:
        base: Folder, hub id, `config.json`, or `tiny`.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelError: There is none, or it is of no known architecture.
    """
    from transformers import AutoConfig

    path = find_base(base)
    check_base_config(path)
    with loading("config", base):
        # Attention that needs no package and no GPU: nothing behind the first block is run.
        return AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code, attn_implementation="eager")


def model_class(config: PretrainedConfig) -> type[PreTrainedModel] | None:
    """Return the class that the config names, or None if transformers has none of that name."""
    import transformers

    for name in config.architectures or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    return None


def build_skeleton(
    config: PretrainedConfig, base: str, dtype: torch.dtype, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Build the model of a config on the meta device: all of its modules, none of its weights.

    Args:
        config: Config of the model.
        base: The name that the user gave, for messages.
        dtype: Dtype of its weights.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelError: It cannot be built, or does not read tokens.
    """
    import transformers

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with loading("architecture", base), torch.device("meta"):
            known = model_class(config)
            if known is not None:
                model: Any = known(config)
            else:
                auto = getattr(transformers, _auto_class(config))
                model = auto.from_config(config, trust_remote_code=trust_remote_code)
    finally:
        torch.set_default_dtype(before)
    if model.main_input_name != "input_ids":
        raise ModelError(
            f"{type(model).__name__} reads {model.main_input_name}, of which there is no sample here; measure it with "
            "lightning_neft.noise.probe and a batch of yours"
        )
    model.eval()
    return model


def _auto_class(config: PretrainedConfig) -> str:
    """The automatic class to build a model from when its config names none that transformers has."""
    mapped = getattr(config, "auto_map", None) or {}
    own: list[str] = [name for name in mapped if name.startswith("AutoModel")]
    # A head above the stack, if the code has one: it is what is trained.
    heads = [name for name in own if name != "AutoModel"]
    if own:
        return (heads or own)[0]
    return "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters, tied ones counted once.

    >>> count_parameters(build_skeleton(load_config("tiny"), "tiny", torch.float32))
    984192
    """
    return sum(parameter.numel() for parameter in model.parameters())


def has_dropout(config: PretrainedConfig) -> bool:
    """Whether a config, or one inside it, asks for dropout."""
    return _any_dropout(config.to_dict())


def _any_dropout(values: dict[Any, Any]) -> bool:
    for key, value in values.items():
        name = str(key)
        is_dropout = any(part in name for part in _DROPOUT) and not name.startswith(_OF_HEADS)
        if _any_dropout(value) if isinstance(value, dict) else is_dropout and isinstance(value, float) and value > 0:
            return True
    return False
