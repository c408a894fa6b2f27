"""The verb study: arms that are pairs, studies that are killed, stopped or fail in part, and what it says."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import yaml

from forked import Forked
from lightning_neft.cli.help import static_help
from lightning_neft.cli.main import main
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.cli.study import _OWN, _parse, _parser
from lightning_neft.cli.study_arm import _changed_options, _model_name, run_arm
from lightning_neft.evaluation.choice import choose_alpha
from lightning_neft.evaluation.result import Fields, read_result
from lightning_neft.evaluation.study_result import StudyResult
from lightning_neft.evaluation.text_statistics import token_counts
from lightning_neft.hub.tokenizer import load_tokenizer
from lightning_neft.study.arm import ArmTask, Measures, Validated, read_record
from lightning_neft.study.plan import Arm
from study_runs import at_arm, two_workers

# Each step is a checkpoint.
SAVING = ["--checkpoint.every_n_train_steps=1", "--checkpoint.save_top_k=0", "--checkpoint.monitor=null"]


@pytest.fixture
def options(short: list[str]) -> list[str]:
    """A study of runs of four steps, with few and short answers."""
    return [*short, "--trainer.max_epochs=2", "--answers=2", "--max-new-tokens=4", "--grace=3", "--out=out"]


def result(folder: Path) -> dict[str, Any]:
    return read_result(folder / "out" / "study.json")


def study_of(found: dict[str, Any]) -> StudyResult:
    return StudyResult.read(Fields(found, "study.json"))


def fits(folder: Path) -> dict[str, int]:
    """How often each arm was started."""
    return Counter(version.parent.name for version in folder.glob("out/arms/*/version_*"))


def ended(folder: Path) -> dict[tuple[float, int], str]:
    return {(arm["alpha"], arm["seed"]): arm["state"] for arm in result(folder)["arms"]}


def test_arms_differ_in_alpha_alone_and_are_compared(folder: Path, options: list[str], capsys) -> None:
    assert main(["study", *options, "--alphas=0,5", "--seeds=2", "--memorization=2", "--clean_loss=1"]) == 0
    printed = capsys.readouterr().out
    assert "study of run: 4 arms (alpha 0, 5; 2 seeds), 4 steps each, compared on 2 held-out samples" in printed
    assert printed.count(" of 4 arms left, about ") == 3
    found = result(folder)
    assert (found["kind"], found["recipe"], found["alphas"], found["seeds"]) == ("study", "run", [0.0, 5.0], [0, 1])
    arms = {(arm["alpha"], arm["seed"]): arm for arm in found["arms"]}
    assert {arm["state"] for arm in arms.values()} == {"complete"}
    # The same batches within a seed, others in the other one.
    digests = {key: arm["digests"]["data"] for key, arm in arms.items()}
    assert digests[0, 0] == digests[5, 0] != digests[0, 1] == digests[5, 1]
    curves = {key: arm["curves"] for key, arm in arms.items()}
    # Before the first step no noise has changed a weight yet, and the clean loss has none.
    assert curves[0, 0]["train/clean_loss"][0] == curves[5, 0]["train/clean_loss"][0]
    assert curves[0, 0]["train/clean_loss"][0] != curves[0, 1]["train/clean_loss"][0]
    assert curves[0, 0]["train/clean_loss"][-1] != curves[5, 0]["train/clean_loss"][-1]
    assert [step for step, _ in curves[5, 1]["train/loss"]] == [0, 1, 2, 3]
    assert min(value for _, value in curves[5, 0]["neft/noise_to_signal"]) > 0
    for arm in arms.values():
        assert len(arm["held_out_per_sample"]) == len(arm["answers"]) == arm["memorization"]["n_total"] == 2
        assert arm["text_statistics"]["n_total"] == 2
        # Without special tokens, as `evaluate --outputs --tokenizer` counts.
        counts = token_counts(load_tokenizer("tiny"), [answer["output"] for answer in arm["answers"]])
        assert arm["text_statistics"]["per_sample"]["tokens"] == counts
        assert all(answer["output"] == answer["output"].strip() for answer in arm["answers"])
        # What the last validation of the run has found is what is measured afterwards.
        assert arm["held_out_loss"] == pytest.approx(arm["curves"]["val/loss"][-1][1], rel=1e-4)
    (source,) = found["provenance"]["inputs"]
    assert source["role"] == "data"
    assert source["sha256"] == hashlib.sha256((folder / "data.json").read_bytes()).hexdigest()
    settings = found["provenance"]["settings"]
    assert re.fullmatch("[0-9a-f]{64}", settings["data_digest"])
    assert (settings["model"], settings["data"], settings["steps"]) == ("tiny", "data", 4)
    configs = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("out/arms/*/version_0/config.yaml"))]
    for config in configs:
        for key in ("name", "seed_everything"):
            config.pop(key)
        config["neftune"].pop("alpha")
    assert all(config == configs[0] for config in configs)
    metrics = {one["metric"]: one for one in found["comparisons"]}
    assert set(metrics) == {"held_out_loss", "train_clean_loss", "mean_characters", "mean_rouge_l"}
    assert (metrics["held_out_loss"]["n_seeds"], metrics["held_out_loss"]["n_samples"]) == (2, 2)
    expected = [
        one - other
        for seed in (0, 1)
        for one, other in zip(arms[5, seed]["held_out_per_sample"], arms[0, seed]["held_out_per_sample"], strict=True)
    ]
    assert metrics["held_out_loss"]["difference"] == pytest.approx(sum(expected) / 4)
    page = (folder / "out" / "report.html").read_text()
    answer = "Not shown: 2 seeds (a verdict needs 3), tiny on data, 4 steps, 2 held-out samples."
    assert page.index(answer) < page.index("<h1")

    # The same command again repeats nothing, another seed is another pair, another option another study.
    before = {path: path.stat().st_mtime_ns for path in folder.glob("out/arms/*/arm.json")}
    more = ["--seeds=2", "--memorization=2", "--clean_loss=1"]
    assert main(["study", *options, "--alphas=0,5", *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparisons"] == found["comparisons"]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("out/arms/*/arm.json")} == before
    assert set(fits(folder).values()) == {1}
    assert main(["study", *options, "--alphas=0,5", *more, "--data.batch_size=1"]) == 2
    assert "the study in out was started with another config" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_whose_worker_was_killed_repeats_no_arm(folder: Path, options: list[str]) -> None:
    command = [*options, *SAVING, "--alphas=0,5", "--seeds=1"]
    # In the third step of the second arm; the arm's own process has to end with its worker.
    killing = at_arm(alpha=5.0, batch=2, what="SIGKILL", marker=folder / "killed")
    log = folder / "killed.log"
    killed = Forked(partial(main, ["study", *command, *killing]), log).wait(300)
    assert killed == -signal.SIGKILL, log.read_text()
    assert ended(folder) == {(0.0, 0): "complete", (5.0, 0): "waiting"}
    first = (folder / "out/arms/alpha-0-seed-0/arm.json").read_bytes()
    assert main(["study", *command, *killing]) == 0
    assert fits(folder) == {"alpha-0-seed-0": 1, "alpha-5-seed-0": 2}
    assert (folder / "out/arms/alpha-0-seed-0/arm.json").read_bytes() == first
    resumed = result(folder)["arms"][1]
    assert resumed["state"] == "complete"
    # Went on from its checkpoint, and exactly: as if nobody had killed it.
    log = (folder / "out/arms/alpha-5-seed-0/version_1/metrics.csv").read_text().splitlines()
    steps = log[0].split(",").index("step")
    assert min(int(line.split(",")[steps]) for line in log[1:]) >= 2
    assert main(["study", *command, "--out=unbroken"]) == 0
    whole = read_result(folder / "unbroken" / "study.json")["arms"][1]
    for key in ("held_out_per_sample", "train_per_sample", "digests", "steps"):
        assert resumed[key] == whole[key], key
    assert resumed["curves"]["train/loss"] == whole["curves"]["train/loss"]


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), pytest.param("SIGINT", 130, marks=pytest.mark.slow)])
def test_a_stopped_study_saves_its_arm_and_resumes(
    folder: Path, options: list[str], capsys, name: str, code: int
) -> None:
    command = [*options, "--alphas=0,5", "--seeds=1", *at_arm(alpha=5.0, batch=1, what=name, marker=folder / "stopped")]
    assert main(["study", *command]) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightning_neft")]
    assert lines == [f"lightning_neft: study stopped by {name}; alpha 5, seed 0 is saved; repeat the command to resume"]
    assert (folder / "out/arms/alpha-5-seed-0/version_0/checkpoints/last.ckpt").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(["study", *command]) == 0
    assert set(ended(folder).values()) == {"complete"}
    assert fits(folder) == {"alpha-0-seed-0": 1, "alpha-5-seed-0": 2}


def test_a_failing_arm_does_not_stop_the_others(folder: Path, options: list[str], capsys) -> None:
    failing = at_arm(alpha=5.0, batch=1, what="raise", marker=folder / "failed")
    command = [*options, "--alphas=0,5,9", "--seeds=1", *failing]
    assert main(["study", *command]) == 1
    printed = capsys.readouterr().out
    assert ended(folder) == {(0.0, 0): "complete", (5.0, 0): "failed", (9.0, 0): "complete"}
    *_, failed, path, page = printed.splitlines()
    assert failed == "failed: alpha 5, seed 0: RuntimeError: out of paper (arms/alpha-5-seed-0/log.txt)"
    assert (path, page) == ("result: out/study.json", "report: out/report.html")
    assert "and of ink" in (folder / "out/arms/alpha-5-seed-0/log.txt").read_text()
    assert {one["alpha"] for one in result(folder)["comparisons"]} == {9.0}
    # It stays so until somebody asks for it.
    assert main(["study", *command]) == 1
    assert fits(folder)["alpha-5-seed-0"] == 1
    assert main(["study", *command, "--retry"]) == 0
    assert fits(folder) == {"alpha-0-seed-0": 1, "alpha-5-seed-0": 2, "alpha-9-seed-0": 1}


def test_an_arm_whose_process_is_killed_fails_alone(folder: Path, options: list[str]) -> None:
    killing = at_arm(alpha=0.0, batch=1, what="SIGKILL", who="arm")
    assert main(["study", *options, "--alphas=0,5", "--seeds=1", *killing]) == 1
    arms = result(folder)["arms"]
    assert [(arm["state"], arm["error"]) for arm in arms] == [
        ("failed", "its process was ended by SIGKILL; out of memory?"),
        ("complete", None),
    ]
    # Without its baseline an alpha is compared with nothing.
    assert result(folder)["comparisons"] == []


def test_a_pruned_arm_stops_at_that_validation_and_is_measured(
    folder: Path, short: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process, where it sets what other ranks would be started with.
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    ours, theirs = Pipe()
    for answer in (False, True):
        ours.send(answer)
    args = (*short, "--trainer.max_epochs=2", "--trainer.val_check_interval=1", "--samples=0")
    task = ArmTask(Arm(5.0, 0), folder / "arms" / "alpha-5-seed-0", args, Measures(0, 4, 0))
    run_arm(task, theirs)
    record = read_record(task.folder)
    assert record is not None
    assert (record["state"], record["steps"]) == ("pruned", 2)
    assert [step for step, _ in record["curves"]["val/loss"]] == [0, 1]
    assert len(record["held_out_per_sample"]) == 2
    sent = []
    while ours.poll():
        sent.append(ours.recv())
    validated = [message for message in sent if isinstance(message, Validated)]
    assert [(message.step, message.steps) for message in validated] == [(1, 4), (2, 4)]
    assert validated[1].loss == pytest.approx(record["held_out_loss"], rel=1e-4)


def test_a_config_cannot_set_what_the_study_sets(
    folder: Path, short: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of an earlier run, which says what that run had gone on from."""
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    earlier = {"ckpt_path": "last", "name": "earlier", "seed_everything": 9, "trainer": {"logger": False}}
    (folder / "config.yaml").write_text(yaml.safe_dump(earlier | {"neftune": {"alpha": 3, "seed": 7}}))
    _, theirs = Pipe()
    args = ("--config=config.yaml", *short, "--samples=0")
    task = ArmTask(Arm(5.0, 1), folder / "arms" / "alpha-5-seed-1", args, Measures(0, 4, 0))
    run_arm(task, theirs)
    record = read_record(task.folder)
    assert record is not None
    assert (record["state"], record["steps"]) == ("complete", 2)
    assert len(record["curves"]["train/loss"]) == 2
    saved = yaml.safe_load((task.folder / "version_0" / "config.yaml").read_text())
    assert (saved["neftune"]["alpha"], saved["neftune"]["seed"]) == (5, None)
    assert (saved["seed_everything"], saved["ckpt_path"]) == (1, None)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], {"source": "toy"}),
        (["--data.source=data.json"], {"source": "data.json"}),
        (["--data.sources=[{source: data.json}, {source: toy}]"], None),
    ],
)
def test_a_recipe_states_its_data(folder: Path, args: list[str], expected: dict[str, str] | None) -> None:
    with quiet():
        found = _changed_options(Program("study", [*args, "--trainer.logger=false"]))
    if expected is None:
        assert [one["source"] for one in found["data"].pop("sources")] == ["data.json", "toy"]
    assert found["data"] == (expected or {})
    assert found["model"]["base"] == "tiny"


def test_a_base_in_a_folder_is_named_without_the_folders_above(folder: Path) -> None:
    (folder / "private" / "mine").mkdir(parents=True)
    assert _model_name(str(folder / "private" / "mine")) == "mine"
    assert _model_name("HuggingFaceTB/SmolLM2-135M") == "HuggingFaceTB/SmolLM2-135M"


@pytest.mark.slow
def test_a_search_trains_its_alphas_with_each_seed(folder: Path, options: list[str]) -> None:
    args = [*options, "--trainer.max_epochs=1", "--model.learning_rate=1e-4", "--neftune.scope=response"]
    assert main(["study", *args, "--search=1,20", "--trials=1", "--seeds=3", "--write-recipe=tuned.yaml"]) == 0
    found = result(folder)
    low, high = found["alphas"]
    assert low == 0
    assert 1 <= high <= 20
    assert set(ended(folder).values()) == {"complete"}
    assert len(found["arms"]) == 6
    assert {one["n_seeds"] for one in found["comparisons"]} == {3}
    # The recipe is the config of the arms with the alpha that was chosen.
    recipe = yaml.safe_load((folder / "tuned.yaml").read_text())
    of_arm = yaml.safe_load((folder / f"out/arms/alpha-{low:g}-seed-0/version_0/config.yaml").read_text())
    assert recipe["neftune"] == {"scope": "response", "alpha": choose_alpha(study_of(found)).alpha}
    assert recipe["trainer"]["precision"] == of_arm["trainer"]["precision"]
    assert main(["fit", "--config=tuned.yaml", "--name=tuned", "--trainer.logger=true"]) == 0
    tuned = yaml.safe_load((folder / "runs/tuned/version_0/config.yaml").read_text())
    for config in (tuned, of_arm):
        config["neftune"].pop("alpha")
        for key in ("name", "seed_everything", "samples"):
            config.pop(key)
        for key in ("default_root_dir", "logger", "enable_progress_bar"):
            config["trainer"].pop(key)
    assert tuned == of_arm


@pytest.mark.slow
def test_arms_on_two_devices_are_fits_of_two_ranks(folder: Path, options: list[str]) -> None:
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=1", "--alphas=0,5", "--seeds=1"]
    assert main(["study", *options, *ranks]) == 0
    assert set(ended(folder).values()) == {"complete"}
    assert set(fits(folder).values()) == {1}
    one, other = result(folder)["arms"]
    assert one["digests"] == other["digests"]
    assert one["steps"] == 4
    assert "distributed_backend=gloo" in (folder / "out/arms/alpha-5-seed-0/log.txt").read_text()


@pytest.mark.slow
def test_two_workers_on_one_sqlite_file_share_the_arms(folder: Path, options: list[str]) -> None:
    printed = two_workers([*options, "--alphas=0,5,9", "--seeds=2"], folder)
    assert set(fits(folder).values()) == {1}
    assert len(fits(folder)) == 6
    shares = [text.count(": started") for text in printed]
    assert sum(shares) == 6
    assert min(shares) >= 1
    assert set(ended(folder).values()) == {"complete"}


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ("", "--alphas --search"),
        ("--alphas=0 --search=1,2", "--search"),
        ("--alphas=0,5 --seeds=0", "--seeds"),
        ("--alphas=0,5 --seeds=x", "--seeds 'x'"),
        ("--alphas=0,5 --seeds=3,x", "--seeds '3,x'"),
        ("--alphas=0,5 --seeds=3,3", "--seeds '3,3'"),
        ("--alphas=0,5 --seed=3", "--seeds?"),
        ("--alphas=0,5 --neftune.alpha=5", "--neftune.alpha"),
        ("--alphas=0,5 --neftune null", "--alphas"),
        ("--alphas=0,5 --config=nix.yaml", "'nix.yaml'"),
        ("--alphas=0,5 --out=data.json", "--out data.json"),
        ("--alphas=0,5 --storage=nonsense", "--storage"),
        ("--alphas=0,5 --data.source=missing.json", "missing.json"),
        ("--alphas=0,5 --data.val_size=0 --data.source=data.json", "data.val_size"),
        ("--alphas=0,5 --model.learning_rat=1", "model.learning_rate?"),
        ("--alphas=0,5 --data.source=data.json --trainer.max_time=00:00:01:00", "trainer.max_time"),
        (
            "--alphas=0,5 --data.source=data.json --trainer.callbacks+=EarlyStopping "
            "--trainer.callbacks.monitor=val/loss",
            "EarlyStopping",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    folder: Path, short: list[str], capsys, args: str, named: str, snapshot: Callable[[str], None]
) -> None:
    assert main(["study", *args.split()]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    snapshot(error.rstrip("\n"))
    assert not (folder / "runs").exists()


def test_a_missing_library_is_reported_before_the_training(
    folder: Path, short: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert main(["study", "--alphas=0,5", "--memorization=2", *short]) == 2
    assert "sacrebleu, not installed here: pip install" in capsys.readouterr().err
    assert not (folder / "runs").exists()


def test_a_password_in_the_url_of_the_storage_is_not_shown(folder: Path, short, capsys) -> None:
    url = "postgresql://somebody:pa55word@127.0.0.1:1/none"
    assert main(["study", "--alphas=0,5", f"--storage={url}", *short]) == 2
    error = capsys.readouterr().err
    assert "cannot be opened" in error
    assert "pa55word" not in error
    assert error.count("\n") == 1


def test_no_key_of_the_program_is_taken_for_a_misspelt_option(folder: Path, short: list[str]) -> None:
    with quiet():
        keys = Program("fit", short).parser.get_defaults().keys()
    sections = {key.partition(".")[0] for key in keys} - {name.removeprefix("--") for name in _OWN}
    assert {"samples", "clean_loss", "task", "trainer"} <= sections
    for key in sections:
        assert _parse(["--alphas=0", f"--{key}=1"])[1] == (f"--{key}=1",)


def test_the_help_names_exactly_the_options() -> None:
    text = static_help(["study", "--help"])
    assert text is not None
    known = {option for action in _parser()._actions for option in action.option_strings}
    named = set(re.findall(r"^  (--[a-z-]+)", text, flags=re.MULTILINE))
    assert named - {"--config"} == known
