"""Why a training batch ended without noise, in one sentence that says what to do."""

from __future__ import annotations

from torch import nn

from lightning_neft.noise.hook import NoiseHook

__all__ = ["explain_missing_noise"]


def explain_missing_noise(root: nn.Module, hook: NoiseHook) -> str:
    """Explain why the target of `hook` got no noise although it was armed.

    Args:
        root: The module that was searched for the embedding.
        hook: The hook, still knowing what it saw.
    """
    name, module = hook.target.name or type(hook.target.module).__name__, hook.target.module
    start = f"NEFTune added no noise in this training batch: {name} "
    if hook.called_without_grad:
        return (
            f"{start}ran only with gradients disabled. Run the training forward pass with gradients enabled; under "
            "activation checkpointing of the embedding itself use use_reentrant=False."
        )
    if all(part is not module for part in root.modules()):
        return (
            f"{start}is no longer part of {type(root).__name__}; it was replaced after training began. "
            "Replace it before fit, in __init__ or configure_model."
        )
    if same := _shares_weight(root, module):
        return (
            f"{start}was never called, but {', '.join(same)} shares its weight and may be what forward calls. Try "
            f"target='{same[0]}'."
        )
    return (
        f"{start}was never called. Either the model is fed inputs_embeds or looks its weight up by itself (name the "
        "module whose output carries the embeddings: target='<name>'), or training_step runs another model than the "
        "one that holds it, or compiled code made before fit did not see the hook (compile in configure_model)."
    )


def _shares_weight(root: nn.Module, module: nn.Module) -> list[str]:
    """Other modules that look up the same table; a tied output layer is none of them."""
    weight = getattr(module, "weight", None)
    return [
        name
        for name, other in root.named_modules()
        if other is not module
        and weight is not None
        and getattr(other, "weight", None) is weight
        and isinstance(other, type(module) | nn.Embedding)
    ]
