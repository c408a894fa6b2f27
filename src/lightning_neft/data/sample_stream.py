"""`SampleStream`: the samples of a source, encoded as they are read."""

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
from lightning_neft.data.tokenization import IGNORED, EncodedSample, Encoding, check_prompt_loss, nothing_to_train
from lightning_neft.errors import DataError

__all__ = ["EncodedRecords", "FirstSamples", "SampleStream", "StreamedSample", "token_counts"]

# Records that are encoded at a time.
_CHUNK = 1000


@dataclass(frozen=True)
class EncodedRecords:
    """The result of encoding some records.

    Attributes:
        encoding: Their samples; `kept` is an index into `origins`.
        origins: The index of the record of each sample, including those without a token to train on.
        parsed: The notices about the records.
    """

    encoding: Encoding
    origins: Sequence[int]
    parsed: Parsed


@dataclass(frozen=True)
class FirstSamples:
    """The first samples of a stream, for `preview`; `TokenStore` and `Prepared` explain the attributes."""

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
    """A sample, the number of its record, and the number of samples of that record before it."""

    sample: EncodedSample
    record: int
    piece: int


class SampleStream:
    """Encodes the records of a source as they are read.

    Args:
        records: The source.
        encode: Encodes some records, each given with its place.
        skip: Records at the beginning that are held out.
        max_length: Maximum tokens of a sample, for notices.
        strict: Whether a sample without a token to train on is an error.
        fingerprint: Identifies the stream.

    Attributes:
        prompt_loss: Weight of a prompt token in the loss, which the data module sets.
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
        self.prompt_loss = 0.0

    def samples(self, record: int = 0, piece: int = 0) -> Iterator[StreamedSample]:
        """Yield all samples with a token to train on, starting at a record and one of its pieces.

        Earlier records are read but not encoded. At the end rank 0 logs what was truncated and dropped, in one line.

        Raises:
            DataError: If a record cannot be read, there is no sample, or, with `strict`, one has no token to train on.
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
        # Only their number is used.
        counts.kept = range(kept)  # type: ignore[assignment]
        if lines := [*notices.lines("training"), *counts.notices("training", self.max_length)]:
            since = "" if record == self.skip else " (since the run was resumed)"
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
        check_prompt_loss(self.prompt_loss, encoded.encoding.marked)
        if self.strict and encoded.encoding.dropped:
            kept = set(encoded.encoding.kept)
            missing = next(index for index in range(len(encoded.origins)) if index not in kept)
            raise DataError(
                f"{chunk[encoded.origins[missing]][1]}: the sample has no token to train on "
                f"({' or '.join(encoded.encoding.dropped)}); repair or remove it, or set data.strict "
                "false to drop such samples"
            )
        return encoded

    def _nothing(self, dropped: dict[str, int]) -> DataError:
        return DataError(
            nothing_to_train(f"no training sample of {self.records.name!r} has a", dropped, self.max_length)
        )


def token_counts(samples: Sequence[EncodedSample]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens and the labels other than -100 of each sample."""
    lengths = [len(sample.input_ids) for sample in samples]
    trained = [int((np.asarray(sample.labels) != IGNORED).sum()) for sample in samples]
    return np.array(lengths, np.int64), np.array(trained, np.int64)
