"""The provenance of the numbers: files with their hashes, versions, settings and seeds."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from lightning_neft.common.secrets import mask
from lightning_neft.report.content import MISSING, Block, Heading, PageSection, Table, count
from lightning_neft.report.inputs import Inputs, Result

__all__ = ["provenance"]

_LEAD = "This page was made from the files below, with the settings and versions that they record. Secrets are masked."


def provenance(inputs: Inputs) -> PageSection:
    """Return the section; every page has it."""
    rows = [
        *(
            [one.name, one.kind.replace("_", " "), one.label, _text(one.provenance.data.get("created")), one.sha256]
            for one in inputs.results
        ),
        *([file.name, "answers", file.label, MISSING, file.sha256] for file in inputs.answer_files),
    ]
    columns = ["file", "kind", "label", "made", "SHA-256"]
    blocks: list[Block] = [Table("Files of this report", columns, rows, frozenset({1, 2, 3, 4}))]
    for result in inputs.results:
        blocks.extend(_of_result(result))
    return PageSection("provenance", "Provenance", _LEAD, blocks)


def _of_result(result: Result) -> Iterable[Block]:
    source = result.provenance
    yield Heading(f"{result.label} ({result.name})")
    if files := source.children("inputs"):
        rows = [
            [
                _text(one.data.get("name")),
                _text(one.data.get("role")),
                count(one.number("records")),
                _text(one.data.get("sha256")),
            ]
            for one in files
        ]
        yield Table("Made from", ["file", "role", "records", "SHA-256"], rows, frozenset({1, 3}))
    facts = {key: value for key, value in source.data.items() if key not in ("inputs", "versions", "settings")}
    if settings := source.child("settings"):
        facts |= settings.data
    if result.kind == "study":
        facts |= {key: result.fields.data[key] for key in ("recipe", "alphas", "seeds") if key in result.fields.data}
    if facts:
        rows = [[name, value] for name, value in _flat(mask(facts))]
        yield Table("Settings and seeds", ["setting", "value"], rows, frozenset({1}))
    versions = source.child("versions")
    if versions and versions.data:
        rows = [[name, _text(value)] for name, value in versions.data.items()]
        yield Table("Versions", ["package", "version"], rows, frozenset({1}))


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{name}.")
        else:
            yield name, _text(inner)


def _text(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return shlex.join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
