"""The output embedding of a language model: its input at the trained places, which may be all that a loss needs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from lightning_neft.errors import ModelError
from lightning_neft.models.blocked_loss import Adjustment, HeadInput
from lightning_neft.models.execution import eager, evaluating

__all__ = ["OutputHead"]


@dataclass
class _Request:
    """Where a model's logits are wanted, for as long as it is called for them.

    Attributes:
        index: (n,) int64, places in the flattened batch; None for all.
        ids: (batch, length), read for their shape alone: numbers would be compiled into the graph.
        keeps_states: Whether the hidden states are kept and no logits are computed.
        states: (n, width), the hidden states that were kept.
    """

    index: Tensor | None
    ids: Tensor
    keeps_states: bool = False
    states: Tensor | None = None


# A global, because torch.compile takes tensors that it reaches through a module for ones of fixed shape, and would
# compile again for each number of places.
_REQUESTS: dict[int, _Request] = {}

_KEYS = itertools.count()

# Tokens of the check at the first batch.
_PROBED = 8
# How far adjusted logits may be off the model's own, which are adjusted in its dtype, relative to the largest.
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


class OutputHead:
    """Makes a language model compute no logits but those that its loss needs.

    A hook in front of the output embedding picks the hidden states of the wanted places out of the flattened batch. At
    the first batch two short forward passes show whether the model's logits are those of its output embedding, up to
    a scale and a soft cap. If so, the hook keeps the hidden states and the loss is computed from them in blocks. If
    not, the model computes the logits of the wanted places. Where there is no output embedding, or it is called with
    something else, it computes all logits, which are then picked from.

    Args:
        model: A model of transformers, bare or inside peft.
    """

    def __init__(self, model: Any) -> None:
        self._key = next(_KEYS)
        self._model = model
        try:
            head = model.get_output_embeddings()
        except (AttributeError, NotImplementedError):
            head = None
        self._head: Any = head if isinstance(head, nn.Module) else None
        if self._head is not None:
            self._head.register_forward_pre_hook(self._pick)
        self.plan: HeadInput | str | None = None
        """How the loss is computed: from hidden states (here empty), or from logits for the reason in it."""

    def prepare(self, run: Callable[[dict[str, Any]], Any], batch: Mapping[str, Any]) -> None:
        """Find out at the first batch how the loss can be computed, with two short forward passes in eval mode.

        Args:
            run: Runs the model on a batch.
            batch: As it is run in training; the start of its first row is read.
        """
        if self.plan is not None:
            return
        few = {k: v[:1, :_PROBED] for k, v in batch.items() if isinstance(v, Tensor) and v.dim() == 2}
        if "attention_mask" in few:  # a row may begin with padding
            few["attention_mask"] = torch.ones_like(few["attention_mask"])
        try:
            with torch.no_grad(), evaluating(self._model), eager(self._model):
                self.plan = self._plan(lambda: run(few).logits, few["labels" if "labels" in few else "input_ids"])
        except Exception as error:  # whatever it is: the plain loss needs none of this
            self.plan = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(self.plan, str):
            rank_zero_info(f"The loss is computed from the logits of all trained tokens at once ({self.plan}).")

    def assume(self) -> None:
        """Plan a loss in blocks without trying the model, whose tensors have no data."""
        if self._head is not None:
            cap = getattr(self._model.config.get_text_config(), "final_logit_softcapping", None)
            adjustment = Adjustment(cap=None if cap is None else float(cap))
            self.plan = HeadInput(torch.empty(0), self._head, adjustment, _is_plain_linear(self._head))

    @contextmanager
    def at(self, index: Tensor | None, ids: Tensor) -> Iterator[_Request]:
        """Within it, a call of the model computes what the loss at these places needs.

        Args:
            index: (n,) int64, places in the flattened batch; None for all.
            ids: (batch, length), what the decoder is called with.
        """
        _REQUESTS[self._key] = request = _Request(index, ids, isinstance(self.plan, HeadInput))
        try:
            yield request
        finally:
            del _REQUESTS[self._key]

    def taken(self, logits: Tensor, request: _Request) -> Tensor | HeadInput:
        """Return the logits (n, vocabulary) at the wanted places, or the hidden states in place of them.

        Raises:
            ModelError: The model gave logits for neither these places nor for each token of the batch.
        """
        if request.states is not None and isinstance(self.plan, HeadInput):
            return replace(self.plan, states=request.states)
        index, shape = request.index, request.ids.shape
        if logits.shape[:2] == shape:
            flat = logits.flatten(0, 1)
            return flat if index is None else flat.index_select(0, index)
        # All of a batch's places are never wanted, the last one of each row predicts nothing: the two shapes differ.
        if logits.shape[:2] == (1, shape.numel() if index is None else len(index)):
            return logits[0]
        raise ModelError(
            f"the model gave logits of shape {tuple(logits.shape)} for tokens of shape {tuple(shape)}: a causal "
            "language model gives logits at each token; choose another model.base or another task"
        )

    def _pick(self, head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The hook: what it returns are the head's arguments; None leaves them."""
        request = _REQUESTS.get(self._key)
        if request is None or not args or args[0].dim() != 3 or args[0].shape[:2] != request.ids.shape:
            return None
        states = args[0].flatten(0, 1)
        if request.index is not None:
            states = states.index_select(0, request.index)
        if not request.keeps_states:
            return states[None], *args[1:]
        request.states = states
        # Of no token: the model's own adjustment of its logits still runs, at no cost.
        return states[None, :0], *args[1:]

    def _plan(self, run: Callable[[], Tensor], ids: Tensor) -> HeadInput | str:
        """Compare the model's logits with those of its output embedding; of ids (1, few) only the shape is read."""
        head = self._head
        if head is None:
            return "the model names no output embedding"
        with ExitStack() as stack:
            behind = _Behind(stack)
            stack.enter_context(head.register_forward_hook(behind.entered))
            logits = run()
        if len(behind.outputs) != 1:
            return f"the output embedding is called {len(behind.outputs)} times in a forward pass"
        if behind.reads_parameter:
            return "the model has parameters behind its output embedding"
        raw = behind.outputs[0]
        adjustment = _adjustment(self._model, raw, logits)
        if adjustment is None:
            return "the model's logits are not those of its output embedding"
        with self.at(None, ids) as request:
            request.keeps_states = True
            if run().numel() or request.states is None:
                return "the output embedding is not called with the hidden states of each token"
        # Of a layer that is sharded (tensor parallelism, DeepSpeed's stage 3) the weight is whole only while it runs.
        weight = getattr(head, "weight", None)
        if isinstance(weight, Tensor) and (hasattr(weight, "full_tensor") or not weight.numel()):
            return "the weight of the output embedding is sharded"
        is_linear = _is_plain_linear(head)
        if is_linear and not _is_close(F.linear(request.states, head.weight, head.bias), raw.flatten(0, -2), slack=10):
            return "the output embedding computes something else than its weight says"
        return HeadInput(torch.empty(0), head, adjustment, is_linear)


class _Behind(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches what a model does behind its output embedding, once that has been called."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stack = stack
        self.outputs: list[Tensor] = []
        self.reads_parameter = False

    def entered(self, head: nn.Module, args: Any, output: Tensor) -> None:
        if not self.outputs:
            self._stack.enter_context(self)
        self.outputs.append(output.clone())  # the model may change its logits in place

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Without gradients only parameters require them.
        if any(isinstance(value, Tensor) and value.requires_grad for value in tree_leaves((args, kwargs))):
            self.reads_parameter = True
        return func(*args, **(kwargs or {}))


def _adjustment(model: Any, raw: Tensor, logits: Tensor) -> Adjustment | None:
    """Return how a model adjusts the output of its output embedding, or None if that is not a known adjustment."""
    if raw.shape == logits.shape and torch.equal(raw.to(logits.dtype), logits):
        return Adjustment()
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or getattr(config, "lm_head_multiplier", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    found = Adjustment(scale, None if cap is None else float(cap))
    return found if _is_close(found.apply(raw.to(torch.promote_types(raw.dtype, torch.float32))), logits) else None


def _is_close(found: Tensor, expected: Tensor, slack: float = 1.0) -> bool:
    if found.shape != expected.shape:
        return False
    tolerance = slack * max(_TOLERANCES.get(value.dtype, 3e-2) for value in (found, expected))
    return bool((found.double() - expected.double()).abs().max() <= tolerance * expected.double().abs().max())


def _is_plain_linear(head: Any) -> bool:
    """Whether a module computes `F.linear` of its weight and bias, and has no hooks but those of this file."""
    hooks = [hook for hook in head._forward_pre_hooks.values() if getattr(hook, "__func__", None) != OutputHead._pick]
    return (
        type(head) is nn.Linear
        and type(head.weight) is nn.Parameter
        and not hooks
        and not head._forward_hooks
        and not head._backward_hooks
        and not head._backward_pre_hooks
        and "forward" not in vars(head)
    )
