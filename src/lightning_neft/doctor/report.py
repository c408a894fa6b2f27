"""The report of the doctor on model, batch, noise and embeddings, with warnings; as objects and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Advice", "BatchReport", "DoctorReport", "EmbeddingReport", "LengthReport", "ModelReport"]


@dataclass(frozen=True)
class Advice:
    """A warning.

    Attributes:
        what: The problem.
        do: The suggested fix.
    """

    what: str
    do: str


@dataclass(frozen=True)
class ModelReport:
    """The examined model.

    Attributes:
        base: Its name, as given by the user.
        architecture: Its class.
        parameters: Number of its parameters, tied ones counted once.
        parameters_read: Number of parameters that were read or initialised for the measurement.
        weights: Their source: the checkpoint, or the model's random initialisation.
        dtype: Dtype of the weights in a run.
        mode_after_loading: `train` or `eval`, as from_pretrained returns the model.
        mode_in_fit: `train` or `eval` in a fit of the program; None if the user's own code decides.
        has_dropout: Whether its config enables dropout.
        towers: For a vision-language model, the modules that read no text, which a fit freezes, and their number of
            parameters, as a line; None for other models.
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
    towers: str | None = None


@dataclass(frozen=True)
class BatchReport:
    """The batch of the measurement.

    Attributes:
        source: Its source, in words.
        is_of_user: Whether it is part of the training data, and not doctor's sample batch.
        rows: Number of rows.
        rows_measured: Number of rows that were measured: the first ones, if all would need too much memory.
        width: Width in tokens, including padding.
        lengths: For each field with lengths, the true length of each sequence or document.
        labels: `tokens`, `classes`, or None without labels.
        labelled_tokens: Number of tokens with a label; None if labels are not per token.
        rows_without_labels: Number of rows without any label; None if labels are not per token.
        rows_cut: Number of rows of the maximum length; None if there is no maximum.
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
class EmbeddingReport:
    """One target embedding; numbers are None if they could not be measured.

    Attributes:
        name: Its dotted name.
        kind: Its class.
        table: Rows and columns of its table; None if it has no table.
        found_by: How it was found.
        width: Width d of its output.
        dtype: Dtype of its output.
        noise_rms: Root mean square of the noise per element, over the tokens that get noise.
        embedding_rms: The same for its output before the noise.
        token_norm: Root mean square, over these tokens, of the L2 norm of its output: `neftune.reference_norm`.
        noise_to_signal: Noise RMS over embedding RMS.
        block: Name of the first block after it; None if none was found.
        block_noise_to_signal: Noise-to-signal of the input of that block.
        unchanged: Share of the elements that are equal with and without noise, after rounding to the dtype.
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
class LengthReport:
    """The strength on one embedding if each sequence of the batch had this length.

    Attributes:
        name: Dotted name of the embedding.
        length: The length in tokens.
        noise_to_signal: As in `EmbeddingReport`.
        block_noise_to_signal: As in `EmbeddingReport`.
        unchanged: As in `EmbeddingReport`.
    """

    name: str
    length: int
    noise_to_signal: float
    block_noise_to_signal: float | None
    unchanged: float


@dataclass(frozen=True)
class DoctorReport:
    """Where the noise is applied, and how strong it is.

    Attributes:
        reason: Why no noise is applied; None if it is applied.
        model: The model.
        noise: Options of the noise; None if it is off.
        batch: The batch.
        embeddings: The target embeddings.
        long: The strengths on longer sequences, for a sample batch.
        notes: Remarks on how to read the numbers.
        warnings: Problems with a suggested fix, most important first.
    """

    reason: str | None
    model: ModelReport
    noise: Mapping[str, Any] | None
    batch: BatchReport
    embeddings: list[EmbeddingReport]
    long: list[LengthReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[Advice] = field(default_factory=list)

    @property
    def lands(self) -> bool:
        """Whether the noise is applied."""
        return self.reason is None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; numbers that are not finite become None."""
        return {"lands": self.lands, **_plain(asdict(self))}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
