"""Two processes on the CPU: data-parallel ranks differ, tensor-parallel ones agree, and each is reproducible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent


def run(name, folder, ckpt_path=None):
    """Run once with two processes; what each rank saw."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(TESTS / "distributed_runs.py"), name, str(folder)]
    command += [str(ckpt_path)] if ckpt_path else []
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
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


def test_tensor_parallel_ranks_draw_the_same_noise(tmp_path):
    first, second = run("tensor_parallel", tmp_path / "a")
    assert all(same(first, second))
    (single, _) = run("ddp", tmp_path / "b")
    torch.testing.assert_close(first["outputs"][0], single["outputs"][0])
