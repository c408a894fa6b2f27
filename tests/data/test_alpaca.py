"""Reading instruction files: what is understood, and what is said about what is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lightning_neft.data.alpaca import read_alpaca
from lightning_neft.data.sample import Sample
from lightning_neft.errors import DataError

RECORDS = [
    {"instruction": "Add.", "input": "1 2", "output": "3"},
    {"instruction": "Greet.", "output": "", "history": []},
    {"instruction": "Über", "input": None, "output": "a\u2028b"},
]
SAMPLES = [Sample("Add.", "1 2", "3"), Sample("Greet.", "", ""), Sample("Über", "", "a\u2028b")]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2, ensure_ascii=False),
        "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\n\n",
        "\r\n".join(json.dumps(record) for record in RECORDS),
        "\ufeff" + json.dumps(RECORDS),
    ],
    ids=["array", "indented", "lines", "crlf lines", "byte order mark"],
)
def test_both_forms_give_the_same_samples(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(text.encode())
    assert read_alpaca(path) == SAMPLES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"data\.json is empty; expected a JSON array"),
        (b" \n ", r"data\.json is empty"),
        (b"[]", r"data\.json holds an empty list: it has no sample"),
        (b'{"a": 1}\n\xff', r"data\.json, line 2: not UTF-8 .*; convert the file"),
        (b'[\n{"instruction": "a",\n"output": b}]', r"data\.json, line 3, column 11: broken JSON"),
        (b'{"instruction": "a", "output": "b"}\n\n{"instruction": ', r"data\.json, line 3, column 17: broken JSON"),
        (b'{\n"instruction": "a", "output": "b"}', r"data\.json, line 1, column 2: broken JSON"),
        (b'[{"instruction": "a", "output": "b"}, 3]', r"data\.json, record 2: expected an object .* got int 3"),
        (b'"text"', r"data\.json, line 1: expected an object .* got str 'text'"),
        (b'[{"prompt": "a"}]', r"record 1: no 'instruction' and no 'output' \(keys found: prompt\)"),
        (b'[{"instruction": "a"}]', r"record 1: no 'output' \(keys found: instruction\); add what is missing"),
        (b'[{"instruction": "a", "output": 3}]', r"record 1: 'output' must be text, got int 3"),
        (b'[{"instruction": null, "output": "b"}]', r"record 1: 'instruction' must be text, got NoneType None"),
        (b'[{"instruction": "a", "input": ["b"], "output": "c"}]', r"record 1: 'input' must be text, got list \['b'\]"),
        (b'[{"instruction": "\\ud800", "output": "b"}]', r"record 1: 'instruction' holds half of a surrogate pair"),
    ],
)
def test_every_fault_is_named_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_alpaca(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'no.json'} does not exist")):
        read_alpaca(tmp_path / "no.json")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path} is a folder; give the JSON")):
        read_alpaca(tmp_path)
