"""Tables of the program's options, read from the JSON schema that `lightning_neft schema` prints.

    ```{option-table} data
    ```

gives key, type, default and meaning of each option of a section: a dotted key such as `model.lora`, or nothing for the
options outside of sections. `:changed: lightning.pytorch.Trainer` keeps those whose default is not that of the class.
tests/cli/test_schema.py compares the schema's file with the program.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lightning_neft.recipes.recipe import recipes_folder

__all__ = ["Option", "OptionTable", "changed", "options", "setup"]

Schema = dict[str, Any]
SCHEMA = recipes_folder() / "neft.schema.json"
HEADS = ("key", "type", "default", "meaning")
# What a description of Lightning says again or at length: its default, examples, warnings.
_ASIDES = re.compile(r"\n\n.*|\bDefault: .*|\(default: .*|\bExample:.*", re.DOTALL)


class Option(NamedTuple):
    """One row; code stands in backticks."""

    type: str
    default: str
    meaning: str
    value: object
    """The default itself."""


def options(section: str, schema: Schema | None = None) -> dict[str, Option]:
    """The options of a section by their whole keys; those that are sections themselves have tables of their own.

    Args:
        section: Dotted key, or "" for the options outside of sections.
        schema: Of the config; by default that of the package.
    """
    schema = schema or json.loads(SCHEMA.read_text(encoding="utf-8"))
    node, prefix = schema, ""
    for name in filter(None, section.split(".")):
        is_list, node = _section(schema, node["properties"][name])
        prefix += f"{name}[]." if is_list else f"{name}."
    found = {}
    for name, value in node["properties"].items():
        if section or "properties" not in value:
            row = (_type(schema, value), _default(value, name in node.get("required", ())), _meaning(value))
            found[prefix + name] = Option(*row, value.get("default"))
    return found


def _section(schema: Schema, node: Schema) -> tuple[bool, Schema]:
    """Whether its keys are those of a list's entries, and the node that has them: itself or what it refers to."""
    for one in (node, *node.get("anyOf", ())):
        if reference := one.get("$ref") or one.get("items", {}).get("$ref"):
            return "items" in one, _definition(schema, reference)
    return False, node


def _definition(schema: Schema, reference: str) -> Schema:
    found: Schema = schema["$defs"][reference.rpartition("/")[2]]
    return found


def _types(schema: Schema, node: Schema) -> Iterator[str]:
    """Types and choices as they are written in a config."""
    for one in node.get("anyOf", (node,)):
        if "enum" in one:
            yield " ".join(f"`{_written(choice)}`" for choice in one["enum"])
        elif "$ref" in one:
            yield "section" if "properties" in _definition(schema, one["$ref"]) else "class"
        elif one["type"] == "array":
            yield f"list of {' or '.join(_types(schema, one['items']))}"
        else:
            kinds = one["type"] if isinstance(one["type"], list) else [one["type"]]
            yield from ("mapping" if kind == "object" else kind for kind in kinds)


def _type(schema: Schema, node: Schema) -> str:
    kinds = [kind for kind in dict.fromkeys(_types(schema, node)) if kind != "null"]
    # An integer is a number too.
    return ", ".join(kind for kind in kinds if not (kind == "integer" and "number" in kinds))


def _default(node: Schema, is_required: bool) -> str:
    default = node.get("default")
    # A section's defaults are those of its keys.
    return "required" if is_required else "" if isinstance(default, dict) else f"`{_written(default)}`"


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _meaning(node: Schema) -> str:
    text = " ".join(_ASIDES.sub("", node.get("description", "")).split()).replace("``", "`")
    return text if text.endswith((".", ")")) else f"{text}."


def changed(found: dict[str, Option], kind: type) -> dict[str, Option]:
    """Those options whose default is not that of the class with the same parameters."""
    theirs = inspect.signature(kind).parameters
    return {key: one for key, one in found.items() if one.value != theirs[key.rpartition(".")[2]].default}


class OptionTable(SphinxDirective):
    """The table of one section."""

    optional_arguments = 1
    option_spec = {"changed": directives.unchanged_required}  # noqa: RUF012  # docutils' own way

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.env.note_dependency(str(SCHEMA))
        found = options(self.arguments[0] if self.arguments else "")
        if "changed" in self.options:
            module, _, name = self.options["changed"].rpartition(".")
            found = changed(found, getattr(import_module(module), name))
        rows = [(f"`{key}`", one.type, one.default, one.meaning) for key, one in found.items()]
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in HEADS), cols=len(HEADS))
        group += nodes.thead("", _row(HEADS))
        group += nodes.tbody("", *map(_row, rows))
        return [nodes.table("", group, classes=["option-table"])]


def _row(cells: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *_inline(cell))) for cell in cells))


def _inline(text: str) -> Iterator[nodes.Node]:
    """Text with code in single backticks."""
    for number, part in enumerate(text.split("`")):
        if part:
            yield nodes.literal(part, part) if number % 2 else nodes.Text(part)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with sphinx."""
    app.add_directive("option-table", OptionTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
