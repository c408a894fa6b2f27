"""What the noise alone does to a pretrained model: the held-out loss with noise minus the one without, untrained.

    python scripts/real_bases.py --into .real
    python scripts/noise_effect.py --bases .real --data DATA --out evidence

DATA as for `scripts/evidence.py`, whose settings `dolly` and `dolly-gemma` have the held-out samples. Writes
`benchmarks/results/noise_effect.json`, from which `scripts/evidence_page.py` takes a table and a figure.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence import RESULTS, Run, sha256
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lightning_neft import EmbeddingNoise
from lightning_neft.common.files import write_text
from lightning_neft.data.module import TextData
from lightning_neft.evaluation.clean_loss import clean_losses
from lightning_neft.models.description import installed_versions
from lightning_neft.models.language_models import CausalLM
from lightning_neft.models.loss import Predictions

RESULT = RESULTS.parent / "noise_effect.json"
# From noise that nobody notices to noise as large as the tokens: those of Gemma are nine times larger.
ALPHAS = {"dolly": (5.0, 15.0, 30.0, 45.0, 90.0), "dolly-gemma": (5.0, 15.0, 45.0, 140.0, 280.0, 420.0, 840.0)}
# Seeds of the noise: each draws other noise for all samples.
SEEDS = (0, 1, 2)


class NoisyModel(CausalLM):
    """Predicts with noise on its embedding, as a training step does."""

    def start(self, alpha: float, seed: int) -> None:
        """Begin a pass over the samples.

        Args:
            alpha: Strength of the noise; 0 for none.
            seed: Its seed.
        """
        self.noise = EmbeddingNoise(alpha, seed=seed).attach(self.model)
        self.ratios: list[float] = []
        self._batches = 0

    @override
    def predictions(self, batch: dict[str, Any]) -> Predictions:
        self.noise.arm(batch, self._batches, measure=True)
        with torch.enable_grad():  # a pass without gradients is none of training and gets no noise
            found = super().predictions(batch)
        if (strength := self.noise.disarm()) is not None:
            self.ratios.append(strength.noise_to_signal.item())
        self._batches += 1
        return found


def main() -> None:
    """Measure both bases, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", type=Path, required=True, help="folder that scripts/real_bases.py filled")
    parser.add_argument("--data", type=Path, required=True, help="folder of the instructions")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples")
    arguments = parser.parse_args()
    runs = [Run(name, 0, arguments.bases, arguments.data, arguments.out, 1) for name in ALPHAS]
    result = {"versions": installed_versions(), "bases": [measured(run) for run in runs]}
    write_text(RESULT, json.dumps(result, indent=1) + "\n")


def measured(run: Run) -> dict[str, Any]:
    """Return the losses of a base for each alpha, noise seed and held-out sample.

    Args:
        run: The setting with the base and the samples.
    """
    run.write_samples()
    setting = run.setting
    data = TextData(str(run.source), str(run.base), template=setting.template, val_size=setting.held_out, batch_size=8)
    data.prepare_data()
    data.setup("validate")
    model = NoisyModel(str(run.base))
    model.configure_model()
    model.requires_grad_(False)  # nothing is kept for a backward pass
    alphas = []
    for alpha in (0.0, *ALPHAS[run.name]):
        losses, ratios = [], []
        for seed in SEEDS if alpha else SEEDS[:1]:
            model.start(alpha, seed)
            losses.append(clean_losses(model, data, "held_out").per_sample)
            ratios += model.ratios
            model.noise.detach()
            rank_zero_info(f"{run.name}: alpha {alpha:g}, seed {seed}: loss {np.mean(losses[-1]):.4f}")
        ratio = float(np.mean(ratios)) if ratios else 0.0
        alphas.append({"alpha": alpha, "noise_to_signal": ratio, "per_sample": np.round(losses, 5).tolist()})
    return {
        "base": setting.base,
        "base_sha256": sha256(run.base / "model.safetensors"),
        "data": setting.data,
        "data_sha256": sha256(run.data),
        "template": setting.template,
        "alphas": alphas,
    }


if __name__ == "__main__":
    main()
