"""The memory of a run before it starts: an estimate from the model's config, and what the device has free."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lightning_neft.models.step_trace import Batch, StepTrace, trace_step

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from lightning_neft.models.finetuner import FineTuner

__all__ = ["Estimate", "Run", "estimate", "free_memory", "ways_to_fit"]

# Bytes per weight of QLoRA's NF4 with double quantisation: 4 + 0.127 bits (arXiv 2305.14314, sec. 3).
_NF4 = 4.127 / 8
# AdamW keeps two moments of each gradient.
_MOMENTS = 2
# What a process takes above its tensors: the CUDA context, and what the allocator loses to fragmentation. On a CPU that
# was 1.2 to 1.4 times the tensors in the runs that docs/reference/models.md lists; on GPUs it was not measured.
_CONTEXT = {"cuda": 0.5e9}
_FRAGMENTATION = 1.2


@dataclass(frozen=True)
class Run:
    """What determines the memory of a step besides the model.

    Attributes:
        batch: The largest batch of a device.
        precision: The Trainer's, such as bf16-mixed.
        device: Type of the device: cpu, cuda or mps.
        accumulates: Whether an optimiser step has several micro-batches.
        shards: Number of devices over which weights, gradients and optimiser states are split.
    """

    batch: Batch
    precision: str = "32-true"
    device: str = "cpu"
    accumulates: bool = False
    shards: int = 1


@dataclass(frozen=True)
class Estimate:
    """Bytes on each device at the peak of a step.

    Attributes:
        weights: All weights, adapters included.
        gradients: Gradients of the trained weights.
        states: What the optimiser keeps, such as AdamW's two moments.
        activations: What else the step holds at its peak: activations, logits and temporary tensors.
        parameters: Number of weights.
        assumes_adamw: Whether the optimiser's step could not be traced, so that its states are assumed to be AdamW's.
    """

    weights: float
    gradients: float
    states: float
    activations: float
    parameters: float = 0
    assumes_adamw: bool = False

    @property
    def total(self) -> float:
        """Bytes on each device, without the CUDA context, communication buffers and fragmentation."""
        return self.weights + self.gradients + self.states + self.activations

    def needed(self, device: str) -> float:
        """Return the bytes that a device of this type must have free for it."""
        return self.total * _FRAGMENTATION + _CONTEXT.get(device, 0)


def estimate(module: FineTuner, config: PretrainedConfig, run: Run) -> Estimate:
    """Estimate a run; nothing is loaded.

    Args:
        module: Says what is trained and how; its model need not be built.
        config: Config of the base model, with the options of the module.
        run: The largest batch, and what it runs on.

    Example:
        >>> from transformers import AutoConfig
        >>> from lightning_neft.hub.names import resolve_base
        >>> from lightning_neft.models.language_models import CausalLM
        >>> config = AutoConfig.from_pretrained(resolve_base("tiny"))
        >>> found = estimate(CausalLM("tiny"), config, Run(Batch(rows=8, length=128, trained=500)))
        >>> int(found.weights) // 4, int(found.states) // 8  # float32
        (984192, 984192)
    """
    trace = trace_step(
        module, config, run.batch, precision=run.precision, device=run.device, accumulates=run.accumulates
    )
    weights = trace.weights
    if module.quantization is not None:
        # Embedding, norms and head are kept in float32.
        weights -= trace.quantizable * (4 - _NF4)
    states = _MOMENTS * trace.gradients if trace.states is None else trace.states
    gradients = trace.gradients / run.shards
    return Estimate(
        weights=weights / run.shards,
        gradients=gradients,
        states=states / run.shards,
        activations=_peak(trace, run, gradients, module.optimizer == "adamw_torch_fused") - gradients,
        parameters=trace.parameters,
        assumes_adamw=trace.states is None,
    )


def _peak(trace: StepTrace, run: Run, gradients: float, is_fused: bool) -> float:
    """Return the most bytes of a step beside weights and states."""
    step = max(trace.forward, *trace.backward)
    if run.accumulates:
        step += gradients
    elif run.shards > 1:
        # They are formed whole, block by block, and kept in shards.
        step = max(trace.forward, trace.backward[0], gradients)
    # On a CPU AdamW goes over the tensors one by one and holds two results; elsewhere one of each. Fused it holds none.
    optimizer = 0 if is_fused else 2 * trace.largest_gradient if run.device == "cpu" else gradients
    return max(step, gradients + optimizer)


def free_memory(device: torch.device, processes: int = 1) -> float | None:
    """Return the bytes that a process can still take on a device; None where the system does not say.

    On a CPU also the limits of its control groups count, which a container has.

    Args:
        device: The device.
        processes: Number of processes that share it.
    """
    if not getattr(torch, device.type, torch.cpu).is_available():
        return None
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    found = [free for free in (_available(), _left_in_groups()) if free is not None]
    return min(found) / processes if found else None


def _available(meminfo: Path = Path("/proc/meminfo")) -> float | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return float(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the bytes left below the limits of this process's control groups, of version 1 or 2."""
    try:
        groups = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    places = []
    for _, controllers, path in groups:
        if controllers in ("", "memory"):
            top = root / controllers
            group = top / path.lstrip("/")
            # In a container the own group is mounted as the root.
            places += [one for one in (group, *group.parents) if one.is_relative_to(top)]
    return min((left for place in places if (left := _left(place)) is not None), default=None)


def _left(group: Path) -> float | None:
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most = int((group / limit).read_text(encoding="ascii"))
            used = int((group / usage).read_text(encoding="ascii"))
            lines = (group / "memory.stat").read_text(encoding="ascii").split("\n")
            # Of files; the system frees it where memory is wanted.
            cached = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
        except (OSError, ValueError):  # "max" is no limit
            continue
        return float(max(0, most - used + cached))
    return None


def ways_to_fit(found: Estimate, run: Run, module: FineTuner, free: float) -> str:
    """Return what to change so that a run fits, as options of the program.

    Args:
        found: The estimate, which does not fit.
        run: What was estimated.
        module: Says how it is trained.
        free: Bytes that are free.
    """
    ways = []
    if module.gradient_checkpointing in (False, "selective") and not module.keep_eval:
        ways.append("--model.gradient_checkpointing auto")
    rest = replace(found, activations=0)
    rows = run.batch.rows
    while rows > 1 and replace(found, activations=found.activations * rows / run.batch.rows).needed(run.device) > free:
        rows //= 2
    if rest.needed(run.device) > free:
        if module.lora is None:
            ways.append("--model.lora.r 16")
    elif rows < run.batch.rows:
        # Not its number: several devices or micro-batches may make up a step.
        ways.append(f"--data.batch_size {rows} with the rows of a step as --global_batch_size")
    ways.append("a smaller --data.max_length")
    return " or ".join(ways)
