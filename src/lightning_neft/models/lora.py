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
        new_ids: Token ids that the base does not know; their rows of the embedding are trained along, and those of an
            output layer that has weights of its own.
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
            trainable_token_indices=_rows(model, new_ids, options.target_modules),
        )
        return get_peft_model(model, config, autocast_adapter_dtype=not one_dtype)
    except (ValueError, re.error) as error:  # re.error: target_modules may be a pattern
        raise ConfigError(f"model.lora: {' '.join(str(error).split())}") from error


def _rows(model: Any, new_ids: Sequence[int], target_modules: str | list[str]) -> dict[str, list[int]] | None:
    """Return the rows to train by the name of their module; of tied weights peft takes care itself."""
    if not new_ids:
        return None
    names = {id(module): name for name, module in model.named_modules()}
    tables = [model.get_input_embeddings()]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not tables[0].weight:
        tables.append(output)
    found = [names[id(table)] for table in tables]
    return {name: list(new_ids) for name in found if not _is_target(name, target_modules)} or None


def _is_target(name: str, target_modules: str | list[str]) -> bool:
    """Whether adapters are put into a module of this name, which then train its rows."""
    if isinstance(target_modules, str):
        return target_modules != "all-linear" and re.fullmatch(target_modules, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in target_modules)
