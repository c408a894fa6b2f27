"""How close answers come to references: ROUGE-L and BLEU-4, sample by sample, and the share of near-copies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_neft.errors import ConfigError

__all__ = ["NEAR_COPY", "bleu_4", "check_libraries", "memorization", "rouge_l"]

NEAR_COPY = 0.9
"""ROUGE-L above which an answer is a near-copy."""
_BINS = 20


def rouge_l(answer: str, reference: str) -> float:
    """Return the F-measure of the longest common subsequence of words (Lin 2004), from 0 to 1.

    By torchmetrics, without stemming. Words are lower-case runs of letters and digits of any script: the usual
    normalisation keeps only a to z, and so drops texts in other alphabets.

    Raises:
        ModuleNotFoundError: See `check_libraries`.

    Example:
        >>> round(rouge_l("The cat sat.", "the cat sat down"), 4)
        0.8571
    """
    from torchmetrics.functional.text.rouge import rouge_score

    found = rouge_score(answer, reference, rouge_keys="rougeL", normalizer=_words)
    return float(found["rougeL_fmeasure"])


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower())


def bleu_4(answer: str, reference: str) -> float:
    """Return BLEU of up to 4-grams (Papineni et al. 2002) of one sentence, from 0 to 1.

    By sacrebleu with its defaults for sentences: tokenizer 13a, case kept, exponential smoothing, and no orders beyond
    the length of the answer.

    Raises:
        ModuleNotFoundError: See `check_libraries`.

    Example:
        >>> bleu_4("the cat", "the cat"), bleu_4("a dog", "the cat")
        (1.0, 0.0)
    """
    import sacrebleu

    # The geometric mean of ones is slightly above one in floating point.
    return min(1.0, float(sacrebleu.sentence_bleu(answer, [reference]).score) / 100)


def memorization(answers: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of a result of the kind memorization.

    Args:
        answers: What the model wrote.
        references: The answers in the data to the same prompts, in the same order; at least one.

    Raises:
        ConfigError: A library that this needs is not installed.

    Example:
        >>> found = memorization(["one two three", "no"], ["one two three", "yes"])
        >>> found["mean_rouge_l"], found["near_copy_share"], found["per_sample"]["rouge_l"]
        (0.5, 0.5, [1.0, 0.0])
    """
    check_libraries()
    pairs = list(zip(answers, references, strict=True))
    rouge = [rouge_l(*pair) for pair in pairs]
    bleu = [bleu_4(*pair) for pair in pairs]
    edges = np.linspace(0, 1, _BINS + 1)
    return {
        "n_total": len(pairs),
        "mean_rouge_l": float(np.mean(rouge)),
        "mean_bleu_4": float(np.mean(bleu)),
        "near_copy_share": float(np.mean(np.asarray(rouge) > NEAR_COPY)),
        "near_copy_threshold": NEAR_COPY,
        "histogram": {"edges": edges.tolist(), "rouge_l": _counts(rouge, edges), "bleu_4": _counts(bleu, edges)},
        "per_sample": {"rouge_l": rouge, "bleu_4": bleu},
    }


def _counts(values: Sequence[float], edges: npt.NDArray[np.float64]) -> list[int]:
    found: list[int] = np.histogram(values, edges)[0].tolist()
    return found


def check_libraries() -> None:
    """Check that the libraries behind both scores are installed: torchmetrics uses nltk for ROUGE-L.

    Raises:
        ConfigError: One is missing.
    """
    if missing := [name for name in ("nltk", "sacrebleu") if find_spec(name) is None]:
        raise ConfigError(
            f"memorisation needs {' and '.join(missing)}, not installed here: pip install 'lightning-neft[evaluate]'"
        )
