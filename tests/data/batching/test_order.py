"""The order of the batches: a function of seed and epoch, shared out to the ranks, weighed, and continued."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft.data.batching.order import HeldOutOrder, TrainOrder
from lightning_neft.data.batching.plan import BatchPlan
from lightning_neft.errors import ConfigError, DataError

BATCHINGS = ["random", "length_grouped", "packed", "flat"]
N = 23
LENGTHS = (np.arange(N) * 7) % 11 + 1
WEIGHTS = (np.arange(N) * 5) % 7 + 1.0


def order_of(batching: str = "random", **options: Any) -> TrainOrder:
    defaults: dict[str, Any] = {"batch_size": 3, "max_length": 16, "seed": 7}
    return TrainOrder(LENGTHS, WEIGHTS, batching=batching, **{**defaults, **options})  # type: ignore[arg-type]


def indices(plans: list[BatchPlan]) -> list[int]:
    return [index for plan in plans for row in plan.rows for index in row]


@pytest.mark.parametrize("batching", BATCHINGS)
def test_an_epoch_depends_on_seed_and_epoch_alone(batching: str) -> None:
    def epoch_of(seed: int, epoch: int) -> list[BatchPlan]:
        order = order_of(batching, seed=seed)
        order.set_epoch(epoch)
        return list(order)

    torch.manual_seed(1)
    np.random.seed(1)
    first = epoch_of(3, 2)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert epoch_of(3, 2) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == numpy_state
    epochs = [tuple(epoch_of(seed, epoch)) for seed in range(4) for epoch in range(4)]
    # Seed 0 in epoch 1 is not seed 1 in epoch 0.
    assert len(set(epochs)) == len(epochs)
    assert {len(epoch) for epoch in epochs} == {len(first)}


def test_packed_rows_stay_the_same_in_each_epoch() -> None:
    order = order_of("packed")
    rows = [Counter(row for plan in order.plans(epoch) for row in plan.rows) for epoch in range(3)]
    assert rows[0] == rows[1] == rows[2] == Counter(order.rows)
    assert max(sum(LENGTHS[list(row)]) for row in order.rows) <= 16


@given(
    st.integers(1, 60), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.sampled_from(BATCHINGS), st.data()
)
def test_each_step_is_the_mean_over_its_tokens(
    count: int, batch_size: int, world_size: int, accumulate: int, batching: Any, data: st.DataObject
) -> None:
    rng = np.random.default_rng(count)
    lengths, weights = rng.integers(1, 17, count), rng.integers(1, 9, count) / 2
    limit = data.draw(st.sampled_from([1.0, 0.5, 1, 3]))
    options: dict[str, Any] = {"batching": batching, "batch_size": batch_size, "max_length": 16, "seed": 1}
    options |= {"world_size": world_size, "accumulate": accumulate}
    whole, ranks = [
        [TrainOrder(lengths, weights, rank=rank, limit_batches=used, **options) for rank in range(world_size)]
        for used in (1.0, limit)
    ]
    steps = len(whole[0])
    assert {len(order) for order in (*whole, *ranks)} == {steps}
    plans = [order.plans(2) for order in ranks]
    expected = min(steps, limit) if isinstance(limit, int) else int(limit * steps)
    assert {len(mine) for mine in plans} == {expected}
    for mine, all_of_mine in zip(plans, (order.plans(2) for order in whole), strict=True):
        assert [plan.rows for plan in mine] == [plan.rows for plan in all_of_mine[:expected]]
    # Ranks without a row of their own stand in with a share of 0.
    counted = [i for mine in (order.plans(2) for order in whole) for i in indices([p for p in mine if p.step_share])]
    assert sorted(counted) == list(range(count))
    fillers = [plan for mine in plans for plan in mine if plan.step_share == 0]
    assert len(fillers) < world_size
    for start in range(0, expected, accumulate):
        window = [plan for mine in plans for plan in mine[start : min(start + accumulate, expected)]]
        # What the definition says, with the samples' own weights.
        own = [weights[indices([plan])].sum() if plan.step_share else 0.0 for plan in window]
        np.testing.assert_allclose([plan.step_share for plan in window], np.array(own) / sum(own), rtol=1e-12)
    assert all(1 <= len(plan.rows) <= batch_size for mine in plans for plan in mine)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_steps_of_one_process(world_size: int) -> None:
    single = order_of("random", batch_size=2 * world_size).plans(4)
    ranks = [order_of("random", batch_size=2, rank=rank, world_size=world_size).plans(4) for rank in range(world_size)]
    for step, plan in enumerate(single):
        shares = [mine[step] for mine in ranks]
        assert tuple(row for share in shares if share.step_share for row in share.rows) == plan.rows


def test_ranks_get_batches_of_similar_length_in_one_step() -> None:
    lengths = np.random.default_rng(0).permutation(800) + 1
    ranks = [TrainOrder(lengths, lengths, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    widest = np.array([[lengths[indices([plan])].max() for plan in order.plans(0)] for order in ranks])
    assert np.abs(widest[0] - widest[1]).mean() < 0.1 * widest.std()


@pytest.mark.parametrize("batching", BATCHINGS)
def test_data_smaller_than_a_batch(batching: Any) -> None:
    for world_size in (1, 3):
        orders = [
            TrainOrder([4, 5], [1, 3], batching=batching, batch_size=8, max_length=5, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        plans = [order.plans(0) for order in orders]
        assert [len(mine) for mine in plans] == [1] * world_size
        assert sum(plan.step_share or 0 for (plan,) in plans) == pytest.approx(1)
        assert all(plan.rows for (plan,) in plans)


class Fetched:
    """Gives the plan back as its batch."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, plan: BatchPlan) -> BatchPlan:
        return plan


def as_is(plan: BatchPlan) -> BatchPlan:
    return plan


def loader_of(order: TrainOrder, num_workers: int) -> StatefulDataLoader:
    return StatefulDataLoader(Fetched(), sampler=order, batch_size=None, collate_fn=as_is, num_workers=num_workers)


WORKERS = pytest.mark.parametrize("num_workers", [0, 2])
# Four batches or more for rank 1 of 2; the last of them uses four of six.
RESUMED = pytest.mark.parametrize(
    ("batching", "options"),
    [
        ("length_grouped", {"rank": 1, "world_size": 2, "accumulate": 3}),
        ("packed", {"rank": 1, "world_size": 2, "batch_size": 1, "accumulate": 3}),
        ("random", {"rank": 1, "world_size": 2, "batch_size": 2, "accumulate": 3, "limit_batches": 4}),
    ],
)


@WORKERS
@RESUMED
@pytest.mark.parametrize("stop", range(4))
def test_a_loader_goes_on_in_the_middle_of_an_epoch(
    stop: int, batching: str, options: dict[str, Any], num_workers: int
) -> None:
    unbroken = loader_of(order_of(batching, **options), num_workers)
    unbroken.sampler.set_epoch(1)
    expected = list(unbroken)
    assert len(expected) > stop

    broken = loader_of(order_of(batching, **options), num_workers)
    broken.sampler.set_epoch(1)
    batches = iter(broken)
    begun = [next(batches) for _ in range(stop)]
    state = broken.state_dict()

    resumed = loader_of(order_of(batching, **options), num_workers)
    resumed.load_state_dict(state)
    # As under Lightning: the iterator is made first, and the sampler is told its epoch after that.
    rest = iter(resumed)
    resumed.sampler.set_epoch(1)
    assert begun + list(rest) == expected
    # And the next epoch is the one that it would have been.
    for each in (unbroken, resumed):
        each.sampler.set_epoch(2)
    assert list(resumed) == list(unbroken) != expected


@WORKERS
@RESUMED
@pytest.mark.parametrize("has_ended", [False, True])
def test_a_loader_saved_at_the_end_resumes_with_the_next_epoch(
    has_ended: bool, batching: str, options: dict[str, Any], num_workers: int
) -> None:
    broken = loader_of(order_of(batching, **options), num_workers)
    batches = iter(broken)
    for _ in range(broken.sampler.used):
        next(batches)
    if has_ended:  # the loader has noticed that there is no further batch
        assert next(batches, None) is None
    resumed, expected = (loader_of(order_of(batching, **options), num_workers) for _ in range(2))
    resumed.load_state_dict(broken.state_dict())
    expected.sampler.set_epoch(1)
    # Lightning uses this iterator for the next epoch without making another one.
    batches = iter(resumed)
    if not has_ended:
        # What has its place in an epoch stays in it, whatever is said before its first batch.
        resumed.sampler.set_epoch(0)
    assert list(batches) == list(expected)


@pytest.mark.parametrize(
    "changed",
    [
        {"batch_size": 2},
        {"max_length": 12},
        {"seed": 8},
        {"world_size": 3},
        {"batching": "flat"},
        {"lengths": LENGTHS + 1},
    ],
)
def test_the_state_of_another_order_is_not_taken_up(changed: dict[str, Any]) -> None:
    options: dict[str, Any] = {"lengths": LENGTHS, "batching": "packed", "batch_size": 1, "max_length": 16}
    options |= {"weights": WEIGHTS, "world_size": 2}
    begun = iter(TrainOrder(**options))
    next(begun)
    state = begun.state_dict()  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"^the checkpoint has another order of the training data"):
        iter(TrainOrder(**{**options, **changed})).load_state_dict(state)  # type: ignore[attr-defined]
    # The other ranks take up the state that the first one saved, and more or fewer micro-batches are no other order.
    other = TrainOrder(**options, rank=1, accumulate=2, limit_batches=3)
    resumed = iter(other)
    resumed.load_state_dict(state)  # type: ignore[attr-defined]
    assert [plan.rows for plan in resumed] == [plan.rows for plan in other.plans(0)[1:]]
    assert len(other.plans(0)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"accumulate": 0}, "accumulate must be 1 or more, got 0"),
        ({"max_length": -1}, "max_length must be 1 or more, got -1"),
    ],
)
def test_numbers_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        order_of(**options)


def test_samples_that_cannot_be_trained_on_are_an_error() -> None:
    with pytest.raises(DataError, match=r"^2 of 3 samples have no label to train on, the first of them is sample 1;"):
        TrainOrder([3, 3, 3], [1, 0, np.nan])
    with pytest.raises(DataError, match="there are no samples to train on"):
        TrainOrder([], [])
    with pytest.raises(DataError, match="sample 0 has 17 tokens, more than the 16 of a packed row"):
        TrainOrder([17], [1], batching="packed", max_length=16)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 6))
def test_each_held_out_sample_counts_once_over_the_ranks(count: int, batch_size: int, world_size: int) -> None:
    lengths = (np.arange(count) * 7) % 11
    ranks = [list(HeldOutOrder(lengths, batch_size, rank, world_size)) for rank in range(world_size)]
    assert len({len(mine) for mine in ranks}) == 1
    assert len(HeldOutOrder(lengths, batch_size, 0, world_size)) == len(ranks[0])
    drawn = [index for mine in ranks for index in indices(mine)]
    assert sorted(index for index in drawn if index < count) == list(range(count))
    # A rank without a sample has one without labels, alone.
    alone = [plan for mine in ranks for plan in mine if plan.rows == ((count,),)]
    assert drawn.count(count) == len(alone)
    assert all(1 <= len(plan.rows) <= batch_size and plan.step_share is None for mine in ranks for plan in mine)


def test_validation_batches_have_similar_lengths() -> None:
    lengths = np.random.default_rng(0).permutation(400)
    widths = [lengths[indices([plan])] for plan in HeldOutOrder(lengths, 8)]
    assert max(width.max() - width.min() for width in widths) == 7
    assert 100 < np.mean([width.mean() for width in widths[:10]]) < 300
    assert list(HeldOutOrder(lengths, 8)) == list(HeldOutOrder(lengths, 8))


def test_nothing_held_out_is_an_error() -> None:
    with pytest.raises(DataError, match="there are no held-out samples"):
        HeldOutOrder([], 4)
    with pytest.raises(ConfigError, match="batch_size must be 1 or more, got 0"):
        HeldOutOrder([3], 0)
