"""Several forward passes in one batch whose masks batch_to_mask gives: by shape, else in their order."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import LengthsError
from tiny import VOCABULARY, batch, t5

QUERY, DOCUMENT = batch([2, 6], width=6), batch([5, 3], width=6, seed=1)
SHORT = batch([1, 4], width=4, seed=2)


def towers():
    return nn.ModuleDict({"query": nn.Embedding(VOCABULARY, 16), "document": nn.Embedding(VOCABULARY, 16)})


def tokens(module, ids):
    """Which tokens of a pass got noise."""
    clean = nn.functional.embedding(ids, module.weight)
    return ((module(ids) - clean).abs().sum(-1) > 0).long().tolist()


def attached(module, masks, target=("query", "document")):
    return EmbeddingNoise(5, target=target, batch_to_mask=lambda given: masks).attach(module)


def mask_of(given):
    return given["attention_mask"]


def test_masks_of_one_shape_belong_to_the_passes_in_their_order():
    module = towers()
    noise = attached(module, [mask_of(QUERY), mask_of(DOCUMENT)])
    for step in range(2):
        with noise.armed({}, step):
            assert tokens(module["query"], QUERY["input_ids"]) == mask_of(QUERY).tolist()
            assert tokens(module["document"], DOCUMENT["input_ids"]) == mask_of(DOCUMENT).tolist()
    one = attached(module, [mask_of(QUERY), mask_of(DOCUMENT), mask_of(SHORT)], target="query")
    with one.armed({}, 0):
        for given in (QUERY, DOCUMENT, SHORT):
            assert tokens(module["query"], given["input_ids"]) == mask_of(given).tolist()


def test_passes_without_gradients_do_not_count():
    module = towers()
    noise = attached(module, [mask_of(QUERY), mask_of(DOCUMENT)], target="query")
    with noise.armed({}, 0):
        with torch.no_grad():
            module["query"](DOCUMENT["input_ids"])
        assert tokens(module["query"], QUERY["input_ids"]) == mask_of(QUERY).tolist()
        assert tokens(module["query"], DOCUMENT["input_ids"]) == mask_of(DOCUMENT).tolist()


@pytest.mark.parametrize("calls", [1, 3])
def test_another_number_of_passes_than_of_masks_is_an_error(calls, snapshot):
    module = towers()
    noise = attached(module, [mask_of(QUERY), mask_of(DOCUMENT)], target="query")
    with pytest.raises(LengthsError, match="batch_to_mask") as error, noise.armed({}, 0):
        [module["query"](QUERY["input_ids"]) for _ in range(calls)]
    snapshot(str(error.value))


def test_masks_seen_in_another_order_are_not_matched_by_order():
    module = towers()
    masks = [mask_of(DOCUMENT), mask_of(SHORT)]
    noise = EmbeddingNoise(5, target="query", batch_to_mask=lambda given: masks).attach(module)
    with noise.armed({}, 0):
        assert tokens(module["query"], SHORT["input_ids"]) == mask_of(SHORT).tolist()
        assert tokens(module["query"], DOCUMENT["input_ids"]) == mask_of(DOCUMENT).tolist()
    masks[:] = [mask_of(DOCUMENT), mask_of(QUERY)]
    with pytest.raises(LengthsError, match=r"query .*pass 1\)"), noise.armed({}, 1):
        module["query"](QUERY["input_ids"])


def test_a_recomputed_pass_has_the_mask_of_the_first_time():
    from torch.utils.checkpoint import checkpoint

    def gradient(recompute):
        module = towers()
        nn.init.ones_(module["query"].weight)
        noise = attached(module, [mask_of(QUERY), mask_of(DOCUMENT)], target="query")

        def block(ids):
            return module["query"](ids).pow(3).sum()

        with noise.armed({}, 0):
            passes = [QUERY["input_ids"], DOCUMENT["input_ids"]]
            sum(checkpoint(block, i, use_reentrant=False) if recompute else block(i) for i in passes).backward()
        return module["query"].weight.grad

    torch.testing.assert_close(gradient(True), gradient(False))


def test_both_sides_of_an_encoder_decoder():
    model = t5()
    labels = DOCUMENT["labels"]
    noise = EmbeddingNoise(5, batch_to_mask=lambda given: [mask_of(QUERY), mask_of(DOCUMENT)]).attach(model)
    seen = []
    for name, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        stack.embed_tokens.register_forward_hook(
            lambda m, a, output, name=name: seen.append((name, output - nn.functional.embedding(a[0], m.weight)))
        )
    with noise.armed({}, 0):
        model(input_ids=QUERY["input_ids"], attention_mask=mask_of(QUERY), labels=labels)
    noised = {name: (delta.abs().sum(-1) > 0).long().tolist() for name, delta in seen}
    assert noised == {"encoder": mask_of(QUERY).tolist(), "decoder": mask_of(DOCUMENT).tolist()}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ([], "empty list"),
        ({"mask": mask_of(QUERY)}, "dict"),
        ("mask", "str"),
        (mask_of(QUERY).numpy(), "ndarray"),
        ([mask_of(QUERY), None], "NoneType"),
    ],
    ids=["empty", "dict", "str", "numpy", "None inside"],
)
def test_an_answer_that_is_no_mask_is_an_error(answer, kind, snapshot):
    noise = EmbeddingNoise(5, target="query", batch_to_mask=lambda given: answer).attach(towers())
    with pytest.raises(LengthsError, match=f"batch_to_mask .*{kind}") as error:
        noise.arm(QUERY, 0)
    snapshot(str(error.value))


def test_fields_of_no_use_are_not_read_where_the_mask_is_given():
    module = towers()
    noise = EmbeddingNoise(5, target="query", batch_to_mask=lambda given: mask_of(QUERY)).attach(module)
    with noise.armed({"attention_mask": ["not", "a", "tensor"]}, 0):
        assert tokens(module["query"], QUERY["input_ids"]) == mask_of(QUERY).tolist()
