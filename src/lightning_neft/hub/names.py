"""Base models by name: resolved to a folder or hub id, loaded from the cache without a hub, errors as one line."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError

from lightning_neft.common.paths import user_path
from lightning_neft.errors import ModelError, NEFTError
from lightning_neft.hub.tiny_models import TINY, tiny_model

__all__ = ["RANDOM_T5", "cache_folder", "cache_without_hub", "loading", "resolve_base"]

RANDOM_T5 = "tiny-t5"
# The message of transformers where it has no class; a list of all its classes follows.
_NO_CLASS = re.compile(r"Unrecognized configuration class <class .*?(\w+).> for this kind of AutoModel: (\w+)\.")
# The message of torch for an embedding whose padding token is out of range.
_NO_PADDING_ROW = "Padding_idx must be within num_embeddings"
_LONGEST_REASON = 400
# Seconds to wait for the hub's first response.
_PATIENCE = 10


def resolve_base(base: str) -> str:
    """Return the folder of `tiny` or `tiny-llama`, which are bundled, or of `tiny-t5`, which the first call writes.

    The last is an encoder-decoder with fixed random weights, in the cache of `datasets`. Any other name is returned
    unchanged.

    Raises:
        ModelError: If `base` can only be a folder and does not exist, or the cache cannot be written to.
    """
    if base in ("tiny", "tiny-llama"):
        return str(TINY)
    if base == RANDOM_T5:
        return str(tiny_model("t5", cache_folder() / "tiny"))
    path = user_path(base, "model base")
    # A hub id has at most one slash.
    if (base.startswith((".", "/", "~")) or base.count("/") > 1) and not path.is_dir():
        raise ModelError(f"model base {base!r}: no such folder (from {Path.cwd()}); give a folder, a hub id, or tiny")
    if not base or path.is_file():
        raise ModelError(f"model base {base!r} is {'a file' if base else 'empty'}; give a folder, a hub id, or tiny")
    return str(path)


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Return the given folder, else `lightning_neft` in the cache of `datasets`. It need not exist.

    Example:
        >>> cache_folder("mine")
        PosixPath('mine')
    """
    if cache_dir:
        return user_path(cache_dir, "data.cache_dir")
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "lightning_neft"


@contextmanager
def cache_without_hub(base: str) -> Iterator[None]:
    """Load only from the cache, as with HF_HUB_OFFLINE, if a base is on the hub and the hub does not respond.

    Args:
        base: Folder or hub id. For a folder the hub is not queried.
    """
    if constants.HF_HUB_OFFLINE or user_path(base, "model base").is_dir() or _answers(base, constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


@functools.cache
def _answers(base: str, endpoint: str) -> bool:
    """Return whether the hub responds; queried once, although a base is read in several steps."""
    try:
        HfApi(endpoint).model_info(base, timeout=_PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        # It refuses; requesting the files then gives the reason.
        return True
    # The class depends on the version of huggingface_hub: from requests, httpx, or its own.
    except Exception:
        return False
    return True


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
