"""The kernel for GPUs, without one: interpreted against its definition, and compiled to what a GPU runs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest
import torch

from lightning_neft.noise.uniform import fused
from lightning_neft.noise.uniform.paths import add_uniform_noise
from lightning_neft.noise.uniform.philox import philox_integers
from tiny import batch

triton = pytest.importorskip("triton", reason="needs Triton, which is for Linux")
needs_interpreter = pytest.mark.skipif(
    torch.cuda.is_available(), reason="Triton interprets nothing here: tests/test_gpu.py runs the kernel itself"
)

SEED = 0x7EDCBA9812345678


def activation(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def defined(clean, scale, seed):
    """Of the definition, in float32."""
    rows = clean.flatten(0, -2)
    integers = philox_integers(seed, range(len(rows)), rows.shape[-1], rows.device)
    bound = scale.expand(clean.shape[:-1]).reshape(-1, 1) * 2.0**-31
    return (rows.float() + integers.float() * bound).view(clean.shape)


@needs_interpreter
@pytest.mark.parametrize("shape", [(2, 5, 64), (3, 7, 10), (1, 2, 1030), (4, 1), (2, 2, 2, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_interpreted_it_gives_the_defined_sum_to_the_bit(shape, dtype):
    """Widths below four, not divisible by four, and of several blocks."""
    clean = activation(*shape, dtype=dtype)
    scale = torch.rand(shape[:-1], generator=torch.Generator().manual_seed(1))
    assert torch.equal(fused.add_noise_fused(clean, scale, SEED), defined(clean, scale, SEED).to(dtype))


@needs_interpreter
def test_interpreted_in_bfloat16_it_gives_the_sum_cut_off():
    """Triton's interpreter cuts off where a GPU rounds; what is compiled rounds, see below."""
    clean = activation(3, 40, dtype=torch.bfloat16)
    expected = defined(clean, torch.ones(3), SEED).view(torch.int32) >> 16 << 16
    assert torch.equal(fused.add_noise_fused(clean, torch.ones(3), SEED).float(), expected.view(torch.float32))


@needs_interpreter
def test_padding_is_left_alone_and_scales_are_broadcast():
    clean = activation(2, 3, 8)
    noisy = fused.add_noise_fused(clean, torch.tensor([[0.5, 0.0, 2.0]]), SEED)
    assert torch.equal(noisy[:, 1], clean[:, 1])
    assert (noisy[:, 0] != clean[:, 0]).any()
    assert torch.equal(noisy, defined(clean, torch.tensor([[0.5, 0.0, 2.0]]), SEED))
    assert torch.equal(fused.add_noise_fused(clean, torch.tensor(0.5), SEED), defined(clean, torch.tensor(0.5), SEED))


@needs_interpreter
def test_an_activation_that_does_not_lie_in_one_piece():
    clean = activation(4, 6, 8).transpose(0, 1)
    noisy = fused.add_noise_fused(clean, torch.ones(6, 4), SEED)
    assert noisy.is_contiguous()
    assert torch.equal(noisy, defined(clean, torch.ones(6, 4), SEED))


@needs_interpreter
def test_a_batch_gets_noise_and_strength_from_the_kernel(monkeypatch):
    """As on a GPU, for which the choice is made here."""
    from lightning_neft import EmbeddingNoise
    from lightning_neft.noise.uniform import paths as uniform

    served = []
    monkeypatch.setattr(uniform, "is_fused", lambda clean: served.append(clean.shape) or True)
    embedding = torch.nn.Embedding(100, 64)
    given = batch([12, 5])
    with EmbeddingNoise(5).attach(embedding) as noise:
        noise.arm(given, 0, measure=True)
        noisy = embedding(given["input_ids"])
        noisy.sum().backward()
        strength = noise.disarm()
    difference = (noisy - embedding(given["input_ids"])).detach()
    real = given["attention_mask"].bool()
    assert served == [(2, 12, 64)] * 2
    assert (difference[~real] == 0).all()
    for row, length in enumerate([12, 5]):
        rms = difference[row, :length].square().mean().sqrt().item()
        assert rms == pytest.approx(5 / math.sqrt(3 * length * 64), rel=0.06)
    assert strength.noise_rms.item() == pytest.approx(difference[real].square().mean().sqrt().item(), rel=1e-4)
    assert embedding.weight.grad.sum().item() == noisy.numel()


def test_plain_path_of_another_device_gives_the_defined_sum(monkeypatch):
    """In blocks that end within a row, as an accelerator without Triton would take them; no such device is here."""
    from lightning_neft.noise.uniform import paths as uniform

    monkeypatch.setattr(
        uniform, "_sfc64_integers", lambda seed, width: uniform._philox_integers(seed, width, clean.device)
    )
    monkeypatch.setattr(uniform, "_CPU_BLOCK", 64)
    clean, scale = activation(3, 7, 10), torch.rand(3, 7)
    assert torch.equal(add_uniform_noise(clean, scale, SEED), defined(clean, scale, SEED))


def test_a_kernel_that_cannot_be_built_warns_once(monkeypatch, snapshot):
    def broken(*args):
        raise RuntimeError("Failed to find C compiler.\nmore")

    monkeypatch.setattr(fused, "add_noise_fused", broken)
    fused._is_built.cache_clear()
    with pytest.warns(UserWarning, match=r"on cpu .*Failed to find C compiler") as caught:
        assert not fused._is_built(torch.device("cpu"))
    assert not fused._is_built(torch.device("cpu"))
    snapshot(str(caught[0].message))
    fused._is_built.cache_clear()


def test_a_cpu_is_not_served_by_it():
    assert not fused.is_fused(activation(2, 4))


COMPILED = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lightning_neft.noise.uniform.fused import launch_options
from lightning_neft.noise.uniform.kernel import add_noise_kernel

found = {}
for capability in (80, 90):
    for dtype in ("bf16", "fp16", "fp32"):
        types = {"activation": f"*{dtype}", "noisy": f"*{dtype}", "scale": "*fp32"}
        types |= {"seed_low": "i32", "seed_high": "i32", "width": "i32", "block": "constexpr"}
        divisible = {(place,): [["tt.divisibility", 16]] for place in (0, 1, 2, 5)}
        source = ASTSource(add_noise_kernel, types, {"block": 1024}, divisible)
        kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch_options(1024))
        found[f"{capability} {dtype}"] = {"shared": kernel.metadata.shared, "ptx": kernel.asm["ptx"]}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_compiled_it_reads_writes_and_rounds_each_element_once(tmp_path):
    """For an A100 and an H100; Triton brings the compiler."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    for name, kernel in json.loads(done.stdout).items():
        ptx, dtype = kernel["ptx"], name.split()[1]
        # Eight elements a thread: one vector of 16 bytes, or two of them; and one more load for the scale.
        vectors = 2 if dtype == "fp32" else 1
        assert ptx.count("st.global.v4.b32") == ptx.count("st.global") == vectors, name
        assert ptx.count("ld.global.v4.b32") == vectors, name
        assert ptx.count("ld.global") == vectors + 1, name
        assert kernel["shared"] == 0, name
        assert ".local" not in ptx, name
        assert "fma.rn" not in ptx, name
        assert {"bf16": "cvt.rn.bf16", "fp16": "cvt.rn.f16", "fp32": ""}[dtype] in ptx, name
        assert "cvt.rz.bf16" not in ptx, name
