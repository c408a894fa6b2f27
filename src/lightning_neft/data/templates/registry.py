"""The table of templates: find one by its name, by its file, or the default of a data format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_neft.common.near_names import did_you_mean
from lightning_neft.common.paths import user_path
from lightning_neft.data.formats.format import Format
from lightning_neft.data.templates.builtin import (
    AlpacaTemplate,
    ChatMLTemplate,
    GuanacoTemplate,
    PlainTemplate,
    VicunaTemplate,
)
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.templates.template import Template, TurnTemplate
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TEMPLATES", "TEMPLATE_CLASSES", "default_template", "template_named"]

# A new template is a line here.
TEMPLATE_CLASSES: tuple[type[TurnTemplate], ...] = (
    AlpacaTemplate,
    VicunaTemplate,
    GuanacoTemplate,
    ChatMLTemplate,
    PlainTemplate,
)
# Names that `template_named` knows.
TEMPLATES: tuple[str, ...] = (*(kind.name for kind in TEMPLATE_CLASSES), ChatTemplate.name)

_FILE_ENDINGS = (".jinja", ".jinja2", ".j2")


def template_named(name: str, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template of this name, or the one in a Jinja file.

    Args:
        name: One of `TEMPLATES`, or the path of a file that ends in .jinja, .jinja2 or .j2.
        tokenizer: Its chat template is used for `tokenizer`. A file becomes its chat template.

    Raises:
        ConfigError: If there is no such template or file, or the chat template cannot be used.
    """
    if name == ChatTemplate.name:
        return ChatTemplate(tokenizer)
    if name.endswith(_FILE_ENDINGS):
        tokenizer.chat_template = _read(name)
        return ChatTemplate(tokenizer, name)
    kind = next((kind for kind in TEMPLATE_CLASSES if kind.name == name), None)
    if kind is None:
        hint = did_you_mean(name, TEMPLATES)
        raise ConfigError(
            f"there is no template {name!r}; {f'{hint} ' if hint else ''}choose one of {', '.join(TEMPLATES)}, or give "
            "a file that ends in .jinja"
        )
    return kind()


def default_template(format: Format, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template for data of a format where the user names none.

    Args:
        format: The data format. Where its template is `tokenizer` and the tokenizer has none, ChatML is used.
        tokenizer: The tokenizer.

    Raises:
        ConfigError: If the format names a template that does not exist.
    """
    name = format.template
    if name == ChatTemplate.name and not tokenizer.chat_template:
        name = ChatMLTemplate.name
    return template_named(name, tokenizer)


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
