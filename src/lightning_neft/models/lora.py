"""LoRA and DoRA through peft."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
        dora: Whether directions and magnitudes of the weights are adapted apart (DoRA, arXiv 2402.09353); slower.
    """

    r: int = 16
    alpha: int = 16
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    dora: bool = False


def add_lora(
    model: Any,
    options: LoraOptions,
    task_type: str = "CAUSAL_LM",
    *,
    new: Sequence[str] = (),
    new_ids: Sequence[int] = (),
    one_dtype: bool = False,
) -> Any:
    """Freeze a transformers model and put trainable adapters into it.

    Args:
        model: The model.
        options: What the adapters are like.
        task_type: peft's word for the task: CAUSAL_LM, SEQ_2_SEQ_LM, or SEQ_CLS, whose head is trained along.
        new: Names of parameters that the base does not have; the modules that they are in are trained along.
        new_ids: Token ids that the base does not know; their rows of the embedding are trained along.
        one_dtype: Whether adapters have the dtype of the weights; else those of half-precision weights are float32.

    Raises:
        ConfigError: If peft refuses the options, such as a target that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    try:
        config = LoraConfig(
            task_type=task_type,
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=options.target_modules,
            use_dora=options.dora,
            # peft knows the usual names of heads; there may be more that is random, such as BERT's pooler.
            modules_to_save=sorted({name.rpartition(".")[0] for name in new}) or None,
            trainable_token_indices=list(new_ids) or None,
        )
        return get_peft_model(model, config, autocast_adapter_dtype=not one_dtype)
    except (ValueError, re.error) as error:  # re.error: target_modules may be a pattern
        raise ConfigError(f"model.lora: {' '.join(str(error).split())}") from error
