"""Forward passes that end at the input of the first block: later modules do not affect the strength there."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neft.doctor.weights import TooManyWeightsError
from lightning_neft.noise.embedding import EmbeddingTarget

__all__ = ["PassToFirstBlock"]


class _Reached(BaseException):
    """Ends a forward pass; not an Exception, so that no model catches it."""


class PassToFirstBlock:
    """A training forward pass of a batch up to the first block after the embedding; two for an encoder-decoder.

    A model without such a block runs to its end.

    Args:
        model: A model of transformers.
        batch: Arguments of its forward pass.
        targets: The embeddings that must be called before the pass ends.
        weights: Context of the pass, such as `LazyWeights`.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Mapping[str, Any],
        targets: Sequence[EmbeddingTarget],
        weights: AbstractContextManager[object] | None = None,
    ) -> None:
        self.model: Any = model
        self.targets = targets
        self.weights = weights or nullcontext()
        self.is_seq2seq = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
        # Labels would only add the loss, except that an encoder-decoder makes its decoder's tokens from them.
        named = inspect.signature(self.model.forward).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values())
        self.arguments = {
            name: value
            for name, value in batch.items()
            if (name in named or takes_any) and (name != "labels" or self.is_seq2seq)
        }
        if "use_cache" in named:
            self.arguments["use_cache"] = False

    def __call__(self) -> None:
        """Run it."""
        if not self.is_seq2seq:
            with _until(self.model, self.targets) as reached:
                self._run(reached, {})
            return
        # The decoder's embedding is called after the encoder but does not depend on it.
        with _until(self.model.get_encoder(), ()) as reached:
            self._run(reached, {})
        if reached:
            from transformers.modeling_outputs import BaseModelOutput

            encoded = BaseModelOutput(last_hidden_state=torch.zeros_like(reached[0]))
            with _until(self.model.get_decoder(), ()) as reached:
                self._run(reached, {"encoder_outputs": encoded})

    def _run(self, reached: list[Tensor], more: dict[str, Any]) -> None:
        try:
            with self.weights:
                self.model(**self.arguments, **more)
        except _Reached:
            pass
        except TooManyWeightsError:
            # No block was found: measure the embeddings that were called.
            reached.clear()


@contextmanager
def _until(stack: nn.Module, targets: Sequence[EmbeddingTarget]) -> Iterator[list[Tensor]]:
    """End a pass at the first block of a stack after all targets were called; yields the input of that block."""
    shapes: dict[str, torch.Size] = {}
    reached: list[Tensor] = []

    def called(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[name] = output.shape[:-1]

        return hook

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()), None)
        if hidden is None or len(shapes) < len(targets) or hidden.dim() < 2:
            return
        if not targets or hidden.shape[:-1] in shapes.values():
            reached.append(hidden)
            raise _Reached

    handles = [target.module.register_forward_hook(called(target.name)) for target in targets]
    # Registered last, so that the other hooks on a block run before the pass ends.
    handles += [
        module[0].register_forward_pre_hook(stop, with_kwargs=True)
        for module in stack.modules()
        if isinstance(module, nn.ModuleList) and len(module)
    ]
    try:
        yield reached
    finally:
        for handle in handles:
            handle.remove()
