"""Token ids for encoders: texts with the tokenizer's own special tokens around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_neft.data.templates.base import Exchange

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["source_text", "with_special_tokens"]


def source_text(exchanges: Sequence[Exchange], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return all before the last answer; the end token stands behind earlier ones as text."""
    ended = [e.prompt + e.answer + (tokenizer.eos_token if e.end is None else e.end) for e in exchanges[:-1]]
    return "".join([*ended, *(e.prompt for e in exchanges[-1:])])


def with_special_tokens(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the int32 ids of each text, and whether it was cut; the special tokens stay where it is."""
    if not texts:
        return
    options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    whole = tokenizer(list(texts), **options)["input_ids"]
    long = {index: texts[index] for index, ids in enumerate(whole) if len(ids) > max_length}
    if long:
        cut = tokenizer(list(long.values()), truncation=True, max_length=max_length, **options)["input_ids"]
        for index, ids in zip(long, cut, strict=True):
            whole[index] = ids
    for index, ids in enumerate(whole):
        yield np.array(ids, np.int32), index in long
