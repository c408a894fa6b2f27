"""Find the token embedding(s) of a module: never position or token-type tables, and never one that is not called."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

from torch import nn

from lightning_neft.errors import AmbiguousEmbeddingError, ConfigError, EmbeddingNotFoundError
from lightning_neft.noise.documents import PaddingId

__all__ = [
    "EmbeddingTarget",
    "Side",
    "Target",
    "check_target",
    "find_embeddings",
    "sequence_first_module",
    "without_wrappers",
]

Side = Literal["encoder", "decoder", "both"]
Target = str | nn.Module | Sequence[str | nn.Module] | Callable[[nn.Module], nn.Module | Sequence[nn.Module]]

# Wrappers that add a level to the names below them: torch.compile, DDP, FSDP1, activation checkpointing.
_WRAPPER_LEVELS = {"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# Parts of the names of tables that embed something else than tokens.
_NOT_TOKENS = ("pos", "wpe", "type", "segment", "relative", "bias", "time", "step", "class", "label", "codebook")

# The attributes of a model's config for the token ids that are placeholders for features of images, video or sound.
_SLOTS = tuple(f"{kind}_token_{form}" for kind in ("image", "video", "audio") for form in ("id", "index"))


@dataclass(frozen=True)
class EmbeddingTarget:
    """A module whose output gets the noise.

    Attributes:
        name: Dotted name below the module that was searched, without the levels that wrappers add.
        module: The module.
        side: Which tokens it embeds: those of a decoder-only model or an encoder (`None`), the encoder's or decoder's
            of an encoder-decoder, or `both` if one module serves the two.
        slots: Token ids that the model replaces by features of images, video or sound, from its config.
        padding: The padding id, from the model's config or the table; None if neither has one.
        is_found: Whether it was detected as a token embedding; False for a module that the target names.
    """

    name: str
    module: nn.Module
    side: Side | None = None
    slots: tuple[int, ...] = ()
    padding: PaddingId | None = None
    is_found: bool = True

    @property
    def label(self) -> str:
        """Its name for messages: the class, where it is itself the module that was searched."""
        return self.name or type(self.module).__name__

    @property
    def is_seq2seq(self) -> bool:
        """Whether it belongs to an encoder-decoder, whose labels are the tokens of another row than its input ids."""
        return self.side is not None


def find_embeddings(root: nn.Module, target: Target | None = None) -> list[EmbeddingTarget]:
    """Find the modules whose output gets the noise.

    Without a target these are the token embeddings of the one model inside `root` that answers
    `get_input_embeddings` (through PEFT, torch.compile, DDP, FSDP and LightningModule attributes; of several models
    the one with trainable parameters), for an encoder-decoder those that its two stacks call; else the one
    `nn.Embedding` that is not a position or type table.

    Args:
        root: The module to search, such as a LightningModule.
        target: A dotted name, a module, a sequence of these, or a callable from `root` to one or several modules. A
            module with `get_input_embeddings` stands for that embedding.

    Returns:
        One target, or two for an encoder-decoder, or as many as `target` names.

    Raises:
        EmbeddingNotFoundError: Nothing found, or no module of the name given.
        AmbiguousEmbeddingError: Several candidates and no target.
        ConfigError: The target is not a module, or its callable does not return one.

    >>> find_embeddings(nn.ModuleDict({"tok": nn.Embedding(9, 4), "pos": nn.Embedding(9, 4)}))[0].name
    'tok'
    """
    targets = _search(root) if target is None else _named(root, target)
    # A module that is named twice, or used by two models, gets its noise once.
    once: dict[nn.Module, EmbeddingTarget] = {}
    for found in targets:
        once.setdefault(found.module, found)
    models = [model for _, model in _models(root)]
    return [
        replace(found, slots=_slots(found.module, models), padding=_padding(found.module, root))
        for found in once.values()
    ]


def check_target(target: object) -> None:
    """Raise ConfigError if `find_embeddings` does not take a target."""
    if target is None or isinstance(target, str | nn.Module) or callable(target):
        return
    if not isinstance(target, Sequence) or not all(isinstance(one, str | nn.Module) for one in target):
        raise ConfigError(
            f"target={target!r}: use the dotted name of a module, a module, a sequence of these, or a function from "
            "the LightningModule to modules."
        )


def sequence_first_module(root: nn.Module) -> str | None:
    """Name and class of a module below `root` that takes (L, B), by `batch_first=False`; None if none does.

    Models that answer `get_input_embeddings` take (B, L) whatever is inside them.

    >>> sequence_first_module(nn.ModuleDict({"encoder": nn.LSTM(4, 4)}))
    'encoder (LSTM)'
    """
    answering = [model for _, model in _models(root)]
    inside = {part for model in answering for part in model.modules()}
    for name, module in root.named_modules():
        if module not in inside and getattr(module, "batch_first", None) is False:
            return f"{without_wrappers(name)} ({type(module).__name__})".strip()
    return None


def _named(root: nn.Module, target: Target) -> list[EmbeddingTarget]:
    """The modules that a target names."""
    named: Any = target
    if callable(target) and not isinstance(target, nn.Module):
        named = target(root)
    targets: list[EmbeddingTarget] = []
    for one in [named] if isinstance(named, str | nn.Module) else _listed(named):
        name, module = _by_name(root, one) if isinstance(one, str) else (_name_of(root, one), one)
        targets += (
            _of_model(module, name)
            if hasattr(module, "get_input_embeddings")
            else [EmbeddingTarget(name, module, is_found=False)]
        )
    if not targets:
        raise EmbeddingNotFoundError(f"target={target!r} names no module: name at least one.")
    return targets


def _listed(named: Any) -> list[str | nn.Module]:
    if not isinstance(named, Sequence) or not all(isinstance(one, str | nn.Module) for one in named):
        raise ConfigError(f"the callable of target returned {named!r}: return a module, or a sequence of modules.")
    return list(named)


def _search(root: nn.Module) -> list[EmbeddingTarget]:
    models = list(_models(root))
    if len(models) > 1:
        # A frozen reference or reward model beside the trained one gets no noise.
        trained = [(name, model) for name, model in models if any(p.requires_grad for p in model.parameters())]
        models = trained or models
    if len(models) > 1:
        raise AmbiguousEmbeddingError(
            f"{type(root).__name__} has several models with a token embedding: "
            f"{', '.join(name for name, _ in models)}. Name those to train with noise: "
            "target='<name>', or a list of names."
        )
    if models:
        name, model = models[0]
        return _of_model(model, name)
    tables = [(name, module) for name, module in _named_modules(root) if _is_table(module)]
    tokens = [(name, module) for name, module in tables if not _names_other_table(name)]
    if len(tokens) == 1:
        return [EmbeddingTarget(*tokens[0])]
    if tokens:
        listed = ", ".join(f"{name} {_shape(module)}" for name, module in tokens)
        raise AmbiguousEmbeddingError(
            f"{type(root).__name__} has several embeddings that could be for tokens: {listed}. "
            "Name one: target='<name>'."
        )
    listed = f": only {', '.join(name for name, _ in tables)}" if tables else ""
    raise EmbeddingNotFoundError(
        f"{type(root).__name__} has no token embedding{listed}. Name the module whose output gets the noise: "
        "target='<name>'."
    )


def _models(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules that have a token embedding and `get_input_embeddings`."""
    if hasattr(module, "get_input_embeddings") and _input_embedding(module) is not None:
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _models(child, prefix if name in _WRAPPER_LEVELS else f"{prefix}.{name}".lstrip("."))


def _of_model(model: Any, name: str) -> list[EmbeddingTarget]:
    """Token embeddings of a model with `get_input_embeddings`."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and hasattr(model, "get_decoder"):
        stacks: tuple[tuple[Any, Side], ...] = ((model.get_encoder(), "encoder"), (model.get_decoder(), "decoder"))
        sides: dict[nn.Module, Side] = {}
        for stack, side in stacks:
            table = None if stack is None else _input_embedding(stack)
            # A speech encoder's input layer is a convolution: no tokens there.
            if table is not None and _is_table(table):
                sides[table] = "both" if table in sides else side
        if sides:
            return [EmbeddingTarget(_join(name, _name_of(model, table)), table, side) for table, side in sides.items()]
    module = _input_embedding(model)
    if module is None:
        raise EmbeddingNotFoundError(
            f"{type(model).__name__} ({name or 'the model'}) has no token embedding. Name the module whose output gets "
            "the noise: target='<name>'."
        )
    module = _called_by_encoder(model, module)
    return [EmbeddingTarget(_join(name, _name_of(model, module)), module)]


def _called_by_encoder(model: Any, module: nn.Module) -> nn.Module:
    """The table of a model's only stack, where it shares the weight of the model's own but is another module (T5)."""
    encoder = getattr(model, "encoder", None) if not hasattr(model, "get_encoder") else model.get_encoder()
    own = _input_embedding(encoder) if isinstance(encoder, nn.Module) and encoder is not model else None
    if own is None or own is module or not _is_table(own):
        return module
    return own if getattr(own, "weight", None) is getattr(module, "weight", ...) else module


def _slots(embedding: nn.Module, models: Sequence[nn.Module]) -> tuple[int, ...]:
    """Token ids that the model of an embedding replaces by features of images, video or sound."""
    model = next((model for model in models if any(part is embedding for part in model.modules())), None)
    ids = (getattr(getattr(model, "config", None), name, None) for name in _SLOTS)
    return tuple(dict.fromkeys(slot for slot in ids if isinstance(slot, int)))


def _padding(embedding: nn.Module, root: nn.Module) -> PaddingId | None:
    """The padding id: that of the innermost model around the embedding whose config has one, else the table's."""
    around = [module for module in root.modules() if any(part is embedding for part in module.modules())]
    configs = [getattr(module, "config", None) for module in reversed(around)]
    named = [getattr(config, "pad_token_id", None) for config in configs]
    padding = next(filter(_is_id, named + [getattr(part, "padding_idx", None) for part in embedding.modules()]), None)
    if padding is None:
        return None
    configs += [getattr(module, "generation_config", None) for module in around]

    def means(*roles: str) -> bool:
        values = [getattr(config, f"{role}_token_id", None) for config in configs for role in roles]
        return any(padding in value if isinstance(value, list | tuple) else value == padding for value in values)

    return PaddingId(padding, means("eos", "sep"), means("bos", "cls", "decoder_start"))


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _input_embedding(model: Any) -> nn.Module | None:
    try:
        embedding = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        # transformers raises these for models without a token embedding.
        return None
    return embedding if isinstance(embedding, nn.Module) else None


def _is_table(module: nn.Module) -> bool:
    """Whether a module looks tokens up in a table; PEFT's wrappers do not inherit from nn.Embedding."""
    if isinstance(module, nn.EmbeddingBag):
        return False
    if isinstance(module, nn.Embedding) or (hasattr(module, "num_embeddings") and hasattr(module, "embedding_dim")):
        return True
    inner = next((getattr(module, a) for a in ("base_layer", "original_module") if hasattr(module, a)), None)
    return isinstance(inner, nn.Module) and _is_table(inner)


def _names_other_table(name: str) -> bool:
    last = name.rpartition(".")[2].lower()
    return any(part in last for part in _NOT_TOKENS)


def _named_modules(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """As `nn.Module.named_modules`, without the levels of wrappers and without the inside of a PEFT wrapper."""
    inside: set[nn.Module] = set()
    for name, module in root.named_modules():
        if module in inside:
            continue
        if _is_table(module):
            inside.update(module.modules())
        yield without_wrappers(name), module


def without_wrappers(name: str) -> str:
    """A dotted name without the levels that torch.compile, DDP, FSDP and activation checkpointing add.

    >>> without_wrappers("model._orig_mod.embed")
    'model.embed'
    """
    return ".".join(level for level in name.split(".") if level not in _WRAPPER_LEVELS)


def _name_of(root: nn.Module, wanted: nn.Module) -> str:
    return next((without_wrappers(name) for name, module in root.named_modules() if module is wanted), "")


def _by_name(root: nn.Module, name: str) -> tuple[str, nn.Module]:
    modules = {without_wrappers(full): module for full, module in reversed(list(root.named_modules()))}
    modules |= dict(root.named_modules())
    if name not in modules:
        # Another name of a module that is held twice.
        modules |= {full: module for full, module in root.named_modules(remove_duplicate=False) if full == name}
    if name in modules and name:
        return name, modules[name]
    near = difflib.get_close_matches(name, modules, n=3, cutoff=0.5) if name else []
    tables = [table for table, module in modules.items() if _is_table(module) and not _names_other_table(table)]
    hint = f"Near names: {', '.join(near)}." if near else f"Its embeddings: {', '.join(tables) or 'none'}."
    raise EmbeddingNotFoundError(f"target={name!r}: {type(root).__name__} has no module of that name. {hint}")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}".strip(".")


def _shape(module: nn.Module) -> str:
    weight = getattr(module, "weight", None)
    return "" if weight is None else "x".join(str(size) for size in weight.shape)
