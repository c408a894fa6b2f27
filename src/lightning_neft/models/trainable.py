"""Which parameters are trained: those of LoRA adapters, or all but the frozen ones."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from lightning_neft.common.near_names import did_you_mean
from lightning_neft.errors import ConfigError

__all__ = ["LoraOptions", "add_lora", "check_lora", "freeze"]

# Beginnings that leave the base's weights alone, and those that take a part of them into the adapters.
_ADDED = ("gaussian", "orthogonal")
_TAKEN_FROM_BASE = re.compile(r"olora|pissa(_niter_\d+)?")
# They need passes over data before the training, or a base quantised on the way.
_NOT_HERE = ("eva", "corda", "lora_ga", "loftq")


@dataclass
class LoraOptions:
    """Low-rank adapters in place of full fine-tuning.

    Args:
        r: Rank of the adapters.
        alpha: Scale of the adapters; they count alpha / r. Not NEFTune's alpha.
        dropout: Dropout in front of the adapters.
        target_modules: "all-linear" (all but the head), a regular expression, or names of modules.
        dora: Whether direction and magnitude of the weights are adapted separately (DoRA, arXiv 2402.09353); slower.
        use_rslora: Whether adapters count alpha / sqrt(r) instead (rsLoRA, arXiv 2312.03732).
        init_lora_weights: How adapters begin: true (no change of the model), gaussian, orthogonal, or with the largest
            parts of the base's weights: pissa (arXiv 2404.02948), pissa_niter_4 (faster), olora (arXiv 2406.01775).
        modules_to_save: Names of modules that are trained as a whole and saved with the adapters.
        layers_to_transform: Numbers of the blocks that get adapters; needs target_modules as a list. All by default.
        loraplus_lr_ratio: How many times the learning rate of A that of B is (LoRA+, arXiv 2402.12354); 1 by default.
    """

    r: int = 16
    alpha: int = 16
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"
    dora: bool = False
    use_rslora: bool = False
    init_lora_weights: bool | str = True
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    loraplus_lr_ratio: float | None = None

    @property
    def changes_base(self) -> bool:
        """Whether the adapters begin with a part of the base's weights, which these then lack."""
        return _TAKEN_FROM_BASE.fullmatch(str(self.init_lora_weights)) is not None


def check_lora(options: LoraOptions, quantization: str | None = None) -> None:
    """Check options that peft would not, or only once the weights are loaded.

    Args:
        options: The options.
        quantization: Of the base.

    Raises:
        ConfigError: If one has an invalid value, or cannot be combined with another.
    """
    init, ratio = options.init_lora_weights, options.loraplus_lr_ratio
    if init is not True and init not in _ADDED and not options.changes_base:
        why = ", which needs a pass over data or weights before the training" if init in _NOT_HERE else ""
        raise ConfigError(
            f"model.lora.init_lora_weights={str(init).lower()}{why}; choose one of true, {', '.join(_ADDED)}, pissa, "
            "pissa_niter_N, olora"
        )
    if options.changes_base and (options.dora or quantization):
        other = "model.lora.dora" if options.dora else f"model.quantization={quantization}"
        raise ConfigError(
            f"model.lora.init_lora_weights={init} cannot be combined with {other}: the adapters would not fit the "
            "original base; omit one of the two"
        )
    if ratio is not None and not 0 < ratio < float("inf"):
        raise ConfigError(f"model.lora.loraplus_lr_ratio must be above 0, got {ratio!r}")


def add_lora(
    model: Any,
    options: LoraOptions,
    task_type: str = "CAUSAL_LM",
    *,
    new: Sequence[str] = (),
    new_ids: Sequence[int] = (),
    excluded: Sequence[str] = (),
    one_dtype: bool = False,
) -> Any:
    """Freeze a transformers model and put trainable adapters into it.

    Args:
        model: The model.
        options: Rank, scale and targets of the adapters.
        task_type: Task of peft: CAUSAL_LM, SEQ_2_SEQ_LM, or SEQ_CLS, which trains the head too.
        new: Names of parameters that the base lacks; their modules are trained as a whole.
        new_ids: Token ids that the base lacks; their rows of the embedding are trained, and those of an untied output
            layer.
        excluded: Names of modules that get no adapters, whatever the targets: towers of a vision-language model.
        one_dtype: Whether adapters have the dtype of the weights; else those of half-precision weights are float32.

    Raises:
        ConfigError: If peft refuses the options, such as a target that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    _check_modules(model, options.modules_to_save or ())
    # peft knows the usual names of heads; there may be more that is random, such as BERT's pooler.
    whole = sorted({*(options.modules_to_save or ()), *(name.rpartition(".")[0] for name in new)})
    try:
        config = LoraConfig(
            task_type=task_type,
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=options.target_modules,
            exclude_modules=rf"({'|'.join(map(re.escape, excluded))})(\..*)?" if excluded else None,
            use_dora=options.dora,
            use_rslora=options.use_rslora,
            init_lora_weights=options.init_lora_weights,
            layers_to_transform=options.layers_to_transform,
            modules_to_save=whole or None,
            ensure_weight_tying=_has_tied_table(model, whole),
            trainable_token_indices=_rows(model, new_ids, options.target_modules),
        )
        with warnings.catch_warnings(), _repeatable(options):
            # peft 0.21 asks by a name that transformers 5 has deprecated.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            return get_peft_model(model, config, autocast_adapter_dtype=not one_dtype)
    except (ValueError, TypeError, re.error) as error:  # re.error: target_modules may be a pattern
        raise ConfigError(f"model.lora: {' '.join(str(error).split())}") from error


def _check_modules(model: Any, wanted: Sequence[str]) -> None:
    """Check that the model has the modules that are trained as a whole; peft passes over those that it has not."""
    names = [name for name, _ in model.named_modules() if name]
    for given in wanted:
        if not any(name == given or name.endswith(f".{given}") for name in names):
            last = sorted({part for part in (name.rpartition(".")[2] for name in names) if not part.isdigit()})
            raise ConfigError(
                f"model.lora.modules_to_save: {given!r} is not a module of the model; "
                f"{did_you_mean(given, [*last, *names], 'it has ' + ', '.join(last))}"
            )


@contextmanager
def _repeatable(options: LoraOptions) -> Iterator[None]:
    """Take the same part from the base each time; peft's fast decomposition draws random numbers.

    A checkpoint holds the adapters, and who loads them takes that part from the base again.
    """
    if not options.changes_base:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _has_tied_table(model: Any, whole: Sequence[str]) -> bool:
    """Return whether an embedding that is also the output layer is among these modules."""
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    if tables[1] is None or tables[0].weight is not tables[1].weight:
        return False
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if module in tables}
    return any(name.rpartition(".")[2] in names for name in whole)


def _rows(model: Any, new_ids: Sequence[int], target_modules: str | list[str]) -> dict[str, list[int]] | None:
    """Return the rows to train by the name of their module; of tied weights peft takes care itself."""
    if not new_ids:
        return None
    names = {id(module): name for name, module in model.named_modules()}
    tables = [model.get_input_embeddings()]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not tables[0].weight:
        tables.append(output)
    found = [names[id(table)] for table in tables]
    return {name: list(new_ids) for name in found if not _is_target(name, target_modules)} or None


def _is_target(name: str, target_modules: str | list[str]) -> bool:
    """Whether adapters are put into a module of this name, which then train its rows."""
    if isinstance(target_modules, str):
        return target_modules != "all-linear" and re.fullmatch(target_modules, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in target_modules)


# What peft puts in front of the names of the model that it wraps.
_PEFT_PREFIX = "base_model.model."


def freeze(model: Any, patterns: Sequence[str]) -> int:
    r"""Exclude parameters from training.

    Args:
        model: The model, bare or inside peft; names are those of the bare model.
        patterns: Each the name of a parameter, the name of a module for all parameters below it, or a regular
            expression that matches whole names.

    Returns:
        How many parameters are frozen by it, tied ones counted once.

    Raises:
        ConfigError: If a pattern matches nothing, or nothing is left to train.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> freeze(model, ["0", r".*\.bias"])
        3
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['1.weight']
    """
    # With both names of a tied parameter: either may be the one that the user knows.
    parameters = {
        name.removeprefix(_PEFT_PREFIX): parameter for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    frozen: dict[int, Parameter] = {}
    for pattern in patterns:
        found = [parameter for name, parameter in parameters.items() if _matches(pattern, name)]
        if not found:
            raise ConfigError(f"model.freeze: {pattern!r} matches no parameter{_nearest(pattern, parameters)}")
        frozen.update((id(parameter), parameter) for parameter in found)
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"model.freeze={list(patterns)!r} freezes all parameters; leave something to train")
    return len(frozen)


def _matches(pattern: str, name: str) -> bool:
    if name == pattern or name.startswith(f"{pattern}."):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ConfigError(f"model.freeze: {pattern!r} is neither a name nor a regular expression: {error}") from error


def _nearest(pattern: str, parameters: dict[str, Parameter]) -> str:
    """Return the end of the message: the names nearest to the pattern."""
    known: dict[str, None] = {}
    for name in parameters:
        parts = name.split(".")
        known.update((".".join(parts[:depth]), None) for depth in range(1, len(parts) + 1))
    nearest = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
    return (
        f"; the nearest names are {', '.join(nearest)}" if nearest else f"; names begin with {', '.join(_roots(known))}"
    )


def _roots(known: dict[str, None]) -> list[str]:
    return [name for name in known if "." not in name]
