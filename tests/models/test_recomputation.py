"""What the backward pass computes again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointPolicy

from lightning_neft.models.recomputation import _policy, recompute_blocks
from tiny import batch, llama


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func._overloadpacket._qualified_op_name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def calls_of_a_step(kind: bool | str) -> Counter[str]:
    model = llama(attn_implementation="sdpa").train()
    if kind:
        recompute_blocks(model, is_selective=kind == "selective", is_compiled=False)
    with Counted() as counted:
        model(**batch([9, 5])).loss.backward()
    return counted.calls


def test_selective_repeats_no_matrix_product_and_no_attention() -> None:
    plain, selective, whole = (calls_of_a_step(kind) for kind in (False, "selective", True))
    for name in ("mm", "_scaled_dot_product_flash_attention_for_cpu"):
        assert plain[name] == selective[name] < whole[name]
    assert plain["silu"] < selective["silu"] == whole["silu"]


@pytest.mark.parametrize(("dropout", "is_kept"), [(0.0, True), (0.1, False)])
def test_attention_that_draws_random_numbers_is_repeated(dropout: float, is_kept: bool) -> None:
    """Left out, it would leave its numbers to the next operation, whose dropout would differ from the forward pass."""
    states = torch.zeros(1, 1, 2, 8)
    attention = torch.ops.aten._scaled_dot_product_flash_attention.default
    found = _policy(None, attention, states, states, states, dropout)
    assert (found is CheckpointPolicy.MUST_SAVE) is is_kept
    by_name = _policy(None, attention, states, states, states, dropout_p=dropout)
    assert by_name is found
