"""The studies behind docs/evidence.md: which alpha helps small pretrained models on real instructions?

    python scripts/real_bases.py --into .real
    python scripts/evidence.py dolly --seed 0 --bases .real --data DATA --out evidence

DATA has dolly_3k.json and alpaca_1k.json, lists of objects with instruction, input and output, and
sharegpt_toolcall_300.json, conversations with tools; a held-out conversation ends with its first call. An arm of dolly
took 28 minutes on two cores in 32-true; repeat a command to continue it. The learning rate is picked on alpha 0 and
seed 0 alone, by held-out loss, before an arm with noise runs. At the end the arms are added to
`benchmarks/results/evidence/SETTING.json`. An arm that is there is not trained again: the arms may run on different
days and machines. All arms of a seed have one precision, bf16-mixed if the processor of the first computes bfloat16
itself, else 32-true. `--gather` adds the arms that have ended so far.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tool_calls import begins, called_tool, until_first_call

from lightning_neft.common.files import write_text
from lightning_neft.evaluation.memorization import rouge_l
from lightning_neft.evaluation.result import Fields, read_result
from lightning_neft.evaluation.study_result import ArmResult, StudyResult
from lightning_neft.evaluation.text_statistics import diversity
from lightning_neft.models.execution import native_bfloat16
from lightning_neft.study.arm import read_record, write_record
from lightning_neft.study.plan import Arm
from lightning_neft.study.result import unpaired

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "evidence"
# Longer samples would be cut at max_length.
MOST_WORDS = 250
# Who speaks in an answer of a conversation.
ANSWERING = ("gpt", "function_call")
PICKED = "picked.json"
SECONDS_BETWEEN_SWEEPS = 20.0


@dataclass(frozen=True)
class Setting:
    """The arms that are compared.

    Attributes:
        base: Name of a folder of scripts/real_bases.py.
        data: Name of the file of instructions.
        template: How they are rendered.
        alphas: The alphas, with the baseline 0.
        samples: Number of training samples.
        epochs: Passes over them.
        learning_rates: The candidates; a single one is not picked but given.
        held_out: Number of held-out samples.
        options: Further options of the program.
        baseline: A setting whose arms of alpha 0 and learning rate are those of this one.
    """

    base: str
    data: str
    template: str = "tokenizer"
    alphas: str = "0,5,15,45"
    samples: int = 400
    epochs: int = 3
    learning_rates: tuple[float, ...] = (2e-5, 5e-5, 1e-4)
    held_out: int = 100
    options: tuple[str, ...] = ()
    baseline: str | None = None


SMOL, GEMMA = "smollm2-135m-instruct", "gemma3-270m"
TOOL_CALLS = "sharegpt_toolcall_300"
SETTINGS = {
    "dolly": Setting(SMOL, "dolly_3k"),
    # A pilot's held-out loss without noise rose from 2.52 to 3.12 in six epochs.
    "dolly-overfit": Setting(SMOL, "dolly_3k", samples=120, epochs=6, learning_rates=(2e-4,)),
    "alpaca": Setting(SMOL, "alpaca_1k"),
    # Alphas 47 and 140 have the noise-to-signal ratio of 5 and 15 on SmolLM2. The base model has no chat template.
    "dolly-gemma": Setting(GEMMA, "dolly_3k", template="alpaca", alphas="0,5,47,140"),
    "tool-calls": Setting(
        SMOL,
        TOOL_CALLS,
        template="chatml",  # SmolLM2's own has no tools
        alphas="0,5,15",
        samples=230,  # of 250, because 18 repeat a held-out conversation
        held_out=50,
        options=("--data.format=sharegpt", "--data.max_length=1024"),
    ),
    "dolly-lora": Setting(
        SMOL, "dolly_3k", alphas="0,5", learning_rates=(1e-4, 3e-4, 1e-3), options=("--model.lora.r=16",)
    ),
    "dolly-padded": Setting(SMOL, "dolly_3k", alphas="0,5", options=("--neftune.length=padded",), baseline="dolly"),
}


def main() -> None:
    """Run or gather a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--seed", type=int, required=True, help="the seed of the arms")
    parser.add_argument("--bases", type=Path, required=True, help="folder that scripts/real_bases.py filled")
    parser.add_argument("--data", type=Path, required=True, help="folder of the instructions")
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies")
    parser.add_argument("--workers", type=int, default=1, help="arms at the same time, each on a share of the cores")
    parser.add_argument("--gather", action="store_true", help="run nothing; add the arms that have ended")
    arguments = parser.parse_args()
    run = Run(arguments.setting, arguments.seed, arguments.bases, arguments.data, arguments.out, arguments.workers)
    if not arguments.gather:
        run.train()
    run.keep()


class Run:
    """A seed of a setting on this machine.

    Args:
        name: Name of the setting.
        seed: The seed of the arms.
        bases: Folder of the models.
        data: Folder of the instructions.
        out: Folder of the studies of all settings.
        workers: Number of arms that run at the same time.
    """

    def __init__(self, name: str, seed: int, bases: Path, data: Path, out: Path, workers: int) -> None:
        self.name, self.setting, self.seed, self.workers = name, SETTINGS[name], seed, workers
        self.base = bases / self.setting.base
        self.data = data / f"{self.setting.data}.json"
        self.out, self.folder = out, out / name
        self.source, self.held_out = self.folder / "samples.json", self.folder / "held_out.json"
        self.study = self.folder / f"seed-{seed}"

    def precision(self, seed: int) -> str:
        """Return that of the seed's arms in the results so far, else what this processor computes fastest."""
        arms = [*self._ended(), *(arm for one in self._candidates().values() for arm in one["arms"])]
        kept = (arm["precision"] for arm in arms if arm["seed"] == seed)
        has_bfloat16, _ = native_bfloat16("cpu")
        return str(next(kept, "bf16-mixed" if has_bfloat16 else "32-true"))

    def train(self) -> None:
        """Pick the learning rate, then train the arms."""
        self.write_samples()
        picked = self._picked()
        write_text(self.folder / PICKED, json.dumps(picked) + "\n")
        for arm in self._ended():
            folder = self.study / "arms" / Arm(arm["alpha"], arm["seed"]).name
            if arm["seed"] == self.seed and read_record(folder) is None:
                # It ended elsewhere: the study skips an arm that has been stopped.
                write_record(folder, {"state": "pruned"})
        self._study(self.study, picked["learning_rate"], self.setting.alphas, self.seed, self.workers)

    def keep(self) -> None:
        """Add the arms that have ended to the result of the setting."""
        study = _read(self.study)
        references = self._training_answers(study)
        result = self._described(self.study, json.loads((self.folder / PICKED).read_text(encoding="utf-8")))
        complete = study.in_state("complete")
        arms = {(arm.alpha, arm.seed): self._arm(arm, references) for arm in complete}
        for name in filter(None, (self.setting.baseline, self.name)):
            file, before = self._result_file(name), self._before(name) or result
            alike = [key for key in result if key != "setting" or name == self.name]
            if changed := [key for key in alike if before[key] != result[key]]:
                sys.exit(f"{file}: its {', '.join(changed)} differ from those of this run; remove it to start anew")
        others = [_paired_with(arm) for arm in self._ended() if "digests" in arm]
        if problems := [problem for arm in complete if (problem := unpaired(arm, others)) is not None]:
            sys.exit(f"{file}: {problems[0]}")
        arms = {(arm["alpha"], arm["seed"]): arm for arm in self._ended()} | arms
        _write(file, result | {"arms": [arms[key] for key in sorted(arms)]})

    def _described(self, folder: Path, picked: dict[str, Any]) -> dict[str, Any]:
        """Return what a result says of its setting and the inputs of its study."""
        setting = {key: value for key, value in vars(self.setting).items() if key != "learning_rates"}
        return {
            "setting": json.loads(json.dumps(setting | picked)),
            "base_sha256": sha256(self.base / "model.safetensors"),
            "data_sha256": sha256(self.data),
            "versions": read_result(folder / "study.json")["provenance"]["versions"],
        }

    def write_samples(self) -> None:
        """Write the samples of the setting, and its held-out conversations where they are separate."""
        records = json.loads(self.data.read_text(encoding="utf-8"))
        if self.setting.data == TOOL_CALLS:
            called = random.Random(0).sample(
                list(filter(None, (until_first_call(record, MOST_WORDS) for record in records))), self.setting.held_out
            )
            beginnings = [record["conversations"] for record in called]
            training = [one for one in records if not any(begins(one, turns) for turns in beginnings)]
            write_text(self.source, json.dumps(training[: self.setting.samples]) + "\n")
            write_text(self.held_out, json.dumps(called) + "\n")
            return
        short = [record for record in records if len(" ".join(map(str, record.values())).split()) <= MOST_WORDS]
        chosen = random.Random(0).sample(short, self.setting.samples + self.setting.held_out)
        keys = ("instruction", "input", "output")
        write_text(self.source, json.dumps([{key: record[key] for key in keys} for record in chosen]) + "\n")

    def _before(self, name: str | None = None) -> dict[str, Any]:
        """Return the result of a setting so far; empty before its first arm."""
        file = self._result_file(name or self.name)
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return found

    def _ended(self) -> list[dict[str, Any]]:
        """Return the arms of the result so far, and those without noise that the setting shares with its baseline."""
        shared = [] if self.setting.baseline is None else self._before(self.setting.baseline).get("arms", [])
        return [arm for arm in shared if arm["alpha"] == 0] + list(self._before().get("arms", []))

    @staticmethod
    def _result_file(name: str) -> Path:
        return RESULTS / f"{name}.json"

    def _picked(self) -> dict[str, Any]:
        """Return the learning rate, and the held-out loss of each candidate; train them if that has not been done."""
        for name in {self.name, self.setting.baseline or self.name}:
            if before := self._before(name):
                return {key: before["setting"][key] for key in ("learning_rate", "candidates")}
        if self.setting.baseline is not None:
            sys.exit(f"run the setting {self.setting.baseline} first, which picks the learning rate")
        rates = self.setting.learning_rates
        if len(rates) == 1:
            return {"learning_rate": rates[0], "candidates": {}}
        waiting = [rate for rate in rates if rate not in self._candidates()]
        # Each is a study of one arm: as many of them at the same time as elsewhere arms of a study.
        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(self._train_candidate, waiting))
        found = self._candidates()
        for rate, one in found.items():
            if changed := [key for key in sorted(one.keys() - {"setting", "arms"}) if one[key] != found[rates[0]][key]]:
                sys.exit(
                    f"{self._candidate_file(rate)}: its {changed[0]} is not that of the other candidates; remove it"
                )
        losses = {rate: one["setting"]["candidates"][f"{rate:g}"] for rate, one in found.items()}
        best = min(rates, key=losses.__getitem__)
        picked = {"learning_rate": best, "candidates": {f"{rate:g}": losses[rate] for rate in rates}}
        # The candidate with that learning rate is the arm without noise.
        _write(self._result_file(self.name), found[best] | {"setting": found[best]["setting"] | picked})
        for rate in rates:
            self._candidate_file(rate).unlink()
        return picked

    def _train_candidate(self, rate: float) -> None:
        """Train the arm without noise of seed 0 with a learning rate, and keep it."""
        folder = self._pick_folder(rate)
        self._study(folder, rate, "0", seed=0, workers=1)
        study = _read(folder)
        (arm,) = study.in_state("complete")
        result = self._described(folder, {"learning_rate": rate, "candidates": {f"{rate:g}": arm.held_out_loss}})
        _write(self._candidate_file(rate), result | {"arms": [self._arm(arm, self._training_answers(study))]})

    def _candidates(self) -> dict[float, dict[str, Any]]:
        """Return the candidates that have ended, as results of one arm."""
        files = {rate: self._candidate_file(rate) for rate in self.setting.learning_rates}
        return {rate: json.loads(file.read_text(encoding="utf-8")) for rate, file in files.items() if file.exists()}

    def _candidate_file(self, rate: float) -> Path:
        return RESULTS / "candidates" / f"{self.name}-{rate:g}.json"

    def _pick_folder(self, rate: float) -> Path:
        return self.folder / f"rate-{rate:g}"

    def _study(self, folder: Path, rate: float, alphas: str, seed: int, workers: int) -> None:
        if (folder / "report.html").exists():  # written when the last arm has ended
            return
        held_out = self.setting.held_out
        validation = f"val_source={self.held_out}" if self.setting.data == TOOL_CALLS else f"val_size={held_out}"
        command = [
            *(sys.executable, "-m", "lightning_neft", "study", f"--alphas={alphas}", f"--seeds={seed},"),
            *(f"--out={folder}", f"--answers={held_out}"),
            *(f"--model.base={self.base}", f"--model.learning_rate={rate!r}"),
            *(f"--data.source={self.source}", f"--data.template={self.setting.template}"),
            *("--data.batch_size=8", f"--data.{validation}"),
            *("--trainer.accelerator=cpu", f"--trainer.precision={self.precision(seed)}"),
            # The gradients are the same bit by bit, in half the memory.
            *(f"--trainer.max_epochs={self.setting.epochs}", "--model.gradient_checkpointing=selective"),
            "--model.optimizer=adamw_torch",  # as the first seeds had it
            *("--checkpoint.save_top_k=0", "--samples=0", *self.setting.options),
        ]
        ended = threading.Event()
        sweeper = threading.Thread(target=_sweep, args=(folder, ended))
        sweeper.start()
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // self.workers))}
        try:
            processes = [subprocess.Popen(command, env=environment) for _ in range(workers)]
            codes = [process.wait() for process in processes]
            if any(codes):
                sys.exit(f"{folder}: an arm did not end; repeat the command to continue")
        finally:
            ended.set()
            sweeper.join()

    def _training_answers(self, study: StudyResult) -> list[str]:
        records = json.loads(self.source.read_text(encoding="utf-8"))
        if self.setting.data == TOOL_CALLS:
            return [turn["value"] for one in records for turn in one["conversations"] if turn["from"] in ANSWERING]
        references = {answer.reference for arm in study.arms for answer in arm.answers}
        return [record["output"] for record in records if record["output"].strip() not in references]

    def _offered(self) -> list[set[str]]:
        """Return the names of the tools that each held-out conversation offers."""
        records = json.loads(self.held_out.read_text(encoding="utf-8"))
        return [{tool["name"] for tool in json.loads(record["tools"])} for record in records]

    def _arm(self, arm: ArmResult, training_answers: Sequence[str]) -> dict[str, Any]:
        outputs = [answer.output for answer in arm.answers]
        found = [diversity(output.split()) for output in outputs]
        to_reference = [rouge_l(answer.output, answer.reference or "") for answer in arm.answers]
        to_training = [max(rouge_l(output, other) for other in training_answers) for output in outputs]
        calls = {}
        if self.setting.data == TOOL_CALLS:
            pairs = zip(outputs, self._offered(), strict=True)
            calls["is_valid_call"] = [float(called_tool(output) in names) for output, names in pairs]
            expected = [called_tool(answer.reference or "") for answer in arm.answers]
            assert None not in expected
            calls["is_expected_tool"] = [
                float(one == name) for one, name in zip(map(called_tool, outputs), expected, strict=True)
            ]
        return {
            "alpha": arm.alpha,
            "seed": arm.seed,
            "precision": self.precision(arm.seed),
            "seconds": arm.seconds,
            "steps": arm.steps,
            "digests": arm.digests,
            "noise_to_signal": _mean([value for _, value in arm.curves.get("neft/noise_to_signal", ())]),
            "train_clean_loss": arm.train_clean_loss,
            "held_out_curve": arm.curves.get("val/loss", []),
            "token_accuracy_curve": arm.curves.get("val/token_accuracy", []),
            "per_sample": {
                "held_out_loss": _rounded(arm.held_out_per_sample),
                "words": [len(output.split()) for output in outputs],
                "repetition_2": _rounded([None if one is None else one.repetition[0] for one in found]),
                "log_diversity": _rounded([None if one is None else one.log_diversity for one in found]),
                "rouge_l_to_reference": _rounded(to_reference),
                "rouge_l_to_nearest_training_answer": _rounded(to_training),
                **calls,
            },
        }


def _paired_with(arm: dict[str, Any]) -> ArmResult:
    return ArmResult(arm["alpha"], arm["seed"], "complete", digests=arm["digests"])


def _read(folder: Path) -> StudyResult:
    file = folder / "study.json"
    return StudyResult.read(Fields(read_result(file), str(file)))


def _write(file: Path, result: dict[str, Any]) -> None:
    write_text(file, json.dumps(result, indent=1) + "\n")


def _sweep(folder: Path, ended: threading.Event) -> None:
    """Delete the weights of arms that have ended: gigabytes each, and nothing reads them."""
    while not ended.wait(SECONDS_BETWEEN_SWEEPS):
        for record in folder.glob("arms/*/arm.json"):
            for weights in ("checkpoints", "model"):
                for version in record.parent.glob(f"version_*/{weights}"):
                    shutil.rmtree(version, ignore_errors=True)


def sha256(file: Path) -> str:
    """Return the checksum of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 5) for value in values]


if __name__ == "__main__":
    main()
