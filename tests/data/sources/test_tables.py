"""Folders written by `save_to_disk`."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from lightning_neft.data.sources.tables import open_saved
from lightning_neft.errors import DataError

ROWS = [{"text": "a", "turns": [{"from": "human", "value": "x"}]}, {"text": "b", "turns": []}]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    return tmp_path / "one"


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    one, two = datasets.Dataset.from_list(ROWS), datasets.Dataset.from_list(ROWS[:1])
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(tmp_path / "splits")
    return tmp_path / "splits"


def test_another_split_is_not_taken_for_train(tmp_path: Path) -> None:
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "x")
    with pytest.raises(DataError, match=r"x has no split 'train'; choose one of test$"):
        open_saved(tmp_path / "x")


def test_a_dataset_is_read_row_by_row(saved: Path) -> None:
    records = open_saved(saved)
    assert list(records) == [(ROWS[0], f"{saved}, row 1"), (ROWS[1], f"{saved}, row 2")]
    assert list(records) == list(open_saved(saved))
    assert (records.size, records.columns) == (2, ("text", "turns"))
    assert records.fingerprint == open_saved(saved).fingerprint


def test_train_is_the_split_by_default(splits: Path) -> None:
    assert open_saved(splits).size == 2
    assert list(open_saved(splits, "test")) == [(ROWS[0], f"{splits} (test), row 1")]
    assert open_saved(splits).fingerprint != open_saved(splits, "test").fingerprint


def test_a_split_that_is_not_there_is_named(splits: Path, saved: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_saved(splits, "tests")
    assert str(caught.value) == f"{splits} has no split 'tests'; did you mean test? choose one of train, test"
    with pytest.raises(DataError) as caught:
        open_saved(saved, "test")
    assert str(caught.value) == f"{saved} is a dataset without splits, so there is no split 'test'; omit it"


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_folder_that_is_not_whole_is_refused(saved: Path, name: str) -> None:
    (saved / name).write_text("{")
    with pytest.raises(DataError) as caught:
        open_saved(saved)
    assert str(caught.value).startswith(f"{saved} cannot be read as a saved dataset: ")
    assert "\n" not in str(caught.value)
    (saved / name).unlink()
    with pytest.raises(DataError):
        open_saved(saved)
