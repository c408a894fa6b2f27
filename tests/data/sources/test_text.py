"""Reading text: what is no UTF-8 text is refused with its line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_neft.data.sources import text
from lightning_neft.data.sources.text import text_chunks, text_lines
from lightning_neft.errors import DataError

KINDS = "give JSON, JSON Lines or CSV in UTF-8 (gzip is read too), or Parquet"


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes("a\u2028b\u0085c\r\n\nd\x0be\rf".encode())
    assert list(text_lines(path)) == ["a\u2028b\u0085c\r\n", "\n", "d\x0be\rf"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1 << 20])
def test_characters_that_are_cut_by_the_reading_stay_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(text, "_CHUNK", chunk)
    path = tmp_path / "x"
    path.write_bytes("\ufeffÄ€𝄞\n𝄞".encode())
    assert "".join(text_chunks(path)) == "Ä€𝄞\n𝄞"
    assert list(text_lines(path)) == ["Ä€𝄞\n", "𝄞"]


@pytest.mark.parametrize("chunk", [2, 1 << 20])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"a\nb\n\xff", ["line 3"]),
        (b"a\n\xc3", ["line 2"]),
        (b"a\nb\0c\n", ["line 2"]),
    ],
)
def test_a_byte_that_is_no_text_is_named_with_its_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    content: bytes,
    named: list[str],
    snapshot: Callable[[str], None],
) -> None:
    monkeypatch.setattr(text, "_CHUNK", chunk)
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(text_chunks(path))
    snapshot(error := str(caught.value))
    assert all(part in error for part in named)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("[]".encode("utf-16"), "text in UTF-16"),
        (b"\xfe\xff\0[\0]", "text in UTF-16"),
        (b"PK\x03\x04...", "a ZIP archive or an Excel file"),
        (b"\x28\xb5\x2f\xfd...", "compressed with zstd"),
        (b"ARROW1\0\0", "an Arrow file"),
    ],
)
def test_well_known_other_files_are_named(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(text_chunks(path))
    assert str(caught.value) == f"{path} is {kind}; {KINDS}"


def test_a_gzip_file_that_is_cut_or_overwritten_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"some text that is long enough " * 100)
    path = tmp_path / "x.json.gz"
    for content in (whole[:-20], whole[:30] + b"????" + whole[34:], b"\x1f\x8bnothing"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.json\.gz: broken gzip file .*; compress it again"):
            list(text_chunks(path))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"x\.json cannot be read: Permission denied$"):
        list(text_chunks(tmp_path / "x.json"))
