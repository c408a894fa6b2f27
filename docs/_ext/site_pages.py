"""What sphinx is taught for this site: the help texts of the program, and where the type aliases are explained.

    ```{program-help}
    ```

gives what `lightning_neft VERB --help` prints, read from the program, so that the page cannot differ from it.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from lightning_neft.cli.help import VERBS, static_help

__all__ = ["ProgramHelp", "link_type_alias", "setup"]


class ProgramHelp(SphinxDirective):
    """One section for the program and one for each verb, with the help as a literal block."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        sections = [self._section("The program", ["--help"])]
        return [*sections, *(self._section(verb, [verb, "--help"]) for verb in VERBS)]

    def _section(self, title: str, args: list[str]) -> nodes.section:
        text = static_help(args)
        if text is None:
            raise self.error(f"the program has no help for {args}")
        section = nodes.section(ids=[nodes.make_id(title)], names=[nodes.fully_normalize_name(title)])
        section += nodes.title(title, title)
        section += nodes.literal_block(text, text, language="text", classes=["program-help"])
        self.state.document.note_implicit_target(section, section)
        return section


def link_type_alias(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Link the short name of an alias in an annotation; autodoc drops the module of those in autodoc_type_aliases."""
    name = app.config.autodoc_type_aliases.get(node.get("reftarget"))
    if name is None:
        return None
    return env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "type", name, node, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell sphinx of both."""
    app.add_directive("program-help", ProgramHelp)
    app.connect("missing-reference", link_type_alias)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
