"""How strong the noise would be on a model: measured where it is added and where the first block receives it.

Compares one clean and one noisy forward pass of one batch; trains nothing and leaves nothing on the model. The
ratio at the first block compares architectures: a multiplier after the embedding scales noise and signal alike, a
LayerNorm or a position table between them does not.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lightning_neft.errors import ConfigError
from lightning_neft.noise.embedding import EmbeddingTarget, without_wrappers
from lightning_neft.noise.injector import EmbeddingNoise
from lightning_neft.noise.lengths import Length, TokenRows
from lightning_neft.noise.matching import Passes, match_weight, rows_of_side
from lightning_neft.noise.undescribed import undescribed_weight

__all__ = ["NoiseStrength", "probe"]


@dataclass(frozen=True)
class NoiseStrength:
    """Strength of the noise on one embedding, over the tokens that get noise in one batch.

    Attributes:
        embedding: Dotted name of the embedding.
        width: Width d of its output.
        dtype: Dtype of its output.
        noise_rms: Root mean square per element of the noise, after rounding to that dtype.
        embedding_rms: Root mean square per element of the embedding's clean output.
        noise_to_signal: Their ratio.
        unchanged: Share of the elements that rounding left unchanged.
        block: Dotted name of the first block after the embedding; None if none was found.
        block_noise_to_signal: RMS(noisy - clean) / RMS(clean) of that block's input; None without a block.
    """

    embedding: str
    width: int
    dtype: torch.dtype
    noise_rms: float
    embedding_rms: float
    noise_to_signal: float
    unchanged: float
    block: str | None
    block_noise_to_signal: float | None


def probe(
    root: nn.Module,
    batch: Any,
    *,
    noise: EmbeddingNoise | None = None,
    forward: Callable[[], object] | None = None,
) -> list[NoiseStrength]:
    """Measure the strength of the noise on each embedding of a model that would get it.

    Runs in eval mode, so that dropout does not add to the difference, and with gradients enabled. Restores modes,
    global random state and hooks; a noise that is attached already stays attached.

    Args:
        root: The module to search for the embedding, such as a LightningModule.
        batch: One training batch on the module's device; its lengths are read from it.
        noise: The noise to measure; None for the defaults of `EmbeddingNoise`. The draw is that of step 0.
        forward: Runs one training forward pass of `batch`; None for `root(**batch)`.

    Returns:
        One entry for each embedding.

    Raises:
        ConfigError: An alpha of 0.
        EmbeddingNotFoundError: No token embedding, or none under the target's name.
        AmbiguousEmbeddingError: Several candidates and no target.
        LengthsError: The batch's lengths cannot be read, or do not fit what the embedding is called with.
        NoNoiseError: The forward pass added no noise; says why and what to do.

    >>> model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 1))
    >>> ids = torch.tensor([[1, 2, 3]])
    >>> [found] = probe(model, {"input_ids": ids}, forward=lambda: model(ids))
    >>> found.embedding, found.width, found.dtype, found.unchanged, found.block
    ('0', 4, torch.float32, 0.0, None)
    """
    run = forward if forward is not None else lambda: root(**batch)
    with copy.copy(noise or EmbeddingNoise()) as own:
        if own.alpha == 0:
            raise ConfigError("alpha=0 adds no noise: measure with an alpha above 0, 5 for example.")
        # The negative noise has the same strength, and the batch is not doubled.
        own.antithetic = False
        own.attach(root)
        with _eval_mode(root), torch.enable_grad(), _without_compiled_code():
            clean = _recorded(root, own.targets, run)
            own.arm(batch, 0)
            try:
                noisy = _recorded(root, own.targets, run)
            except BaseException:
                own.disarm(verify=False)
                raise
            own.disarm()
        rows = own.rows_of(batch)
        rows = rows if any(row.is_described for row in rows) else []
        return [_strength(target, clean, noisy, rows, own.length) for target in own.targets]


@dataclass
class _Pass:
    """Record of one forward pass.

    Attributes:
        embedded: Of each target's name, its ids and output at each call, and the call's place among those of all.
        blocks: Inputs of the first elements of lists of modules, in the order of their calls: by name and number of the
            call, the hidden states and the names of the targets called before.
    """

    embedded: dict[str, list[tuple[Tensor | None, Tensor, int]]] = field(default_factory=dict)
    blocks: dict[tuple[str, int], tuple[Tensor, set[str]]] = field(default_factory=dict)


def _recorded(root: nn.Module, targets: Sequence[EmbeddingTarget], run: Callable[[], object]) -> _Pass:
    """Run one forward pass; record the outputs of the targets and the inputs of the first blocks."""
    seen = _Pass()

    def take_output(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            ids = args[0] if args and isinstance(args[0], Tensor) else None
            # The noise's own hook refuses anything but a tensor.
            if isinstance(output, Tensor):
                number = sum(map(len, seen.embedded.values()))
                seen.embedded.setdefault(name, []).append((ids, output.detach(), number))

        return hook

    def take_input(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = next(
                (v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()), None
            )
            if hidden is not None:
                number = sum(other == name for other, _ in seen.blocks)
                seen.blocks[name, number] = (hidden.detach(), set(seen.embedded))

        return hook

    # Registered after the noise's hook, hence called after it.
    handles = [target.module.register_forward_hook(take_output(target.name)) for target in targets]
    handles += [
        block.register_forward_pre_hook(take_input(name), with_kwargs=True) for name, block in _first_blocks(root)
    ]
    try:
        # Same random state for both passes, and no trace of them in the global one.
        with torch.random.fork_rng(devices=_cuda_devices(root)):
            run()
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _first_blocks(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in root.named_modules():
        if isinstance(module, nn.ModuleList) and len(module):
            yield without_wrappers(f"{name}.0".lstrip(".")), module[0]


def _cuda_devices(root: nn.Module) -> list[torch.device]:
    return list({parameter.device for parameter in root.parameters() if parameter.device.type == "cuda"})


def _without_compiled_code() -> AbstractContextManager[object]:
    """Compiled code would keep the hooks of the measurement."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def _eval_mode(root: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in root.modules()]
    root.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _strength(
    target: EmbeddingTarget, clean: _Pass, noisy: _Pass, rows: Sequence[TokenRows], length: Length
) -> NoiseStrength:
    rows, passes = rows_of_side(rows, target.side), Passes()
    added, signal, masks = [], [], []
    calls = zip(clean.embedded[target.name], noisy.embedded[target.name], strict=True)
    for (_, before, _), (ids, after, number) in calls:
        if rows:
            weight, _ = match_weight(rows, after.shape[:-1], ids, target.name, None, passes, number)
        else:
            weight, _ = undescribed_weight(after, ids, length, target.padding)
        mask = (weight > 0).expand(after.shape[:-1])
        masks.append(mask)
        signal.append(before[mask].float())
        added.append(after[mask].float() - signal[-1])
    noise_rms, embedding_rms = _rms(torch.cat(added)), _rms(torch.cat(signal))
    output = noisy.embedded[target.name][0][1]
    block, ratio = _at_first_block(target.name, clean, noisy, masks[0])
    return NoiseStrength(
        embedding=target.name,
        width=output.shape[-1],
        dtype=output.dtype,
        noise_rms=noise_rms,
        embedding_rms=embedding_rms,
        noise_to_signal=noise_rms / embedding_rms if embedding_rms else float("inf"),
        unchanged=(torch.cat(added) == 0).float().mean().item(),
        block=block,
        block_noise_to_signal=ratio,
    )


def _at_first_block(embedding: str, clean: _Pass, noisy: _Pass, mask: Tensor) -> tuple[str | None, float | None]:
    """Name and noise-to-signal of the first block after the embedding that gets the same tokens."""
    fitting = [
        (name, before[mask].float(), after[mask].float())
        for (name, before, after, called) in _in_both(clean, noisy)
        if embedding in called and before.shape[:-1] == after.shape[:-1] == mask.shape
    ]
    # The blocks of an image's or the encoder's stack can have the same shape, but the noise does not reach them.
    reached = [found for found in fitting if not torch.equal(found[1], found[2])]
    if not fitting:
        return None, None
    name, before, after = (reached or fitting)[0]
    return name, _rms(after - before) / _rms(before)


def _in_both(clean: _Pass, noisy: _Pass) -> Iterator[tuple[str, Tensor, Tensor, set[str]]]:
    """The calls of blocks that both passes have; noise can send tokens to other experts, whose calls differ."""
    for key, (after, called) in noisy.blocks.items():
        if key in clean.blocks:
            yield key[0], clean.blocks[key][0], after, called


def _rms(values: Tensor) -> float:
    return values.square().mean().sqrt().item()
