"""The recipe that a study writes: its alpha, and the card with the source of the alpha and the results."""

from __future__ import annotations

from pathlib import Path

import yaml

from lightning_neft.cli.study_recipe import write_recipe
from lightning_neft.evaluation.choice import Choice
from lightning_neft.evaluation.study_result import ArmResult, StudyResult


def test_the_card_has_the_source_and_the_results_of_the_study(tmp_path: Path) -> None:
    card = {
        "model": "smollm2-135m",
        "alpha_source": {"kind": "default-untested"},
        "notes": "Its tokenizer has the marks of ChatML.",
    }
    config = {"card": card, "neftune": {"alpha": 5.0, "scope": "response"}, "model": {"base": "tiny"}}
    arms = [ArmResult(0.0, seed, "complete", held_out_loss=2.0 + seed) for seed in range(3)]
    provenance = {
        "versions": {"torch": "2", "lightning": "2", "transformers": "5", "numpy": "2"},
        "settings": {"data_digest": "0123456789abcdef"},
    }
    write_recipe(
        tmp_path / "tuned.yaml",
        {"options": config, "hardware": "a cpu"},
        StudyResult(arms=arms, comparisons=[]),
        Choice(0.0, {}, 0.95),
        provenance,
        Path("study.json"),
    )
    recipe = yaml.safe_load((tmp_path / "tuned.yaml").read_text(encoding="utf-8"))
    assert recipe["neftune"] == {"alpha": 0.0, "scope": "response"}
    assert recipe["model"] == {"base": "tiny"}
    found = recipe["card"]
    assert found["alpha_source"]["kind"] == "executed"
    assert "3 seeds" in found["alpha_source"]["reference"]
    assert found["status"]["results"] == {"held_out_loss": 3.0, "seeds": 3}
    assert found["notes"] == card["notes"]
