"""Load the weights of a base model in the dtype and with the quantisation that the options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from lightning_neft.errors import ConfigError
from lightning_neft.models.base import loading, resolve_base
from lightning_neft.models.base_config import check_amount, check_base_config
from lightning_neft.models.quantization import Quantization, check_quantization, nf4, prepare_quantized

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = ["DType", "check_precision", "load_weights"]

DType = Literal["auto", "float32", "bfloat16", "float16"]


def load_weights(
    auto_class: str,
    base: str,
    *,
    dtype: DType | None = None,
    quantization: Quantization | None = None,
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    has_new_head: bool = False,
    **config: Any,
) -> tuple[Any, list[str]]:
    """Load a model of transformers, from safetensors where the base has them.

    Args:
        auto_class: Name of transformers' automatic class.
        base: Folder, hub id, or `tiny`.
        dtype: `auto` for that of the checkpoint; None for PyTorch's default one, which the Trainer's precision sets.
        quantization: See `Quantization`.
        attn_implementation: Attention of transformers; its own choice by default.
        trust_remote_code: Whether code that comes with the model may run.
        has_new_head: Whether weights of another shape than the base's are natural, such as those of another number of
            classes; they begin at random then.
        config: Further entries of the model's config, such as num_labels.

    Returns:
        The model, and the names of the parameters that the base does not have, or not so: they are random.

    Raises:
        ModelError: If there is no such model, or it cannot be loaded so.
        ConfigError: If it cannot be quantised here.
    """
    import transformers

    # Without a dtype transformers takes the checkpoint's: a bf16 one would train in pure bf16 whatever the precision.
    wanted = "auto" if dtype == "auto" else torch.get_default_dtype() if dtype is None else getattr(torch, dtype)
    check_base_config(base)
    check_amount(auto_class, base, trust_remote_code, **config)
    if quantization is not None:
        check_quantization()
        config["quantization_config"] = nf4()
    with loading("weights", base):
        model, report = getattr(transformers, auto_class).from_pretrained(
            resolve_base(base),
            dtype=wanted,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=has_new_head,
            **config,
        )
    new = {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}
    return model if quantization is None else prepare_quantized(model), sorted(new)


def check_precision(trainer: pl.Trainer | None, model: Any, dtype: DType | None) -> None:
    """Check that the Trainer's precision leaves the weights in the dtype that was asked for.

    Raises:
        ConfigError: If it would convert them.
    """
    if trainer is None or dtype is None:
        return
    precision = str(trainer.precision)
    # 32-true and the mixed ones leave weights as they are; these convert them, which sets the default dtype too.
    if precision in ("16-true", "bf16-true", "64-true") and model.dtype != torch.get_default_dtype():
        raise ConfigError(
            f"model.dtype={dtype} gives weights in {model.dtype}, but trainer.precision={precision} would convert "
            "them; leave one of the two away"
        )
