"""The warnings of a report, each with a suggested fix."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_neft.doctor.report import Advice, BatchReport, DoctorReport, EmbeddingReport, ModelReport

__all__ = ["advise"]

# If rounding leaves more than this share of the elements unchanged, most of the noise is lost.
_UNCHANGED_LIMIT = 0.5
# Twice or half the strength amounts to another alpha: the paper's steps are 5, 10, 15.
_FACTOR = 2.0
_AGAINST_ROUNDING = "keep the embedding in float32 (trainer.precision: bf16-mixed with float32 weights), or raise alpha"


def advise(report: DoctorReport) -> list[Advice]:
    """Return the warnings of a report, most important first."""
    on_embeddings = [advice for embedding in report.embeddings for advice in _of_embedding(embedding, report)]
    return list(
        dict.fromkeys(
            [*on_embeddings, *_of_long(report), *_of_noise(report), *_of_batch(report.batch), *_of_mode(report.model)]
        )
    )


def _of_embedding(embedding: EmbeddingReport, report: DoctorReport) -> Iterator[Advice]:
    if embedding.noise_to_signal is None or embedding.unchanged is None:
        return
    if embedding.unchanged > _UNCHANGED_LIMIT:
        yield Advice(
            f"rounding to {embedding.dtype} leaves {embedding.unchanged:.0%} of the elements of {embedding.name} "
            "unchanged: most of the noise is lost",
            _AGAINST_ROUNDING,
        )
    at_block, ratio = embedding.block_noise_to_signal, embedding.noise_to_signal
    # Random weights are not of the size of trained ones.
    is_trained = report.model.weights == "checkpoint"
    strongest = ratio if at_block is None else at_block
    if is_trained and strongest >= 1:
        where = embedding.name if at_block is None else embedding.block
        yield Advice(
            f"at {where} the noise is {strongest:.2f} times as strong as the signal, which it mostly hides",
            "lower neftune.alpha, to which the ratio is proportional; on longer samples the ratio is lower too",
        )
    is_relative = report.noise is not None and report.noise.get("scale") == "relative"
    if embedding.multiplier is not None and not is_relative and not 1 / _FACTOR < embedding.multiplier < _FACTOR:
        much = (
            f"{embedding.multiplier:.3g} times weaker"
            if embedding.multiplier > 1
            else f"{1 / embedding.multiplier:.3g} times stronger"
        )
        yield Advice(
            f"{embedding.name} multiplies its rows by {embedding.multiplier:.3g} before the noise is added: relative "
            f"to the signal, the same alpha is {much} than on a model without a multiplier",
            "choose alpha by noise-to-signal, or set neftune.scale: relative, with neftune.reference_norm the token "
            "norm of the model that alpha was chosen for",
        )
    if is_trained and at_block and math.isfinite(ratio) and not 1 / _FACTOR < at_block / ratio < _FACTOR:
        yield Advice(
            f"between {embedding.name} and {embedding.block} noise-to-signal changes from {ratio:.3g} to "
            f"{at_block:.3g}: positions are added to the tokens there, or a norm rescales them",
            "compare models by the ratio at the first block, not by alpha",
        )


def _of_long(report: DoctorReport) -> Iterator[Advice]:
    for short, long in zip(report.embeddings, report.long, strict=False):
        if long.unchanged > _UNCHANGED_LIMIT >= (short.unchanged or 0):
            yield Advice(
                f"on samples of {long.length} tokens, rounding to {short.dtype} leaves {long.unchanged:.0%} of the "
                f"elements of {long.name} unchanged: most of the noise is lost",
                _AGAINST_ROUNDING,
            )


def _of_noise(report: DoctorReport) -> Iterator[Advice]:
    noise, batch = report.noise or {}, report.batch
    lengths = [length for of_field in batch.lengths.values() for length in of_field]
    if noise.get("length") == "padded" and lengths:
        weakest = math.sqrt(min(lengths) / max(lengths))
        yield Advice(
            "length: padded adds noise to padding and uses the width of the batch as L: in this batch the noise on the "
            f"shortest sequence is {weakest:.2f} times the paper's, and it varies from batch to batch",
            "use neftune.length: true, unless you reproduce a run of transformers or TRL",
        )
    if not lengths and batch.rows > 1 and noise.get("length") == "true":
        yield Advice(
            "the batch does not mark its padding: L is the width of the batch, and padding gets noise",
            "add attention_mask to the batch",
        )


def _of_batch(batch: BatchReport) -> Iterator[Advice]:
    if not batch.is_of_user:
        return
    if batch.labels is None:
        yield Advice("the batch has no labels: there is nothing to train on", "add labels, with -100 on the prompt")
    elif batch.labels == "tokens" and batch.labelled_tokens == 0:
        yield Advice("all labels of the batch are -100: there is nothing to train on", "label the tokens of the answer")
    elif batch.rows_without_labels:
        yield Advice(
            f"{batch.rows_without_labels} of {batch.rows} rows have no label: nothing is learnt from them",
            "omit them, or raise data.max_length if their prompts fill it",
        )
    if batch.rows_cut:
        yield Advice(
            f"{batch.rows_cut} of {batch.rows} rows are as long as data.max_length allows: the ends of their answers "
            "are probably truncated",
            "raise data.max_length, or omit longer samples",
        )


def _of_mode(model: ModelReport) -> Iterator[Advice]:
    if not model.has_dropout:
        return
    off = "the noise does not depend on the mode, but the dropout in the model's config stays off"
    if model.mode_in_fit == "eval":
        yield Advice(f"the fit keeps the model in eval mode: {off}", "omit model.keep_eval to train with dropout")
    elif model.mode_in_fit is None and model.mode_after_loading == "eval":
        yield Advice(
            f"from_pretrained returns the model in eval mode, and Lightning keeps it: {off}",
            "call model.train() before the fit to train with dropout",
        )
