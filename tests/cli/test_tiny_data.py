"""The few samples of 2-step smoke tests, in each format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_neft.cli.tiny import TINY_SAMPLES, tiny_file, tiny_records
from lightning_neft.data.conversation import Conversation, Labelled
from lightning_neft.data.formats.format import parse_records
from lightning_neft.data.formats.registry import FORMATS, detect_format, format_named
from lightning_neft.errors import DataError


@pytest.mark.parametrize("name", FORMATS)
def test_the_records_show_their_format_without_a_notice(name: str) -> None:
    records = tiny_records(name)
    assert detect_format(records[:1]).name == name
    parsed = parse_records([(record, f"record {n}") for n, record in enumerate(records)], format_named(name))
    assert len(parsed.samples) == TINY_SAMPLES == len({str(sample) for sample in parsed.samples})
    assert not parsed.notices


@pytest.mark.parametrize(("name", "exchanges"), [("sharegpt", 3), ("messages", 3), ("guanaco", 3), ("alpaca", 1)])
def test_formats_with_turns_have_samples_of_several(name: str, exchanges: int) -> None:
    sample = format_named(name).parse(tiny_records(name)[2], "here")
    assert isinstance(sample, Conversation)
    assert [message.role for message in sample.messages] == ["user", "assistant"] * exchanges


def test_both_classes_occur() -> None:
    samples = [format_named("text_label").parse(record, "here") for record in tiny_records("text_label")]
    assert {sample.label for sample in samples if isinstance(sample, Labelled)} == {0, 1}


def test_columns_have_the_names_that_a_mapping_says() -> None:
    records = tiny_records("source_target", {"source": "question"})
    assert set(records[0]) == {"question", "target"}
    assert detect_format(records[:1], {"source": "question"}).name == "source_target"


def test_a_file_holds_the_records_and_each_content_has_its_own(tmp_path: Path) -> None:
    path = tiny_file("alpaca", None, tmp_path)
    assert json.loads(path.read_text()) == tiny_records("alpaca")
    before = path.stat().st_mtime_ns
    assert tiny_file("alpaca", {}, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    assert tiny_file("alpaca", {"output": "answer"}, tmp_path) != path


def test_a_cache_that_is_none_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written to .*cache: .*; give another folder \(data.cache_dir\)"):
        tiny_file("alpaca", None, tmp_path / "cache")
