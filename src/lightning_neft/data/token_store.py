"""Encoded samples on disk: memory-mapped Arrow files under a fingerprint of everything that determines them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_neft.common.files import new_folder, write_text
from lightning_neft.data.conversation import Labelled, Sample, conversation_from
from lightning_neft.data.templates.template import Template
from lightning_neft.data.tokenization import ENCODING_VERSION, IGNORED, EncodedSample, Encoding
from lightning_neft.errors import DataError
from lightning_neft.hub.cache import cache_folder
from lightning_neft.hub.tokenizer import tokenizer_identity

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedTokenizerBase

__all__ = ["Stored", "TokenStore", "fingerprint", "open_or_build"]

_TOKENS, _SAMPLES, _ABOUT = "tokens.arrow", "samples.jsonl", "about.json"
# Rows of one Arrow array, whose int32 offsets limit it to 2^31 tokens.
_BLOCK = 10_000


@dataclass
class Stored:
    """The part of a set of samples that is written at a time.

    Attributes:
        encoding: The encoded samples and the counts.
        samples: The kept samples as text, where prompts and references are needed again.
        facts: Anything else that a later run needs, JSON-serialisable; those of the last part are stored.
    """

    encoding: Encoding
    samples: Sequence[Sample] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class TokenStore:
    """Encoded samples on disk: opening maps the files into memory and reads no token.

    Args:
        folder: A folder that `open_or_build` wrote.

    Attributes:
        lengths: int32 (samples,): tokens of `input_ids`.
        trained: int32 (samples,): tokens with a label.
        kept: int64 (samples,): the index of each sample among those that were encoded.
        truncated, dropped, untrained, marked, remarks: See `Encoding`.
        facts: See `Stored`.

    Raises:
        ValueError, KeyError, OSError: If the folder is incomplete.
    """

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa

        self.folder = folder
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        self.truncated: int = about["truncated"]
        self.dropped: dict[str, int] = about["dropped"]
        self.untrained: int = about["untrained"]
        self.marked: int = about["marked"]
        self.remarks: dict[str, int] = about["remarks"]
        self.facts: dict[str, Any] = about["facts"]
        self._has_samples: bool = about["has_samples"]
        rows = pa.ipc.open_stream(pa.memory_map(str(folder / _TOKENS))).read_all()
        self._input_ids = _Ragged(rows, "input_ids")
        self._labels = _Ragged(rows, "labels")
        self.lengths = self._input_ids.lengths
        self.trained = _column(rows, "trained", np.int32)
        self.kept = _column(rows, "kept", np.int64)
        if [len(self.lengths), int(self.lengths.sum())] != about["size"]:
            raise ValueError("samples are missing")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> EncodedSample:
        """Return a sample; its arrays are views of the mapped files and cannot be written to."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return EncodedSample(self._input_ids[index], self._labels[index])

    def __reduce__(self) -> tuple[type[TokenStore], tuple[Path]]:
        # A spawned worker process maps the files itself.
        return TokenStore, (self.folder,)

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples as text.

        Raises:
            DataError: If they were not stored.
        """
        if not self._has_samples:
            raise DataError("only the tokens of these samples were stored, not their texts")
        text = (self.folder / _SAMPLES).read_text(encoding="utf-8")
        # Not str.splitlines, which also splits at characters that JSON allows inside a text, such as U+2028.
        return [_sample(json.loads(line)) for line in text.split("\n") if line]

    def notices(self, name: str, max_length: int) -> list[str]:
        """Return lines that report truncated, dropped and untrained samples; see `Encoding.notices`."""
        counts = Encoding(
            [], self.kept.tolist(), self.truncated, self.dropped, self.untrained, self.marked, self.remarks
        )
        return counts.notices(name, max_length)


def fingerprint(*, tokenizer: PreTrainedTokenizerBase, template: Template, **parts: object) -> str:
    """Return a name for the tokens, which changes with each of its parts.

    Args:
        tokenizer: The tokenizer with all added tokens.
        template: The template.
        **parts: Everything else that determines the tokens, such as source, columns and length; JSON-serialisable.
    """
    everything = {
        "version": ENCODING_VERSION,
        "tokenizer": tokenizer_identity(tokenizer),
        "template": template.identity(),
        "parts": parts,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def open_or_build(name: str, build: Callable[[], Iterable[Stored]], cache_dir: str | Path | None = None) -> TokenStore:
    """Open the tokens of this name, or build and store them.

    Several processes may do this at once: each builds, the first to finish stores its result, and all open that.

    Args:
        name: Their `fingerprint`.
        build: Yields them part by part; each is written and released. Called only if there are no readable tokens.
        cache_dir: Folder of all stored tokens; by default `lightning_neft` in the cache of `datasets`.

    Raises:
        DataError: If the folder cannot be written to.
    """
    root = cache_folder(cache_dir)
    folder = root / name
    if (store := _opened(folder)) is not None:
        return store
    if folder.exists():
        from lightning.pytorch.utilities import rank_zero_info

        rank_zero_info(f"the stored tokens in {folder} are broken or incomplete; making them again")
    parts = iter(build())
    # Most errors in the data occur here, before anything is on disk.
    part = next(parts, None)
    with ExitStack() as stack:
        with _kept_in(root):
            fresh = stack.enter_context(new_folder(folder))
            writer = stack.enter_context(_Writer(fresh))
        while part is not None:
            with _kept_in(root):
                writer.add(part)
            part = next(parts, None)
        with _kept_in(root):
            writer.finish()
            # Read again before it is replaced: another process may have repaired it meanwhile.
            if folder.exists() and _opened(folder) is None:
                folder.replace(stack.enter_context(new_folder(folder)))
            try:
                fresh.replace(folder)
            except OSError:
                if _opened(folder) is None:  # no other process was faster
                    raise
    return TokenStore(folder)


@contextmanager
def _kept_in(root: Path) -> Iterator[None]:
    """Turn an OSError into a `DataError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the tokens cannot be stored in {root}: {error.strerror or error}; give another folder (data.cache_dir)"
        ) from error


def _opened(folder: Path) -> TokenStore | None:
    try:
        return TokenStore(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _Writer:
    """Writes the files of a `TokenStore`, part by part."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts = Encoding()
        self._size = [0, 0]
        self._facts: dict[str, Any] = {}
        self._has_samples = False

    def __enter__(self) -> _Writer:
        import pyarrow as pa

        ids = pa.list_(pa.int32())
        fields = {"input_ids": ids, "labels": ids, "trained": pa.int32(), "kept": pa.int64()}
        with ExitStack() as stack:
            file = stack.enter_context(pa.OSFile(str(self.folder / _TOKENS), "wb"))
            self._tokens = stack.enter_context(pa.ipc.new_stream(file, pa.schema(fields)))
            self._texts = stack.enter_context((self.folder / _SAMPLES).open("w", encoding="utf-8", newline="\n"))
            self._files = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        # On a full disk, writing the rest fails again.
        with suppress(OSError):
            self._files.close()

    def add(self, stored: Stored) -> None:
        """Write a part."""
        import pyarrow as pa

        encoding = stored.encoding
        for start in range(0, len(encoding.samples), _BLOCK):
            block = encoding.samples[start : start + _BLOCK]
            trained = [int((np.asarray(sample.labels) != IGNORED).sum()) for sample in block]
            columns = {
                "input_ids": _lists([sample.input_ids for sample in block]),
                "labels": _lists([sample.labels for sample in block]),
                "trained": pa.array(trained, pa.int32()),
                "kept": pa.array(encoding.kept[start : start + _BLOCK], pa.int64()),
            }
            self._tokens.write_batch(pa.record_batch(columns))
            self._size[1] += len(columns["input_ids"].values)
        self._size[0] += len(encoding.samples)
        for sample in stored.samples or ():
            self._texts.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")
        self._has_samples = self._has_samples or stored.samples is not None
        self._counts.count(encoding)
        self._facts = stored.facts

    def finish(self) -> None:
        """Close the files, and write the one that completes the folder."""
        self._files.close()
        about = {
            "size": self._size,
            "truncated": self._counts.truncated,
            "dropped": self._counts.dropped,
            "untrained": self._counts.untrained,
            "marked": self._counts.marked,
            "remarks": self._counts.remarks,
            "has_samples": self._has_samples,
            "facts": self._facts,
        }
        write_text(self.folder / _ABOUT, json.dumps(about))


def _lists(rows: Sequence[Sequence[int] | np.ndarray]) -> pa.ListArray:
    """Return int32 lists as one Arrow array, without a Python object for each number."""
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32, copy=False)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


class _Ragged:
    """A column of lists as views of the mapped file, with one pair of arrays for each Arrow chunk."""

    def __init__(self, rows: pa.Table, name: str) -> None:
        chunks = rows.column(name).chunks
        self._values = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self.lengths = np.concatenate([np.zeros(0, np.int32), *map(np.diff, self._offsets)]).astype(np.int32)

    def __getitem__(self, index: int) -> np.ndarray:
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - self._starts[chunk]
        start, end = self._offsets[chunk][row : row + 2]
        values: np.ndarray = self._values[chunk][start:end]
        return values


def _column(rows: pa.Table, name: str, dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *(chunk.to_numpy() for chunk in rows.column(name).chunks)])


def _sample(record: dict[str, Any]) -> Sample:
    if "messages" in record:
        return conversation_from(record)
    return Labelled(**record)
