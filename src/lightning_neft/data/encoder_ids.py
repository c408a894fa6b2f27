"""Token ids for encoders: texts with the tokenizer's own special tokens around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.templates.base import Exchange, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["encode_sources", "source_text", "with_special_tokens"]


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversations: Sequence[Conversation], max_length: int
) -> list[list[int]]:
    """Return what the encoder of a seq2seq model reads for the next answer: exactly the ids of training.

    Args:
        tokenizer: Tokenizer of the model.
        template: Words the conversations.
        conversations: Each with or without its last answer, which is not looked at.
        max_length: The most tokens, as in training.
    """
    texts = []
    for conversation in conversations:
        earlier, prompt = template.prompt(conversation)
        texts.append(source_text([*earlier, Exchange(prompt, "")], tokenizer))
    return [ids.tolist() for ids, _ in with_special_tokens(texts, tokenizer, max_length)]


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
