"""The studies behind docs/evidence.md: which alpha helps tiny models that overfit a few hundred samples?

    python scripts/pretrain_tiny.py --width 64 --steps 1000 --documents 30000 --out evidence/width-64
    python scripts/evidence.py evidence

Two bases (the one of the package, 984,192 weights, and one of half its width, 279,104), two kinds of data that the
project generates (300 instructions, 300 texts; 120 more of each held out), alphas 0, 1, 5 and 15 of the paper's scale,
with the first base on the instructions also 0, 1 and 3 of the relative one, 5 seeds: 95 arms. Each study can be stopped
and started again, and shared by several of these commands. The results are gathered in evidence/evidence.json;
`--gather` does that alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

from toy_data.prose import toy_text

from lightning_neft.cli.main import main as lightning_neft
from lightning_neft.common.files import write_text
from lightning_neft.data.toy import toy_instructions
from lightning_neft.evaluation.result import read_result

TRAIN, HELD_OUT, SEEDS, TEXT_SEED = 300, 120, 5, 7
ALPHAS = {"paper": "0,1,5,15", "relative": "0,1,3"}
# Ten passes over the data: without noise the held-out loss turns after about five.
OPTIONS = (
    f"--data.val_size={HELD_OUT}",
    "--model.learning_rate=1e-3",
    "--trainer.max_epochs=10",
    "--trainer.check_val_every_n_epoch=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.log_every_n_steps=20",
    "--trainer.accelerator=cpu",
    "--samples=0",
    "--answers=10",
    "--max-new-tokens=48",
)


def main() -> None:
    """Run the studies, and gather what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the second base, the data, the studies and the results")
    parser.add_argument("--gather", action="store_true", help="only gather the results")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not arguments.gather:
        for source, records in {"instructions": _instructions(), "texts": _texts()}.items():
            write_text(folder / f"{source}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
        for study in _studies():
            options = _options(folder, **study)
            if code := lightning_neft(["study", *options, *OPTIONS]):
                raise SystemExit(code)
    settings = [_setting(folder, **study) for study in _studies()]
    write_text(folder / "evidence.json", json.dumps(settings, indent=1) + "\n")
    for setting in settings:
        print(setting["base"], setting["source"], setting["scale"])
        for row in setting["rows"]:
            print("  ", {name: round(value, 4) for name, value in row.items() if isinstance(value, float)})


def _studies() -> list[dict[str, str]]:
    paper = [
        {"base": base, "source": source, "scale": "paper"}
        for source in ("instructions", "texts")
        for base in ("tiny", "width-64")
    ]
    return [*paper, {"base": "tiny", "source": "instructions", "scale": "relative"}]


def _options(folder: Path, base: str, source: str, scale: str) -> list[str]:
    return [
        f"--model.base={base if base == 'tiny' else folder / base}",
        f"--data.source={folder / source}.jsonl",
        f"--neftune.scale={scale}",
        f"--alphas={ALPHAS[scale]}",
        f"--seeds={SEEDS}",
        f"--out={folder / 'studies' / f'{base}-{source}-{scale}'}",
    ]


def _instructions() -> list[dict[str, str]]:
    records = [*toy_instructions("train")[:TRAIN], *toy_instructions("held_out")[:HELD_OUT]]
    return [{key: record[key] for key in ("instruction", "input", "output")} for record in records]


def _texts() -> list[dict[str, str]]:
    return [{"text": text} for text in toy_text(TEXT_SEED, TRAIN + HELD_OUT)]


def _setting(folder: Path, base: str, source: str, scale: str) -> dict[str, Any]:
    """Means over the seeds for each alpha, and the paired differences of the held-out loss from alpha 0."""
    result = read_result(folder / "studies" / f"{base}-{source}-{scale}" / "study.json")
    compared = {entry["alpha"]: entry for entry in result["comparisons"] if entry["metric"] == "held_out_loss"}
    rows = []
    for alpha in result["alphas"]:
        arms = [arm for arm in result["arms"] if arm["alpha"] == alpha and arm["state"] == "complete"]
        ratios = [arm["curves"]["neft/noise_to_signal"] for arm in arms]
        row = {
            "alpha": float(alpha),
            "seeds": len(arms),
            "noise_to_signal": mean(ratio[0][1] for ratio in ratios) if alpha and all(ratios) else 0.0,
            "held_out_loss": mean(arm["held_out_loss"] for arm in arms),
            "train_clean_loss": mean(arm["train_clean_loss"] for arm in arms),
            "mean_characters": mean(arm["text_statistics"]["mean_characters"] for arm in arms),
        }
        if alpha in compared:
            row |= {name: float(compared[alpha][name]) for name in ("difference", "low", "high")}
        rows.append(row)
    return {"base": base, "source": source, "scale": scale, "rows": rows, "versions": result["provenance"]["versions"]}


if __name__ == "__main__":
    main()
