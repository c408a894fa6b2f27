"""`--tiny`: which options it sets, what wins over them, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from lightning_neft.cli.main import main
from lightning_neft.cli.process import quiet
from lightning_neft.cli.program import Program
from lightning_neft.models.description import read_description

LARGE = """\
model:
  base: huggyllama/llama-7b
  quantization: nf4
  attn_implementation: flash_attention_2
  gradient_checkpointing: true
  lora: {r: 64, target_modules: [q_proj, v_proj]}
data: {source: sharegpt, max_length: 2048, batching: packed, val_split: test}
trainer:
  devices: 8
  num_nodes: 2
  accelerator: gpu
  precision: bf16-mixed
  max_epochs: 1
  val_check_interval: 500
  strategy: {class_path: lightning.pytorch.strategies.ModelParallelStrategy, init_args: {data_parallel_size: 16}}
global_batch_size: 64
"""


@pytest.fixture
def large(folder: Path) -> list[str]:
    """A config that no small machine can run."""
    (folder / "large.yaml").write_text(LARGE)
    return ["--config=large.yaml", "--tiny", f"--data.cache_dir={folder / 'cache'}"]


def built(*args: str) -> Any:
    with quiet():
        return Program("fit", args).config


def test_machines_are_made_small_and_the_subject_stays(large: list[str], folder: Path) -> None:
    config = built(*large)
    trainer, model, data = config.trainer, config.model, config.data
    assert (trainer.accelerator, str(trainer.devices), trainer.num_nodes, trainer.strategy) == ("cpu", "1", 1, "auto")
    assert (trainer.precision, trainer.max_steps, trainer.val_check_interval) == ("32-true", 2, None)
    assert config.global_batch_size == 4
    assert (model.quantization, model.attn_implementation) == (None, None)
    assert model.gradient_checkpointing
    assert (model.lora.r, model.lora.target_modules) == (64, ["q_proj", "v_proj"])
    assert json.loads((Path(model.base) / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert (data.format, data.template, data.batching, data.max_length) == ("sharegpt", "vicuna", "packed", 256)
    assert data.cut_conversations
    assert data.val_split is None
    assert set(json.loads(Path(data.source).read_text())[0]) == {"conversations"}
    assert Path(data.source).is_relative_to(folder / "cache")
    assert config.name == "large-tiny"


def test_what_is_given_wins_wherever_it_stands(large: list[str], folder: Path) -> None:
    config = built("--trainer.max_steps=5", *large, "--data.batch_size", "3", "--name=mine")
    assert (config.trainer.max_steps, config.data.batch_size, config.name) == (5, 3, "mine")
    assert str(config.trainer.devices) == "1"


def test_given_data_are_used_as_they_are(large: list[str], folder: Path) -> None:
    (folder / "mine.json").write_text(json.dumps([{"instruction": "Add.", "output": "3"}] * 4))
    data = built(*large, "--data.source=mine.json").data
    assert (data.source, data.format, data.template) == ("mine.json", None, None)


def test_the_smoke_test_says_what_it_is_and_omits(
    large: list[str], capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    built(*large)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightning_neft: ")]
    assert ["2-step smoke test" in lines[0], "nf4" in lines[1], len(lines)] == [True, True, 2]
    snapshot("\n".join(lines))


def test_print_config_prints_the_smoke_test(large: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *large, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["trainer"]["max_steps"], printed["data"]["max_length"]) == (2, 256)


@pytest.mark.parametrize(
    ("record", "name"),
    [({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages")],
)
def test_the_format_of_a_file_is_read_off_its_first_record(record: dict[str, Any], name: str, folder: Path) -> None:
    (folder / "mine.jsonl").write_text(json.dumps(record) + "\n")
    (folder / "c.yaml").write_text("data: {source: mine.jsonl}")
    data = built("--config=c.yaml", "--tiny", "--data.cache_dir=cache").data
    assert Path(data.source).name.startswith(f"{name}-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {source: somebody/something}", "that of 'somebody/something' is not known without reading it; give"),
        ("model: {base: small}", "no tiny model of type 'gpt2'; types: llama, "),
    ],
)
def test_what_cannot_be_made_tiny_is_a_line(
    text: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "small").mkdir()
    (folder / "small" / "config.json").write_text('{"model_type": "gpt2"}')
    (folder / "c.yaml").write_text(text)
    assert main(["fit", "--config=c.yaml", "--tiny", "--data.cache_dir=cache"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_flag_takes_no_value(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config=quickstart", "--tiny=true"]) == 2
    assert "--tiny takes no value; give --tiny alone" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["preview", "doctor"])
def test_verbs_that_only_look_take_it_too(verb: str, large: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, *large, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "tiny" in json.dumps(shown)


@pytest.mark.parametrize("config", ["llama-2-7b/alpaca-qlora", "flan-t5-base/alpaca-cleaned"])
def test_a_smoke_test_answers_and_is_exported(config: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = [f"--config={config}", "--tiny", f"--data.cache_dir={folder / 'cache'}"]
    assert main(["fit", *tiny, "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]) == 0
    trained = [*tiny, "--ckpt_path=last"]
    capsys.readouterr()
    assert main(["generate", *trained, "--prompt=Say cat.", "--max-new-tokens=3"]) == 0
    printed = capsys.readouterr()
    assert f"{config}-tiny (last): template alpaca, greedy" in printed.err
    assert printed.out.strip()
    assert main(["export", *trained, "--output=out"]) == 0
    tokenizer = AutoTokenizer.from_pretrained("out")
    loaded = (AutoModelForSeq2SeqLM if "t5" in config else AutoModelForCausalLM).from_pretrained("out")
    written = loaded.generate(**tokenizer("Say cat.", return_tensors="pt"), max_new_tokens=3)
    assert written.shape[1] > 1
    facts = read_description(folder / "out")
    assert facts is not None
    assert (facts.recipe, facts.alpha, facts.template) == (f"{config}-tiny", 5.0, "alpaca")
    assert main(["generate", f"--config={config}", "--ckpt_path=last", "--prompt=Say cat."]) == 2
    assert f"last.ckpt (runs that have one: {config}-tiny); " in capsys.readouterr().err


def test_a_smoke_run_is_gone_on_with_by_its_name(large: list[str], folder: Path) -> None:
    args = ["fit", *large, "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    assert main(args) == 0
    run = folder / "runs" / "large-tiny" / "version_0"
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-1.ckpt", "step-2.ckpt", "last.ckpt"}
    assert main([*args, "--ckpt_path=last", "--trainer.max_steps=3"]) == 0
    assert (run.with_name("version_1") / "checkpoints" / "step-3.ckpt").is_file()
