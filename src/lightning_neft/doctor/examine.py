"""Examines a model: finds the embeddings that get noise, measures the noise with one batch, and adds warnings."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_neft.doctor.advice import advise
from lightning_neft.doctor.batch import describe_batch, first_rows
from lightning_neft.doctor.forward import PassToFirstBlock
from lightning_neft.doctor.report import DoctorReport, EmbeddingReport, LengthReport
from lightning_neft.doctor.subject import Subject
from lightning_neft.errors import ModelError, NEFTError
from lightning_neft.noise.embedding import EmbeddingTarget, find_embeddings
from lightning_neft.noise.injector import EmbeddingNoise
from lightning_neft.noise.probe import NoiseStrength, probe

__all__ = ["examine"]


def examine(
    subject: Subject,
    batch: Mapping[str, Any],
    noise: EmbeddingNoise,
    *,
    options: Mapping[str, Any] | None,
    off: str | None = None,
    source: str = "the batch given",
    is_of_user: bool = True,
    longest: int | None = None,
    long: int | None = None,
    notes: Sequence[str] = (),
) -> DoctorReport:
    """Examine a model with a batch.

    Args:
        subject: The model.
        batch: One training batch on the CPU, with `input_ids`.
        noise: The noise.
        options: Its options, for the report; None if it is off.
        off: Why the noise is off; None if it is on.
        source: Source of the batch, in words.
        is_of_user: Whether the batch is part of the training data.
        longest: Maximum tokens of a row in the data; None if unknown.
        long: A length in tokens for which to report the strength too, if the batch's lengths are not typical of a run.
        notes: Remarks on how to read the numbers.

    Raises:
        ModelError: The model cannot be run up to its first block.

    >>> from lightning_neft.doctor.subject import open_subject
    >>> from lightning_neft.hub.base_config import load_base_config
    >>> subject = open_subject(load_base_config("tiny"), "tiny", random_init=True)
    >>> batch = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])}
    >>> report = examine(subject, batch, EmbeddingNoise(alpha=5), options={"alpha": 5.0})
    >>> report.lands, [embedding.name for embedding in report.embeddings], report.warnings
    (True, ['model.embed_tokens'], [])
    """
    try:
        targets, reason = find_embeddings(subject.root, noise.target), off
    except NEFTError as error:
        targets, reason = [], str(error)
    embeddings = [_unmeasured(subject, target, noise) for target in targets]
    kept, rows = first_rows(batch, max([table[1] for one in embeddings if (table := one.table)], default=1024))
    on_batch = describe_batch(
        batch,
        targets,
        source=source,
        rows_measured=rows,
        is_of_user=is_of_user,
        batch_to_mask=noise.batch_to_mask,
        longest=longest,
    )
    if reason is None:
        reason, embeddings = _measured(subject, kept, noise, targets, embeddings)
    if long is not None and reason is None:
        stretched = copy.copy(noise)
        stretched.length = long
        on_long = _on_long(_measured(subject, kept, stretched, targets, embeddings)[1], long)
    else:
        on_long = []
    more = [] if rows == on_batch.rows else [f"measured on the first {rows} of the {on_batch.rows} rows of the batch"]
    if subject.weights is not None and subject.weights.missing:
        more.append(f"not in the checkpoint, therefore initialised: {', '.join(subject.weights.missing)}")
    if subject.weights is not None and subject.weights.beyond:
        more.append(
            f"token ids from {min(subject.weights.beyond)} on are beyond the table: measured as rows of zeros; the fit "
            "must add these rows"
        )
    report = DoctorReport(
        reason=reason,
        model=subject.report_after(),
        noise=options,
        batch=on_batch,
        embeddings=embeddings,
        long=on_long,
        notes=[*notes, *more],
    )
    return replace(report, warnings=advise(report))


def _measured(
    subject: Subject,
    batch: Mapping[str, Any],
    noise: EmbeddingNoise,
    targets: Sequence[EmbeddingTarget],
    embeddings: list[EmbeddingReport],
) -> tuple[str | None, list[EmbeddingReport]]:
    """Return why no noise is applied, or None, and the embeddings with their numbers."""
    forward = PassToFirstBlock(subject.model, batch, targets, subject.weights)
    try:
        strengths = probe(subject.root, batch, noise=noise, forward=forward)
    except ModelError:
        raise
    except NEFTError as error:
        return str(error), embeddings
    except IndexError as error:
        return f"the forward pass fails: a token or position id is beyond its table ({error})", embeddings
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{type(subject.model).__name__} cannot be run up to its first block: {type(error).__name__}: "
            f"{' '.join(str(error).split())}; measure it with lightning_neft.noise.probe on the loaded model"
        ) from error
    embeddings = [
        _with_strength(one, strength, _multiplier(subject, target, batch))
        for one, strength, target in zip(embeddings, strengths, targets, strict=True)
    ]
    for strength in strengths:
        if strength.unchanged == 1:
            return f"rounding to {_name(strength.dtype)} removes all noise on {strength.embedding}", embeddings
        if not strength.noise_rms > 0:
            return (
                f"{strength.embedding} has no token that gets noise: check attention_mask, and labels with "
                f"scope={noise.scope!r}",
                embeddings,
            )
    return None, embeddings


def _unmeasured(subject: Subject, target: EmbeddingTarget, noise: EmbeddingNoise) -> EmbeddingReport:
    weight = getattr(target.module, "weight", None)
    if noise.target is not None:
        found_by = "neftune.target"
    elif target.side in ("encoder", "decoder"):
        found_by = f"the input embedding of the {target.side} of {type(subject.model).__name__}"
    elif hasattr(subject.model, "get_input_embeddings"):
        found_by = f"get_input_embeddings() of {type(subject.model).__name__}"
    else:
        found_by = "the only embedding that is not a table of positions or types"
    return EmbeddingReport(
        name=target.name,
        kind=type(target.module).__name__,
        table=tuple(weight.shape) if isinstance(weight, Tensor) and weight.dim() == 2 else None,
        found_by=found_by,
    )


def _with_strength(embedding: EmbeddingReport, strength: NoiseStrength, multiplier: float | None) -> EmbeddingReport:
    return replace(
        embedding,
        width=strength.width,
        dtype=_name(strength.dtype),
        noise_rms=strength.noise_rms,
        embedding_rms=strength.embedding_rms,
        token_norm=strength.embedding_rms * strength.width**0.5,
        noise_to_signal=strength.noise_to_signal,
        block=strength.block,
        block_noise_to_signal=strength.block_noise_to_signal,
        unchanged=strength.unchanged,
        multiplier=multiplier,
    )


def _on_long(embeddings: Sequence[EmbeddingReport], length: int) -> list[LengthReport]:
    return [
        LengthReport(one.name, length, one.noise_to_signal, one.block_noise_to_signal, one.unchanged)
        for one in embeddings
        if one.noise_to_signal is not None and one.unchanged is not None
    ]


def _multiplier(subject: Subject, target: EmbeddingTarget, batch: Mapping[str, Any]) -> float | None:
    """Return the RMS of an embedding's output over that of the rows it looks up; None if it is not a plain table."""
    module = target.module
    weight, ids = getattr(module, "weight", None), batch["input_ids"]
    if not isinstance(module, nn.Embedding) or not isinstance(weight, Tensor):
        return None
    with torch.no_grad(), subject.weights or nullcontext():
        rows, output = F.embedding(ids, weight), module(ids)
        squares = rows.float().square().mean(), output.float().square().mean()
        return float((squares[1] / squares[0]).sqrt()) if squares[0] > 0 else None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
