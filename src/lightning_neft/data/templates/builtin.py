"""The bundled templates: Alpaca, ChatML, Guanaco, plain and Vicuna."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.template import TurnTemplate, jinja_of_turns, text_of

__all__ = ["AlpacaTemplate", "ChatMLTemplate", "GuanacoTemplate", "PlainTemplate", "VicunaTemplate"]


_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)

_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


class AlpacaTemplate(TurnTemplate):
    r"""The Alpaca prompt, with or without an input; the answer directly follows the colon of `### Response:`.

    Beyond Alpaca: a system message replaces the leading sentence, and a further turn follows below the answer with its
    own `### Instruction:`, without that sentence.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> AlpacaTemplate().prompt(Conversation.exchange("Add.", "3", context="1 and 2"))[1].partition("\n\n")[2]
        '### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:'
    """

    name = "alpaca"
    jinja = jinja_of_turns(
        f"""\
{{{{- '' if first else '\\n\\n' -}}}}
{{{{- (systems if systems or not first else [{_WITHOUT_INPUT!r}]) | join('\\n\\n') -}}}}
{{%- for user in users -%}}
    {{{{- ('' if loop.first and not first and not systems else '\\n\\n') + '### Instruction:\\n' + user -}}}}
{{%- endfor -%}}""",
        ask="\n\n### Response:",
        lead="",
    )

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
    r"""ChatML: `<|im_start|>role`, a line break, the message, `<|im_end|>`, without a default system message.

    An answer ends with `<|im_end|>`, which is trained; the line break after it begins the next prompt.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> (exchange,) = ChatMLTemplate().exchanges(Conversation.exchange("Hello!", "Hi!"))
        >>> exchange.prompt
        '<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n'
        >>> exchange.answer, exchange.end
        ('Hi!', '<|im_end|>')
    """

    name = "chatml"
    jinja = """\
%BOS%
{%- for message in messages -%}
    {{- ('' if loop.first else '\\n') + '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ('\\n' if messages else '') + '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
    special_tokens = (_START, _END)
    stop = (_END,)
    end = _END

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        turns = [f"{_START}{message.role}\n{text_of(message)}{_END}\n" for message in messages]
        return "".join(["" if first else "\n", *turns, f"{_START}assistant\n"])


class GuanacoTemplate(TurnTemplate):
    """`### Human: ...### Assistant: ...`: one space after each colon, nothing before the marks.

    Each answer ends with the end token; the original data have one only at the end of the whole conversation, and no
    system messages: here one stands on a line of its own above.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> GuanacoTemplate().exchanges(Conversation.exchange("Hello!", "Hi!"))
        [Exchange(prompt='### Human: Hello!### Assistant:', answer=' Hi!', end=None, trained=True)]
    """

    name = "guanaco"
    lead = " "
    jinja = jinja_of_turns(
        """\
{%- for system in systems -%}{{- system + '\\n' -}}{%- endfor -%}
{%- for user in users -%}{{- '### Human: ' + user -}}{%- endfor -%}""",
        ask="### Assistant:",
        lead=lead,
    )

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        systems = [f"{message.content}\n" for message in messages if message.role == "system"]
        users = [f"### Human: {text_of(message)}" for message in messages if message.role == "user"]
        return "".join([*systems, *users, "### Assistant:"])


class PlainTemplate(TurnTemplate):
    r"""The texts alone: the answer directly follows the prompt, the end token follows the answer.

    Several messages before an answer, or a message and its context, are separated by a blank line. A text for language
    modelling has an empty prompt. Names of control tokens in a text are read as these tokens: those that begin and end
    it are not added again.

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
    """Vicuna v1.1: `USER: ... ASSISTANT: ...`, one space between the turns, the end token after each answer.

    The prompt ends with `ASSISTANT:`; the space after it belongs to the answer and is trained with it, as in FastChat.
    A system message replaces the default one.

    Example:
        >>> from lightning_neft.data.conversation import Conversation
        >>> (exchange,) = VicunaTemplate().exchanges(Conversation.exchange("Hello!", "Hi!", system="A chat."))
        >>> exchange.prompt, exchange.answer
        ('A chat. USER: Hello! ASSISTANT:', ' Hi!')
    """

    name = "vicuna"
    lead = " "
    jinja = jinja_of_turns(
        f"""\
{{{{- (systems if systems or not first else [{_SYSTEM!r}]) | join(' ') -}}}}
{{%- for user in users -%}}
    {{{{- ('' if loop.first and not first and not systems else ' ') + 'USER: ' + user -}}}}
{{%- endfor -%}}""",
        ask=" ASSISTANT:",
        lead=lead,
    )

    def word(self, messages: Sequence[Message], first: bool) -> str:
        """Return the prompt of one turn."""
        parts = [message.content for message in messages if message.role == "system"]
        if first and not parts:
            parts = [_SYSTEM]
        parts += [f"USER: {text_of(message)}" for message in messages if message.role == "user"]
        return " ".join([*parts, "ASSISTANT:"])
