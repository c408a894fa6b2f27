"""The template of Guanaco, in the white space of the data that go by the name openassistant-guanaco."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.base import TurnTemplate, text_of

__all__ = ["GuanacoTemplate"]


class GuanacoTemplate(TurnTemplate):
    """`### Human: ...### Assistant: ...`: one space after each colon, nothing before the marks.

    Each answer ends with the end token; the data themselves have one at the end of the whole conversation only. The
    data have no system messages: one stands in a line of its own above.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> GuanacoTemplate().exchanges(Conversation.exchange("Hello!", "Hi!"))
        [Exchange(prompt='### Human: Hello!### Assistant:', answer=' Hi!', end=None, trained=True)]
    """

    name = "guanaco"
    lead = " "

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        systems = [f"{message.content}\n" for message in messages if message.role == "system"]
        users = [f"### Human: {text_of(message)}" for message in messages if message.role == "user"]
        return "".join([*systems, *users, "### Assistant:"])
