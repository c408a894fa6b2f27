"""Base models by name: resolved to a folder or hub id, loaded from the cache without a hub, errors as one line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from huggingface_hub.errors import StrictDataclassError

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ModelError, NEFTError
from lightning_neft.hub.cache import cache_folder, cache_without_hub
from lightning_neft.hub.gguf import expanded_folder, is_gguf
from lightning_neft.hub.tiny_models import TINY, tiny_model

__all__ = ["RANDOM_T5", "loading", "resolve_base"]

RANDOM_T5 = "tiny-t5"
# The message of transformers where it has no class; a list of all its classes follows.
_NO_CLASS = re.compile(r"Unrecognized configuration class <class .*?(\w+).> for this kind of AutoModel: (\w+)\.")
# The message of torch for an embedding whose padding token is out of range.
_NO_PADDING_ROW = "Padding_idx must be within num_embeddings"
_LONGEST_REASON = 400


def resolve_base(base: str) -> str:
    """Return the folder of `tiny` or `tiny-llama`, which are bundled, or of `tiny-t5`, which the first call writes.

    The last is an encoder-decoder with fixed random weights, in the cache of `datasets`. For a GGUF file it is the
    folder that the file is expanded to, which takes a minute at the first call. Any other name is returned unchanged.

    Raises:
        ModelError: If `base` can only be a folder or a file and does not exist, the file cannot be used, or the cache
            cannot be written to.
    """
    if base in ("tiny", "tiny-llama"):
        return str(TINY)
    if base == RANDOM_T5:
        return str(tiny_model("t5", cache_folder() / "tiny"))
    path = user_path(base, "model base")
    if is_gguf(path):
        if not path.is_file():
            raise ModelError(f"model base {base!r}: no such file (from {Path.cwd()}); give a GGUF file on this machine")
        with loading("weights", base):
            return str(expanded_folder(path))
    if not base or path.is_file():
        what = "a file" if base else "empty"
        raise ModelError(f"model base {base!r} is {what}; give a folder, a hub id, a .gguf file, or tiny")
    # A hub id has at most one slash.
    if (base.startswith((".", "/", "~")) or base.count("/") > 1) and not path.is_dir():
        raise ModelError(f"model base {base!r}: no such folder (from {Path.cwd()}); give a folder, a hub id, or tiny")
    return str(path)


@contextmanager
def loading(what: str, base: str) -> Iterator[None]:
    """Turn errors of transformers while loading into a `ModelError` of one line; use the cache without a hub.

    Args:
        what: What is being loaded, for the message.
        base: The name that the user gave.
    """
    try:
        with cache_without_hub(base):
            yield
    # These have messages of their own.
    except (MemoryError, NEFTError):
        raise
    except UnpicklingError as error:
        raise ModelError(
            f"the {what} of model base {base!r} hold more than tensors and plain values; they were refused, because "
            "loading them could run code; give weights in safetensors"
        ) from error
    # Only libraries run here, on files that the user named. On a broken file they may raise any class; tokenizers
    # raises Exception itself.
    except Exception as error:
        if isinstance(error, RuntimeError) and "ignore_mismatched_sizes" in str(error):
            # transformers has listed them on standard error.
            raise ModelError(f"the {what} of model base {base!r} do not fit its config: their shapes differ") from error
        # The tokenizer and the weights need the config too.
        what = "config" if isinstance(error, StrictDataclassError) else what
        raise ModelError(f"the {what} of model base {base!r} cannot be loaded: {_reason(error)}") from error
    except BaseException as error:
        # A panic in the Rust code of tokenizers or safetensors.
        if type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"the {what} of model base {base!r} cannot be loaded: {_line(str(error))}") from error


def _reason(error: Exception) -> str:
    """Return one line for a message that has many lines, lists hundreds of classes, or is only a name."""
    message = str(error).partition("Exception raised from")[0]
    if found := _NO_CLASS.search(message):
        config, auto_class = found.groups()
        return f"transformers has no {auto_class} for a {config}; give another base, or another task"
    if isinstance(error, StrictDataclassError):
        message = f"config.json: {message}"
    elif _NO_PADDING_ROW in message:
        return "config.json: pad_token_id must be null or less than vocab_size"
    elif isinstance(error, (KeyError, NotImplementedError)) or not message:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return _line(message)


def _line(message: str) -> str:
    return textwrap.shorten(message, _LONGEST_REASON, placeholder=" ...")
