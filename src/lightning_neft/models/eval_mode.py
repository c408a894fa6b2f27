"""Run a model for a while in eval mode and without compiled code, and leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

__all__ = ["eager", "evaluating"]


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
