"""LoRA through peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_neft.errors import ConfigError

__all__ = ["LoraOptions", "add_lora"]


@dataclass
class LoraOptions:
    """Low-rank adapters in place of full fine-tuning.

    Args:
        r: Rank of the adapters.
        alpha: Scale of the adapters; they count alpha / r. Not NEFTune's alpha.
        dropout: Dropout in front of the adapters.
        target_modules: "all-linear" (all but the head), a regular expression, or names of modules.
    """

    r: int = 16
    alpha: int = 16
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"


def add_lora(model: Any, options: LoraOptions) -> Any:
    """Freeze a transformers model and put trainable adapters into it.

    Raises:
        ConfigError: If peft refuses the options, such as a target that the model does not have.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    try:
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=options.target_modules,
        )
        return get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"model.lora: {' '.join(str(error).split())}") from error
