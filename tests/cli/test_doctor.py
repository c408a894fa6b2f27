"""The verb doctor: exit codes, the table, the JSON, and one line for each error of the user."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from lightning_neft.cli.help import static_help
from lightning_neft.cli.main import main
from lightning_neft.data.toy import toy_instructions
from lightning_neft.doctor import subject
from tiny import llama

# Lightning names a half precision that works on the CPU in place of one that does not.
pytestmark = pytest.mark.filterwarnings("ignore:.*ModelCheckpoint.*could not find the monitored key")

MODEL_KEYS = {
    "base",
    "architecture",
    "parameters",
    "parameters_read",
    "weights",
    "dtype",
    "mode_after_loading",
    "mode_in_fit",
    "has_dropout",
    "towers",
}


@pytest.fixture
def json_of(capsys):
    """Runs the verb with --json: exit code and object, which is all of the standard output."""

    def run(*args):
        code = main(["doctor", *args, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def line_of(capsys):
    """Runs the verb: the one line that it fails with."""

    def run(*args):
        assert main(["doctor", *args]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        [line] = captured.err.splitlines()
        assert line.startswith("lightning_neft: ")
        return line.removeprefix("lightning_neft: ")

    return run


@pytest.fixture
def model_folder(folder):
    model = llama()
    model.save_pretrained(folder / "mine")
    return folder / "mine"


def test_a_config_is_examined_with_its_model_noise_and_batch(folder, json_of):
    code, report = json_of("--config=quickstart", "--neftune.alpha=10", "--neftune.schedule=cosine")
    assert code == 0
    assert report.keys() == {"lands", "reason", "model", "noise", "batch", "embeddings", "long", "notes", "warnings"}
    assert report["lands"] is True
    assert report["reason"] is None
    assert report["model"].keys() == MODEL_KEYS
    assert (report["model"]["base"], report["model"]["architecture"]) == ("tiny", "LlamaForCausalLM")
    assert (report["model"]["mode_after_loading"], report["model"]["mode_in_fit"]) == ("eval", "train")
    assert report["noise"]["alpha"] == 10
    assert report["noise"]["schedule"] == "cosine"
    assert report["batch"]["rows"] == 16
    assert report["batch"]["is_of_user"] is True
    assert report["batch"]["labelled_tokens"] > 0
    assert len(report["batch"]["lengths"]["attention_mask"]) == 16
    assert report["long"] == report["notes"] == []
    [found] = report["embeddings"]
    assert found["name"] == "model.model.embed_tokens"
    assert found["table"] == [1024, 128]
    assert found["dtype"] == "float32"
    squares = sum(100 / (3 * 128) for _ in range(16)) / sum(report["batch"]["lengths"]["attention_mask"])
    assert found["noise_rms"] == pytest.approx(squares**0.5, rel=0.02)
    assert found["noise_to_signal"] == pytest.approx(found["noise_rms"] / found["embedding_rms"])
    assert found["token_norm"] == pytest.approx(found["embedding_rms"] * 128**0.5)
    assert not list(folder.iterdir())  # no run folder


def test_the_token_norm_as_reference_gives_paper_noise(json_of):
    _, paper = json_of("--config=quickstart")
    norm = paper["embeddings"][0]["token_norm"]
    _, relative = json_of("--config=quickstart", "--neftune.scale=relative", f"--neftune.reference_norm={norm}")
    assert relative["embeddings"][0]["noise_rms"] == pytest.approx(paper["embeddings"][0]["noise_rms"], rel=1e-5)
    assert relative["noise"]["reference_norm"] == norm


def test_a_model_is_examined_with_toy_instructions(json_of):
    code, report = json_of("--model=tiny", "--alpha=15")
    assert code == 0
    assert report["noise"] == {
        "alpha": 15.0,
        "distribution": "uniform",
        "length": "true",
        "scope": "all",
        "scale": "paper",
    }
    assert report["batch"]["source"] == "toy instructions, encoded by the model's tokenizer"
    assert report["batch"]["is_of_user"] is False
    assert report["batch"]["rows"] == 8 < len(toy_instructions("train"))
    assert report["model"]["mode_in_fit"] is None
    [found] = report["embeddings"]
    assert found["name"] == "model.embed_tokens"
    # The toy instructions are short.
    [long] = report["long"]
    assert (long["name"], long["length"], long["unchanged"]) == ("model.embed_tokens", 512, 0)
    assert long["noise_to_signal"] == pytest.approx(15 / (3 * 512) ** 0.5 / found["token_norm"], rel=0.02)
    assert long["block_noise_to_signal"] == pytest.approx(long["noise_to_signal"])


def test_random_weights_need_only_a_config(model_folder, json_of):
    (model_folder / "model.safetensors").unlink()
    for base in (model_folder, model_folder / "config.json"):
        code, report = json_of(f"--model={base}", "--random-init")
        assert code == 0
        assert report["model"]["weights"] == "random"
        assert report["model"]["parameters_read"] < report["model"]["parameters"]
        assert report["embeddings"][0]["embedding_rms"] == pytest.approx(0.02, rel=0.1)


def test_random_weights_in_place_of_those_of_a_config(json_of):
    code, report = json_of("--config=quickstart", "--random-init")
    assert code == 0
    assert report["model"]["weights"] == "random"
    assert report["embeddings"][0]["name"] == "model.model.embed_tokens"
    assert report["embeddings"][0]["embedding_rms"] == pytest.approx(0.02, rel=0.02)


def test_a_large_model_in_a_config_is_measured_as_a_small_one(json_of, monkeypatch):
    _, whole = json_of("--config=quickstart")
    monkeypatch.setattr(subject, "_SMALL", 0)
    _, parts = json_of("--config=quickstart")
    assert parts["model"].pop("parameters_read") < whole["model"].pop("parameters_read")
    [one], [other] = parts.pop("embeddings"), whole.pop("embeddings")
    assert one == {key: pytest.approx(value) if isinstance(value, float) else value for key, value in other.items()}
    assert parts == whole


@pytest.mark.parametrize("is_small", [True, False])
def test_with_adapters_the_target_of_a_fit_is_found(is_small, json_of, monkeypatch):
    monkeypatch.setattr(subject, "_SMALL", subject._SMALL if is_small else 0)
    _, plain = json_of("--config=quickstart")
    target = "model.base_model.model.model.embed_tokens"
    code, report = json_of("--config=quickstart", "--model.lora.r=4", f"--neftune.target={target}")
    assert code == 0
    [found], [without] = report["embeddings"], plain["embeddings"]
    assert found["name"] == (target if is_small else "model.model.embed_tokens")
    assert found["noise_to_signal"] == pytest.approx(without["noise_to_signal"])
    assert bool(report["notes"]) != is_small


def test_the_dtype_is_that_of_the_precision(json_of):
    for precision, dtype in (("bf16-true", "bfloat16"), ("bf16-mixed", "float32"), ("16-mixed", "float32")):
        _, report = json_of("--config=quickstart", f"--trainer.precision={precision}")
        assert report["model"]["dtype"] == report["embeddings"][0]["dtype"] == dtype
        assert (report["embeddings"][0]["unchanged"] > 0) == (dtype == "bfloat16")


@pytest.mark.parametrize("is_small", [True, False])
def test_options_of_the_model_count(is_small, json_of, monkeypatch):
    monkeypatch.setattr(subject, "_SMALL", subject._SMALL if is_small else 0)
    _, report = json_of("--config=quickstart", "--model.dtype=bfloat16", "--model.keep_eval=true")
    assert report["embeddings"][0]["dtype"] == "bfloat16"
    assert report["model"]["mode_in_fit"] == "eval"
    _, report = json_of("--config=quickstart", "--model.dtype=auto", "--trainer.precision=bf16-mixed")
    assert report["embeddings"][0]["dtype"] == "float32"


def test_tokens_of_the_template_have_rows_as_in_a_fit(json_of):
    code, report = json_of("--config=quickstart", "--data.template=chatml")
    assert (code, report["lands"]) == (0, True)


def test_quantised_weights_need_not_be_quantised_here(json_of):
    code, report = json_of("--config=quickstart", "--model.quantization=nf4", "--model.lora.r=4")
    assert code == 0
    assert report["model"]["parameters_read"] < report["model"]["parameters"]


def test_machines_of_the_run_need_not_be_here(folder, json_of):
    (folder / "many.yaml").write_text(
        "trainer:\n  accelerator: gpu\n  devices: 8\n  num_nodes: 2\n  strategy: fsdp\n", encoding="utf-8"
    )
    code, _ = json_of("--config=quickstart", "--config=many.yaml")
    assert code == 0


def test_truncated_rows_are_reported(json_of):
    _, report = json_of("--config=quickstart", "--data.max_length=50")
    cut = sum(length >= 50 for length in report["batch"]["lengths"]["attention_mask"])
    assert report["batch"]["rows_cut"] == cut > 0
    assert [advice["what"].partition(" are")[0] for advice in report["warnings"]] == [f"{cut} of 16 rows"]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--config=quickstart", "--neftune", "null"], "it is off (neftune: null in the config)"),
        (["--config=quickstart", "--neftune.alpha=0"], "it is off (alpha is 0)"),
        (["--model=tiny", "--alpha", "0"], "it is off (alpha is 0)"),
        (
            ["--config=quickstart", "--neftune.target=model.embed"],
            "target='model.embed': CausalLM has no module of that name. Near names: ",
        ),
        (
            ["--config=quickstart", "--trainer.callbacks+=lightning_neft.NEFTune"],
            "the config has several NEFTune callbacks, which a fit refuses",
        ),
    ],
)
def test_noise_that_is_not_applied_is_exit_code_1(args, reason, json_of, capsys):
    code, report = json_of(*args)
    assert code == 1
    assert report["lands"] is False
    assert report["reason"].startswith(reason)
    assert main(["doctor", *args]) == 1
    assert " ".join(capsys.readouterr().out.split()).startswith(f"No noise is applied: {reason}")


def test_noise_among_the_trainer_callbacks_is_measured(json_of):
    code, report = json_of(
        "--config=quickstart", "--neftune=null", "--trainer.callbacks+=lightning_neft.NEFTune",
        "--trainer.callbacks.alpha=7",
    )  # fmt: skip
    assert code == 0
    assert report["noise"]["alpha"] == 7


def test_the_table_is_printed_without_json(capsys):
    assert main(["doctor", "--model", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Noise is applied to model.embed_tokens."
    assert [
        line.split()[0] for line in lines if line.startswith(("model ", "weights", "noise-to-signal", "labels"))
    ] == [
        "model",
        "weights",
        "labels",
        "noise-to-signal",
        "noise-to-signal",
        "noise-to-signal",
    ]


@pytest.mark.parametrize(
    "case",
    [
        ("", "--config", "--model"),
        ("--json", "--config", "--model"),
        ("--model", "--model"),
        ("--model=./nope", "./nope"),
        ("--model empty", "empty", "config.json"),
        ("--model pickled", "pickled", ".bin", "--random-init"),
        ("--model bare", "bare", "model.safetensors", "--random-init"),
        ("--model tiny --alpha x", "--alpha", "'x'"),
        ("--model tiny --alpha -1", "alpha=-1.0"),
        ("--model tiny --alhpa 3", "--alhpa", "--alpha"),
        ("--model tiny --mode", "--mode;", "--model"),
        ("--model tiny -x", "-x", "--model, --alpha"),
        ("--model tiny --config quickstart", "--config", "--model"),
        ("--config quickstart --jsn", "--jsn", "--json"),
        ("--config quickstart --random-innit", "--random-innit", "--random-init"),
        ("--config quickstart --alpha 3", "alpha;", "neftune.alpha"),
        ("--config quickstrat", "quickstrat", "quickstart"),
        ("--config quickstart --data.source=no.json", "no.json"),
    ],
    ids=lambda case: case[0] or "no options",
)
def test_errors_of_the_user_are_one_line(case, folder, line_of, snapshot):
    (folder / "empty").mkdir()
    for name in ("pickled", "bare"):
        llama().config.save_pretrained(folder / name)
    (folder / "pickled" / "pytorch_model.bin").touch()
    args, *names = case
    line = line_of(*args.split())
    assert [name for name in names if name not in line] == []
    snapshot(line)


def test_errors_leave_the_standard_output_empty(line_of):
    assert line_of("--model=./nope", "--json").startswith("model base './nope': no such folder")


def test_libraries_that_print_do_not_spoil_the_json(json_of, monkeypatch, capsys):
    from lightning_neft.doctor import examine

    inner = examine.probe

    def loud(*args, **kwargs):
        print("hello from a library")
        return inner(*args, **kwargs)

    monkeypatch.setattr(examine, "probe", loud)
    code, _ = json_of("--model=tiny")
    assert code == 0


def test_random_state_and_dtype_stay_as_they_were():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert main(["doctor", "--model", "tiny", "--random-init"]) == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


def test_every_option_and_example_of_the_help_works(capsys):
    text = static_help(["doctor", "--help"])
    options = set(re.findall(r"^  (--[a-z-]+)", text, flags=re.MULTILINE))
    assert options == {"--config", "--model", "--alpha", "--random-init", "--trust-remote-code", "--json"}
    examples = re.findall(r"^  lightning_neft (doctor .*)$", text.partition("\nexamples\n")[2], flags=re.MULTILINE)
    examples = [example for example in examples if "--help" not in example]
    assert len(examples) == 4
    for example in examples:
        assert main(example.replace("./my-model", "tiny").split()) == 0
    assert main(["doctor", "--model", "tiny", "--trust-remote-code"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--help-all"]) == 0
    assert "--neftune" in capsys.readouterr().out


@pytest.mark.slow
def test_the_program_ends_with_the_exit_code(capsys):
    command = ["doctor", "--model", "tiny", "--json", "--alpha"]
    assert main([*command, "5"]) == 0
    assert json.loads(capsys.readouterr().out)["lands"] is True
    program = [sys.executable, "-m", "lightning_neft"]
    done = subprocess.run([*program, *command, "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["lands"] is False


@pytest.mark.slow
def test_code_of_a_model_runs_only_if_allowed(tmp_path, capsys):
    (tmp_path / "modeling_mine.py").write_text(
        "from transformers import LlamaForCausalLM\n\nclass Mine(LlamaForCausalLM):\n    pass\n", encoding="utf-8"
    )
    config = llama().config.to_dict() | {"architectures": ["Mine"]}
    # A config of transformers and a model of its own, so that only the model's class is foreign.
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_mine.Mine"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = ["doctor", f"--model={tmp_path}", "--random-init", "--json"]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    program = [sys.executable, "-m", "lightning_neft", *command, "--trust-remote-code"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"]["architecture"] == "Mine"
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["model"]["architecture"] == "LlamaForCausalLM"


@pytest.mark.slow
def test_a_model_alone_needs_no_lightning():
    code = (
        "import sys; from lightning_neft.cli.main import main; main(['doctor', '--model=tiny']); "
        "print([name for name in ('lightning', 'peft', 'datasets', 'jsonargparse') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
