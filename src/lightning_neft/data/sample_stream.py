"""The samples of a source one after the other, encoded as they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lightning_neft.data.formats.format import Parsed
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.tokenization import IGNORED, EncodedSample, Encoding
from lightning_neft.errors import DataError

__all__ = ["EncodedRecords", "FirstSamples", "SampleStream", "StreamedSample", "token_counts"]

# Records that are encoded at a time.
_CHUNK = 1000


@dataclass(frozen=True)
class EncodedRecords:
    """What encoding some records gives.

    Attributes:
        encoding: Their samples; `kept` is an index into `origins`.
        origins: For each sample, also those without a token to train on, the index of its record.
        parsed: What was noticed in reading them.
    """

    encoding: Encoding
    origins: Sequence[int]
    parsed: Parsed


@dataclass(frozen=True)
class FirstSamples:
    """The first samples of a stream, to look at; see `TokenStore` for the attributes and `Prepared` for the notices."""

    samples: list[EncodedSample]
    lengths: NDArray[np.int64]
    trained: NDArray[np.int64]
    truncated: int
    dropped: dict[str, int]
    notices: list[str]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> EncodedSample:
        return self.samples[index]


@dataclass(frozen=True)
class StreamedSample:
    """A sample, the number of its record, and how many samples of that record come before it."""

    sample: EncodedSample
    record: int
    piece: int


class SampleStream:
    """Encodes the records of a source as they come.

    Args:
        records: The source.
        encode: Makes samples of some records and the words that say where they stand.
        skip: Records at the beginning that are held out.
        max_length: The most tokens of a sample, for notices.
        strict: Whether a sample without a token to train on is an error.
        fingerprint: Text that tells the same stream from another one.
    """

    def __init__(
        self,
        records: Records,
        encode: Callable[[Sequence[tuple[Record, str]]], EncodedRecords],
        *,
        skip: int = 0,
        max_length: int = 512,
        strict: bool = False,
        fingerprint: str = "",
    ) -> None:
        self.records, self.encode, self.skip = records, encode, skip
        self.max_length, self.strict, self.fingerprint = max_length, strict, fingerprint

    def samples(self, record: int = 0, piece: int = 0) -> Iterator[StreamedSample]:
        """Yield all samples that can be trained on, from a record and one of its pieces on.

        Records before it are read, but not encoded. At the end rank 0 tells in one line what did not come through.

        Raises:
            DataError: If a record cannot be read, if there is no sample at all, or, with `strict`, if one has nothing
                to train on.
        """
        record = max(record, self.skip)
        numbered = islice(enumerate(self.records), record, None)
        counts, notices, first = Encoding(), Parsed(), record
        kept = 0
        while chunk := list(islice(numbered, _CHUNK)):
            encoded = self._encode([pair for _, pair in chunk])
            encoding = encoded.encoding
            notices.count += len(chunk)
            kept += len(encoding.kept)
            counts.count(encoding)
            notices.notices.update(encoded.parsed.notices)
            pieces: Counter[int] = Counter()
            for index, sample in zip(encoding.kept, encoding.samples, strict=True):
                number = chunk[encoded.origins[index]][0]
                if number > first or pieces[number] >= piece:
                    yield StreamedSample(sample, number, pieces[number])
                pieces[number] += 1
        if not kept and record == self.skip:
            raise self._nothing(counts.dropped)
        # Only their number counts.
        counts.kept = range(kept)  # type: ignore[assignment]
        if lines := [*notices.lines("training"), *counts.notices("training", self.max_length)]:
            since = "" if record == self.skip else " (since the run went on)"
            rank_zero_info("; ".join(lines) + since)

    def first(self) -> FirstSamples:
        """Return the samples of the first records.

        Raises:
            DataError: If there are none.
        """
        encoded = self._encode(list(islice(self.records, self.skip, self.skip + _CHUNK)))
        encoding = encoded.encoding
        if not encoding.samples:
            raise self._nothing(encoding.dropped)
        lengths, trained = token_counts(encoding.samples)
        notices = [*encoded.parsed.lines("training"), *encoding.notices("training", self.max_length)]
        return FirstSamples(encoding.samples, lengths, trained, encoding.truncated, encoding.dropped, notices)

    def _encode(self, chunk: Sequence[tuple[Record, str]]) -> EncodedRecords:
        encoded = self.encode(chunk)
        if self.strict and encoded.encoding.dropped:
            kept = set(encoded.encoding.kept)
            missing = next(index for index in range(len(encoded.origins)) if index not in kept)
            raise DataError(
                f"{chunk[encoded.origins[missing]][1]}: the sample has nothing to train on "
                f"({' or '.join(encoded.encoding.dropped)}); repair or remove it, or leave such samples out by not "
                "setting data.strict"
            )
        return encoded

    def _nothing(self, dropped: dict[str, int]) -> DataError:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items()) or "no samples are left"
        return DataError(
            f"no training sample of {self.records.name!r} has a token to train on within data.max_length="
            f"{self.max_length} ({reasons}); raise it, or look at the data with preview"
        )


def token_counts(samples: Sequence[EncodedSample]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens and the labels other than -100 of each sample."""
    lengths = [len(sample.input_ids) for sample in samples]
    trained = [int((np.asarray(sample.labels) != IGNORED).sum()) for sample in samples]
    return np.array(lengths, np.int64), np.array(trained, np.int64)
