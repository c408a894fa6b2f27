"""Each file of the corpus is read or refused as it is meant to be, those too that once brought the program down."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

import pytest

from fuzz.reading import CORPUS, READERS, read

# By name, and by what the line says; all others have samples.
REFUSED = {
    "json/cut": "line 1, column 10: broken JSON",
    "json/escape_column": r"a\x1b[2J b",
    "json/nested": "nested too deeply",
    "json/nul": "a NUL byte",
    "json/numbers": "record 1: 'text' must be text, got float nan",
    "json/surrogate": "line 1: 'text' contains half of a surrogate pair",
    "json/surrogate_column": r"(\ud800) match no data format",
    "json/twice_key": "line 1: 'text' must be text, got int 3",
    "json/utf16": "is text in UTF-16",
    "csv/broken_quote": "line 2: broken CSV (unexpected end of data)",
    "csv/escape_header": r"a\x1b[2Jb, c",
    "csv/fields": "line 2: 3 fields, but the header has 2",
    "csv/header_only": "has a header and no row",
    "csv/header_twice": "names 'text' twice",
    "csv/semicolons": "is a single column",
    "parquet/cut": "broken Parquet file",
    "parquet/date_after_9999": "a date after the year 9999 (OverflowError",
    "parquet/name_not_utf8": "text that is not UTF-8, or a date after the year 9999 (UnicodeDecodeError",
    "parquet/no_row": "has no row",
    "parquet/rows_other_than_in_footer": "broken Parquet file (",
    "parquet/text_not_utf8": "text that is not UTF-8, or a date after the year 9999 (UnicodeDecodeError",
}
FILES = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file())


def test_the_table_and_the_folders_belong_together() -> None:
    assert set(REFUSED) <= set(FILES)
    assert {name.partition("/")[0] for name in FILES} == set(READERS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_corpus(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"data.{name.partition('/')[0]}"
    copyfile(CORPUS / name, path)
    line = read(path)
    if name in REFUSED:
        assert line is not None
        assert str(path) in line
        assert REFUSED[name] in line
    else:
        assert line is None
