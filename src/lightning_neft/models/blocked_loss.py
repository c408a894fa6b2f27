"""Cross-entropy in blocks of tokens: the logits of a batch never exist as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from lightning_neft.data.tokenization import IGNORED

__all__ = ["Adjustment", "HeadInput", "blocked_loss", "blocked_scores", "each_loss", "parts", "rows_per_block"]

# Float32 logits of a block. Two tensors of this size exist at once, three with a soft cap.
_BLOCK_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Adjustment:
    """What a model does to its logits behind the output embedding: `cap * tanh(scale * logits / cap)`.

    Attributes:
        scale: Factor, as in Cohere and Granite.
        cap: Soft cap, as in Gemma 2; None without one.
    """

    scale: float = 1.0
    cap: float | None = None

    def apply(self, logits: Tensor) -> Tensor:
        """Return the adjusted logits.

        Example:
            >>> Adjustment(scale=0.5).apply(torch.tensor([4.0])), Adjustment(cap=3.0).apply(torch.tensor([99.0]))
            (tensor([2.]), tensor([3.]))
        """
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


@dataclass(frozen=True)
class HeadInput:
    """Hidden states whose logits have not been computed.

    Attributes:
        states: (n, width), what the output embedding would read at each place.
        head: The output embedding, a module.
        adjustment: What the model does to the logits afterwards.
        is_linear: Whether the output embedding is a plain `nn.Linear`, whose gradients are known without autograd;
            any other module is called block by block, and again in the backward pass.
    """

    states: Tensor
    head: Any
    adjustment: Adjustment = Adjustment()
    is_linear: bool = True

    def logits(self, part: slice) -> Tensor:
        """Return the logits (rows, vocabulary) of some of the places, float32 or float64."""
        raw: Tensor = self.head(self.states[part][None])[0]
        return self.adjustment.apply(raw.to(torch.promote_types(raw.dtype, torch.float32)))


def rows_per_block(vocabulary: int) -> int:
    """Return how many tokens have their logits at the same time.

    Example:
        >>> rows_per_block(262_144), rows_per_block(49_152)
        (128, 682)
    """
    return max(1, _BLOCK_BYTES // (4 * vocabulary))


def each_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy (n,) at each place in nats, 0 where there is no target; float32 or float64.

    Args:
        logits: (n, classes), any floating dtype.
        targets: (n,) int64, -100 where there is no loss.
    """
    # Sums of thousands of exponentials: half precision would lose the loss in them.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")


def blocked_loss(inputs: HeadInput, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted sum of the cross-entropies in nats, a scalar of float32 or float64, with gradients.

    Args:
        inputs: The hidden states and what makes logits of them.
        targets: (n,) int64, -100 where there is no loss.
        weights: (n,) float32, or None if all tokens have the same weight.
    """
    states, head = inputs.states, inputs.head
    if inputs.is_linear and torch.is_grad_enabled():
        if states.is_cuda and weights is None and find_spec("liger_kernel") is not None:
            return _liger_loss(inputs, targets)
        of_head = head.weight, head.bias
        found: Tensor = _LinearLoss.apply(states, *of_head, targets, weights, inputs.adjustment)  # type: ignore[no-untyped-call]
        return found
    total = states.new_zeros((), dtype=torch.promote_types(states.dtype, torch.float32))
    for part in parts(inputs):
        given = (inputs, part, targets[part], None if weights is None else weights[part])
        total = total + (
            checkpoint(_part_loss, *given, use_reentrant=False) if torch.is_grad_enabled() else _part_loss(*given)
        )
    return total


@torch.no_grad()
def blocked_scores(inputs: HeadInput, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy at each place, and whether the target has the highest logit.

    Returns:
        (n,) float32 or float64 in nats, 0 where there is no target, and (n,) bool.
    """
    losses = targets.new_zeros(targets.shape, dtype=torch.promote_types(inputs.states.dtype, torch.float32))
    hits = torch.zeros_like(targets, dtype=torch.bool)
    for part in parts(inputs):
        logits = inputs.logits(part)
        losses[part] = each_loss(logits, targets[part])
        hits[part] = logits.argmax(-1) == targets[part]
    return losses, hits


def parts(inputs: HeadInput, count: int | None = None) -> Iterator[slice]:
    """Yield the blocks of the first `count` places, or of all, whose logits exist at the same time."""
    count = len(inputs.states) if count is None else count
    rows = rows_per_block(_vocabulary(inputs))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def _vocabulary(inputs: HeadInput) -> int:
    if inputs.is_linear:
        return int(inputs.head.weight.shape[0])
    # Wrappers and quantised layers have no weight of that shape: the number of columns that they give.
    with torch.no_grad():
        return int(inputs.head(inputs.states[None, :0]).shape[-1])


def _part_loss(inputs: HeadInput, part: slice, targets: Tensor, weights: Tensor | None) -> Tensor:
    losses = each_loss(inputs.logits(part), targets)
    return losses.sum() if weights is None else (losses * weights).sum()


class _LinearLoss(torch.autograd.Function):
    """Summed cross-entropy of `F.linear` whose gradients are formed in the forward pass, while each block exists.

    Three matrix products as in the plain loss, where computing logits again would take a fourth. Block by block the
    gradient of the weight is summed in float32. See Hsu et al., Liger Kernel (arXiv 2410.10989), section 3.2.
    """

    @staticmethod
    @override
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor | None,
        adjustment: Adjustment,
    ) -> Tensor:
        computed_in, summed_in = _dtypes(states)
        (count, width), vocabulary = states.shape, len(weight)
        rows = rows_per_block(vocabulary)
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # A token's gradient is scaled in the narrow matrices, which spares passes over the logits.
        factors = (targets != IGNORED).to(summed_in) * adjustment.scale
        factors = (factors if weights is None else factors * weights).unsqueeze(1)
        safe = targets.clamp(min=0).unsqueeze(1)
        total = states.new_zeros((), dtype=summed_in)
        of_states = torch.empty(count, width, dtype=summed_in, device=states.device) if wants_states else None
        of_weight = of_bias = None
        if wants_weight:
            # Of one block it is a single product, which needs no room to be summed in.
            of_weight = None if 0 < count <= rows else torch.zeros_like(weight, dtype=summed_in)
        if wants_bias:
            of_bias = torch.zeros(vocabulary, dtype=summed_in, device=states.device)
        with torch.autocast(states.device.type, enabled=False):
            matrix, offset = weight.to(computed_in), None if bias is None else bias.to(computed_in)
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                read = states[part].to(computed_in)
                logits = adjustment.apply(F.linear(read, matrix, offset).to(summed_in))
                logs = logits.log_softmax(-1)
                losses = F.nll_loss(logs, targets[part], ignore_index=IGNORED, reduction="none")
                total += losses.sum() if weights is None else (losses * weights[part]).sum()
                slope = logs.exp_()
                slope.scatter_add_(1, safe[part], slope.new_full((1, 1), -1.0).expand(len(read), 1))
                if adjustment.cap is not None:
                    slope.mul_(logits.div_(adjustment.cap).square_().neg_().add_(1.0))
                del logits, logs
                slope = slope.to(computed_in)
                if of_states is not None:
                    of_states[part] = (slope @ matrix) * factors[part]
                if of_bias is not None:
                    of_bias += (slope.to(summed_in) * factors[part]).sum(0)
                if wants_weight:
                    scaled = (read * factors[part]).to(computed_in)
                    if of_weight is None:
                        of_weight = slope.t() @ scaled
                    else:
                        _add_product(of_weight, slope.t(), scaled)
                del slope
        ctx.gradients = of_states, of_weight, of_bias
        ctx.dtypes = states.dtype, weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        if ctx.gradients is None:
            raise RuntimeError("the gradients of this loss are freed after the first backward pass; compute it again")
        gradients, ctx.gradients = ctx.gradients, None
        # In place where the dtype allows: the weight's is as large as the weight.
        found = (
            None
            if value is None
            else value.mul_(grad).to(dtype)
            if _is_wider(value, dtype)
            else value.to(dtype).mul_(grad)
            for value, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return (*found, None, None, None)


def _is_wider(value: Tensor, dtype: torch.dtype) -> bool:
    return torch.promote_types(value.dtype, dtype) == value.dtype


def _dtypes(states: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtype of the matrix products, as autocast would have it, and that of losses and sums."""
    device, dtype = states.device.type, states.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return dtype, torch.promote_types(dtype, torch.float32)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add `left @ right` to a sum, whose dtype may be wider, without a second tensor of its size."""
    if total.dtype == right.dtype:
        total.addmm_(left, right)
        return
    rows = max(1, _BLOCK_BYTES // (8 * total.shape[1]))
    for start in range(0, len(total), rows):
        total[start : start + rows] += left[start : start + rows] @ right


def _liger_loss(inputs: HeadInput, targets: Tensor) -> Tensor:
    """The same by Liger's kernel, which reads the number of targets and so waits for the device once."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    computed_in, summed_in = _dtypes(inputs.states)
    head, adjustment = inputs.head, inputs.adjustment
    states = inputs.states if adjustment.scale == 1.0 else inputs.states * adjustment.scale
    bias: Tensor | None = head.bias
    if bias is not None:
        bias = (bias * adjustment.scale).to(computed_in)
    # Cast here: under autocast the kernel would cast the weight for each of its blocks.
    with torch.autocast(states.device.type, enabled=False):
        found: Tensor = liger_fused_linear_cross_entropy(
            states.to(computed_in),
            head.weight.to(computed_in),
            targets,
            bias=bias,
            ignore_index=IGNORED,
            reduction="sum",
            softcap=adjustment.cap,
            accum_dtype=summed_in,
        )
    return found.to(summed_in)
