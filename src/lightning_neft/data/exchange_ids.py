"""Token ids of an exchange: the prompt as in generation, the answer and its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_neft.data.control_tokens import ControlTokens, token_ids
from lightning_neft.data.conversation import Conversation
from lightning_neft.data.templates.template import Exchange, Template
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import leading_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "encode_prompts",
    "exchange_ids",
    "once",
    "rendered",
    "rendered_prompt",
    "source_text",
    "with_special_tokens",
]


def source_text(exchanges: Sequence[Exchange], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text before the last answer, with the end token as text after earlier answers."""
    ended = [e.prompt + e.answer + (tokenizer.eos_token if e.end is None else e.end) for e in exchanges[:-1]]
    return "".join([*ended, *(e.prompt for e in exchanges[-1:])])


def with_special_tokens(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield the int32 ids of each text, and whether it was truncated, which keeps the special tokens.

    Special tokens that a text already contains at its beginning or end are not added again.
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
    """Return ids without a doubled token at the beginning or the end of a text."""
    begins, ends = {tokenizer.bos_token_id, tokenizer.cls_token_id}, {tokenizer.eos_token_id, tokenizer.sep_token_id}
    if len(ids) > 1 and ids[0] == ids[1] and ids[0] in begins:
        ids = ids[1:]
    return ids[:-1] if len(ids) > 1 and ids[-1] == ids[-2] and ids[-1] in ends else ids


def rendered(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    conversations: Sequence[Conversation],
    places: Sequence[str],
) -> list[list[Exchange]]:
    """Return the exchanges of conversations, with names of control tokens in messages marked as text.

    Args:
        tokenizer: A tokenizer.
        template: Renders the conversations.
        conversations: The conversations.
        places: Where each of them is from, for errors.

    Raises:
        DataError: If the template cannot render one.
    """
    worded: list[list[Exchange]] = []
    try:
        for said in _said(tokenizer, template, conversations):
            worded.append(template.exchanges(said))  # noqa: PERF401, its length tells which one the template refused
    except DataError as error:
        raise DataError(f"{places[len(worded)]}: {error}") from error
    return worded


def rendered_prompt(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversation: Conversation
) -> list[Exchange]:
    """Return the input of generation, marked likewise: the earlier exchanges, and one without an answer.

    Raises:
        DataError: If the template cannot render the conversation.
    """
    (said,) = _said(tokenizer, template, [conversation])
    earlier, prompt = template.prompt(said)
    return [*earlier, Exchange(prompt, "", end="")]


def exchange_ids(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversations: Sequence[Sequence[Exchange]]
) -> list[list[tuple[list[int], list[int]]]]:
    """Return the ids of the prompt, and of the answer with its end, for each exchange of each conversation.

    Each exchange is tokenised separately, the first one after the tokens that the tokenizer puts before a text. Prompt
    and answer are tokenised as one text, so the answer's first token is that of continuous text. Where this merges the
    end of the prompt with the start of the answer, the two are tokenised separately: the prompt's tokens are always
    those that generation feeds. Tokens that begin or end a text are not added where the text already has them.

    Args:
        tokenizer: A tokenizer with an end-of-sequence token.
        template: The template that rendered the exchanges.
        conversations: Exchanges of each conversation; see `rendered`.
    """
    lead = leading_ids(tokenizer) if template.adds_bos else []
    end_ids = [tokenizer.eos_token_id]
    prompts, texts, before = [], [], []
    for exchanges in conversations:
        # A prompt is tokenised after the end of the previous answer: some tokenizers put a space before a text, which
        # would otherwise be in the middle of the conversation.
        previous = ""
        for exchange in exchanges:
            before.append(previous)
            prompts.append(previous + exchange.prompt)
            texts.append(previous + exchange.prompt + exchange.answer + (exchange.end or ""))
            previous = tokenizer.eos_token if exchange.end is None else exchange.end
    ends = sorted(set(before))
    end_of = dict(zip(ends, _ids(tokenizer, ends), strict=True))
    encoded = zip(before, _ids(tokenizer, prompts), _ids(tokenizer, texts), strict=True)
    result = []
    for exchanges in conversations:
        pairs: list[tuple[list[int], list[int]]] = []
        for exchange in exchanges:
            previous, prompt, text = next(encoded)
            start = _behind(prompt, end_of[previous])
            if start is None:
                start = _ids(tokenizer, [exchange.prompt])[0]
            answer = _behind(text, prompt)
            if answer is None:
                answer = _ids(tokenizer, [exchange.answer + (exchange.end or "")])[0]
            if exchange.end is None and answer[-1:] != end_ids:
                answer = answer + end_ids
            if not pairs and (start or answer)[: len(lead)] != lead:
                start = lead + start
            pairs.append((start, answer))
        result.append(pairs)
    return result


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversations: Sequence[Conversation]
) -> list[list[int]]:
    """Return the ids that generation feeds for the next answer: exactly those before the last answer in training.

    Args:
        tokenizer: A tokenizer with an end-of-sequence token.
        template: Renders the conversations.
        conversations: Each with or without its last answer, which is ignored.

    Returns:
        A list of ids for each conversation, without padding.

    Example:
        >>> from lightning_neft.data.templates.bundled import BundledTemplate
        >>> from lightning_neft.hub.tokenizer import load_tokenizer
        >>> encode_prompts(load_tokenizer("tiny"), BundledTemplate("plain"), [Conversation.exchange("Hi", "you")])
        [[0, 42, 75]]
    """
    asked = [rendered_prompt(tokenizer, template, conversation) for conversation in conversations]
    result = []
    for pairs in exchange_ids(tokenizer, template, asked):
        *earlier_ids, (last, _) = pairs
        result.append([*(i for prompt_ids, answer in earlier_ids for i in (*prompt_ids, *answer)), *last])
    return result


def _behind(ids: list[int], beginning: list[int]) -> list[int] | None:
    """Return the ids after their beginning, or None if they begin differently."""
    return ids[len(beginning) :] if ids[: len(beginning)] == beginning else None


def _said(
    tokenizer: PreTrainedTokenizerBase, template: Template, conversations: Sequence[Conversation]
) -> Iterable[Conversation]:
    # Once for all of them: to find out whether a tokenizer is still the same takes 0.6 ms with the tokens of Gemma 3.
    return conversations if template.is_raw else map(ControlTokens.of(tokenizer).as_text, conversations)


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of each text without special tokens around them."""
    return token_ids(tokenizer, texts, add_special_tokens=False)
