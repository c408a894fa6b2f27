"""Find a template by its name, or the one that fits a data format."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from lightning_neft.data.templates.builtin import (
    AlpacaTemplate,
    ChatMLTemplate,
    GuanacoTemplate,
    PlainTemplate,
    VicunaTemplate,
)
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.template import Template
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TEMPLATES", "default_template", "template_named"]

_FAMILIES = {
    family.name: family for family in (AlpacaTemplate, VicunaTemplate, GuanacoTemplate, ChatMLTemplate, PlainTemplate)
}
# Names that `template_named` knows.
TEMPLATES: tuple[str, ...] = (*_FAMILIES, ChatTemplate.name)

# What the data of a format are usually trained with. Chat messages are not here: the model's own template goes first.
_OF_FORMAT = {
    "alpaca": "alpaca",
    "sharegpt": "vicuna",
    "guanaco": "guanaco",
    "prompt_completion": "plain",
    "text": "plain",
    "source_target": "plain",
    "text_label": "plain",
}


def template_named(name: str, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template of this name.

    Args:
        name: One of `TEMPLATES`.
        tokenizer: The one whose chat template `tokenizer` stands for; the others do not look at it.

    Raises:
        ConfigError: If there is no such template, or the tokenizer has no chat template.
    """
    if name == ChatTemplate.name:
        return ChatTemplate(tokenizer)
    if name not in _FAMILIES:
        near = get_close_matches(name, TEMPLATES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"there is no template {name!r}; {hint}choose one of {', '.join(TEMPLATES)}")
    return _FAMILIES[name]()


def default_template(format_name: str, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template for data of a format where the user names none.

    Args:
        format_name: Name of a data format.
        tokenizer: For `messages`, its own chat template is taken if it has one, else ChatML.

    Raises:
        ConfigError: If no template belongs to such a format.
    """
    if format_name == "messages":
        return template_named(ChatTemplate.name if tokenizer.chat_template else ChatMLTemplate.name, tokenizer)
    if format_name not in _OF_FORMAT:
        raise ConfigError(
            f"no template belongs to the data format {format_name!r}; choose one of {', '.join(TEMPLATES)}"
        )
    return template_named(_OF_FORMAT[format_name], tokenizer)
