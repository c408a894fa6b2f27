"""The order of the samples: a function of seed and epoch, sharded, and continued in the middle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_neft.data.order import HeldOutOrder, TrainOrder

N = 10


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = TrainOrder(range(N), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    torch.manual_seed(1)
    first = order(3, 2)
    assert sorted(first) == list(range(N))
    state = torch.get_rng_state()
    assert order(3, 2) == first
    assert torch.equal(torch.get_rng_state(), state)
    orders = [tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)]
    # Seed 0 in epoch 1 is not seed 1 in epoch 0.
    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 15])
def test_ranks_share_an_epoch_evenly(world_size: int) -> None:
    shards = [list(TrainOrder(range(N), 0, rank, world_size)) for rank in range(world_size)]
    assert len({len(shard) for shard in shards}) == 1
    assert len(TrainOrder(range(N), 0, 0, world_size)) == len(shards[0])
    drawn = [index for shard in shards for index in shard]
    counts = np.bincount(drawn, minlength=N)
    assert counts.min() == 1 if world_size <= N else counts.min() >= 1
    assert len(drawn) - N < world_size
    # One order, dealt out: read across the ranks it is that of a single process.
    across = [shard[step] for step in range(len(shards[0])) for shard in shards]
    assert across[:N] == list(TrainOrder(range(N), 0))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 15])
def test_each_held_out_sample_counts_once_over_the_ranks(world_size: int) -> None:
    shards = [list(HeldOutOrder(range(N), rank, world_size)) for rank in range(world_size)]
    assert len({len(shard) for shard in shards}) == 1
    drawn = [index for shard in shards for index in shard]
    assert sorted(index for index in drawn if index < N) == list(range(N))
    assert all(index == N for index in drawn if index >= N)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stop", range(5))
def test_a_loader_goes_on_in_the_middle_of_an_epoch(stop: int, num_workers: int) -> None:
    def loader() -> StatefulDataLoader:
        # Workers get the data by pickling.
        return StatefulDataLoader(
            list(range(N)), batch_size=2, sampler=TrainOrder(range(N), 7), collate_fn=list, num_workers=num_workers
        )

    unbroken = loader()
    unbroken.sampler.set_epoch(1)
    expected = list(unbroken)
    assert len(expected) == 5

    broken = loader()
    broken.sampler.set_epoch(1)
    batches = iter(broken)
    begun = [next(batches) for _ in range(stop)]
    state = broken.state_dict()

    resumed = loader()
    resumed.load_state_dict(state)
    # As under Lightning: the iterator is made first, and the sampler is told its epoch after that.
    rest = iter(resumed)
    resumed.sampler.set_epoch(1)
    assert begun + list(rest) == expected
    # And the next epoch is the one that it would have been.
    for each in (unbroken, resumed):
        each.sampler.set_epoch(2)
    assert list(resumed) == list(unbroken) != expected


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_loader_saved_after_the_last_batch_goes_on_with_the_next_epoch(num_workers: int, has_ended: bool) -> None:
    def loader() -> StatefulDataLoader:
        return StatefulDataLoader(
            list(range(N)), batch_size=2, sampler=TrainOrder(range(N), 7), collate_fn=list, num_workers=num_workers
        )

    broken = loader()
    batches = iter(broken)
    for _ in range(5):
        next(batches)
    if has_ended:  # the loader has noticed that there is no further batch
        assert next(batches, None) is None
    resumed, expected = loader(), loader()
    resumed.load_state_dict(broken.state_dict())
    expected.sampler.set_epoch(1)
    # Lightning uses this iterator for the next epoch without making another one.
    assert list(resumed) == list(expected)
