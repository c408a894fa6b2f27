"""The ledger: rows are added, never lost, and a file that is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_neft.errors import DataError
from lightning_neft.evaluation.judge.ledger import Ledger, Record
from lightning_neft.evaluation.judge.request import Reply


def test_replies_add_up_and_the_first_verdict_holds(ledger: Ledger) -> None:
    assert ledger.find("key") == Record()
    ledger.add("key", 0, "judge", "v1", Reply("Well...", 10, 3))
    assert ledger.add("key", 1, "judge", "v1", Reply("B", 10, 1)) == Record(2, "B", 20, 4)
    assert ledger.add("key", 2, "judge", "v1", Reply("A")) == Record(3, "B", 20, 4, uncounted=1)


def test_of_two_runs_the_reply_that_came_first_stays(ledger: Ledger) -> None:
    ledger.add("key", 0, "judge", "v1", Reply("A", 1, 1))
    assert Ledger(ledger.path).add("key", 0, "judge", "v1", Reply("B", 1, 1)).verdict == "A"


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text("[" + "1, " * 400 + "1]")
    with pytest.raises(
        DataError, match=r"the file of verdicts '.*answers.json' cannot be used: file is not a database"
    ):
        Ledger(path)
    assert path.read_text().startswith("[1, 1")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be used: unable to open"):
        Ledger(tmp_path)
