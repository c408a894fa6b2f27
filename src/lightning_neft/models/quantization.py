"""QLoRA's base: weights in 4-bit NormalFloat, on which adapters are trained."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch

from lightning_neft.errors import ConfigError

__all__ = ["Quantization", "check_quantization", "nf4", "prepare_quantized"]

Quantization = Literal["nf4"]


def check_quantization() -> None:
    """Check that weights can be quantised on this machine.

    Raises:
        ConfigError: If a package or the device for it is missing.
    """
    missing = [name for name in ("bitsandbytes", "accelerate") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"model.quantization=nf4 needs {' and '.join(missing)}: pip install 'lightning-neft[qlora]', or leave "
            "model.quantization away"
        )
    if not torch.cuda.is_available():
        raise ConfigError("model.quantization=nf4 needs a CUDA device, torch finds none; leave model.quantization away")


def nf4() -> Any:
    """Return the settings of the QLoRA paper (Dettmers et al., arXiv 2305.14314): NF4, double quantisation, bf16."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def prepare_quantized(model: Any) -> Any:
    """Freeze a quantised model and keep what is not quantised (norms, embeddings, head) in float32."""
    from peft import prepare_model_for_kbit_training

    # Gradient checkpointing is an option of its own.
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
