"""The optimiser of a run: by the names of transformers or as a class, its groups of parameters, and its two modes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from lightning_neft.errors import ConfigError
from lightning_neft.models.muon import MuonWithAdamW

__all__ = [
    "OptimizerFactory",
    "OptimizerName",
    "build_optimizer",
    "check_installed",
    "parameter_groups",
    "replaces_schedule",
    "set_mode",
]

OptimizerName = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "adafactor",
    "muon",
    "schedule_free_adamw",
]
"""Names of transformers' `TrainingArguments.optim`, and `muon`."""


class OptimizerFactory(Protocol):
    """Makes an optimiser: a subclass of `torch.optim.Optimizer`, or a function.

    The program leaves the parameters that are named here out of a class's `init_args`, because they are the model's.
    """

    def __call__(self, params: Iterable[Any], /, lr: float, weight_decay: float = ...) -> Optimizer:
        """Return the optimiser of groups of parameters, each of which has its own weight decay."""


@dataclass(frozen=True)
class _Named:
    """The class of a name, and the options that make it that one, as in transformers."""

    module: str
    class_name: str
    options: dict[str, Any] = field(default_factory=dict)


_NAMED: dict[OptimizerName, _Named] = {
    "adamw_torch": _Named("torch.optim", "AdamW"),
    "adamw_torch_fused": _Named("torch.optim", "AdamW", {"fused": True}),
    "adamw_8bit": _Named("bitsandbytes.optim", "AdamW", {"optim_bits": 8, "is_paged": False}),
    "paged_adamw_8bit": _Named("bitsandbytes.optim", "AdamW", {"optim_bits": 8, "is_paged": True}),
    "paged_adamw_32bit": _Named("bitsandbytes.optim", "AdamW", {"optim_bits": 32, "is_paged": True}),
    "adafactor": _Named("transformers", "Adafactor", {"scale_parameter": False, "relative_step": False}),
    "muon": _Named("lightning_neft.models.muon", "MuonWithAdamW"),
    "schedule_free_adamw": _Named("schedulefree", "AdamWScheduleFree"),
}
assert set(_NAMED) == set(get_args(OptimizerName))
# What transformers calls the head of a classifier.
_HEADS = ("score", "classifier")


def check_installed(optimizer: OptimizerName | OptimizerFactory) -> None:
    """Check that the package of a named optimiser is installed.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(optimizer, str):
        return
    package = _NAMED[optimizer].module.partition(".")[0]
    if find_spec(package) is None:
        raise ConfigError(f"model.optimizer={optimizer} needs {package}: pip install {package}")


def parameter_groups(parameters: Iterable[Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return the groups of the parameters that are trained; biases and norms are not decayed.

    Args:
        parameters: Trained and frozen ones.
        weight_decay: Decay of the parameters with two dimensions or more.

    Example:
        >>> groups = parameter_groups(nn.Linear(2, 3).parameters(), weight_decay=0.1)
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.1, 1), (0.0, 1)]
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    model: nn.Module,
    optimizer: OptimizerName | OptimizerFactory,
    learning_rate: float,
    weight_decay: float,
    loraplus_lr_ratio: float | None = None,
) -> Optimizer:
    """Return the optimiser of the trained parameters of a model.

    Args:
        model: A model of transformers, bare or inside peft.
        optimizer: A name, or what makes an optimiser.
        learning_rate: The learning rate.
        weight_decay: Decay of the parameters with two dimensions or more.
        loraplus_lr_ratio: How many times the learning rate of adapters' A that of their B is; for a model inside peft.

    Raises:
        ConfigError: If a package is missing, or the optimiser refuses the parameters or has no weight decay.

    Example:
        >>> type(build_optimizer(nn.Linear(2, 3), "adamw_torch", 1e-3, 0.0)).__name__
        'AdamW'
    """
    check_installed(optimizer)
    make = _make_named(optimizer, model) if isinstance(optimizer, str) else optimizer
    try:
        if loraplus_lr_ratio is None:
            made = make(parameter_groups(model.parameters(), weight_decay), lr=learning_rate)
        else:
            made = _loraplus(model, make, learning_rate, weight_decay, loraplus_lr_ratio)
    except (TypeError, ValueError) as error:
        hint = "; model.optimizer=muon trains the others with AdamW" if "only supports 2D" in str(error) else ""
        raise ConfigError(f"model.optimizer: {' '.join(str(error).split())}{hint}") from error
    if weight_decay and "weight_decay" not in made.defaults:
        raise ConfigError(f"model.weight_decay={weight_decay:g}: {type(made).__name__} has no weight decay; omit it")
    if type(made).__module__.startswith("bitsandbytes."):
        _keep_embeddings_in_32_bits(model)
    # Fused optimisers could divide by the scale of float16 gradients themselves. Lightning would leave that to them,
    # and therefore refuses to clip gradients in any mixed precision.
    if getattr(made, "_step_supports_amp_scaling", False):
        made._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return made


def _loraplus(
    model: nn.Module, make: OptimizerFactory, learning_rate: float, weight_decay: float, ratio: float
) -> Optimizer:
    """Return the optimiser of peft's groups, those of LoRA+ (arXiv 2402.12354)."""
    from peft.optimizers import create_loraplus_optimizer

    def make_of_groups(groups: list[dict[str, Any]], lr: float) -> Optimizer:
        # peft knows the norms of PyTorch alone.
        parts = [
            {**group, **part} for group in groups for part in parameter_groups(group["params"], group["weight_decay"])
        ]
        return make(parts, lr=lr)

    made: Optimizer = create_loraplus_optimizer(
        model, make_of_groups, lr=learning_rate, loraplus_lr_ratio=ratio, loraplus_weight_decay=weight_decay
    )
    return made


def _make_named(name: OptimizerName, model: nn.Module) -> OptimizerFactory:
    named = _NAMED[name]
    made = getattr(import_module(named.module), named.class_name)
    if made is MuonWithAdamW:
        return partial(MuonWithAdamW, tables=_tables(model))
    factory: OptimizerFactory = partial(made, **named.options)
    return factory


def _tables(model: Any) -> list[Parameter]:
    """Return the weights of the embeddings and of the output layer or the head of a classifier."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or module is output or name.rpartition(".")[2] in _HEADS
    ]
    return [parameter for module in found for parameter in module.parameters()]


def _keep_embeddings_in_32_bits(model: nn.Module) -> None:
    """Keep the states of embeddings in 32 bits, as bitsandbytes recommends and transformers does."""
    from bitsandbytes.optim import GlobalOptimManager

    manager = GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})


def replaces_schedule(optimizer: Optimizer) -> bool:
    """Return whether an optimiser averages weights in place of a schedule (arXiv 2405.15682): it has two modes."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def set_mode(optimizers: Iterable[Optimizer], mode: Literal["train", "eval"]) -> None:
    """Set the weights that schedule-free optimisers train, or those that are evaluated and saved; others have one kind.

    Args:
        optimizers: All of a run.
        mode: Which weights the model then holds.
    """
    for optimizer in optimizers:
        if replaces_schedule(optimizer):
            getattr(optimizer, mode)()
