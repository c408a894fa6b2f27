"""Cross-entropy in blocks against PyTorch's on all logits: values, gradients, dtypes, memory."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_neft.models import blocked_loss as blocks
from lightning_neft.models.blocked_loss import Adjustment, HeadInput, blocked_loss, blocked_scores

VOCABULARY, WIDTH, COUNT = 50, 16, 11
AS_IS = Adjustment()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tokens a block."""
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 4 * 4 * VOCABULARY)


class Given:
    """Hidden states, a head and targets, of which one is ignored."""

    def __init__(self, bias: bool = False, weighted: bool = False, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.states = torch.randn(COUNT, WIDTH, dtype=dtype, requires_grad=True)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=bias, dtype=dtype)
        self.targets = torch.randint(VOCABULARY, (COUNT,))
        self.targets[5] = -100
        self.weights = torch.rand(COUNT) if weighted else None

    def plain(self, adjustment: Adjustment = AS_IS) -> Tensor:
        logits = self.head(self.states)
        logits = adjustment.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        losses = F.cross_entropy(logits, self.targets, reduction="none")
        return (losses * (1.0 if self.weights is None else self.weights)).sum()

    def ours(self, adjustment: Adjustment = AS_IS, is_linear: bool = True) -> Tensor:
        return blocked_loss(HeadInput(self.states, self.head, adjustment, is_linear), self.targets, self.weights)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        given = [self.states, *self.head.parameters()]
        # As the share of a step and a loss scale multiply it.
        return list(torch.autograd.grad(loss * 0.37, [value for value in given if value.requires_grad]))


def check_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-6) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.double() - other.double()).norm() <= tolerance * other.double().norm()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("adjustment", [Adjustment(), Adjustment(0.3), Adjustment(cap=0.5), Adjustment(3.0, 0.7)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("is_linear", [False, True])
def test_values_and_gradients_are_those_of_all_logits(
    adjustment: Adjustment, bias: bool, weighted: bool, is_linear: bool
) -> None:
    given = Given(bias, weighted)
    expected, found = given.plain(adjustment), given.ours(adjustment, is_linear)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    check_same(given.gradients(found), given.gradients(expected))
    with torch.no_grad():
        assert given.ours(adjustment, is_linear).item() == pytest.approx(expected.item(), rel=1e-6)


def test_one_block_gives_the_same() -> None:
    given = Given(bias=True)
    check_same(given.gradients(given.ours()), given.gradients(given.plain()))


@pytest.mark.usefixtures("small_blocks")
def test_a_part_that_is_frozen_has_no_gradient() -> None:
    given = Given()
    given.head.requires_grad_(False)
    check_same(given.gradients(given.ours()), given.gradients(given.plain()))
    given.head.requires_grad_(True)
    given.states.requires_grad_(False)
    check_same(given.gradients(given.ours()), given.gradients(given.plain()))


@pytest.mark.parametrize("is_linear", [False, True])
def test_no_token_gives_0_and_gradients_of_0(is_linear: bool) -> None:
    """Each rank of DDP has to have all gradients."""
    given = Given(bias=True)
    given.states, given.targets = given.states[:0], given.targets[:0]
    loss = given.ours(is_linear=is_linear)
    assert loss.item() == 0
    if is_linear:
        assert not any(value.any() for value in torch.autograd.grad(loss, given.head.parameters()))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_products_are_narrow_and_sums_wide(dtype: torch.dtype) -> None:
    given = Given(bias=True)
    with torch.autocast("cpu", dtype):
        expected, found = given.plain(), given.ours()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = given.gradients(found)
    check_same(gradients, given.gradients(expected), tolerance=1e-2)
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_many_blocks_of_bfloat16_lose_nothing_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 blocks of one token whose gradients are all alike: a sum in bfloat16 would stop growing at 256 of them."""
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 1)
    head = nn.Linear(4, 8, bias=False, dtype=torch.bfloat16)
    nn.init.zeros_(head.weight)
    states = torch.ones(512, 4, dtype=torch.bfloat16)
    blocked_loss(HeadInput(states, head), torch.zeros(512, dtype=torch.int64), None).backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.bfloat16
    expected = torch.full((8, 4), 512 / 8)
    expected[0] -= 512
    assert torch.equal(head.weight.grad.float(), expected)


@pytest.mark.usefixtures("small_blocks")
def test_float64_stays_float64() -> None:
    given = Given(bias=True, dtype=torch.float64)
    expected, found = (function(Adjustment(2.0, 0.9)) for function in (given.plain, given.ours))
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected.item(), rel=1e-14)
    check_same(given.gradients(found), given.gradients(expected), tolerance=1e-13)


def test_a_second_backward_pass_is_an_error() -> None:
    given = Given()
    loss = given.ours()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="freed after the first backward pass"):
        loss.backward()


@pytest.mark.usefixtures("small_blocks")
def test_tied_weights_have_the_sum_of_both_gradients() -> None:
    table = nn.Embedding(VOCABULARY, WIDTH)
    head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    head.weight = table.weight
    ids, targets = torch.arange(COUNT), torch.arange(1, COUNT + 1)
    (expected,) = torch.autograd.grad(F.cross_entropy(head(table(ids)), targets, reduction="sum"), table.weight)
    (found,) = torch.autograd.grad(blocked_loss(HeadInput(table(ids), head), targets, None), table.weight)
    check_same([found], [expected])


@pytest.mark.usefixtures("small_blocks")
def test_scores_are_losses_and_whether_the_target_is_likeliest() -> None:
    given = Given()
    logits = given.head(given.states)
    given.targets[:3] = logits.argmax(-1)[:3]
    losses, hits = blocked_scores(HeadInput(given.states, given.head), given.targets)
    torch.testing.assert_close(losses, F.cross_entropy(logits, given.targets, reduction="none"))
    assert not losses.requires_grad
    assert torch.equal(hits, logits.argmax(-1) == given.targets)
    assert hits[:3].all()


class Largest(TorchDispatchMode):
    """Bytes of the largest new tensor, other than those of the size of the head's weight."""

    def __init__(self, spared: int) -> None:
        super().__init__()
        self.spared, self.largest = spared, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.numel() != self.spared:
                self.largest = max(self.largest, value.numel() * value.element_size())
        return result


@pytest.mark.parametrize("is_linear", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_no_tensor_exceeds_a_block_whatever_the_vocabulary(is_linear: bool, autocast: bool) -> None:
    """140 tokens of 262,144 words would have logits of 147 MB, in any of several tensors."""
    vocabulary, width = 262_144, 2
    head = nn.Linear(width, vocabulary, bias=False)
    states = torch.randn(140, width, requires_grad=True)
    with Largest(vocabulary * width) as seen:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = blocked_loss(HeadInput(states, head, is_linear=is_linear), torch.arange(140), None)
        loss.backward()
        with torch.no_grad():
            blocked_scores(HeadInput(states, head), torch.arange(140))
    assert 2**26 < seen.largest <= 2**27


def test_on_cuda_ligers_kernel_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel in PyTorch's own words, on states that say that they are on a CUDA device."""
    calls: list[dict[str, Any]] = []

    def kernel(states: Tensor, weight: Tensor, targets: Tensor, **options: Any) -> Tensor:
        calls.append({"dtype": weight.dtype, **options})
        logits = F.linear(states, weight, options["bias"]).float()
        logits = Adjustment(cap=options["softcap"]).apply(logits)
        return F.cross_entropy(logits, targets, ignore_index=options["ignore_index"], reduction=options["reduction"])

    stub = ModuleType("liger_kernel.transformers.functional")
    stub.liger_fused_linear_cross_entropy = kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", ModuleType("liger_kernel.transformers"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.functional", stub)
    monkeypatch.setattr(blocks, "find_spec", lambda name: name == "liger_kernel")
    monkeypatch.setattr(Tensor, "is_cuda", True)
    given, adjustment = Given(bias=True), Adjustment(0.5, 0.8)
    check_same(given.gradients(given.ours(adjustment)), given.gradients(given.plain(adjustment)))
    (call,) = calls
    assert call["accum_dtype"] == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        found = given.ours()
    assert calls[-1]["dtype"] == torch.bfloat16
    assert found.dtype == torch.float32
    # The kernel has no weights of tokens, and no use where nothing is trained.
    Given(weighted=True).ours()
    with torch.no_grad():
        given.ours()
    assert len(calls) == 2
