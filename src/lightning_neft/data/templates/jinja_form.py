"""A template as a chat template of transformers, for people who load the exported model without this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.exchange_ids import encode_prompts, exchange_ids
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.template import Template
from lightning_neft.hub.tokenizer import leading_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["chat_template_of"]


def chat_template_of(template: Template, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a chat template with which the tokenizer gives the very ids that the model was trained on.

    It is tried on conversations of one and of several turns, with and without a system message: a tokenizer may encode
    the whole text differently from its parts. Alpaca's input has no place in the messages of transformers. A template
    that was read from a file is returned as it is.

    Args:
        template: The template of the training.
        tokenizer: The tokenizer of the training.

    Returns:
        The chat template; None where none gives these ids, and for the tokenizer's own.
    """
    if isinstance(template, ChatTemplate):
        return template.of_file
    if template.jinja is None:
        return None
    bos = "{{- bos_token -}}" if template.adds_bos and leading_ids(tokenizer) else ""
    text = template.jinja.replace("%BOS%", bos)
    return text if all(_gives_same_ids(text, template, tokenizer, probe) for probe in _PROBES) else None


def _gives_same_ids(
    text: str, template: Template, tokenizer: PreTrainedTokenizerBase, conversation: Conversation
) -> bool:
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    options = {"chat_template": text, "tokenize": True, "return_dict": False}
    asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **options)
    answered = tokenizer.apply_chat_template(messages, **options)
    (pairs,) = exchange_ids(tokenizer, template, [template.exchanges(conversation)])
    trained = [token for prompt, answer in pairs for token in (*prompt, *answer)]
    return bool(asked == encode_prompts(tokenizer, template, [conversation])[0] and answered == trained)


_TURN = (Message("user", "Which of 3 and 5\nis larger?"), Message("assistant", "5 is.\n\n### So it is."))
_PROBES = (
    Conversation(_TURN),
    Conversation((*_TURN, Message("user", " And of 'a' and {{ b }}?"), Message("assistant", "Neither <is>."))),
    Conversation((Message("system", "Be brief."), *_TURN, Message("user", "Why?"), Message("assistant", "So."))),
    Conversation((*_TURN, Message("system", "Now at length."), Message("user", "Why?"), Message("assistant", "So."))),
)
