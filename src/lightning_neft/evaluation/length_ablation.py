"""The length ablation, which tests if a gain is more than length: the same model writes more by other means than noise.

The paper (Table 5, arXiv 2310.05914) compares NEFTune with the plain model under three prompts that ask for more, and
with the end token blocked for the first 250 tokens. It does not specify the position of the sentence; here it is the
last line of the instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lightning_neft.data.conversation import Conversation
from lightning_neft.errors import ConfigError
from lightning_neft.generation.answering import Answerer

__all__ = ["MIN_NEW_TOKENS", "Variant", "answer_variant", "variants"]

MIN_NEW_TOKENS = 250


@dataclass(frozen=True)
class Variant:
    """A way to make a model write longer answers.

    Attributes:
        name: Of the variant, and of its outputs file.
        sentence: Added to the instruction; empty for none.
        min_new_tokens: Minimum number of tokens before the end token.
    """

    name: str
    sentence: str = ""
    min_new_tokens: int = 0

    def ask(self, conversation: Conversation) -> Conversation:
        """Return the conversation with the sentence added to its last message, without the answer.

        >>> asked = Variant("long", "Generate a long response").ask(Conversation.exchange("Why?", "So."))
        >>> asked.messages[-1].content.splitlines()
        ['Why?', 'Generate a long response']
        """
        *earlier, last = conversation.prompt.messages
        if self.sentence:
            last = replace(last, content=f"{last.content}\n{self.sentence}")
        return conversation.of((*earlier, last))


def variants(min_new_tokens: int = MIN_NEW_TOKENS) -> tuple[Variant, ...]:
    """Return the variants of the paper, the plain model first.

    Raises:
        ConfigError: If min_new_tokens is less than 1.
    """
    if min_new_tokens < 1:
        raise ConfigError(f"min_new_tokens must be 1 or more, got {min_new_tokens!r}")
    return (
        Variant("plain"),
        Variant("long", "Generate a long response"),
        Variant("comprehensive", "Generate a comprehensive response"),
        Variant("long_comprehensive", "Generate a long and comprehensive response."),
        Variant("min_new_tokens", min_new_tokens=min_new_tokens),
    )


def answer_variant(
    answerer: Answerer,
    variant: Variant,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int | None = None,
    batch_size: int = 8,
    on_done: Callable[[int, str], None] | None = None,
) -> list[str]:
    """Return the answers of a model under a variant.

    Args:
        answerer: The model.
        variant: The variant.
        conversations: The prompts; answers in them are ignored.
        max_new_tokens: Maximum tokens of an answer.
        batch_size: Prompts in one forward pass.
        on_done: Called with the number of a conversation and its answer.

    Raises:
        ConfigError: If max_new_tokens leaves the variant no room.
        DataError: If a prompt leaves no room for an answer.
    """
    if max_new_tokens is not None and max_new_tokens < variant.min_new_tokens:
        raise ConfigError(
            f"max_new_tokens={max_new_tokens} is less than the {variant.min_new_tokens} tokens for which the end is "
            "blocked; raise it, or lower min_new_tokens"
        )
    return answerer.answers(
        [variant.ask(conversation) for conversation in conversations],
        max_new_tokens=max_new_tokens,
        min_new_tokens=variant.min_new_tokens,
        batch_size=batch_size,
        on_done=on_done,
    )
