"""Two processes on the CPU: data-parallel ranks differ, tensor-parallel ones agree, and each is reproducible."""

from __future__ import annotations

import pytest
import torch

import distributed_runs
import fsdp1_run
from lightning_neft import EmbeddingNoise
from ranks import run_ranks
from tiny import batch, llama

pytestmark = pytest.mark.slow


def run(name, folder, ckpt_path=None):
    """Run once with two processes; what each rank saw."""
    folder.mkdir(exist_ok=True)
    run_ranks(lambda: distributed_runs.run(name, folder, ckpt_path), folder)
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1)]


def same(one, other):
    return [torch.equal(a, b) for a, b in zip(one["outputs"], other["outputs"], strict=True)]


def test_ddp_ranks_draw_different_noise_and_each_is_reproducible(tmp_path):
    first, second = run("ddp", tmp_path / "a")
    assert same(first, second) == [False] * 4
    assert torch.equal(first["weights"], second["weights"])
    again = run("ddp", tmp_path / "b")
    assert all(same(first, again[0]) + same(second, again[1]))
    clean = run("ddp_clean", tmp_path / "c")
    assert all(same(*clean))  # the ranks' rows are alike: it was the noise that differed


def test_micro_batches_under_ddp_have_their_own_noise(tmp_path):
    first, second = run("ddp_accumulated", tmp_path / "a")
    assert same(first, second) == [False] * 6
    single, _ = run("ddp", tmp_path / "b")
    # The noise is that of the batch's number: before the first optimiser step both runs are the same.
    assert torch.equal(first["outputs"][0], single["outputs"][0])
    assert torch.equal(first["weights"], second["weights"])


def test_a_compiled_model_under_ddp_gets_the_eager_noise(tmp_path):
    compiled, eager = run("ddp_compiled", tmp_path / "a"), run("ddp", tmp_path / "b")
    for one, other in zip(compiled, eager, strict=True):
        torch.testing.assert_close(one["weights"], other["weights"], rtol=1e-4, atol=1e-5)
    assert same(*eager) == [False] * 4


def test_a_ddp_run_that_is_resumed_equals_the_unbroken_one(tmp_path):
    unbroken = run("ddp_resumed", tmp_path / "a")
    resumed = run("ddp_resumed", tmp_path / "b", tmp_path / "a" / "step=3.ckpt")
    for one, other in zip(unbroken, resumed, strict=True):
        assert torch.equal(one["weights"], other["weights"])
        assert len(one["outputs"]) == 8
        assert all(torch.equal(a, b) for a, b in zip(one["outputs"][3:], other["outputs"], strict=True))


def test_fsdp2_ranks_draw_the_noise_of_ddp_ranks(tmp_path):
    sharded, replicated = run("fsdp2", tmp_path / "a"), run("ddp", tmp_path / "b")
    assert same(*sharded) == [False] * 4
    for one, other in zip(sharded, replicated, strict=True):
        torch.testing.assert_close(one["outputs"][0], other["outputs"][0])
        assert one["hooks_of_ours"] == 0


def test_fsdp1_ranks_draw_the_noise_of_unsharded_ones(tmp_path):
    run_ranks(lambda: fsdp1_run.run(tmp_path), tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        model = llama()
        table = model.get_input_embeddings()
        with EmbeddingNoise(5).attach(model) as noise:
            for step, output in enumerate(found["outputs"][:2]):
                with noise.armed(batch([9, 4], seed=step), step, rank=rank):
                    torch.testing.assert_close(output, table(batch([9, 4], seed=step)["input_ids"]).detach())
        torch.testing.assert_close(found["outputs"][2], table(batch([9, 4], seed=1)["input_ids"]).detach())
        assert found["left"] == []


def test_tensor_parallel_ranks_draw_the_same_noise(tmp_path):
    first, second = run("tensor_parallel", tmp_path / "a")
    assert all(same(first, second))
    (single, _) = run("ddp", tmp_path / "b")
    torch.testing.assert_close(first["outputs"][0], single["outputs"][0])
