"""The bundled templates: Alpaca, ChatML, Guanaco, plain and Vicuna."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.template import TurnTemplate, text_of

__all__ = ["AlpacaTemplate", "ChatMLTemplate", "GuanacoTemplate", "PlainTemplate", "VicunaTemplate"]


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


_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


class VicunaTemplate(TurnTemplate):
    """Vicuna v1.1: roles with a colon, one space between the turns, the end token after each answer.

    The prompt ends with `ASSISTANT:`; the space after it belongs to the answer and is trained with it, as in FastChat.
    A system message takes the place of the usual one.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> (exchange,) = VicunaTemplate().exchanges(Conversation.exchange("Hello!", "Hi!", system="A chat."))
        >>> exchange.prompt, exchange.answer
        ('A chat. USER: Hello! ASSISTANT:', ' Hi!')
    """

    name = "vicuna"
    lead = " "

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        parts = [message.content for message in messages if message.role == "system"]
        if first and not parts:
            parts = [_SYSTEM]
        parts += [f"USER: {text_of(message)}" for message in messages if message.role == "user"]
        return " ".join([*parts, "ASSISTANT:"])
