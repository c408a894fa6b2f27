"""How a model is run: in eval mode, without compiled code, with fast attention on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

__all__ = ["eager", "evaluating", "fast_attention"]


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
    # The setting imports the compiler, which takes seconds.
    return torch.compiler.set_stance("force_eager") if model._compiled_call_impl is not None else nullcontext()


def fast_attention(model: Any) -> AbstractContextManager[object]:
    """Run PyTorch's attention on bfloat16 in float32, if the model is on a CPU that is faster at it.

    On the x86 without AMX that was measured (an AMD EPYC, `benchmarks/NOTES.md`) the backward pass of PyTorch's
    attention takes twice the time in bfloat16 that it takes in float32, and the forward pass a third more; others are
    taken to be like it. The result in float32 is the more exact one, too.

    Not for compiled models, nor for those that compute activations again in the backward pass: that is outside of the
    context, and the activations would have another dtype.

    Args:
        model: A model of transformers, bare or inside peft.
    """
    is_bf16 = model.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    if model.device.type != "cpu" or not is_bf16:
        return nullcontext()
    # PyTorch 2.10 cannot be asked yet.
    abilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    if not abilities.get("avx2", False) or abilities.get("amx_tile", False):
        return nullcontext()
    return _Float32Attention()


class _Float32Attention(TorchFunctionMode):
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
