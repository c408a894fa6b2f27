"""What a source may be, and which of its meanings goes first."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from lightning_neft.data.sources import source as module
from lightning_neft.data.sources.files import FileRecords
from lightning_neft.data.sources.source import open_source
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import DataError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked of the hub."""
    asked: list[Any] = []

    def open_hub(repo: str, **options: Any) -> FileRecords:
        asked.append((repo, {name: value for name, value in options.items() if value}))
        return records

    def fetch(source: str, file: str, revision: str | None) -> Path:
        asked.append((source, file, revision))
        return path

    path = Path(__file__).with_name("no such file")
    records = FileRecords([path])
    records.__dict__["head"] = [{"text": "a"}]
    monkeypatch.setattr(module, "open_hub", open_hub)
    monkeypatch.setattr(module, "fetch", fetch)
    return asked


def test_the_toy_data_come_with_their_splits(snapshot: Callable[[str], None]) -> None:
    for split, name in (("train", "toy"), ("held_out", "toy (held_out)")):
        records = open_source("toy", split=split)
        # The kind is not a column: it would be reported as ignored.
        whole = toy_instructions(split)  # type: ignore[arg-type]
        assert [record for record, _ in records] == [{k: v for k, v in one.items() if k != "kind"} for one in whole]
        assert next(iter(records))[1] == f"{name}, record 1"
        assert records.size == len(toy_instructions(split))  # type: ignore[arg-type]
        expected = hashlib.sha256(json.dumps(toy_instructions(split)).encode()).hexdigest()  # type: ignore[arg-type]
        assert records.fingerprint == expected
    assert open_source("toy").name == "toy"
    with pytest.raises(DataError) as caught:
        open_source("toy", split="test")
    snapshot(text := str(caught.value))
    assert "'test'" in text


def test_changing_a_record_leaves_the_toy_data_as_they_are() -> None:
    records = open_source("toy")
    next(iter(records))[0]["output"] = "changed"
    assert next(iter(records))[0]["output"] != "changed"


def test_a_file_is_read_under_the_name_that_was_given(here: Path) -> None:
    (here / "x.jsonl").write_text('{"a": 1}')
    assert list(open_source("x.jsonl")) == [({"a": 1}, "x.jsonl, line 1")]
    assert next(iter(open_source(str(here / "x.jsonl"))))[1] == f"{here}/x.jsonl, line 1"


def test_the_home_folder_has_a_short_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    (here / "x.jsonl").write_text('{"a": 1}')
    assert open_source("~/x.jsonl").size == 1
    assert open_source("~/*.jsonl").size == 1


def test_a_pattern_is_all_its_files_unless_a_file_has_that_name(here: Path) -> None:
    for name in ("a1.jsonl", "a2.jsonl"):
        (here / name).write_text(json.dumps({"a": name}))
    records = open_source("a[12].jsonl")
    assert records.name == "a[12].jsonl"
    assert [where for _, where in records] == ["a1.jsonl, line 1", "a2.jsonl, line 1"]
    (here / "a[12].jsonl").write_text('{"a": 0}')
    assert [where for _, where in open_source("a[12].jsonl")] == ["a[12].jsonl, line 1"]


def test_a_saved_folder_is_opened_and_another_one_is_not(here: Path, snapshot: Callable[[str], None]) -> None:
    datasets.Dataset.from_list([{"a": 1}]).save_to_disk(here / "saved")
    assert list(open_source("saved")) == [({"a": 1}, "saved, row 1")]
    (here / "plain").mkdir()
    with pytest.raises(DataError) as caught:
        open_source("plain")
    snapshot(text := str(caught.value))
    assert "'plain/*.jsonl'" in text


def test_the_first_record_is_read_at_once(here: Path) -> None:
    (here / "x.jsonl").write_text("{}\n{")
    assert open_source("x.jsonl").columns == ()
    (here / "x.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"x\.jsonl, line 1, column 2: broken JSON"):
        open_source("x.jsonl")


def test_files_have_no_splits_subsets_or_revisions(here: Path) -> None:
    (here / "x.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"^x\.jsonl has no splits, got 'test'; omit it$"):
        open_source("x.jsonl", split="test")
    for name in ("subset", "revision"):
        for source in ("x.jsonl", "toy", "*.jsonl"):
            with pytest.raises(DataError) as caught:
                open_source(source, **{name: "x"})
            assert (
                str(caught.value) == f"{source} has no {name}; only datasets of the hub have one, so omit data.{name}"
            )


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("data/train.jsonl", ["data/train.jsonl"]),
        ("./name", []),
        ("../name", []),
        ("./owner/name", []),
        ("/no/where", []),
        ("a/b/c", []),
        ("train.json", ["train.json"]),
        ("x.parquet.gz", ["x.parquet"]),
        (
            "Alpca",
            ["'Alpca'", "did you mean alpaca"],
        ),
        (
            "",
            [],
        ),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    here: Path, hub: list[Any], source: str, named: list[str], snapshot: Callable[[str], None]
) -> None:
    with pytest.raises(DataError) as caught:
        open_source(source)
    snapshot(text := str(caught.value))
    assert all(part in text for part in named)
    assert hub == []


def test_a_pipe_is_refused_because_it_is_gone_after_one_reading(here: Path) -> None:
    os.mkfifo(here / "pipe")
    with pytest.raises(DataError, match=r"^pipe is not a regular file and cannot be read twice; save its content"):
        open_source("pipe")


def test_an_id_goes_to_the_hub_unless_there_is_such_a_path(here: Path, hub: list[Any]) -> None:
    open_source("owner/some.data-1", subset="de", split="test", revision="v1", streaming=True)
    assert hub == [("owner/some.data-1", {"subset": "de", "split": "test", "revision": "v1", "streaming": True})]
    (here / "owner").mkdir()
    (here / "owner" / "name").write_text('{"a": 1}')
    assert open_source("owner/name").first == {"a": 1}
    assert len(hub) == 1


def test_a_name_of_the_catalogue_goes_before_a_path(here: Path, hub: list[Any]) -> None:
    (here / "alpaca").write_text('{"a": 1}')
    open_source("alpaca")
    open_source("imdb", split="test", revision="v1", streaming=True)
    assert hub == [
        ("tatsu-lab/alpaca", {"split": "train"}),
        ("stanfordnlp/imdb", {"split": "test", "revision": "v1", "streaming": True}),
    ]
    assert open_source("./alpaca").first == {"a": 1}


def test_an_entry_of_files_is_fetched(
    here: Path, hub: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "lima.jsonl").write_text('{"conversations": ["a", "b"]}')

    def fetch(source: str, file: str, revision: str | None) -> Path:
        hub.append((source, file, revision))
        return here / "lima.jsonl"

    monkeypatch.setattr(module, "fetch", fetch)
    records = open_source("lima", split="test", revision="v1")
    assert hub == [("GAIR/lima", "test.jsonl", "v1")]
    assert list(records) == [({"conversations": ["a", "b"]}, f"{here}/lima.jsonl, line 1")]
    assert records.name == "lima"
    with pytest.raises(DataError) as caught:
        open_source("lima", split="held_out")
    assert str(caught.value) == "lima has no split 'held_out'; choose one of train, test"
    for name, wrong in (("lima", "subset"), ("alpaca-1k-longest", "revision")):
        with pytest.raises(DataError) as caught:
            open_source(name, **{wrong: "x"})
        assert str(caught.value) == f"{name} has no {wrong} to choose; omit data.{wrong}"
    assert len(hub) == 1


@pytest.mark.parametrize("count", [50, 200])
def test_the_first_hundred_records_decide_the_format(here: Path, count: int) -> None:
    odd, usual = {"note": "made by hand"}, {"instruction": "a", "output": "b"}
    lines = [json.dumps(record) for record in [odd, *[usual] * count]]
    (here / "x.jsonl").write_text("\n".join([*lines, "no JSON"]))
    assert open_source("x.jsonl").head == [odd, *[usual] * min(count, 99)]
