"""Load a model that answers: a folder of weights or adapters, a model of the hub, or a module of this package."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lightning_neft.common.paths import user_path
from lightning_neft.data.templates.registry import TEMPLATES, template_named
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.generation.answering import Answerer
from lightning_neft.hub.adapter_config import ADAPTERS, base_of_adapters, check_adapters
from lightning_neft.hub.base_config import load_base_config
from lightning_neft.hub.names import loading, resolve_base
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer, pad_id
from lightning_neft.models.description import AUTO_CLASSES, ModelDescription, read_description
from lightning_neft.models.vocabulary import grow_embeddings
from lightning_neft.models.weights import DType, load_weights
from lightning_neft.saving.checkpoints import checkpoint_special_tokens, checkpoint_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lightning_neft.models.pretrained import PretrainedModule

__all__ = [
    "LoadedModel",
    "build_module",
    "chosen_device",
    "load_model",
    "local_source",
    "module_answerer",
    "open_answerer",
]

_OTHER_BASE = "name the base that they were trained on in base_model_name_or_path of their adapter_config.json"


class LoadedModel(NamedTuple):
    """A model loaded from a folder or the hub.

    Attributes:
        model: A model of transformers, inside peft if there are adapters.
        tokenizer: Its tokenizer.
        facts: How it was trained; None if it does not record that.
        base: The base of its adapters; None without adapters.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    facts: ModelDescription | None
    base: str | None


def open_answerer(
    model: str,
    *,
    template: str | None = None,
    otherwise: str | None = None,
    device: str | None = None,
    dtype: DType | None = None,
    trust_remote_code: bool = False,
) -> Answerer:
    """Load a model that answers.

    Args:
        model: A folder with all weights or with adapters, a hub id, or `tiny`.
        template: Name of the template; by default that of the training, else the tokenizer's chat template.
        otherwise: Name of the template of a model that has neither.
        device: A device such as cpu or cuda:1; by default a GPU if there is one.
        dtype: Dtype of the weights; by default that of the training, else that of the files.
        trust_remote_code: Whether the model's Python files may run.

    Raises:
        ModelError: If there is no such model, or it generates no text.
        ConfigError: If there is no such template or device, or no template is known.
    """
    where = chosen_device(device)
    facts = read_description(Path(resolve_base(model)))
    if facts is not None and facts.task == "sequence_classification":
        raise ModelError(f"{model} is a classifier, which generates no text")
    loaded = load_model(model, dtype=dtype, trust_remote_code=trust_remote_code)
    name = template or (loaded.facts.template if loaded.facts else None)
    if name is None and loaded.tokenizer.chat_template:
        name = "tokenizer"
    name = name or otherwise
    if name is None:
        raise ConfigError(
            f"{model} records no template and has no chat template; give --template, one of "
            f"{', '.join(known for known in TEMPLATES if known != 'tokenizer')}"
        )
    words = template_named(name, loaded.tokenizer)
    if add_special_tokens(loaded.tokenizer, words.special_tokens):
        grow_embeddings(loaded.model, loaded.tokenizer)
    return Answerer(loaded.model.to(where), loaded.tokenizer, words, name=model, source=local_source(model))


def build_module(module: PretrainedModule, template: str | None, checkpoint: Path | None = None) -> None:
    """Build the model of a module as in training, without a Trainer, and load the weights of a checkpoint.

    Args:
        module: A module of this package whose model is not built yet.
        template: Name of the template, whose tokens the tokenizer may lack; None without one.
        checkpoint: A `.ckpt` file, or the folder of a sharded checkpoint; the weights of the base by default.

    Raises:
        ModelError: If the checkpoint is of another model, or cannot be read.
        ConfigError: If there is no such template.
    """
    own = () if template is None else template_named(template, module.tokenizer()).special_tokens
    # Those of all templates of the data.
    added = None if checkpoint is None else checkpoint_special_tokens(checkpoint)
    if added is None:
        added = add_special_tokens(module.tokenizer(), own) if own else []
    module.special_tokens = tuple(added)
    module.configure_model()
    if checkpoint is not None:
        # checkpoint_weights has checked the names; the base of adapters is not among them.
        module.model.load_state_dict(checkpoint_weights(module, checkpoint), strict=False)
    if own and add_special_tokens(module.tokenizer(), own):
        grow_embeddings(module.model, module.tokenizer())


def local_source(model: str) -> Path | None:
    """Return the folder or file of a model; None for one of the hub or of this package."""
    place = user_path(model, "model")
    return place if place.exists() else None


def module_answerer(
    module: PretrainedModule, template: str, *, name: str, source: Path | None = None, device: str | None = None
) -> Answerer:
    """Return an answerer with the current weights of a language model of this package, which is built.

    Args:
        module: The module.
        template: Name of the template.
        name: Name of the model, for messages and results.
        source: File or folder that its weights are from; None if they are from the hub.
        device: A device such as cpu or cuda:1; by default a GPU if there is one.

    Raises:
        ConfigError: If there is no such template or device.
    """
    where = chosen_device(device)
    tokenizer = module.tokenizer()
    # 4-bit weights are on their device already.
    model = module.model.to(where) if module.quantization is None else module.model
    return Answerer(model, tokenizer, template_named(template, tokenizer), name=name, source=source)


def load_model(model: str, *, dtype: DType | None = None, trust_remote_code: bool = False) -> LoadedModel:
    """Load a model with its tokenizer, on the CPU.

    Args:
        model: A folder with all weights or with adapters, a hub id, or `tiny`.
        dtype: Dtype of the weights; by default that of the training, else that of the files.
        trust_remote_code: Whether the model's Python files may run.

    Raises:
        ModelError: If there is no such model, or it lacks weights.
    """
    path = resolve_base(model)
    folder = Path(path)
    facts = read_description(folder)
    if folder.is_dir() and not any((folder / name).is_file() for name in (ADAPTERS, "config.json")):
        hint = f"did you mean {model.rstrip('/')}/model?" if (folder / "model").is_dir() else "give a model folder"
        raise ModelError(f"{model} is not a model folder: it has neither config.json nor {ADAPTERS}; {hint}")
    tokenizer = load_tokenizer(model, trust_remote_code)
    base = base_of_adapters(folder)
    # A folder with all weights has them in the dtype of the training.
    recorded = facts.dtype if facts is not None and base is not None else None
    chosen: Any = dtype or (recorded if recorded in ("float32", "bfloat16", "float16") else "auto")
    auto_class = AUTO_CLASSES[facts.task] if facts else _auto_class(base or model, trust_remote_code)
    # The head of a classifier is saved with its adapters.
    head = _head(facts, tokenizer) if facts is not None and facts.labels and base is not None else {}
    weights, missing = load_weights(
        auto_class, base or path, dtype=chosen, trust_remote_code=trust_remote_code, has_new_head=bool(head), **head
    )
    if missing and not head:
        raise ModelError(
            f"{base or model} lacks weights of a {type(weights).__name__}: {_listed(missing)}; give a model that "
            "generates text"
        )
    # Some tokenizers have tokens without a row in the embedding, which a prompt may contain.
    grow_embeddings(weights, tokenizer)
    if base is not None:
        weights = _with_adapters(weights, folder, base)
    return LoadedModel(weights, tokenizer, facts, base)


def chosen_device(device: str | None) -> torch.device:
    """Return the device of this name; without a name a GPU if there is one.

    Raises:
        ConfigError: If there is no such device.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return found or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"--device {device} is not available; torch finds {found or 'only a CPU'}") from error
    return chosen


def _with_adapters(model: Any, folder: Path, base: str) -> Any:
    from peft import PeftModel, PeftType

    check_adapters(folder, [name for name, _ in model.named_modules()])
    problem = f"the adapters of {folder} do not fit their base {base}"
    with loading("adapters", str(folder)), warnings.catch_warnings():
        # peft only warns of missing keys, and leaves those adapters untrained.
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        try:
            model = PeftModel.from_pretrained(model, str(folder))
            # from_pretrained reports the keys in a warning only.
            found: Any = model.load_adapter(str(folder), "default")
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            first = str(error).partition("size mismatch for ")[2].splitlines()[0].rstrip(".")
            raise ModelError(f"{problem}: {first}; {_OTHER_BASE}") from error
    # Other kinds of adapters may share keys, which peft lists as missing.
    if model.peft_config["default"].peft_type is not PeftType.LORA:
        return model
    # peft writes the trained rows of a tied table for the head, too, and reads them for the embedding only.
    is_tied = model.get_base_model().config.get_text_config().tie_word_embeddings
    unexpected = [key for key in found.unexpected_keys if not (is_tied and key.endswith(".trainable_tokens_delta"))]
    if found.missing_keys or unexpected:
        lists = (("missing", found.missing_keys), ("unexpected", unexpected))
        keys = ", ".join(f"{_listed(names)} {what}" for what, names in lists if names)
        raise ModelError(f"{problem}: {keys}; {_OTHER_BASE}")
    return model


def _listed(names: Sequence[str]) -> str:
    return f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"


def _head(facts: ModelDescription, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    labels = dict(enumerate(facts.labels or ()))
    return {
        "num_labels": len(labels),
        "id2label": labels,
        "label2id": {name: index for index, name in labels.items()},
        "pad_token_id": pad_id(tokenizer),
    }


def _auto_class(base: str, trust_remote_code: bool) -> str:
    config = load_base_config(base, trust_remote_code)
    return AUTO_CLASSES["seq2seq_lm" if config.is_encoder_decoder else "causal_lm"]
