"""What a batch holds is walked once, and its kind does not depend on the number of samples; the cost of arming it."""

from __future__ import annotations

import collections

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import LengthsError
from lightning_neft.noise.contents import Contents
from tiny import VOCABULARY, batch


class Counted(dict):
    """A dict that counts how often it is read as a whole."""

    reads = 0

    def items(self):
        self.reads += 1
        return super().items()


@pytest.mark.parametrize("mask", [None, torch.ones(2, 6), []], ids=["mask", "batch_to_mask", "no mask"])
def test_an_armed_batch_is_walked_once(mask):
    given, table = Counted(batch([3, 6])), nn.Embedding(VOCABULARY, 8)
    if isinstance(mask, list):
        del given["attention_mask"]
    function = (lambda given: mask) if isinstance(mask, torch.Tensor) else None
    noise = EmbeddingNoise(5, batch_to_mask=function).attach(table)
    for step in range(2):
        given.reads = 0
        with noise.armed(given, step):
            table(given["input_ids"])
        assert given.reads == 1


def test_places_of_samples_do_not_count_for_the_kind():
    def places(given):
        return {part.place for part in Contents(given).leaves}

    def samples(count):
        return [{"x": index} for index in range(count)]

    assert places(samples(9)) == places(samples(7)) != places(samples(3))
    assert places({"x": list(range(70))}) == places({"x": list(range(5))})
    assert places({0: "a", 17: "b"}) == places({0: "a", 230: "b"})
    assert places(({"x": 1}, 2)) != places((2, {"x": 1}))


def test_batches_of_many_samples_are_of_one_kind():
    """A mask that nothing reads is looked for in the first batch of a kind alone."""
    table, ids = nn.Embedding(VOCABULARY, 8), batch([6, 6])["input_ids"]
    noise = EmbeddingNoise(5).attach(table)
    for step, samples in enumerate((8, 9)):
        noise.arm({"tokens": ids, "texts": ["a"] * samples}, step)
        table(ids)
        noise.disarm()
        assert noise._kinds.is_new == (step == 0)


def test_batch_to_mask_may_add_a_field_to_the_batch():
    given, table = batch([3, 6]), nn.Embedding(VOCABULARY, 8)
    mask = given.pop("attention_mask")

    def add_mask(given):
        given["attention_mask"] = mask

    noise = EmbeddingNoise(5, batch_to_mask=add_mask).attach(table)
    clean = table(given["input_ids"])
    with noise.armed(given, 0):
        noisy = table(given["input_ids"])
    assert ((noisy - clean).abs().sum(-1) > 0).long().tolist() == mask.tolist()


def test_a_batch_inside_itself_ends_and_one_too_deep_is_an_error():
    loop: dict[str, object] = {"x": 1}
    loop["self"] = loop
    assert [part.path for part in Contents(loop).leaves] == ["batch['x']"]
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(LengthsError, match="32 levels"):
        Contents(deep).leaves  # noqa: B018


class Operations(TorchDispatchMode):
    """Counts tensor operations."""

    def __init__(self):
        super().__init__()
        self.count = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("field", "most"), [("attention_mask", 22), (None, 12)])
def test_an_armed_batch_needs_few_tensor_operations(field, most):
    """Each of them is a kernel launch on a GPU; one value is read on the CPU, in which no device takes part."""
    given, table = batch([64, 113]), nn.Embedding(VOCABULARY, 64)
    given = {key: given[key] for key in ("input_ids", field) if key}
    noise = EmbeddingNoise(5).attach(table)
    for step in range(3):
        with Operations() as seen, noise.armed(given, step):
            table(given["input_ids"])
    del seen.count["aten.embedding.default"]
    assert sum(seen.count.values()) <= most, dict(seen.count)
