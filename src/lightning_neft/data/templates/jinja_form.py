"""Write a template of this package as a chat template of transformers, for those who only have the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.data.exchange_ids import encode_prompts, exchange_ids
from lightning_neft.data.templates.template import Template
from lightning_neft.hub.tokenizer import leading_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["chat_template_of"]

# A turn is all messages since the last answer. OPENING stands for the words that a conversation begins with unless it
# has a system message; they are read off the template itself.
_TURNS = """\
{%- macro turn(systems, users, first) -%}TURN{%- endmacro -%}
{%- set now = namespace(systems=[], users=[], first=true) -%}
BOS
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- set now.systems = now.systems + [message['content']] -%}
    {%- elif message['role'] == 'user' -%}
        {%- set now.users = now.users + [message['content']] -%}
    {%- elif now.users or not now.first -%}
        {{- turn(now.systems, now.users, now.first) + ASK + LEAD + message['content'] + eos_token -}}
        {%- set now.systems = [] -%}
        {%- set now.users = [] -%}
        {%- set now.first = false -%}
    {%- endif -%}
{%- endfor -%}
{%- if now.systems or now.users -%}{{- turn(now.systems, now.users, now.first) -}}{%- endif -%}
{%- if add_generation_prompt -%}{{- ASK -}}{%- endif -%}
"""
_ALPACA_TURN = """\
{{- '' if first else '\\n\\n' -}}
{{- (systems if systems or not first else [OPENING]) | join('\\n\\n') -}}
{%- for user in users -%}
    {{- ('' if loop.first and not first and not systems else '\\n\\n') + '### Instruction:\\n' + user -}}
{%- endfor -%}"""
_VICUNA_TURN = """\
{{- (systems if systems or not first else [OPENING]) | join(' ') -}}
{%- for user in users -%}
    {{- ('' if loop.first and not first and not systems else ' ') + 'USER: ' + user -}}
{%- endfor -%}"""
_GUANACO_TURN = """\
{%- for system in systems -%}{{- system + '\\n' -}}{%- endfor -%}
{%- for user in users -%}{{- '### Human: ' + user -}}{%- endfor -%}"""
_CHATML = """\
BOS
{%- for message in messages -%}
    {{- ('' if loop.first else '\\n') + '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ('\\n' if messages else '') + '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# The turn, and what asks for the answer.
_FAMILIES = {
    "alpaca": (_ALPACA_TURN, "\n\n### Response:"),
    "vicuna": (_VICUNA_TURN, " ASSISTANT:"),
    "guanaco": (_GUANACO_TURN, "### Assistant:"),
}


def chat_template_of(template: Template, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a chat template with which the tokenizer gives the very ids that the model was trained on.

    It is tried on conversations of one and of several turns, with and without a system message: a tokenizer may read
    the text as a whole otherwise than in parts. What Alpaca calls input has no place in the messages of transformers.

    Args:
        template: The template of the training.
        tokenizer: The tokenizer of the training.

    Returns:
        The chat template; None where there is none that gives these ids.
    """
    bos = "{{- bos_token -}}" if template.adds_bos and leading_ids(tokenizer) else ""
    if template.name == "chatml":
        text = _CHATML.replace("BOS", bos)
    elif template.name in _FAMILIES:
        turn, ask = _FAMILIES[template.name]
        _, opening = template.prompt(Conversation((Message("user", ""),)))
        opening = opening.partition("\n\n###" if template.name == "alpaca" else " USER:")[0]
        turn = turn.replace("OPENING", repr(opening))
        text = _TURNS.replace("TURN", turn).replace("BOS", bos).replace("ASK", repr(ask))
        text = text.replace("LEAD", repr(template.lead))
    else:
        return None
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
