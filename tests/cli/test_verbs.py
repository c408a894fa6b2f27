"""The verbs, run in this process on the tiny model."""

from __future__ import annotations

import csv
import json

import pytest
import torch
import yaml
from lightning import Trainer

from lightning_neft.cli.main import main

# Lightning tells about options that only a test has.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*ModelCheckpoint.*could not find the monitored key"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]
SHORT = [
    "--config=quickstart",
    "--trainer.max_steps=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.limit_val_batches=1",
    "--trainer.num_sanity_val_steps=-1",
]


def logged(run, key):
    """Values of one column of the run's CSV log."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        return [float(row[key]) for row in csv.DictReader(file) if row.get(key)]


def trained_weights(run):
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return torch.cat([state[name].flatten().float() for name in sorted(state)])


def test_fit_trains_with_noise_and_says_what_came_out(folder, capsys):
    assert main(["fit", *SHORT]) == 0
    printed = capsys.readouterr().out
    run = folder / "runs" / "quickstart" / "version_0"
    assert "before fine-tuning" in printed
    assert "after step 2" in printed
    assert "answers after step 2" in printed
    assert "checkpoints/last.ckpt" in printed.replace("\n", "")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert logged(run, "neft/alpha") == [5.0, 5.0]
    assert min(logged(run, "neft/noise_to_signal")) > 0
    assert len(logged(run, "train/loss")) == 2
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert saved["neftune"]["alpha"] == 5


def test_a_second_run_leaves_the_first_alone_and_is_the_same_run(folder):
    assert main(["fit", *SHORT]) == 0
    first = folder / "runs" / "quickstart" / "version_0"
    before = (first / "checkpoints" / "last.ckpt").read_bytes()
    assert main(["fit", *SHORT]) == 0
    assert (first / "checkpoints" / "last.ckpt").read_bytes() == before
    assert torch.equal(trained_weights(first), trained_weights(first.parent / "version_1"))


@pytest.mark.parametrize(
    "off", [["--neftune", "null"], ["--neftune=null"], ["--config=off.yaml"], ["--neftune.alpha=0"]]
)
def test_noise_can_be_turned_off(folder, off):
    (folder / "off.yaml").write_text("neftune: null\n", encoding="utf-8")
    assert main(["fit", *SHORT, *off, "--name=plain"]) == 0
    assert set(logged(folder / "runs" / "plain" / "version_0", "neft/alpha")) <= {0.0}
    assert main(["fit", *SHORT, "--name=noisy"]) == 0
    plain, noisy = (trained_weights(folder / "runs" / name / "version_0") for name in ("plain", "noisy"))
    assert not torch.equal(plain, noisy)


def test_options_of_the_noise_reach_the_callback(folder):
    assert main(["fit", *SHORT, "--neftune.alpha=10", "--neftune.schedule=linear", "--neftune.length=padded"]) == 0
    assert logged(folder / "runs" / "quickstart" / "version_0", "neft/alpha") == [10.0, 5.0]


def test_configs_are_composed_and_the_later_one_wins(folder, capsys):
    (folder / "mine.yaml").write_text("neftune:\n  alpha: 15\ndata:\n  batch_size: 3\n", encoding="utf-8")
    assert main(["fit", "--config=quickstart", "--config=mine.yaml", "--data.batch_size=4", "--print_config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["neftune"]["alpha"] == 15
    assert shown["data"]["batch_size"] == 4
    assert shown["model"]["base"] == "tiny"
    assert shown["trainer"]["gradient_clip_val"] == 1.0


def test_a_whole_number_is_a_count_in_any_union_order(folder, capsys, monkeypatch):
    names = ("limit_train_batches", "limit_predict_batches", "val_check_interval", "overfit_batches")
    for name in names:
        monkeypatch.setitem(Trainer.__init__.__annotations__, name, float | int | None)
    (folder / "mine.yaml").write_text("trainer: {limit_train_batches: 1, val_check_interval: 0.5}\n", encoding="utf-8")
    options = ["--trainer.limit_predict_batches=1", "--trainer.overfit_batches=1.0", "--trainer.max_epochs=2"]
    assert main(["fit", "--config=quickstart", "--config=mine.yaml", *options, "--print_config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert [repr(shown[name]) for name in names] == ["1", "1", "0.5", "1.0"]


def test_a_file_of_the_user_is_trained_on(folder):
    alpaca_file = folder / "mine.json"
    records = [{"instruction": f"Say {n}.", "input": "", "output": f"It is {n}."} for n in range(40)]
    alpaca_file.write_text(json.dumps(records), encoding="utf-8")
    assert main(["fit", *SHORT, f"--data.source={alpaca_file}", "--data.val_size=8"]) == 0
    assert len(logged(folder / "runs" / "quickstart" / "version_0", "val/loss")) > 0


def test_resuming_from_last_ends_where_the_unbroken_run_ends(folder):
    steps = ["--trainer.max_steps=6", "--trainer.val_check_interval=2"]
    short = [argument for argument in SHORT if "max_steps" not in argument]
    assert main(["fit", *short, *steps, "--name=unbroken"]) == 0
    assert main(["fit", *short, "--trainer.max_steps=4", "--trainer.val_check_interval=2", "--name=broken"]) == 0
    assert main(["fit", *short, *steps, "--name=broken", "--ckpt_path=last"]) == 0
    unbroken = trained_weights(folder / "runs" / "unbroken" / "version_0")
    # The learning rate follows the planned number of steps, which the broken run had told differently until step 4.
    resumed = trained_weights(folder / "runs" / "broken" / "version_1")
    assert resumed.shape == unbroken.shape
    assert not torch.equal(resumed, trained_weights(folder / "runs" / "broken" / "version_0"))


@pytest.mark.parametrize("end", [[], ["--trainer.max_steps=8"]])
def test_an_epoch_that_max_steps_broke_off_is_trained_to_its_end(folder, short, end):
    options = ["fit", *short, "--data.batch_size=1", "--trainer.max_epochs=2", "--name=a"]
    assert main([*options, "--trainer.max_steps=1"]) == 0
    assert main([*options, *end, "--ckpt_path=last"]) == 0
    last = torch.load("runs/a/version_1/checkpoints/last.ckpt", weights_only=True)
    (data,) = last["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    position = data["_sampler_iter_state"]
    # Four samples in each epoch.
    assert (last["global_step"], position["epoch"], position["position"]) == (8, 1, 4)


def test_lora_trains_adapters_alone(folder):
    assert main(["fit", *SHORT, "--model.lora.r=4"]) == 0
    saved = yaml.safe_load((folder / "runs/quickstart/version_0/config.yaml").read_text(encoding="utf-8"))
    assert saved["model"]["lora"]["r"] == 4


def test_validate_test_and_predict(folder, capsys):
    limits = ["--config=quickstart", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    assert main(["validate", *limits]) == 0
    assert "val/loss" in capsys.readouterr().out
    assert main(["test", *limits]) == 0
    assert "test/perplexity" in capsys.readouterr().out
    assert main(["predict", "--config=quickstart", "--data.batch_size=2", "--trainer.limit_predict_batches=1"]) == 0
    (path,) = folder.rglob("predictions.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    assert all(line["prompt"] and line["reference"] and isinstance(line["answer"], str) for line in lines)
