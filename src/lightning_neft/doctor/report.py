"""What the doctor found: facts about model, batch, noise and embeddings, and advice; as objects and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Advice", "BatchFacts", "DoctorReport", "EmbeddingFacts", "LongFacts", "ModelFacts"]


@dataclass(frozen=True)
class Advice:
    """Something that is not as one may think.

    Attributes:
        what: What was found.
        do: What to do about it.
    """

    what: str
    do: str


@dataclass(frozen=True)
class ModelFacts:
    """The model that was looked at.

    Attributes:
        base: The name that the user gave.
        architecture: Its class.
        parameters: How many it has, tied ones counted once.
        parameters_read: How many of them were read or made to measure with.
        weights: Where those came from: its checkpoint, or its own random initialisation.
        dtype: Dtype of its weights, as the run would have them.
        mode_after_loading: `train` or `eval`, as from_pretrained returns it.
        mode_in_fit: `train` or `eval` in a fit of the program; None where the user's own code decides.
        has_dropout: Whether its config asks for any dropout.
    """

    base: str
    architecture: str
    parameters: int
    parameters_read: int
    weights: Literal["checkpoint", "random"]
    dtype: str
    mode_after_loading: Literal["train", "eval"]
    mode_in_fit: Literal["train", "eval"] | None
    has_dropout: bool


@dataclass(frozen=True)
class BatchFacts:
    """The batch that was measured with.

    Attributes:
        source: Where it came from, for people.
        is_of_user: Whether it is one of the data that are to be trained on, and not the doctor's own.
        rows: Number of its rows.
        rows_measured: How many of them the strengths are of: the first ones, where all would be too many.
        width: Its width in tokens, padding included.
        lengths: For each field that lengths were read from, the true length of each sequence or document.
        labels: `tokens`, `classes`, or None without labels.
        labelled_tokens: How many tokens have a label; None without labels for tokens.
        rows_without_labels: How many rows have no label at all; None without labels for tokens.
        rows_cut: How many rows are as long as the longest that the data allow; None where there is no such length.
    """

    source: str
    is_of_user: bool
    rows: int
    rows_measured: int
    width: int
    lengths: dict[str, list[int]]
    labels: Literal["tokens", "classes"] | None
    labelled_tokens: int | None = None
    rows_without_labels: int | None = None
    rows_cut: int | None = None


@dataclass(frozen=True)
class EmbeddingFacts:
    """One embedding that noise is meant for; the numbers are None where none could be measured.

    Attributes:
        name: Its dotted name.
        kind: Its class.
        table: Rows and columns of its table, None if it has none.
        found_by: How it was found.
        width: Width d of what it returns.
        dtype: Dtype of what it returns.
        noise_rms: Root mean square of the noise per element, over the tokens that get noise.
        embedding_rms: The same of its output before the noise.
        token_norm: The root mean square, over these tokens, of the L2 norm of its output: `neftune.reference_norm`.
        noise_to_signal: Noise RMS over embedding RMS.
        block: Name of the first block behind it, None if none was found.
        block_noise_to_signal: Noise-to-signal of what that block is given.
        unchanged: Share of the elements that rounding to the dtype left as they were.
        multiplier: RMS of its output over the RMS of the rows that it looked up.
    """

    name: str
    kind: str
    table: tuple[int, ...] | None
    found_by: str
    width: int | None = None
    dtype: str | None = None
    noise_rms: float | None = None
    embedding_rms: float | None = None
    token_norm: float | None = None
    noise_to_signal: float | None = None
    block: str | None = None
    block_noise_to_signal: float | None = None
    unchanged: float | None = None
    multiplier: float | None = None


@dataclass(frozen=True)
class LongFacts:
    """What the strength on one embedding would be if each sequence of the batch had this length.

    Attributes:
        name: Dotted name of the embedding.
        length: The length in tokens.
        noise_to_signal: As in `EmbeddingFacts`.
        block_noise_to_signal: As in `EmbeddingFacts`.
        unchanged: As in `EmbeddingFacts`.
    """

    name: str
    length: int
    noise_to_signal: float
    block_noise_to_signal: float | None
    unchanged: float


@dataclass(frozen=True)
class DoctorReport:
    """Where the noise would land, and how strong it would be.

    Attributes:
        reason: Why the noise would not land; None if it would.
        model: The model.
        noise: Options of the noise; None if it is off.
        batch: The batch.
        embeddings: The embeddings that the noise is meant for.
        long: The strengths on longer sequences, where the batch is not one of the data that are to be trained on.
        notes: What to know when reading the numbers.
        warnings: What is not as one may think.
    """

    reason: str | None
    model: ModelFacts
    noise: Mapping[str, Any] | None
    batch: BatchFacts
    embeddings: list[EmbeddingFacts]
    long: list[LongFacts] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[Advice] = field(default_factory=list)

    @property
    def lands(self) -> bool:
        """Whether the noise would land."""
        return self.reason is None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; a number that is not finite becomes None."""
        return {"lands": self.lands, **_plain(asdict(self))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
