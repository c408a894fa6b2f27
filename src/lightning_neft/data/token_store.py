"""Encoded samples on disk: memory-mapped Arrow files, found again by a fingerprint of everything that made them."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_neft.data.cache import cache_folder
from lightning_neft.data.conversation import Conversation, Labelled, Message, Sample
from lightning_neft.data.templates.base import Template
from lightning_neft.data.tokenization import ENCODING_VERSION, IGNORED, EncodedSample, Encoding
from lightning_neft.data.tokenizer import tokenizer_identity
from lightning_neft.errors import DataError
from lightning_neft.files import write_text

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

__all__ = ["Stored", "TokenStore", "fingerprint", "open_or_build"]

# Rows of one Arrow array: its offsets are int32, so all its tokens together must stay below 2^31.
_BLOCK = 10_000


@dataclass
class Stored:
    """What is to be kept of a set of samples.

    Attributes:
        encoding: The encoded samples and what was counted.
        samples: The samples themselves, those that were kept, where prompts and references are needed again.
        facts: Anything else that a second start needs, as JSON can hold it.
    """

    encoding: Encoding
    samples: Sequence[Sample] | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class TokenStore:
    """Encoded samples that stay on disk: opening maps the files into memory and reads no token.

    Args:
        folder: A folder that `open_or_build` has written.

    Attributes:
        lengths: int32 (samples,): tokens of `input_ids`.
        trained: int32 (samples,): tokens with a label.
        kept: int64 (samples,): the index of each sample in what was encoded.
        truncated: How many of them were cut.
        dropped: How many others were left out, by reason.
        untrained: See `Encoding`.
        facts: What the builder of the store added.

    Raises:
        ValueError, KeyError, OSError: If the folder is not whole.
    """

    def __init__(self, folder: Path) -> None:
        import datasets

        self.folder = folder
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        self.truncated: int = about["truncated"]
        self.dropped: dict[str, int] = about["dropped"]
        self.untrained: int = about["untrained"]
        self.facts: dict[str, Any] = about["facts"]
        self._has_samples: bool = about["has_samples"]
        rows = datasets.load_from_disk(str(folder / "tokens"), keep_in_memory=False)
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
        # A worker process that is spawned maps the files itself.
        return TokenStore, (self.folder,)

    @cached_property
    def samples(self) -> list[Sample]:
        """The samples themselves.

        Raises:
            DataError: If they were not kept.
        """
        if not self._has_samples:
            raise DataError("the texts of these samples were not kept, only their tokens")
        text = (self.folder / "samples.jsonl").read_text(encoding="utf-8")
        # Not str.splitlines: it also splits at characters that JSON allows inside a text, such as U+2028.
        return [_sample(json.loads(line)) for line in text.split("\n") if line]

    def notices(self, name: str, max_length: int) -> list[str]:
        """Return lines that tell a person what did not come through whole; see `Encoding.notices`."""
        counts = Encoding([], self.kept.tolist(), self.truncated, self.dropped, self.untrained)
        return counts.notices(name, max_length)


def fingerprint(*, tokenizer: PreTrainedTokenizerBase, template: Template, **parts: object) -> str:
    """Return a name for the tokens that these parts make; any change of any of them gives another one.

    Args:
        tokenizer: With all that was added to it.
        template: The template.
        **parts: All else that matters, such as the source, its columns, the split, the length; as JSON can hold it.
    """
    everything = {
        "version": ENCODING_VERSION,
        "tokenizer": tokenizer_identity(tokenizer),
        "template": template.identity(),
        "parts": parts,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def open_or_build(name: str, build: Callable[[], Stored], cache_dir: str | Path | None = None) -> TokenStore:
    """Open the tokens of this name, or build and keep them.

    Several processes may do this at once: each builds, the first to finish keeps what it built, and all open that.

    Args:
        name: Their `fingerprint`.
        build: Makes them; called only where there are none, or none that can be read.
        cache_dir: Folder of all such tokens; by default `lightning_neft` in the cache of `datasets`.

    Raises:
        DataError: If the folder cannot be written to.
    """
    root = cache_folder(cache_dir)
    folder = root / name
    if (store := _opened(folder)) is not None:
        return store
    if folder.exists():
        from lightning.pytorch.utilities import rank_zero_info

        rank_zero_info(f"the stored tokens in {folder} are broken or half-written: they are made anew")
    stored = build()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name[:16]}-", dir=root) as temporary:
            fresh = Path(temporary) / "fresh"
            _write(fresh, stored)
            # Read again before it is moved over: another process may have put it right in the meantime.
            if folder.exists() and _opened(folder) is None:
                folder.replace(Path(temporary) / "broken")
            try:
                fresh.replace(folder)
            except OSError:
                if _opened(folder) is None:  # not the other process that was faster
                    raise
        return TokenStore(folder)
    except OSError as error:
        raise DataError(
            f"the tokens cannot be kept in {root}: {error.strerror or error}; give another folder (data.cache_dir)"
        ) from error


def _opened(folder: Path) -> TokenStore | None:
    try:
        return TokenStore(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, stored: Stored) -> None:
    import datasets
    import pyarrow as pa

    encoding = stored.encoding
    blocks = []
    for start in range(0, max(len(encoding.samples), 1), _BLOCK):
        block = encoding.samples[start : start + _BLOCK]
        trained = [int((np.asarray(sample.labels) != IGNORED).sum()) for sample in block]
        columns = {
            "input_ids": _lists([sample.input_ids for sample in block]),
            "labels": _lists([sample.labels for sample in block]),
            "trained": pa.array(trained, pa.int32()),
            "kept": pa.array(encoding.kept[start : start + _BLOCK], pa.int64()),
        }
        blocks.append(pa.table(columns))
    with _quiet():
        # One file: with the number left open, a set of no samples would get none, which cannot be opened.
        datasets.Dataset(pa.concat_tables(blocks)).save_to_disk(str(folder / "tokens"), num_shards=1)
    if stored.samples is not None:
        lines = [json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in stored.samples]
        write_text(folder / "samples.jsonl", "".join(lines))
    about = {
        "size": [len(encoding.samples), sum(len(sample.input_ids) for sample in encoding.samples)],
        "truncated": encoding.truncated,
        "dropped": encoding.dropped,
        "untrained": encoding.untrained,
        "has_samples": stored.samples is not None,
        "facts": stored.facts,
    }
    write_text(folder / "about.json", json.dumps(about))


def _lists(rows: Sequence[Sequence[int] | np.ndarray]) -> pa.ListArray:
    """Return int32 lists as one Arrow array, without a Python object for each number."""
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    values = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32, copy=False)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep `datasets` from drawing its own progress bars."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


class _Ragged:
    """A column of lists as views of the mapped file, one pair of arrays for each piece that Arrow has it in."""

    def __init__(self, rows: Dataset, name: str) -> None:
        chunks = rows.data.column(name).chunks
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


def _column(rows: Dataset, name: str, dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *(chunk.to_numpy() for chunk in rows.data.column(name).chunks)])


def _sample(record: dict[str, Any]) -> Sample:
    if "messages" in record:
        return Conversation(tuple(Message(**message) for message in record["messages"]))
    return Labelled(**record)
