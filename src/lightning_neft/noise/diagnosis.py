"""Why a training batch gets no noise, or not the right noise: errors that say what to do."""

from __future__ import annotations

from torch import nn

from lightning_neft.errors import DuplicateNoiseError, LengthsError, NoNoiseError
from lightning_neft.noise.embedding import EmbeddingTarget
from lightning_neft.noise.hook import NoiseHook
from lightning_neft.noise.matching import Passes

__all__ = ["explain_missing_noise", "no_token", "other_count", "refuse_transformers_noise"]


def explain_missing_noise(root: nn.Module, hook: NoiseHook) -> str:
    """Explain why the target of `hook` got no noise although it was armed.

    Args:
        root: The module that was searched for the embedding.
        hook: The hook, before it is disarmed.
    """
    module = hook.target.module
    start = f"NEFTune added no noise in this training batch: {hook.target.label} "
    if hook.called_without_grad:
        return (
            f"{start}ran only with gradients disabled. Run the training forward pass with gradients enabled. For "
            "activation checkpointing of the embedding itself, set use_reentrant=False."
        )
    if all(part is not module for part in root.modules()):
        return (
            f"{start}is no longer part of {type(root).__name__}: it was replaced after the start of fit. Replace it in "
            "__init__ or configure_model instead."
        )
    if same := _shares_weight(root, module):
        return (
            f"{start}was never called. forward may call {' and '.join(same)} instead, with the same weight. Try "
            f"target='{same[0]}'."
        )
    return (
        f"{start}was never called. If the model gets inputs_embeds or reads the weight itself, name the module that "
        "returns the embeddings: target='<name>'. If training_step runs another model, name that model's embedding. If "
        "the model was compiled before fit, compile it in configure_model."
    )


def no_token(source: str, step: int, scope: str) -> NoNoiseError:
    """The error for a mask that leaves no token."""
    return NoNoiseError(
        f"NEFTune added no noise in training batch {step}: {source} selects no token. Check that the mask is 1 on "
        f"tokens{'' if scope == 'all' else f', and the labels, which scope={scope!r} reads'}. For a mask of 0 and -inf "
        "use batch_to_mask=lambda batch: batch['attention_mask'] == 0."
    )


def other_count(passes: Passes) -> LengthsError:
    """The error for masks that only their order distinguishes, and another number of passes."""
    return LengthsError(
        f"batch_to_mask returned {passes.by_order} masks, some of one shape, but the number of forward passes with "
        f"gradients is {passes.count}: only the order distinguishes masks of one shape. Return one mask for each pass, "
        "in the order of the passes, or masks of different shapes."
    )


def refuse_transformers_noise(target: EmbeddingTarget) -> None:
    """Raise DuplicateNoiseError if transformers' own noise is on a target."""
    for part in target.module.modules():
        for hook in part._forward_hooks.values():
            if getattr(hook, "__name__", "") == "neftune_post_forward_hook":
                raise DuplicateNoiseError(
                    f"{target.label} already has the NEFTune hook of transformers, and the noise of both would add up. "
                    "Leave neftune_noise_alpha of transformers or TRL unset."
                )


def _shares_weight(root: nn.Module, module: nn.Module) -> list[str]:
    """Other modules that look up the same table; a tied output layer is not one."""
    weight = getattr(module, "weight", None)
    return [
        name
        for name, other in root.named_modules()
        if other is not module
        and weight is not None
        and getattr(other, "weight", None) is weight
        and isinstance(other, type(module) | nn.Embedding)
    ]
