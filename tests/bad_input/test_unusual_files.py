"""Files that are huge, vanish or shrink while they are read, and disks that are full or read-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bad_input.refusals import FIT, PREVIEW, RECORDS, Case, line_of, listing, put
from lightning_neft.cli.main import main
from lightning_neft.data.sources.files import FileRecords

MEGABYTE = 1_000_000


def _huge(path: Path) -> None:
    line = b"- " + b"x" * 997 + b"\n"
    path.write_bytes(line * 50_000)


def _parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), path)


@pytest.mark.parametrize(
    "case",
    [
        Case("fit", "fit -c c.yaml", ("c.yaml", "50000000", "data.source"), {"c.yaml": _huge}),
        Case("recipes", "recipes show c.yaml", ("c.yaml", "50000000"), {"c.yaml": _huge}),
        Case("data", f"{PREVIEW} --data.source=c.yaml", ("c.yaml, line 1",), {"c.yaml": _huge}),
    ],
    ids=str,
)
def test_a_config_of_50_megabytes_is_refused_at_once(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)


@pytest.mark.slow  # all of it becomes tokens before it is cut
def test_a_sample_of_ten_million_characters_is_truncated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(folder / "d.json", [{"instruction": "Go on.", "output": "on and " * (10 * MEGABYTE // 7)}])
    assert main([*f"{PREVIEW} --data.source=d.json --data.max_length=64 --json".split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["train"]["longest"], found["train"]["truncated"]) == (64, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.json", RECORDS),
        ("d.jsonl", "".join(json.dumps(record) + "\n" for record in RECORDS)),
        ("d.csv", "instruction,output\na,b\nc,d\n"),
        ("d.parquet", _parquet),
    ],
)
def test_a_file_that_vanishes_while_it_is_read_is_named(
    name: str, content: object, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / name, content)
    whole = FileRecords.__iter__

    def vanishing(self: FileRecords) -> Iterator[object]:
        for record in whole(self):
            self.paths[0].unlink(missing_ok=True)
            yield record

    monkeypatch.setattr(FileRecords, "__iter__", vanishing)
    line = line_of(f"{PREVIEW} --data.source={name}", capsys)
    assert name in line
    assert "No such file or directory" in line
    assert not listing(folder)


def test_a_file_that_shrinks_while_it_is_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "".join(json.dumps(record) + "\n" for record in RECORDS)
    put(folder / "d.jsonl", text)
    whole = FileRecords.__iter__

    def shrinking(self: FileRecords) -> Iterator[object]:
        for record in whole(self):
            self.paths[0].write_text(text[:-10])
            yield record

    monkeypatch.setattr(FileRecords, "__iter__", shrinking)
    assert "d.jsonl, line 6, column" in line_of(f"{PREVIEW} --data.source=d.jsonl", capsys)


GENERATE = "generate --model=tiny --template=alpaca --device=cpu --max-new-tokens=2 --input=data.json"
WRITERS = {
    "fit": f"{FIT} --trainer.default_root_dir=PLACE",
    "generate": f"{GENERATE} --output=PLACE/o.json",
    "evaluate": "evaluate --outputs outputs.json --out PLACE/r.json",
    "report": "report outputs.json --out PLACE/r.html",
    "export": "export --model=tiny --template=alpaca --output=PLACE/x",
    "recipes": "recipes copy quickstart PLACE/q.yaml",
}


@pytest.mark.parametrize("verb", WRITERS)
def test_a_place_that_is_read_only_is_named(
    verb: str, mounted: Callable[..., Path], assert_refused: Callable[[Case], None]
) -> None:
    place = mounted("ro")
    assert_refused(Case(verb, WRITERS[verb].replace("PLACE", str(place)), (str(place),)))


# The thread in which TensorBoard writes finds the disk full too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("verb", WRITERS)
def test_nothing_is_left_of_what_does_not_fit_a_full_disk(
    verb: str, mounted: Callable[..., Path], assert_refused: Callable[[Case], None]
) -> None:
    place = mounted("size=1m")
    (place / "ballast").write_bytes(bytes(1 << 20))
    before = listing(place)
    assert_refused(Case(verb, WRITERS[verb].replace("PLACE", str(place)), (str(place),)))
    assert [name for name in listing(place) if name not in before and not (place / name).is_dir()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("sqlite:///data.json/x.db", "sqlite:///data.json/x.db"),
        ("sqlite:///data.json", "sqlite:///data.json"),
        ("mysql://me:secret@127.0.0.1:9/x", "mysql://me:***@127.0.0.1:9/x"),
        ("redis://localhost", "redis://localhost"),
    ],
)
def test_a_broken_storage_is_named_without_its_password(
    storage: str, shown: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(folder / "data.json", RECORDS)
    line = line_of(f"study --alphas=0,5 --data.source=data.json --data.val_size=2 --storage={storage}", capsys)
    assert f"--storage {shown}" in line
    assert "secret" not in line
