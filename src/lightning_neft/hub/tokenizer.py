"""Load a tokenizer, and determine the properties that the encoding needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lightning_neft.common.limits import beyond_limits
from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import check_base_config
from lightning_neft.hub.names import loading, resolve_base

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["add_special_tokens", "leading_ids", "load_tokenizer", "pad_id", "stops", "tokenizer_identity"]

_PROCESSOR_TEMPLATE = "chat_template.json"
# Rules that never end, or lengthen a text each time, do so on any text.
_PROBE = "Which of 3 and 5\nis larger? " * 8


def load_tokenizer(
    base: str, trust_remote_code: bool = False, special_tokens: Iterable[str] = ()
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base model.

    Args:
        base: A folder, a hub id, or `tiny`.
        trust_remote_code: Whether code of the tokenizer may run.
        special_tokens: Texts that must be one token each, such as those of a template; missing ones are added.

    Raises:
        ModelError: If there is no tokenizer, or it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    path = resolve_base(base)
    # transformers reads it too, for the class of the tokenizer.
    check_base_config(base)
    with loading("tokenizer", base):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        if not isinstance(tokenizer.model_max_length, (int, float)):
            raise TypeError(f"model_max_length has to be a number, got {tokenizer.model_max_length!r}")
        if limit := beyond_limits(lambda: tokenizer(_PROBE)):
            raise ValueError(f"{limit} to read a text of {len(_PROBE)} characters")
        tokenizer(_PROBE)
        if tokenizer.chat_template is None:
            tokenizer.chat_template = _template_of_processor(path)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {base!r} has no end-of-sequence token, to end an answer; set its eos_token")
    add_special_tokens(tokenizer, special_tokens)
    return tokenizer


def _template_of_processor(path: str) -> str | None:
    """Return the chat template that a processor keeps in a file of its own, as older vision-language checkpoints do."""
    from transformers.utils import cached_file

    missing = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    found = cached_file(path, _PROCESSOR_TEMPLATE, **missing)
    return None if found is None else str(json.loads(Path(found).read_text(encoding="utf-8"))["chat_template"])


def add_special_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str]) -> list[str]:
    """Add the tokens that the tokenizer does not encode as one token each, and return them.

    The model then needs rows for them: `lightning_neft.models.vocabulary.grow_embeddings`.
    """
    if not (tokens := list(tokens)):
        return []
    ids = tokenizer.get_vocab()  # a copy
    missing = [token for token in tokens if tokenizer(token, add_special_tokens=False)["input_ids"] != [ids.get(token)]]
    if missing:
        tokenizer.add_special_tokens({"extra_special_tokens": missing}, replace_extra_special_tokens=False)
    return missing


def leading_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids that the tokenizer puts before a text: its beginning-of-sequence token, or none.

    Determined with an empty text, because some tokenizers also add an end token, which a prompt must not have.
    """
    added = tokenizer("")["input_ids"]
    return added[:1] if added and added[0] == tokenizer.bos_token_id else []


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that pads a batch: the padding token, or the end token where there is none.

    No token is added and no embedding resized: masks are computed from lengths, so the id is never read.
    """
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def stops(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> tuple[list[int], list[str]]:
    """Return what ends an answer, given the texts with which a template ends one.

    Returns:
        The control tokens that such texts begin with, and the texts that begin with none, which are searched for as
        text. The text of a control token may occur in an answer.
    """
    ids: list[int] = []
    written: list[str] = []
    for text in texts:
        first = tokenizer(text, add_special_tokens=False)["input_ids"][0]
        if first in tokenizer.added_tokens_decoder:
            ids.append(int(first))
        else:
            written.append(text)
    return ids, written


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of everything that determines the ids of a text. The chat template is not part of it."""
    import transformers

    if tokenizer.is_fast:
        # Padding and truncation of the last call would be part of the rules, but are not a property of the tokenizer.
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
        rules = tokenizer.backend_tokenizer.to_str()
    else:
        rules = json.dumps(tokenizer.get_vocab(), sort_keys=True) + _vocabulary_files(tokenizer)
    parts = [
        # The rules of a slow tokenizer, and the calls of a fast one, are code of transformers.
        transformers.__version__,
        type(tokenizer).__name__,
        rules,
        repr(sorted(tokenizer.special_tokens_map.items())),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _vocabulary_files(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a digest of the files that a slow tokenizer writes, the only place with its merges and scores."""
    digest = hashlib.sha256()
    with TemporaryDirectory() as folder:
        for file in sorted(tokenizer.save_vocabulary(folder)):
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()
