"""Token ids for encoders: texts with the tokenizer's own special tokens around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_neft.data.control_tokens import token_ids
from lightning_neft.data.templates.base import Exchange

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["once", "source_text", "with_special_tokens"]


def source_text(exchanges: Sequence[Exchange], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return all before the last answer; the end token stands behind earlier ones as text."""
    ended = [e.prompt + e.answer + (tokenizer.eos_token if e.end is None else e.end) for e in exchanges[:-1]]
    return "".join([*ended, *(e.prompt for e in exchanges[-1:])])


def with_special_tokens(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the int32 ids of each text, and whether it was cut; the special tokens stay where it is.

    Those that a text brings along itself do not come twice.
    """
    whole = [once(ids, tokenizer) for ids in token_ids(tokenizer, texts)]
    long = {index: texts[index] for index, ids in enumerate(whole) if max_length is not None and len(ids) > max_length}
    if long:
        cut = token_ids(tokenizer, list(long.values()), truncation=True, max_length=max_length)
        for index, ids in zip(long, cut, strict=True):
            whole[index] = once(ids, tokenizer)
    for index, ids in enumerate(whole):
        yield np.array(ids, np.int32), index in long


def once(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return ids without the first one if it begins a text and stands there twice, and likewise the last one."""
    begins, ends = {tokenizer.bos_token_id, tokenizer.cls_token_id}, {tokenizer.eos_token_id, tokenizer.sep_token_id}
    if len(ids) > 1 and ids[0] == ids[1] and ids[0] in begins:
        ids = ids[1:]
    return ids[:-1] if len(ids) > 1 and ids[-1] == ids[-2] and ids[-1] in ends else ids
