"""Load a tokenizer, and read off the two things about it that the encoding needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.errors import ModelError
from lightning_neft.models.base import loading, resolve_base

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["leading_ids", "load_tokenizer", "pad_id"]


def load_tokenizer(base: str, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a base model.

    Args:
        base: A folder, a hub id, or `tiny`.
        trust_remote_code: Whether code that comes with the tokenizer may run.

    Raises:
        ModelError: If there is no tokenizer there, or it has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    path = resolve_base(base)
    with loading("tokenizer", base):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {base!r} has no end-of-sequence token, which ends an answer; set one in it")
    return tokenizer


def leading_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what the tokenizer puts before a text: its beginning-of-sequence token, or nothing.

    Read off an empty text, because some tokenizers add an end token too, which a prompt must not have.
    """
    added = tokenizer("")["input_ids"]
    return added[:1] if added and added[0] == tokenizer.bos_token_id else []


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that fills up a batch: the padding token, or the end token where there is none.

    No token is added and no embedding resized: the masks are made from lengths, so the id is never looked at.
    """
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
