"""Token ids of exchanges: the one place where training and generation get them from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning_neft.data.conversation import Conversation
from lightning_neft.data.templates.base import Exchange, Template
from lightning_neft.data.tokenizer import leading_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["encode_prompts", "exchange_ids", "token_ids"]


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text and nothing around them, in one call: fast tokenizers work on it in parallel."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # nothing is too long here: it is cut later
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def exchange_ids(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversations: Sequence[Sequence[Exchange]]
) -> list[list[tuple[list[int], list[int]]]]:
    """Return for each exchange of each conversation the ids of its prompt, and of its answer with the end.

    Each exchange is tokenised apart from the others, the first one after what the tokenizer puts before a text. Prompt
    and answer are tokenised as one text, so the answer's first token is the one that a running text would have. Where
    that merges the end of the prompt with the start of the answer, the two are tokenised apart: the prompt's tokens are
    always those that generation feeds.

    Args:
        tokenizer: A tokenizer with an end-of-sequence token.
        template: The template that worded the exchanges.
        conversations: Exchanges of each conversation.
    """
    lead = leading_ids(tokenizer) if template.adds_bos else []
    end_ids = [tokenizer.eos_token_id]
    prompts, texts, before = [], [], []
    for exchanges in conversations:
        # A prompt is tokenised behind the end of the answer before it: some tokenizers put a space before a text, which
        # would come into the middle of the conversation otherwise.
        previous = ""
        for exchange in exchanges:
            before.append(previous)
            prompts.append(previous + exchange.prompt)
            texts.append(previous + exchange.prompt + exchange.answer + (exchange.end or ""))
            previous = tokenizer.eos_token if exchange.end is None else exchange.end
    ends = sorted(set(before))
    end_of = dict(zip(ends, token_ids(tokenizer, ends), strict=True))
    encoded = zip(before, token_ids(tokenizer, prompts), token_ids(tokenizer, texts), strict=True)
    result = []
    for exchanges in conversations:
        pairs: list[tuple[list[int], list[int]]] = []
        for exchange in exchanges:
            previous, prompt, text = next(encoded)
            start = _behind(prompt, end_of[previous])
            if start is None:
                start = token_ids(tokenizer, [exchange.prompt])[0]
            answer = _behind(text, prompt)
            if answer is None:
                answer = token_ids(tokenizer, [exchange.answer + (exchange.end or "")])[0]
            pairs.append((start if pairs else lead + start, answer + end_ids if exchange.end is None else answer))
        result.append(pairs)
    return result


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversations: Sequence[Conversation]
) -> list[list[int]]:
    """Return the ids that generation feeds for the next answer: exactly those that training has before the last one.

    Args:
        tokenizer: A tokenizer with an end-of-sequence token.
        template: Words the conversations.
        conversations: Each with or without its last answer, which is not looked at.

    Returns:
        A list of ids for each conversation, without padding.

    Example:
        >>> from lightning_neft.data.templates.plain import PlainTemplate
        >>> from lightning_neft.data.tokenizer import load_tokenizer
        >>> encode_prompts(load_tokenizer("tiny"), PlainTemplate(), [Conversation.exchange("Hi", "you")])
        [[0, 42, 75]]
    """
    worded = []
    for conversation in conversations:
        earlier, prompt = template.prompt(conversation)
        worded.append([*earlier, Exchange(prompt, "", end="")])
    result = []
    for pairs in exchange_ids(tokenizer, template, worded):
        *earlier_ids, (last, _) = pairs
        result.append([*(i for prompt_ids, answer in earlier_ids for i in (*prompt_ids, *answer)), *last])
    return result


def _behind(ids: list[int], beginning: list[int]) -> list[int] | None:
    """Return the ids without their beginning, or None where they begin otherwise."""
    return ids[len(beginning) :] if ids[: len(beginning)] == beginning else None
