"""How a model is run: in eval mode, without compiled code, with fast attention on a CPU, in bfloat16 or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import Self, override

__all__ = ["compile_blocks", "eager", "evaluating", "fast_attention", "native_bfloat16", "same_attention"]

# NVIDIA's first tensor cores for bfloat16 are those of Ampere.
_FIRST_CUDA_CAPABILITY = (8, 0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and each of its modules back into the mode that it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def eager(model: nn.Module) -> AbstractContextManager[object]:
    """Run a model that is compiled without its compiled code: for calls whose shapes would all be compiled anew."""
    is_compiled = any(module._compiled_call_impl is not None for module in model.modules())
    # The setting imports the compiler, which takes seconds.
    return torch.compiler.set_stance("force_eager") if is_compiled else nullcontext()


def compile_blocks(model: nn.Module) -> None:
    """Compile each block of a model by itself; a model without blocks as a whole.

    Equal blocks share their code, so that the time to compile does not grow with their number. All sizes are symbols
    from the start: batches of other lengths need no code of their own.

    Args:
        model: A model of transformers, bare or inside peft.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    blocks = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for module in blocks or [model]:
        module.compile(dynamic=True)


def fast_attention(model: Any) -> AbstractContextManager[object]:
    """Run PyTorch's attention on bfloat16 in float32, if the model is on a CPU that is faster at it.

    On the x86 without AMX that was measured (an AMD EPYC, `benchmarks/NOTES.md`) the backward pass of PyTorch's
    attention takes twice the time in bfloat16 that it takes in float32, and the forward pass a third more; others are
    assumed to be like it. The result in float32 is the more exact one, too.

    Not for compiled models.

    Args:
        model: A model of transformers, bare or inside peft.
    """
    is_bf16 = model.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    if model.device.type != "cpu" or not is_bf16:
        return nullcontext()
    abilities = _cpu_capabilities()
    if not abilities.get("avx2", False) or abilities.get("amx_tile", False):
        return nullcontext()
    return _Float32Attention()


def same_attention() -> AbstractContextManager[object]:
    """Return what repeats a part of the forward pass with the attention that it has now: in `fast_attention` or not."""
    return _Float32Attention() if _Float32Attention.depth else nullcontext()


def native_bfloat16(device: str) -> tuple[bool, str]:
    """Return whether a type of device multiplies matrices in bfloat16 itself, and a few words on why.

    A CPU needs AMX-BF16 or AVX512-BF16, which its CPUID says. `torch.ops.mkldnn._is_mkldnn_bf16_supported` would be
    true for any AVX512 (`mkldnn_bf16_device_check` in ATen/native/mkldnn/Utils.h): oneDNN then emulates bfloat16 with
    float32 instructions, which is slower than float32.

    Args:
        device: cuda, mps, cpu or another type; of several GPUs all have to.
    """
    if device == "cuda":
        count = torch.cuda.device_count()
        lowest = min((torch.cuda.get_device_capability(index) for index in range(count)), default=(0, 0))
        name = f"compute capability {lowest[0]}.{lowest[1]}"
        return lowest >= _FIRST_CUDA_CAPABILITY, f"GPU of {name}, bfloat16 from 8.0"
    if device == "mps":
        # Autocast to bfloat16 came with Metal 3.1.
        has_it = torch.backends.mps.is_macos_or_newer(14, 0)
        return has_it, "Apple GPU" if has_it else "Apple GPU below macOS 14"
    if device == "cpu":
        abilities = _cpu_capabilities()
        for key, name in (("amx_bf16", "AMX-BF16"), ("avx512_bf16", "AVX512-BF16")):
            if abilities.get(key, False):
                return True, f"CPU with {name}"
        return False, "CPU without native bfloat16"
    return False, "no native bfloat16 known of the device"


def _cpu_capabilities() -> dict[str, bool]:
    # PyTorch 2.10 cannot be asked yet.
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


class _Float32Attention(TorchFunctionMode):
    depth: ClassVar[int] = 0
    """How many times it is entered now."""

    @override
    def __enter__(self) -> Self:
        _Float32Attention.depth += 1
        entered: Self = super().__enter__()  # type: ignore[no-untyped-call]
        return entered

    @override
    def __exit__(self, *exception: Any) -> None:
        _Float32Attention.depth -= 1
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query: Tensor = kwargs["query"] if "query" in kwargs else args[0]
        # Autocast would turn them back into bfloat16.
        with torch.autocast("cpu", enabled=False):
            output: Tensor = func(*map(_float32, args), **{name: _float32(value) for name, value in kwargs.items()})
        return output.to(query.dtype)


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
