"""Cut long conversations into pieces of whole exchanges, as the paper did with ShareGPT."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.exchange_ids import exchange_ids, rendered
from lightning_neft.data.templates.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["cut_conversations", "split_long"]

# Conversations per call of the tokenizer.
_BATCH = 1000


def cut_conversations(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    max_length: int,
    places: Sequence[str],
) -> tuple[list[Conversation], list[int]]:
    """Cut each conversation of more than `max_length` tokens into pieces that fit.

    A single longer exchange is a separate piece, which encoding truncates. Conversations that fit are unchanged.

    Args:
        conversations: The conversations.
        tokenizer: A tokenizer with an end-of-sequence token.
        template: Renders the conversations; the tokens that it adds count.
        max_length: Maximum tokens of a piece.
        places: Where each conversation is from, for errors.

    Returns:
        The pieces in order, and the index of the conversation of each piece.

    Raises:
        DataError: If the template cannot render one.
    """
    pieces: list[Conversation] = []
    origins: list[int] = []
    for start in range(0, len(conversations), _BATCH):
        batch = conversations[start : start + _BATCH]
        of_batch = places[start : start + _BATCH]
        lengths = _lengths(batch, tokenizer, template, of_batch)
        long = [index for index, of_exchanges in enumerate(lengths) if sum(of_exchanges) > max_length]
        # Length of each exchange at the beginning of a piece, where the template's opening precedes it.
        alone = {index: [_piece(batch[index], [messages]) for messages in _rounds(batch[index])] for index in long}
        cut_places = [of_batch[index] for index, group in alone.items() for _ in group]
        opening = iter(
            _lengths([piece for group in alone.values() for piece in group], tokenizer, template, cut_places)
        )
        for index, conversation in enumerate(batch):
            if index not in alone:
                cut = [conversation]
            else:
                first = [sum(next(opening)) for _ in alone[index]]
                # Without one exchange for each answer (see `ChatTemplate`), pieces are shorter than necessary.
                later = _by_round(lengths[index], _rounds(conversation)) or first
                cut = split_long(conversation, first, later, max_length)
            pieces += cut
            origins += [start + index] * len(cut)
    return pieces, origins


def split_long(
    conversation: Conversation, first: Sequence[int], later: Sequence[int], max_length: int
) -> list[Conversation]:
    """Split a conversation into the longest possible pieces of whole exchanges.

    Like FastChat's `split_long_conversation`, but with exact lengths, with the system message in every piece, and
    without losing the last exchange where a piece ends just before it.

    Args:
        conversation: The conversation; messages after its last answer are dropped.
        first: Tokens of each exchange at the beginning of a piece. Tool calls, results and the answer are one exchange.
        later: Tokens of each exchange after another one.
        max_length: Maximum tokens of a piece; a longer exchange is a separate piece.

    Example:
        >>> turns = [Message(role, text) for text in "abc" for role in ("user", "assistant")]
        >>> pieces = split_long(Conversation(tuple(turns)), [5, 5, 5], [3, 3, 3], max_length=8)
        >>> ["".join(message.content for message in piece.messages) for piece in pieces]
        ['aabb', 'cc']
    """
    pieces: list[list[tuple[Message, ...]]] = []
    length = 0
    for messages, at_start, behind in zip(_rounds(conversation), first, later, strict=True):
        if pieces and length + behind <= max_length:
            pieces[-1].append(messages)
            length += behind
        else:
            pieces.append([messages])
            length = at_start
    return [_piece(conversation, rounds) for rounds in pieces]


def _opening(conversation: Conversation) -> tuple[Message, ...]:
    return tuple(takewhile(lambda message: message.role == "system", conversation.messages))


def _rounds(conversation: Conversation) -> list[tuple[Message, ...]]:
    """Return the messages up to each answer, without the opening system messages and without a greeting.

    A tool call, its results and the answer to them are one round: results are never at the beginning of a piece.
    """
    rounds: list[tuple[Message, ...]] = []
    pending: list[Message] = []
    greets = any(message.role == "user" for message in conversation.messages)
    for message in conversation.messages[len(_opening(conversation)) :]:
        greets = greets and message.role != "user"
        if greets and message.role == "assistant":
            continue
        if message.role == "tool" and rounds and not pending:
            pending = [*rounds.pop()]
        pending.append(message)
        if message.role == "assistant":
            rounds.append(tuple(pending))
            pending = []
    return rounds


def _by_round(lengths: Sequence[int], rounds: Sequence[Sequence[Message]]) -> list[int] | None:
    """Return the length of each round from those of its exchanges, or None if not each answer has an exchange."""
    answers = [sum(message.role == "assistant" for message in messages) for messages in rounds]
    if sum(answers) != len(lengths):
        return None
    left = iter(lengths)
    return [sum(islice(left, count)) for count in answers]


def _piece(conversation: Conversation, rounds: Sequence[tuple[Message, ...]]) -> Conversation:
    return conversation.of((*_opening(conversation), *(message for messages in rounds for message in messages)))


def _lengths(
    conversations: Sequence[Conversation],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    places: Sequence[str],
) -> list[list[int]]:
    """Return the number of tokens of each exchange of each conversation."""
    worded = rendered(tokenizer, template, conversations, places)
    return [
        [len(prompt) + len(answer) for prompt, answer in pairs] for pairs in exchange_ids(tokenizer, template, worded)
    ]
