"""Open what answers: a folder of weights or of adapters, a model of the hub, or a module of this package."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_neft.data.templates.registry import TEMPLATES, template_named
from lightning_neft.errors import ConfigError, ModelError
from lightning_neft.generation.answering import Answerer
from lightning_neft.hub.adapter_config import ADAPTERS, base_of_adapters, check_adapters
from lightning_neft.hub.base_config import load_base_config
from lightning_neft.hub.names import loading, resolve_base
from lightning_neft.hub.tokenizer import add_special_tokens, load_tokenizer, pad_id
from lightning_neft.models.description import AUTO_CLASSES, ModelFacts, read_facts
from lightning_neft.models.vocabulary import grow_embeddings
from lightning_neft.models.weights import DType, load_weights
from lightning_neft.saving.checkpoints import checkpoint_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lightning_neft.models.pretrained import PretrainedModule

__all__ = ["LoadedModel", "build_module", "chosen_device", "load_model", "module_answerer", "open_answerer"]

_OTHER_BASE = "name the base that they were trained on in base_model_name_or_path of their adapter_config.json"


class LoadedModel:
    """A model that was read from a folder or the hub.

    Attributes:
        model: Of transformers, inside peft if there are adapters.
        tokenizer: Its tokenizer.
        facts: How it was trained, None where nothing says so.
        base: The base of its adapters, None without adapters.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, facts: ModelFacts | None, base: str | None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.facts = facts
        self.base = base


def open_answerer(
    model: str,
    *,
    template: str | None = None,
    device: str | None = None,
    dtype: DType | None = None,
    trust_remote_code: bool = False,
) -> Answerer:
    """Load a model that answers.

    Args:
        model: A folder with all weights or with adapters, a hub id, or `tiny`.
        template: Name of the template; by default the one of the training, else the tokenizer's own.
        device: Such as cpu or cuda:1; by default a GPU if there is one.
        dtype: Of the weights; by default the one of the training, else that of the files.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelError: If there is no such model, or it writes no text.
        ConfigError: If the template or the device is none, or no template is known.
    """
    where = chosen_device(device)
    facts = read_facts(Path(resolve_base(model)))
    if facts is not None and facts.task == "sequence_classification":
        raise ModelError(f"{model} is a classifier, which writes no text")
    loaded = load_model(model, dtype=dtype, trust_remote_code=trust_remote_code)
    name = template or (loaded.facts.template if loaded.facts else None)
    if name is None and not loaded.tokenizer.chat_template:
        raise ConfigError(
            f"nothing says how {model} wants its prompts worded, it has no chat template; give --template, one of "
            f"{', '.join(known for known in TEMPLATES if known != 'tokenizer')}"
        )
    words = template_named(name or "tokenizer", loaded.tokenizer)
    if add_special_tokens(loaded.tokenizer, words.special_tokens):
        grow_embeddings(loaded.model, loaded.tokenizer)
    return Answerer(loaded.model.to(where), loaded.tokenizer, words, name=model)


def build_module(module: PretrainedModule, template: str | None, checkpoint: Path | None = None) -> None:
    """Build the model of a module as training did, without a Trainer, and put the weights of a checkpoint into it.

    Args:
        module: A module of this package whose model is not built yet.
        template: Name of the template, whose tokens the tokenizer may lack; None without one.
        checkpoint: A `.ckpt` file, or the folder of one in parts; the weights of the base by default.

    Raises:
        ModelError: If the checkpoint is none of this model, or cannot be read.
        ConfigError: If there is no such template.
    """
    if template is not None:
        tokenizer = module.tokenizer()
        module.special_tokens = tuple(add_special_tokens(tokenizer, template_named(template, tokenizer).special_tokens))
    module.configure_model()
    if checkpoint is not None:
        # What has to be there has been checked; below adapters the weights of the base stay.
        module.model.load_state_dict(checkpoint_weights(module, checkpoint), strict=False)


def module_answerer(module: PretrainedModule, template: str, *, name: str, device: str | None = None) -> Answerer:
    """Return what answers with the current weights of a language model of this package, which is built.

    Args:
        module: The module.
        template: Name of the template.
        name: What to call the model.
        device: Such as cpu or cuda:1; by default a GPU if there is one.

    Raises:
        ConfigError: If there is no such template or device.
    """
    where = chosen_device(device)
    tokenizer = module.tokenizer()
    # Weights in 4 bits are on their device already.
    model = module.model.to(where) if module.quantization is None else module.model
    return Answerer(model, tokenizer, template_named(template, tokenizer), name=name)


def load_model(model: str, *, dtype: DType | None = None, trust_remote_code: bool = False) -> LoadedModel:
    """Load a model with its tokenizer, on the CPU.

    Args:
        model: A folder with all weights or with adapters, a hub id, or `tiny`.
        dtype: Of the weights; by default the one of the training, else that of the files.
        trust_remote_code: Whether code that comes with the model may run.

    Raises:
        ModelError: If there is no such model, or weights of it are missing.
    """
    path = resolve_base(model)
    folder = Path(path)
    facts = read_facts(folder)
    if folder.is_dir() and not any((folder / name).is_file() for name in (ADAPTERS, "config.json")):
        hint = f"did you mean {model.rstrip('/')}/model?" if (folder / "model").is_dir() else "give one"
        raise ModelError(f"{model} has neither config.json nor {ADAPTERS}, so it is no model folder; {hint}")
    tokenizer = load_tokenizer(model, trust_remote_code)
    base = base_of_adapters(folder)
    chosen: DType = dtype or _dtype(facts, is_adapters=base is not None)
    auto_class = AUTO_CLASSES[facts.task] if facts else _auto_class(base or model, trust_remote_code)
    # Of a classifier adapters bring the head along.
    head = _head(facts, tokenizer) if facts is not None and facts.labels and base is not None else {}
    weights, missing = load_weights(
        auto_class, base or path, dtype=chosen, trust_remote_code=trust_remote_code, has_new_head=bool(head), **head
    )
    if missing and not head:
        raise ModelError(
            f"{base or model} lacks weights of a {type(weights).__name__}: {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; give a model that writes text"
        )
    # Some tokenizers have tokens beyond the table, which a prompt may hold.
    grow_embeddings(weights, tokenizer)
    if base is not None:
        weights = _with_adapters(weights, folder, base)
    return LoadedModel(weights, tokenizer, facts, base)


def chosen_device(device: str | None) -> torch.device:
    """Return the device of this name, or the best one there is.

    Raises:
        ConfigError: If there is none of this name here.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if device is None:
        return found or torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"--device {device} is not here; torch finds {found or 'a CPU alone'}") from error
    return chosen


def _with_adapters(model: Any, folder: Path, base: str) -> Any:
    from peft import PeftModel, PeftType

    check_adapters(folder, [name for name, _ in model.named_modules()])
    problem = f"the adapters of {folder} do not fit their base {base}"
    with loading("adapters", str(folder)), warnings.catch_warnings():
        # peft warns of keys that are missing, and leaves those adapters as if they had not been trained.
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        try:
            model = PeftModel.from_pretrained(model, str(folder))
            # What from_pretrained found is in a warning alone.
            found: Any = model.load_adapter(str(folder), "default")
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            first = str(error).partition("size mismatch for ")[2].splitlines()[0].rstrip(".")
            raise ModelError(f"{problem}: {first}; {_OTHER_BASE}") from error
    # The keys of other kinds of adapters may be shared: peft lists those as missing.
    if model.peft_config["default"].peft_type is not PeftType.LORA:
        return model
    # peft writes the trained rows of a tied table for the head too, and reads them for the embedding alone.
    is_tied = model.get_base_model().config.get_text_config().tie_word_embeddings
    unexpected = [key for key in found.unexpected_keys if not (is_tied and key.endswith(".trainable_tokens_delta"))]
    if found.missing_keys or unexpected:
        lists = (("missing", found.missing_keys), ("unexpected", unexpected))
        keys = ", ".join(f"{_listed(names)} {what}" for what, names in lists if names)
        raise ModelError(f"{problem}: {keys}; {_OTHER_BASE}")
    return model


def _listed(names: Sequence[str]) -> str:
    return f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"


def _head(facts: ModelFacts, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    labels = dict(enumerate(facts.labels or ()))
    return {
        "num_labels": len(labels),
        "id2label": labels,
        "label2id": {name: index for index, name in labels.items()},
        "pad_token_id": pad_id(tokenizer),
    }


def _dtype(facts: ModelFacts | None, *, is_adapters: bool) -> DType:
    # A folder with all weights has them in the dtype of the training already.
    if is_adapters and facts is not None and facts.dtype in ("float32", "bfloat16", "float16"):
        return facts.dtype  # type: ignore[return-value]
    return "auto"


def _auto_class(base: str, trust_remote_code: bool) -> str:
    config = load_base_config(base, trust_remote_code)
    return AUTO_CLASSES["seq2seq_lm" if config.is_encoder_decoder else "causal_lm"]
