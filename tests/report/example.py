"""Results as evaluate and study write them, of invented numbers: test data, not measurements."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_neft.evaluation.result import make_result, provenance, write_result

__all__ = [
    "answer_file",
    "clean_loss",
    "leave_out_drawing",
    "memorization",
    "study",
    "text_statistics",
    "win_rate",
    "win_rate_difference",
    "write",
]

SAMPLES = 60
ANSWERS = (
    ("What is a fox?", "A fox is a small wild animal with red fur.", "A fox is a small wild animal."),
    ("Name two colours.", "Red and blue.", "Red, blue."),
    ("Why does it rain?", "Water rises as vapour, cools in the sky and falls down as rain.", "Clouds cool down."),
)


def study(
    alphas: Sequence[float] = (0, 5, 15),
    seeds: Sequence[int] = (0, 1, 2),
    intervals: Sequence[tuple[float, float, float]] = ((-0.08, -0.13, -0.03), (0.02, -0.05, 0.09)),
    failed: Sequence[tuple[float, int]] = (),
    steps: int = 12,
    label: str = "invented",
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A study; arms in `failed` have failed, `intervals` are difference, low and high of each alpha but the first.

    The losses of the samples have these differences, and a spread that makes such intervals.
    """
    random = np.random.default_rng(0)
    arms = [_arm(alpha, seed, (alpha, seed) in failed, steps, random) for alpha in alphas for seed in seeds]
    _put_losses(arms, dict(zip(alphas[1:], intervals, strict=False)))
    comparisons = [
        {
            "alpha": alpha,
            "baseline": alphas[0],
            "metric": "held_out_loss",
            "difference": difference,
            "low": low,
            "high": high,
            "level": 0.95,
            "n_seeds": len(seeds),
            "n_samples": SAMPLES,
            "verdict": "what the study said",
        }
        for alpha, (difference, low, high) in zip(alphas[1:], intervals, strict=False)
    ]
    metrics = {
        "recipe": "quickstart",
        "alphas": list(alphas),
        "seeds": list(seeds),
        "arms": arms,
        "comparisons": comparisons,
    }
    source = provenance([], {"max_steps": steps * 10, "learning_rate": 5e-5, **(settings or {})}, seed=0)
    return make_result("study", label, metrics, source)


def _arm(alpha: float, seed: int, is_failed: bool, steps: int, random: np.random.Generator) -> dict[str, Any]:
    n_steps = steps // 2 if is_failed else steps
    at = [10 * (step + 1) for step in range(n_steps)]
    clean = [[step, 0.4 + (2.6 + seed / 10) * math.exp(-step / 40) + 0.02 * alpha / 5] for step in at]
    held_out = [[step, 1.2 + 1.8 * math.exp(-step / 30) + step * 0.002 * (1 - alpha / 20) + seed / 30] for step in at]
    noisy = [[step, value + 0.012 * alpha + 0.05 * random.normal()] for step, value in clean]
    ratio = [[step, 0.09 * alpha * (1 + 0.1 * random.normal())] for step in at]
    curves = {"train/loss": noisy, "train/clean_loss": clean, "val/loss": held_out}
    outputs = [plain if alpha == 0 or index == 1 else long for index, (_, long, plain) in enumerate(ANSWERS)]
    return {
        "alpha": alpha,
        "seed": seed,
        "state": "failed" if is_failed else "complete",
        "error": "RuntimeError: out of memory" if is_failed else None,
        "seconds": 41.5 + seed,
        "folder": f"alpha-{alpha:g}-seed-{seed}",
        "held_out_loss": None if is_failed else held_out[-1][1],
        "train_clean_loss": None if is_failed else clean[-1][1],
        "held_out_per_sample": [],
        "curves": curves | ({"neft/noise_to_signal": ratio} if alpha else {}),
        "text_statistics": None if is_failed else _texts(alpha, seed),
        "memorization": None if is_failed else _memorization(alpha, random),
        "answers": []
        if is_failed
        else [
            {"instruction": instruction, "output": output, "reference": long}
            for (instruction, long, _), output in zip(ANSWERS, outputs, strict=True)
        ],
    }


def _put_losses(arms: Sequence[dict[str, Any]], intervals: dict[float, tuple[float, float, float]]) -> None:
    """Give the arms that finished losses of samples: 3 on average without noise, the same difference for each seed."""
    random = np.random.default_rng(3)
    levels, spread = random.gamma(4, 0.25, SAMPLES), random.normal(size=SAMPLES)
    levels += 3 - levels.mean()
    spread = (spread - spread.mean()) / spread.std()
    for arm in arms:
        difference, low, high = intervals.get(arm["alpha"], (0.0, 0.0, 0.0))
        # Student's quantile of 60 samples is 2.
        losses = levels + arm["seed"] / 30 + difference + spread * (high - low) / 4 * math.sqrt(SAMPLES)
        if arm["state"] == "complete":
            arm["held_out_per_sample"] = losses.tolist()
            arm["held_out_loss"] = float(losses.mean())


def _texts(alpha: float, seed: int) -> dict[str, Any]:
    return {
        "n_total": 60,
        "n_empty": 0,
        "mean_characters": 180 + 12 * alpha + seed,
        "mean_words": 31 + 2 * alpha + seed,
        "mean_tokens": None,
        "repetition_2": 0.08 + alpha / 500 + seed / 200,
        "repetition_3": 0.04 + alpha / 500,
        "repetition_4": 0.02,
        "log_diversity": 2.4 - alpha / 50 + seed / 30,
        "log_diversity_paper": 1.9 - alpha / 60,
    }


def _memorization(alpha: float, random: np.random.Generator) -> dict[str, Any]:
    rouge = np.clip(random.beta(max(1.0, 6 - alpha / 5), 2 + alpha / 8, size=60), 0, 1)
    bleu = rouge**2
    return {
        "n_total": 60,
        "mean_rouge_l": float(rouge.mean()),
        "mean_bleu_4": float(bleu.mean()),
        "near_copy_share": float((rouge > 0.9).mean()),
        "near_copy_threshold": 0.9,
        "per_sample": {"rouge_l": rouge.tolist(), "bleu_4": bleu.tolist()},
    }


def text_statistics(label: str = "some-model") -> dict[str, Any]:
    return make_result("text_statistics", label, _texts(5, 0), provenance([], {}, None))


def memorization(label: str = "some-model") -> dict[str, Any]:
    return make_result("memorization", label, _memorization(5, np.random.default_rng(1)), provenance([], {}, None))


def clean_loss(label: str = "some-model") -> dict[str, Any]:
    random = np.random.default_rng(2)
    splits = {
        name: {"n_samples": 80, "mean_loss": shift + 0.5, "per_sample": (shift + random.gamma(2, 0.25, 80)).tolist()}
        for name, shift in (("train", 0.1), ("held_out", 0.9))
    }
    return make_result("clean_loss", label, {"splits": splits}, provenance([], {}, None))


def win_rate(label: str = "some-model", rate: float = 26.46, error: float | None = 1.54) -> dict[str, Any]:
    metrics = {
        "n_total": 805,
        "n_wins": 205,
        "n_losses": 584,
        "n_draws": 16,
        "win_rate": rate,
        "standard_error": error,
        "length_controlled_win_rate": rate + 3,
        "length_controlled_standard_error": error,
        "mean_characters": 396.0,
        "baseline_label": "text_davinci_003",
        "baseline_mean_characters": 410.0,
        "judge": "some-judge",
    }
    return make_result("win_rate", label, metrics, provenance([], {}, None))


def win_rate_difference(label: str = "some-model", controlled: bool = True) -> dict[str, Any]:
    """A raw difference that is measurable, and one at equal length that is not."""
    metrics = {
        "difference": 35.2,
        "low": 31.5,
        "high": 38.9,
        "level": 0.95,
        "length_controlled_difference": 1.6 if controlled else None,
        "length_controlled_low": -2.1 if controlled else None,
        "length_controlled_high": 5.3 if controlled else None,
        "length_controlled_reason": None if controlled else "there is no loss",
        "n_total": 805,
        "mean_characters": 1067.0,
        "baseline_label": "other-model",
        "baseline_mean_characters": 396.0,
    }
    return make_result("win_rate_difference", label, metrics, provenance([], {}, 0))


def answer_file(path: Path, generator: str, answers: Sequence[tuple[str, str]]) -> Path:
    """Write a file of answers, pairs of instruction and output."""
    records = [{"instruction": one, "output": output, "generator": generator} for one, output in answers]
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def write(path: Path, result: dict[str, Any]) -> Path:
    """Write a result and return where."""
    write_result(path, result)
    return path


def leave_out_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put empty pictures where plots would be drawn, which takes seconds a page."""
    monkeypatch.setattr("lightning_neft.report.page.svg_address", lambda plot, theme: "data:image/svg+xml;base64,")
    monkeypatch.setattr("lightning_neft.report.page.png", lambda plot, theme: b"\x89PNG")
