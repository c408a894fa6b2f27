"""Data files: empty, cut, binary, in another encoding, of another shape, too large, or not there to be read."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bad_input.refusals import FIT, PREVIEW, RECORDS, Case, Content

_JSON = json.dumps(RECORDS).encode()
_LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
_BOTH = "Say cat."


def data(what: str, content: Content, *names: str, name: str = "d.json", options: str = "") -> Case:
    """A file that preview is to show."""
    return Case(what, f"{PREVIEW} --data.source={name} {options}", names, {name: content})


def _parquet(table: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d.json", _JSON)
    return buffer.getvalue()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("gone.json")


def _folder(path: Path) -> None:
    path.mkdir()


def _records(**columns: object) -> list[dict[str, object]]:
    return [{"instruction": "a", "output": "b"}, {"instruction": "a", "output": "b", **columns}]


def _turns(*turns: object) -> list[dict[str, object]]:
    return [{"messages": list(turns)}]


USER = {"role": "user", "content": "Hi"}

FILES = [
    data("an empty file", b"", "d.json"),
    data("a file of white space", " \n\t\n", "d.json"),
    data("an empty list", "[]", "d.json"),
    data("an array cut in the middle", _JSON[:-20], "d.json, line 1"),
    data("lines cut in the middle", _LINES[:-10], "d.json, line 6"),
    data("a comma at the end", _JSON[:-1] + b",]", "d.json, line 1"),
    data("two arrays", _JSON + _JSON, "d.json, line 1"),
    data("bytes of no text", bytes(range(128, 256)) * 8, "d.json, line 1"),
    data("random bytes with NUL", b"[" + bytes(64), "d.json, line 1"),
    data("a NUL byte in a text", b'[{"instruction": "a\0b", "output": "c"}]', "d.json, line 1"),
    data("a NUL byte in the third line", _LINES[:100].partition(b"\n")[0] + b"\n\n\0", "d.json, line 3"),
    data("UTF-16 with a mark", _JSON.decode().encode("utf-16"), "d.json", "UTF-16"),
    data("UTF-16 without a mark", _JSON.decode().encode("utf-16-le"), "d.json, line 1", "UTF-16"),
    data("UTF-32", _JSON.decode().encode("utf-32"), "d.json"),
    data("Latin-1", '[{"instruction": "café", "output": "x"}]'.encode("latin-1"), "d.json, line 1"),
    data("a broken gzip under a .json name", gzip.compress(_JSON)[:-12], "d.json", "gzip"),
    data("gzip of nothing", gzip.compress(b""), "d.json"),
    data("gzip of gzip", gzip.compress(gzip.compress(_JSON)), "d.json"),
    data("a ZIP archive under a .json name", _zip(), "d.json", "ZIP"),
    data("a PNG under a .json name", b"\x89PNG\r\n\x1a\n" + bytes(32), "d.json, line 1"),
    data("a pickle under a .json name", b"\x80\x04\x95\x10\x00\x00", "d.json, line 1"),
    data("zstd under a .json name", b"\x28\xb5\x2f\xfd" + bytes(16), "d.json", "zstd"),
    data("a web page", "<html><body>404</body></html>", "d.json, line 1, column 1"),
    data(
        "a pointer of git-lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "d.json, line 1, column 1"
    ),
    data("YAML", "- instruction: a\n  output: b\n", "d.json, line 1"),
    data("a Parquet file that is cut", _parquet({"text": ["a"]})[:40], "d.parquet", name="d.parquet"),
    data("text under a .parquet name", "text", "d.parquet", name="d.parquet"),
    data("a Parquet file without rows", _parquet({"text": []}), "d.parquet", name="d.parquet"),
    data("a Parquet file of numbers", _parquet({"text": [1, 2]}), "d.parquet", "'text'", name="d.parquet"),
    data("a CSV without rows", "instruction,output\n", "d.csv", name="d.csv"),
    data("a CSV that is empty", "", "d.csv", name="d.csv"),
    data("a CSV with a short row", "instruction,output\na\n", "d.csv, line 2", "1", "2", name="d.csv"),
    data("a CSV with a long row", "instruction,output\na,b,c\n", "d.csv, line 2", "3", name="d.csv"),
    data("a CSV with a quotation mark that is open", 'instruction,output\n"a,b\n', "d.csv, line 2", name="d.csv"),
    data("a CSV with a column twice", "output,output\na,b\n", "d.csv, line 1", "'output'", name="d.csv"),
    data("a CSV by semicolons", "instruction;output\na;b\n", "d.csv, line 1", "'instruction;output'", name="d.csv"),
    data("a TSV by commas", "instruction,output\na,b\n", "d.tsv", name="d.tsv"),
    data("a CSV with NUL", b"instruction,output\na,\0\n", "d.csv, line 2", name="d.csv"),
    data("a symbolic link to itself", _loop, "d.json"),
    data("a symbolic link to nowhere", _dangling, "d.json"),
    data("a folder", _folder, "d.json"),
    Case("a file that the system refuses to read", f"{PREVIEW} --data.source=/proc/self/mem", ("/proc/self/mem",)),
    Case("a device", f"{PREVIEW} --data.source=/dev/null", ("/dev/null",)),
    Case("a file that never ends", f"{PREVIEW} --data.source=/dev/zero", ("/dev/zero",)),
    Case("a pattern of nothing", f"{PREVIEW} --data.source='x*.json'", ("x*.json",)),
    Case(
        "a pattern with a broken file",
        f"{PREVIEW} --data.source='*.jsonl'",
        ("b.jsonl, line 1",),
        {"a.jsonl": _LINES, "b.jsonl": "{"},
    ),
    Case("a name that is too long", f"{PREVIEW} --data.source={'x' * 300}.json", ("x" * 300,), is_foreign=True),
    Case("a name with a NUL byte", f"{PREVIEW} --data.source='a\0b.json'", ("data.source", "'a\\x00b.json'")),
    Case("an empty name", f"{PREVIEW} --data.source=", ("''",)),
    Case("a dataset of the hub without a network", f"{PREVIEW} --data.source=nobody/nothing", ("nobody/nothing",)),
    Case("a web address", f"{PREVIEW} --data.source=https://example.org/d.json", ("https://example.org/d.json",)),
    Case(
        "a path above the folder that is not there",
        f"{PREVIEW} --data.source=../../../nix.json",
        ("../../../nix.json",),
    ),
]

SHAPES = [
    data("an object", '{"a": 1}', "d.json"),
    data("an object of lists", {"instruction": ["a"], "output": ["b"]}, "d.json, line 1", "'instruction'"),
    data("an object around the list", {"data": RECORDS}, "d.json", "data"),
    data("an object over several lines", json.dumps(RECORDS[0], indent=1), "d.json, line 1, column 1"),
    data("a list of texts", ["a", "b"], "d.json, record 1", "'a'"),
    data("a list of lists", [RECORDS], "d.json, record 1"),
    data("a list with null", [*RECORDS, None], "d.json, record 7"),
    data("a list of numbers", [1, 2], "d.json, record 1"),
    data("a number", "5", "d.json, line 1", "5"),
    data("a text", '"a"', "d.json, line 1"),
    data("null", "null", "d.json, line 1"),
    data("NaN", "NaN", "d.json, line 1"),
    data("a number of thousands of digits", "[" + "9" * 5000 + "]", "d.json, line 1"),
    data("nesting of a hundred thousand", "[" * 100_000, "d.json, line 1"),
    data("nesting inside of a record", '[{"a": ' + "[" * 100_000, "d.json, line 1"),
    data("a lone surrogate", r'[{"instruction": "\ud800", "output": "x"}]', "d.json, record 1", "'instruction'"),
    data("an empty object", [{}], "d.json"),
    data("a column that is empty", [{"": "a"}], "d.json"),
    data("columns in capitals", [{"Instruction": "a", "Output": "b"}], "Instruction", "Output"),
    data("a number for a text", _records(output=5), "d.json, record 2", "'output'", "5"),
    data("a list for a text", _records(output=["b"]), "d.json, record 2", "'output'"),
    data("an object for a text", _records(output={"b": 1}), "d.json, record 2", "'output'"),
    data("true for a text", _records(instruction=True), "d.json, record 2", "'instruction'"),
    data("a number for the input", _records(input=3), "d.json, record 2", "'input'"),
    data(
        "a record without its answer", [RECORDS[0], {"instruction": "a"}], "d.json, record 2", "'output'", "instruction"
    ),
    data("answers that are all empty", [{"instruction": "a", "output": ""}], "d.json"),
    data("turns that are a text", [{"messages": "Hi"}], "d.json", "messages"),
    data("turns that are empty", [{"messages": []}], "d.json"),
    data("a turn that is a number", _turns(USER, 5), "d.json, record 1", "turn 2"),
    data("a turn without content", _turns({"role": "user"}), "d.json, record 1", "turn 1"),
    data(
        "a turn by nobody known",
        _turns(USER, {"role": "robot", "content": "x"}),
        "d.json, record 1",
        "turn 2",
        "'robot'",
    ),
    data("a turn by a number", _turns({"role": 5, "content": "x"}), "d.json, record 1", "turn 1"),
    data("content that is a number", _turns(USER, {"role": "assistant", "content": 5}), "d.json, record 1", "turn 2"),
    data(
        "content of parts with an image",
        _turns({"role": "user", "content": [{"type": "image_url"}]}),
        "d.json, record 1",
    ),
    data("a role that is null", _turns({"role": None, "content": "x"}), "d.json, record 1", "turn 1"),
    data("only the user speaks", _turns(USER), "d.json"),
    data(
        "labels of no text",
        [{"text": "a", "label": [1]}],
        "d.json, record 1",
        "label",
        options="--task=sequence_classification",
    ),
    data(
        "labels that are null",
        [{"text": "a", "label": None}],
        "d.json",
        "label",
        options="--task=sequence_classification",
    ),
    data("one sample, and one held out", RECORDS[:1], "val_size", options="--data.val_size=1"),
    data(
        "prompts that fill the whole length",
        [{"instruction": "a " * 400, "output": "b"}],
        "max_length",
        options="--data.max_length=16",
    ),
]

PROMPTS = [
    Case(
        "generate: prompts in UTF-16",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("p.json", "UTF-16"),
        {"p.json": _JSON.decode().encode("utf-16")},
    ),
    Case(
        "generate: prompts cut",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("p.json, line 1",),
        {"p.json": _JSON[:-9]},
    ),
    Case(
        "generate: prompts with NUL",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("p.json, line 1",),
        {"p.json": b'{"instruction": "\0"}'},
    ),
    Case(
        "generate: prompts that are a list of texts",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("p.json, record 1",),
        {"p.json": ["a"]},
    ),
    Case(
        "generate: a prompt beyond the model",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("'a b a b", "1024"),
        {"p.json": [{"instruction": "a b " * 5000}]},
    ),
    Case(
        "generate: a prompt of a million characters",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("'a b a b",),
        {"p.json": [{"instruction": "a b " * 250_000}]},
    ),
    Case(
        "generate: prompts that are a symbolic link to itself",
        "generate --model=tiny --template=alpaca --input=p.json --output=o.json",
        ("p.json",),
        {"p.json": _loop},
    ),
    Case("fit: data that are cut", FIT.replace("data.json", "d.json"), ("d.json, line 1",), {"d.json": _JSON[:-9]}),
    Case("fit: data of no format", FIT.replace("data.json", "d.json"), ("d.json",), {"d.json": [{"a": "b"}]}),
    Case(
        "validate: data that are empty",
        f"validate {FIT[4:]}".replace("data.json", "d.json"),
        ("d.json",),
        {"d.json": ""},
    ),
    Case("test: data that are not there", f"test {FIT[4:]}".replace("data.json", "d.json"), ("d.json",)),
    Case(
        "predict: data in UTF-16",
        f"predict {FIT[4:]}".replace("data.json", "d.json"),
        ("d.json", "UTF-16"),
        {"d.json": b"\xff\xfea\0"},
    ),
    Case(
        "doctor: data that are binary",
        "doctor --config=quickstart --data.source=d.json",
        ("d.json, line 1",),
        {"d.json": b"\xff\x00"},
    ),
    Case(
        "evaluate: data that are cut",
        f"evaluate --clean-loss {FIT[4:]}".replace("data.json", "d.json"),
        ("d.json, line 1",),
        {"d.json": _JSON[:-9]},
    ),
    Case("a held-out file that is broken", f"{PREVIEW} --data.source=data.json --data.val_split=train", ("data.json",)),
]

CASES = [*FILES, *SHAPES, *PROMPTS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)
