"""The noise on an embedding's output, as the forward hook adds it: against a copy, transformers' hook and NeMo's form.

    python benchmarks/noise_op.py
    python benchmarks/noise_op.py --gpu      # 8 x 2048 x 4096 in bf16, timed with CUDA events; never run so far

Ours reads the lengths from the attention mask, leaves padding alone and adds in float32; the others take one length for
the whole batch. `operator` is ours without what surrounds it: the scale of each token is there already. All others are
forward hooks on one module that returns the same activation, with gradients enabled, and take turns. Before the clock
runs each side's output is checked: no NaN out of poisoned memory, within its bound, of the strength that it should
have, another draw at each call, and ours without noise on padding.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import RESULTS, Record, in_turns, ratio, seconds, spread, target, write_results
from torch import Tensor, nn
from transformers.integrations.neftune import neftune_post_forward_hook
from workload import lengths

from lightning_neft import EmbeddingNoise
from lightning_neft.noise.functional import add_noise, scale_from_lengths

ALPHA = 5.0
_BUSY_CYCLES = 10_000_000
SHAPES = ((4, 128, 256), (8, 256, 256), (8, 512, 512), (8, 512, 2048), (8, 512, 4096))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
OTHERS = ("copy", "transformers", "nemo")


class Embedded(nn.Module):
    """Returns one activation whatever it is called with."""

    def __init__(self, activation: Tensor) -> None:
        super().__init__()
        self.activation = activation
        self.neftune_noise_alpha = ALPHA

    def forward(self, ids: Tensor) -> Tensor:
        """Return the activation."""
        return self.activation


def main() -> None:
    """Measure all shapes in both dtypes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--out", type=Path, help="by default results/noise_op.json, or noise_op_gpu.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [((8, 2048, 4096), "bfloat16")] if args.gpu else [(shape, dtype) for shape in SHAPES for dtype in DTYPES]
    device = torch.device("cuda" if args.gpu else "cpu")
    rows = [measure(shape, dtype, device, args.rounds) for shape, dtype in cases]
    targets = [
        target(
            f"noise / transformers' hook, {'x'.join(map(str, row['shape']))} {row['dtype']}",
            row["ratios"]["transformers"]["median"],
            "<= 0.4" if args.gpu else "<= 0.8",
        )
        for row in rows
    ]
    if args.gpu:
        targets += [
            target("operator / copy", rows[0]["operator_ratios"]["copy"]["median"], "<= 1.25"),
            target("memory beside the result / result", rows[0]["extra_memory"]["ours"], "<= 0.01"),
        ]
    out = args.out or RESULTS / ("noise_op_gpu.json" if args.gpu else "noise_op.json")
    write_results(
        out, {"threads": torch.get_num_threads(), "rows": rows, "targets": targets}, ("torch", "transformers")
    )


def measure(shape: tuple[int, int, int], dtype: str, device: torch.device, rounds: int) -> Record:
    """Return milliseconds of each side, and ours over each other."""
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(shape, generator=generator).to(device, DTYPES[dtype]).requires_grad_()
    mask = _mask(*shape[:2]).to(device)
    sides = _sides(activation, mask)
    for name, call in sides.items():
        _check(name, call, activation.detach(), mask)
    clock = _events if device.type == "cuda" else seconds
    calls = {name: lambda call=call: 1e3 * clock(call) for name, call in sides.items()}
    in_turns(calls, 3)
    values = in_turns(calls, rounds)
    row: Record = {
        "shape": shape,
        "dtype": dtype,
        "milliseconds": {name: spread(times) for name, times in values.items()},
        "ratios": {other: ratio(values, "ours", other) for other in OTHERS},
        "operator_ratios": {other: ratio(values, "operator", other) for other in OTHERS},
    }
    if device.type == "cuda":
        row["extra_memory"] = {name: _extra_memory(call) for name, call in sides.items()}
    times = "  ".join(f"{name} {row['milliseconds'][name]['median']:.3f}" for name in sides)
    ratios = "  ".join(f"/ {other} {row['ratios'][other]['median']:.2f}" for other in OTHERS)
    alone = row["operator_ratios"]["transformers"]["median"]
    print(f"{'x'.join(map(str, shape))} {dtype}: ms {times}   ours {ratios}   operator {alone:.2f}", flush=True)
    return row


def _mask(rows: int, width: int) -> Tensor:
    """An attention mask with Alpaca's distribution of lengths, the longest row as long as the batch is wide."""
    counts = torch.from_numpy(sum(lengths(rows)))
    counts = (counts * width / counts.max()).ceil().long()
    return (torch.arange(width) < counts[:, None]).long()


def _sides(activation: Tensor, mask: Tensor) -> dict[str, Callable[[], Tensor]]:
    ids = torch.ones_like(mask)
    theirs, nemo, ours = (Embedded(activation).train() for _ in range(3))
    theirs.register_forward_hook(neftune_post_forward_hook)
    nemo.register_forward_hook(_nemo)
    noise = EmbeddingNoise(ALPHA, target=ours).attach(ours)
    batch = {"input_ids": ids, "attention_mask": mask}
    step = iter(range(10**9))

    def noisy() -> Tensor:
        with noise.armed(batch, next(step)):
            output: Tensor = ours(ids)
        return output

    scale = scale_from_lengths(mask.sum(-1, keepdim=True) * mask, ALPHA, activation.shape[-1])

    def operator() -> Tensor:
        output: Tensor = add_noise(activation, scale, torch.tensor(next(step)), "uniform")
        return output

    return {
        "copy": lambda: activation.detach().clone(),
        "transformers": lambda: theirs(ids),
        "nemo": lambda: nemo(ids),
        "operator": operator,
        "ours": noisy,
    }


def _nemo(module: Embedded, args: Any, output: Tensor) -> Tensor:
    """What NeMo Automodel's hook computes: the length in the activation's dtype, which `item` waits for."""
    size = torch.tensor(output.size(1) * output.size(2), dtype=output.dtype, device=output.device)
    bound = (module.neftune_noise_alpha / torch.sqrt(size)).item()
    return output + torch.zeros_like(output).uniform_(-bound, bound)


def _check(name: str, call: Callable[[], Tensor], clean: Tensor, mask: Tensor) -> None:
    """End the run if a side does not do what it is timed for."""
    outputs = []
    for _ in range(2):
        # Freed at once: memory that a side takes without writing it holds NaN.
        torch.full_like(clean, float("nan"))
        outputs.append(call().detach())
    first, second = (output.double() - clean.double() for output in outputs)
    is_ours = name in ("operator", "ours")
    counts = mask.sum(-1, keepdim=True) if is_ours else torch.full_like(mask[:, :1], mask.shape[1])
    bound = (ALPHA / (counts * clean.shape[-1]).double().sqrt())[..., None]
    noised = mask.bool() if is_ours else torch.ones_like(mask).bool()
    # Half a unit of the last place of a sum of up to 8, twice for those that round the noise as well.
    rounding = 4 * torch.finfo(clean.dtype).eps
    is_right = bool(torch.isfinite(outputs[0]).all()) and (first.abs() <= bound + 2 * rounding).all()
    if name == "copy":
        is_right = is_right and torch.equal(outputs[0], clean)
    else:
        strength = (first / bound)[noised].square().mean().sqrt() * math.sqrt(3)
        lost = (clean.double().square().mean().sqrt() * torch.finfo(clean.dtype).eps / bound.min()).item()
        is_right = is_right and abs(strength.item() - 1) < 0.02 + lost and not torch.equal(first, second)
        is_right = is_right and (first[~noised] == 0).all()
    if not is_right:
        raise SystemExit(f"{name} does not give what it is timed for on {tuple(clean.shape)} {clean.dtype}")


def _events(call: Callable[[], object]) -> float:
    """Seconds of one call on the GPU, without those of the processor that launches it."""
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    # The device is kept busy for some milliseconds meanwhile, so that all is queued before the first event.
    torch.cuda._sleep(_BUSY_CYCLES)
    begun.record()
    call()
    ended.record()
    torch.cuda.synchronize()
    return begun.elapsed_time(ended) / 1e3


def _extra_memory(call: Callable[[], Tensor]) -> float:
    """Peak of the memory that a call takes beside its result, over that of the result; on the GPU."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    return (torch.cuda.max_memory_allocated() - before) / result.nbytes - 1


if __name__ == "__main__":
    main()
