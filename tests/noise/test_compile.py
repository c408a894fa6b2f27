"""torch.compile with fullgraph: no break, and nothing compiled anew when lengths, alpha or seeds vary."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import LengthsError
from tiny import batch, llama

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def test_batches_of_any_length_and_alpha_need_few_graphs():
    model = llama()
    # Graphs are counted before any backend: the one that generates no code is the fastest.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    noise = EmbeddingNoise(5).attach(compiled)
    graphs = []
    for step in range(20):
        width = 5 + (7 * step) % 23
        given = batch([width, 3 + step % (width - 3)], width, seed=step)
        noise.arm(given, step, alpha=1.0 + step, measure=step % 5 == 4)
        compiled(**given).loss.backward()
        strength = noise.disarm()
        assert (strength is not None) == (step % 5 == 4)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert not torch._dynamo.utils.counters["graph_break"]
    assert graphs[-1] <= 3
    assert graphs[2] == graphs[-1]


def test_a_compiled_pass_adds_the_noise_of_an_eager_one():
    model, given = llama(), batch([4, 9])
    noise = EmbeddingNoise(5).attach(model)
    with noise.armed(given, 3):
        eager = model(**given).logits
    clean = model(**given).logits
    compiled = torch.compile(model, fullgraph=True)
    noise.attach(compiled)
    with noise.armed(given, 3):
        torch.testing.assert_close(compiled(**given).logits, eager, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(compiled(**given).logits, clean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled(**given).logits, clean, rtol=1e-4, atol=1e-5)
    assert (eager - clean).abs().max() > 0.01


def test_passes_of_one_graph_have_their_own_draw():
    model, given = llama(), batch([9, 9])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    noise = EmbeddingNoise(5).attach(compiled)
    with noise.armed(given, 0):
        one, two = compiled(**given).logits, compiled(**given).logits
    assert not torch.equal(one, two)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_passes_of_one_shape_fall_back_to_eager_or_fail_loudly():
    """Memory cannot be compared inside a graph, so two masks of one shape cannot be distinguished there."""
    model, chosen, rejected = llama(), batch([3, 8]), batch([8, 5], seed=1)
    given = {f"chosen_{k}": v for k, v in chosen.items()} | {f"rejected_{k}": v for k, v in rejected.items()}
    noise = EmbeddingNoise(5).attach(model)
    with noise.armed(given, 0):
        expected = model(input_ids=rejected["input_ids"], attention_mask=rejected["attention_mask"]).logits
    strict = torch.compile(model, fullgraph=True, backend="aot_eager")
    with pytest.raises((LengthsError, torch._dynamo.exc.TorchDynamoException)), noise.armed(given, 0):
        strict(input_ids=rejected["input_ids"], attention_mask=rejected["attention_mask"])
    torch._dynamo.reset()
    loose = torch.compile(model, backend="aot_eager")
    with noise.armed(given, 0):
        actual = loose(input_ids=rejected["input_ids"], attention_mask=rejected["attention_mask"]).logits
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_a_hook_added_after_compilation_is_seen():
    model, given = llama(), batch([4, 9])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    clean = compiled(**given).logits
    noise = EmbeddingNoise(5).attach(compiled)
    with noise.armed(given, 0):
        assert (compiled(**given).logits - clean).abs().max() > 0.01
