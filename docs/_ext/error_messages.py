"""All messages of the package's errors, read from its source, so that the page cannot leave one out.

    ```{error-messages}
    ```

gives a section for each class, with the messages in the order of the modules; `…` stands for what the program fills in.
Messages are literal text, so that quotation marks and `--` stay as the program prints them. The page of the search gets
all of them with their anchors, because a printed message has parts that no index has.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import lightning_neft
from lightning_neft import errors

__all__ = ["ErrorMessages", "anchor", "give_messages", "messages", "setup"]

SOURCE = Path(lightning_neft.__file__).parent
PARTS = {
    "callbacks": "Callbacks",
    "cli": "The program",
    "data": "Data",
    "doctor": "doctor",
    "evaluation": "Evaluation",
    "generation": "Answers",
    "hub": "Base models",
    "models": "Models",
    "noise": "The noise",
    "recipes": "Recipes",
    "report": "Reports",
    "saving": "Saving",
    "study": "Studies",
}
OTHER = "Elsewhere"
# A message of fewer words only passes on what another part said.
_FEWEST_WORDS = 3


def messages() -> dict[str, dict[str, list[str]]]:
    """The messages by the name of the class, then by the part of the package, each once."""
    found: dict[str, dict[str, list[str]]] = {name: {} for name in errors.__all__}
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    functions = {path: _functions(tree) for path, tree in trees.items()}
    anywhere = {name: function for defined in functions.values() for name, function in defined.items()}
    for path, tree in trees.items():
        part = PARTS.get(path.relative_to(SOURCE).parts[0], OTHER)
        for name, text in _raised(tree, anywhere | functions[path]):
            said = found[name].setdefault(part, [])
            if text not in said:
                said.append(text)
    return {name: parts for name, parts in found.items() if parts}


def _functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def _raised(tree: ast.Module, functions: dict[str, ast.FunctionDef]) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in errors.__all__:
                texts = (" ".join(_text(worded).split()) for worded in _wordings(first, functions))
                yield from ((name, text) for text in texts if len(text.replace("…", " ").split()) >= _FEWEST_WORDS)


def _wordings(message: ast.expr, functions: dict[str, ast.FunctionDef]) -> Iterator[ast.expr]:
    """The message itself, or, where a function words it, all that this returns."""
    match message:
        case ast.Call(func=ast.Name(id=name)) if name in functions:
            returns = (node.value for node in ast.walk(functions[name]) if isinstance(node, ast.Return))
            yield from (value for value in returns if value is not None)
        case _:
            yield message


def _text(node: ast.expr) -> str:
    """What is the same in each message."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "…"


class ErrorMessages(SphinxDirective):
    """A section for each class of error, with its messages."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        anchored: set[str] = set()
        return [self._section(name, parts, anchored) for name, parts in messages().items()]

    def _section(self, name: str, parts: dict[str, list[str]], anchored: set[str]) -> nodes.section:
        title = f"{name} says"
        section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        section += nodes.title(title, title)
        for part in sorted(parts, key=[*PARTS.values(), OTHER].index):
            if len(parts) > 1:
                section += nodes.rubric(part, part)
            # A message of several parts of the package has its anchor once.
            items = (_item(text, () if text in anchored else (anchor(text),)) for text in parts[part])
            section += nodes.bullet_list("", *items, classes=["error-messages"])
            anchored.update(parts[part])
        self.state.document.note_implicit_target(section, section)
        return section


def _item(text: str, ids: Sequence[str]) -> nodes.list_item:
    return nodes.list_item("", nodes.paragraph("", "", nodes.literal(text, text)), ids=list(ids))


def anchor(text: str) -> str:
    """The anchor of a message on the page: the same at each build, whatever is added around it."""
    return f"message-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def give_messages(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the template of the search the messages by their anchors, as JSON that may stand in a script."""
    if pagename == "search":
        texts = {text for parts in messages().values() for one in parts.values() for text in one}
        context["error_messages"] = json.dumps({anchor(text): text for text in sorted(texts)}).replace("<", "\\u003c")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both with sphinx."""
    app.add_directive("error-messages", ErrorMessages)
    app.connect("html-page-context", give_messages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
