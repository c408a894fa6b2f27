"""Imports go one way: a room may import those above it in `ROOMS` alone, and no two modules import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import lightning_neft

HOME = Path(lightning_neft.__file__).parent
# From the ground up.
ROOMS = (
    ("errors", "_version"),
    ("common",),
    ("noise",),
    ("callback", "mixin", "pytorch_lightning"),
    ("hub",),
    ("data",),
    ("models",),
    ("saving",),
    ("generation",),
    ("callbacks",),
    ("recipes",),
    ("evaluation", "doctor"),
    ("report",),
    ("study",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def module_files(home: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules, without the package's own name."""
    names = {".".join(path.relative_to(home).with_suffix("").parts): path for path in home.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imported(path: Path, modules: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """Yield each module of the package that a file imports, at any depth, and whether for its types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lightning_neft."):
            package = node.module.removeprefix("lightning_neft.")
            for alias in node.names:
                name = f"{package}.{alias.name}"
                yield name if name in modules else package, id(node) in for_types


def wrong_arrows(home: Path) -> list[str]:
    """Return the imports of a room by one below it, also those for types alone."""
    modules = module_files(home)
    return [
        f"{module} imports {other}"
        for module, path in modules.items()
        if (own := module.partition(".")[0]) in LEVEL
        for other, _ in imported(path, modules)
        if LEVEL[other.partition(".")[0]] > LEVEL[own]
    ]


def circles(home: Path) -> list[list[str]]:
    """Return the ways from a module back to itself, leaving out imports for types alone."""
    modules = module_files(home)
    imports = {
        module: {other for other, types in imported(path, modules) if not types} for module, path in modules.items()
    }
    found, done = [], set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for other in sorted(imports.get(module, ())):
                visit(other, [*way, module])
            done.add(module)

    for module in sorted(modules):
        visit(module, [])
    return found


def test_every_module_is_in_a_room() -> None:
    assert {name.partition(".")[0] for name in module_files(HOME)} - {"__init__", "__main__"} == set(LEVEL)


def test_imports_go_one_way() -> None:
    assert wrong_arrows(HOME) == []
    assert circles(HOME) == []


def test_an_import_that_goes_back_is_found(tmp_path: Path) -> None:
    for name, text in {
        "common/paths.py": "def f():\n    from lightning_neft.data.tokens import g\n",
        "data/tokens.py": "from lightning_neft.common import paths\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert wrong_arrows(tmp_path) == ["common.paths imports data.tokens"]
    assert circles(tmp_path) == [["common.paths", "data.tokens", "common.paths"]]
