"""The template of Stanford's Alpaca, in the form that the authors of NEFTune trained with."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.base import TurnTemplate

__all__ = ["AlpacaTemplate"]

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


class AlpacaTemplate(TurnTemplate):
    r"""Both forms of the Alpaca prompt. The answer follows the colon at once, without a line break.

    Beyond what Alpaca knows: a system message takes the place of the leading sentence, and a further turn goes on
    below the answer with its own `### Instruction:`, without that sentence.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> AlpacaTemplate().prompt(Conversation.exchange("Add.", "3", context="1 and 2"))[1].partition("\n\n")[2]
        '### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:'
    """

    name = "alpaca"

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        parts = [message.content for message in messages if message.role == "system"]
        users = [message for message in messages if message.role == "user"]
        if first and not parts:
            parts = [_WITH_INPUT if any(message.context for message in users) else _WITHOUT_INPUT]
        for message in users:
            parts.append(f"### Instruction:\n{message.content}")
            if message.context:
                parts.append(f"### Input:\n{message.context}")
        return ("" if first else "\n\n") + "\n\n".join([*parts, "### Response:"])
