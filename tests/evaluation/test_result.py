"""Result files: what comes back, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from lightning_neft.errors import DataError
from lightning_neft.evaluation.result import InputFile, make_result, provenance, read_result, write_result


def _result(**changes: Any) -> dict[str, Any]:
    return {**make_result("win_rate", "alpha5", {"win_rate": 50.0}, provenance([], {}, seed=3)), **changes}


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    result = _result(label="größe")
    write_result(tmp_path / "new" / "a.json", result)
    assert read_result(tmp_path / "new" / "a.json") == result
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_an_input_is_told_by_hash_and_name_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"[]")
    found = provenance([InputFile.read("outputs", tmp_path / "x.json", 0)], {"k": 1}, seed=None)
    assert found["inputs"] == [
        {"role": "outputs", "name": "x.json", "sha256": hashlib.sha256(b"[]").hexdigest(), "records": 0}
    ]
    assert found["settings"] == {"k": 1}
    assert found["seed"] is None
    assert str(tmp_path) not in json.dumps(found)
    assert {"lightning_neft", "python", "torch"} <= found["versions"].keys()


# With names of their own: a result holds the second it was made in, which differs between workers of the tests.
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a result: not JSON"),
        ("[1]", "is not a result: it is a list, it must be an object"),
        (json.dumps(_result(schema="x/2")), "schema is 'x/2', it can be lightning_neft.result/1"),
        (json.dumps(_result(kind="loss")), "kind is 'loss', it can be text_statistics"),
        (json.dumps(_result(label=None)), "label is None"),
        (json.dumps(_result(provenance=[])), r"provenance is \[\]"),
    ],
    ids=("broken", "list", "schema", "kind", "label", "provenance"),
)
def test_a_file_that_is_no_result_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_result(tmp_path / "x.json")


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_result(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not JSON in UTF-8"):
        read_result(tmp_path / "x.json")


@pytest.mark.parametrize("changes", [{"win_rate": float("nan")}, {"kind": "loss"}])
def test_what_could_not_be_read_again_is_not_written(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a result|not JSON compliant"):
        write_result(tmp_path / "x.json", _result(**changes))
    assert list(tmp_path.iterdir()) == []
