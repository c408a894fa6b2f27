"""Load the weights of a base, also in 4 bits, and shard them over devices."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ConfigError
from lightning_neft.hub.base_config import check_amount, check_base_config
from lightning_neft.hub.gguf import expanded_from
from lightning_neft.hub.names import loading, resolve_base
from lightning_neft.hub.vision_language import loading_class

if TYPE_CHECKING:
    import lightning.pytorch as pl

__all__ = [
    "DType",
    "Quantization",
    "check_precision",
    "check_quantization",
    "load_weights",
    "nf4",
    "prepare_quantized",
    "shard",
]


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
        auto_class: Name of transformers' automatic class; a vision-language base is loaded whole, see `loading_class`.
        base: Folder, hub id, GGUF file, or `tiny`.
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
    path = resolve_base(base)
    with loading("weights", base):
        base_config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        model, report = getattr(transformers, loading_class(auto_class, base_config)).from_pretrained(
            path,
            dtype=wanted,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=has_new_head,
            **config,
        )
    if expanded_from(path) is not None:
        # The name by which adapters refer to their base: the cache may be emptied, the file stays.
        model.name_or_path = str(user_path(base, "model base"))
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


def shard(model: Any, mesh: Any) -> None:
    """Shard each block of a model and then the rest, in place.

    Args:
        model: A model of transformers, bare or inside peft. Its classes name the blocks that are to stay in one piece.
        mesh: The strategy's device mesh, with the dimensions data_parallel and tensor_parallel.

    Raises:
        ConfigError: If the strategy wants tensor parallelism.
    """
    from torch.distributed.fsdp import fully_shard

    if mesh["tensor_parallel"].size() > 1:
        raise ConfigError(
            f"tensor_parallel_size={mesh['tensor_parallel'].size()}: the models of this package are sharded over "
            "data_parallel_size alone; set tensor_parallel_size=1"
        )
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    for module in [module for module in model.modules() if type(module).__name__ in blocks]:
        fully_shard(module, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
