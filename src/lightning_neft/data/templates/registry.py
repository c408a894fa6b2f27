"""Find a template by its name, by its file, or for a data format; make its chat template for an exported model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.paths import user_path
from lightning_neft.data.conversation import Conversation, Message, ToolCall
from lightning_neft.data.formats.format import Format
from lightning_neft.data.templates.bundled import BUNDLED, BundledTemplate
from lightning_neft.data.templates.chat_messages import chat_messages, chat_tools
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.template import Template
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TEMPLATES", "chat_template_of", "default_template", "template_named"]

# Names that `template_named` knows.
TEMPLATES: tuple[str, ...] = (*BUNDLED, ChatTemplate.name)

_FILE_ENDINGS = (".jinja", ".jinja2", ".j2")


def template_named(name: str, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template of this name, or the one in a Jinja file.

    Args:
        name: One of `TEMPLATES`, or the path of a file that ends in .jinja, .jinja2 or .j2.
        tokenizer: Its chat template is used for `tokenizer`. A file becomes its chat template.

    Raises:
        ConfigError: If there is no such template or file, or the chat template cannot be used.
    """
    if name in BUNDLED:
        return BundledTemplate(name)
    if name == ChatTemplate.name:
        return ChatTemplate(tokenizer)
    if name.endswith(_FILE_ENDINGS):
        tokenizer.chat_template = _read(name)
        return ChatTemplate(tokenizer, name)
    hint = did_you_mean(name, TEMPLATES)
    raise ConfigError(
        f"there is no template {name!r}; {f'{hint} ' if hint else ''}choose one of {', '.join(TEMPLATES)}, or give a "
        "file that ends in .jinja"
    )


def default_template(format: Format, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template for data of a format where the user names none.

    Args:
        format: The data format. Where its template is `tokenizer` and the tokenizer has none, ChatML is used.
        tokenizer: The tokenizer.

    Raises:
        ConfigError: If the format names a template that does not exist.
    """
    lacks_own = format.template == ChatTemplate.name and not tokenizer.chat_template
    return template_named("chatml" if lacks_own else format.template, tokenizer)


def chat_template_of(template: Template, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a chat template for people who load the exported model without this package.

    With it the tokenizer must give the same ids as in training. Conversations of one and of several turns, with and
    without a system message, are compared: a tokenizer may encode the whole text differently from its parts. Alpaca's
    input has no place in the messages of transformers.

    Args:
        template: The template of the training.
        tokenizer: The tokenizer of the training.

    Returns:
        The chat template; the text of a template that was read from a file; None for the tokenizer's own, and where
        the ids differ.
    """
    # Imports torch and transformers, which a look at TEMPLATES does not need.
    from lightning_neft.hub.tokenizer import leading_ids

    if isinstance(template, ChatTemplate):
        return template.of_file
    if template.jinja is None:
        return None
    text = template.jinja if leading_ids(tokenizer) else template.jinja.replace("{{- bos_token -}}", "")
    return text if all(_gives_same_ids(text, template, tokenizer, probe) for probe in _PROBES) else None


def _gives_same_ids(
    text: str, template: Template, tokenizer: PreTrainedTokenizerBase, conversation: Conversation
) -> bool:
    from lightning_neft.data.exchange_ids import encode_prompts, exchange_ids

    messages = chat_messages(conversation.messages)
    tools = chat_tools(conversation.tools)
    options = {"chat_template": text, "tools": tools, "tokenize": True, "return_dict": False}
    asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **options)
    answered = tokenizer.apply_chat_template(messages, **options)
    (pairs,) = exchange_ids(tokenizer, template, [template.exchanges(conversation)])
    trained = [token for prompt, answer in pairs for token in (*prompt, *answer)]
    return bool(asked == encode_prompts(tokenizer, template, [conversation])[0] and answered == trained)


_CALL = Message("assistant", "", reasoning="Let me add.", tool_calls=(ToolCall("add", '{"a": 3, "b": "</5>"}', "1"),))
_TURN = (Message("user", "Which of 3 and 5\nis larger?"), Message("assistant", "5 is.\n\n### So it is."))
_PROBES = (
    Conversation(_TURN),
    Conversation((*_TURN, Message("user", " And of 'a' and {{ b }}?"), Message("assistant", "Neither <is>."))),
    Conversation((Message("system", "Be brief."), *_TURN, Message("user", "Why?"), Message("assistant", "So."))),
    Conversation((*_TURN, Message("system", "Now at length."), Message("user", "Why?"), Message("assistant", "So."))),
    Conversation(
        (
            *_TURN,
            Message("user", "Their sum?"),
            _CALL,
            Message("tool", "8", tool_call_id="1"),
            Message("assistant", "8"),
        ),
        '[{"type": "function", "function": {"name": "add", "description": "a + b, \'as is\'"}}]',
    ),
)


def _read(name: str) -> str:
    path = user_path(name, "data.template")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"data.template {name} is not text in UTF-8; save it as such") from error
    except OSError as error:
        raise ConfigError(
            f"data.template {name} cannot be read: {error.strerror or error}; give a Jinja file, or one of "
            f"{', '.join(TEMPLATES)}"
        ) from error
    if not text.strip():
        raise ConfigError(f"data.template {name} is empty; write a chat template into it")
    return text
