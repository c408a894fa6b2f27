"""ChatML, the template of many chat models: each message between two special tokens."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.base import TurnTemplate, text_of

__all__ = ["ChatMLTemplate"]

_START, _END = "<|im_start|>", "<|im_end|>"


class ChatMLTemplate(TurnTemplate):
    r"""`<|im_start|>role`, a line break, the message, `<|im_end|>`. There is no system message unless one is given.

    An answer ends with `<|im_end|>`, which is trained; the line break after it is the beginning of the next prompt.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> (exchange,) = ChatMLTemplate().exchanges(Conversation.exchange("Hello!", "Hi!"))
        >>> exchange.prompt
        '<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n'
        >>> exchange.answer, exchange.end
        ('Hi!', '<|im_end|>')
    """

    name = "chatml"
    special_tokens = (_START, _END)
    stop = (_END,)
    end = _END

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        turns = [f"{_START}{message.role}\n{text_of(message)}{_END}\n" for message in messages]
        return "".join(["" if first else "\n", *turns, f"{_START}assistant\n"])
