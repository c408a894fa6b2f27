"""No template: the contents as they are, for texts, completions, and pairs of source and target."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.base import TurnTemplate, text_of

__all__ = ["PlainTemplate"]


class PlainTemplate(TurnTemplate):
    r"""Nothing is put around the contents. The answer follows the prompt at once; the end token follows the answer.

    Where several messages come before an answer, or one has a context, a blank line stands between them. A text for
    language modelling has an empty prompt. Control tokens that a text brings along are read as such: those that begin
    and end it are not added again.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> PlainTemplate().exchanges(Conversation.exchange("1 + 2 =", " 3"))
        [Exchange(prompt='1 + 2 =', answer=' 3', end=None, trained=True)]
    """

    name = "plain"
    needs_user = False
    is_raw = True

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        return "\n\n".join(map(text_of, messages))
