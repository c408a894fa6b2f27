"""The template of each source with its tokenizer, and the one that the model is prompted with."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_neft.data.formats.format import Format
from lightning_neft.data.opened import formats_of
from lightning_neft.data.options import DataOptions
from lightning_neft.data.templates.registry import TEMPLATES, default_template, template_named
from lightning_neft.data.templates.template import Template
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Rendering", "rendering_of", "template_of"]


@dataclass(frozen=True)
class Rendering:
    """A template, and the tokenizer whose chat template it may be."""

    tokenizer: PreTrainedTokenizerBase
    template: Template


def rendering_of(
    options: DataOptions, formats: Sequence[Format], tokenizer: PreTrainedTokenizerBase
) -> tuple[Rendering, list[Rendering]]:
    """Return the rendering that the model is prompted with, and that of each source.

    Args:
        options: The options.
        formats: The format of each source.
        tokenizer: The tokenizer. A template in a file becomes its chat template, or in a mixture that of a copy.

    Raises:
        ConfigError: If there is no such template, or the sources have different ones and data.template is not given.
    """
    made: dict[str, Rendering] = {}

    def named(name: str) -> Rendering:
        if name not in made:
            own = deepcopy(tokenizer) if options.parts and name not in TEMPLATES else tokenizer
            made[name] = Rendering(own, template_named(name, own))
        return made[name]

    each = [
        Rendering(tokenizer, default_template(format, tokenizer)) if part.template is None else named(part.template)
        for part, format in zip(options.each, formats, strict=True)
    ]
    if options.parts and options.template is not None:
        return named(options.template), each
    if len({one.template.identity() for one in each}) > 1:
        assert options.mixing is not None
        found = ", ".join(f"{name}: {one.template.name}" for name, one in zip(options.mixing.names, each, strict=True))
        raise ConfigError(
            f"data.sources have different templates ({found}), and the model is prompted with one; give "
            "data.template, which is also that of each source without a template of its own"
        )
    return each[0], each


def template_of(options: DataOptions, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Return the template that the model is prompted with; at most the first records of the data are read.

    Raises:
        DataError: If they cannot be read.
        ConfigError: If there is no such template.
    """
    if options.template is not None:
        return template_named(options.template, tokenizer)
    return rendering_of(options, formats_of(options), tokenizer)[0].template
