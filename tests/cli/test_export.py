"""The verb export: what plain transformers loads afterwards, and what the folder says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lightning_neft.cli.main import main
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.generation.sources import load_model, open_answerer
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.models.description import read_description

QUESTION = [{"role": "user", "content": "What is the plural of mouse?"}]
# Merging adapters rounds each weight once more.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def line_of(printed: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith("lightning_neft:")]
    return line


def first_run(name: str) -> Path:
    return Path("runs") / name / "version_0"


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.arange(3, 43).reshape(2, 20)


@pytest.mark.parametrize(
    ("options", "template"),
    [
        ([], "alpaca"),
        (["--data.template=vicuna"], "vicuna"),
        (["--model.lora.r=2"], "alpaca"),
        # Tokens that the base does not have: rows of the table are trained, and come along.
        (["--model.lora.r=2", "--data.template=chatml"], "chatml"),
        (["--model.lora.r=2", "--model.lora.dora=true", "--neftune=null"], "alpaca"),
    ],
)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
def test_plain_transformers_gives_the_logits_of_the_checkpoint(
    short: list[str], folder: Path, ids: torch.Tensor, options: list[str], template: str
) -> None:
    train = [*short, *options, "--name=r", "--model.learning_rate=0.01"]
    assert main(["fit", *train]) == 0
    assert main(["export", *train, "--ckpt_path=last", "--output=last"]) == 0
    assert main(["export", "--model", str(first_run("r") / "model"), "--output=best"]) == 0
    assert main(["export", "--model", str(first_run("r")), "--output=run"]) == 0
    module = load_model(str(first_run("r") / "model"))
    trained = logits(module.model, ids)
    for name in ("last", "best", "run"):
        loaded = AutoModelForCausalLM.from_pretrained(name)
        torch.testing.assert_close(logits(loaded, ids), trained, **CLOSE)
        assert not [path.name for path in Path(name).iterdir() if "adapter" in path.name]
        config = loaded.generation_config
        assert (config.do_sample, config.repetition_penalty, config.num_beams) == (False, 1.2, 1)
        facts = read_description(Path(name))
        assert facts is not None
        assert (facts.template, facts.alpha) == (template, None if "--neftune=null" in options else 5.0)
        tokenizer = AutoTokenizer.from_pretrained(name)
        asked = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
        answerer = open_answerer(name, device="cpu")
        assert answerer.prompt_ids([Conversation((Message("user", QUESTION[0]["content"]),))]) == [asked]
    assert not torch.allclose(logits(load_model("tiny").model, ids), trained[..., :1024], atol=1e-3)


@pytest.mark.slow
def test_a_process_without_this_package_and_peft_loads_it(short: list[str], folder: Path, ids: torch.Tensor) -> None:
    assert main(["fit", *short, "--name=r", "--model.lora.r=2", "--model.learning_rate=0.01"]) == 0
    assert main(["export", "--model", str(first_run("r")), "--output=out"]) == 0
    script = (
        "import sys, torch; from transformers import AutoModelForCausalLM\n"
        "sys.modules['lightning_neft'] = sys.modules['peft'] = None\n"
        f"model = AutoModelForCausalLM.from_pretrained('out'); ids = torch.tensor({ids.tolist()})\n"
        "torch.save(model(input_ids=ids).logits.detach(), 'logits.pt')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=120)
    torch.testing.assert_close(
        torch.load("logits.pt"), logits(load_model(str(first_run("r") / "model")).model, ids), **CLOSE
    )


def test_the_card_says_where_the_model_comes_from(
    short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, "--name=r", "--neftune.alpha=7", "--model.lora.r=2"]) == 0
    run = first_run("r")
    result = {"schema": "lightning_neft.result/1", "kind": "text_statistics", "label": "a|b", "mean_words": 3.25}
    (run / "statistics.json").write_text(json.dumps({**result, "provenance": {}}))
    (run / "other.json").write_text("{}")
    assert main(["export", "--model", str(run), "--output=out"]) == 0
    _, front, text = (folder / "out" / "README.md").read_text().split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["library_name"] == "transformers"
    assert meta["license"] == "apache-2.0"
    assert {"neftune", "lightning-neft"} <= set(meta["tags"])
    assert "base_model" not in meta  # tiny is no model of the hub
    for part in (
        "alpha 7",
        "| base model | `tiny` |",
        "| recipe | `r` |",
        "| data | `data.json` |",
        f"transformers {transformers.__version__}",
        "| `model.lora.r` | `2` |",
        "| `seed_everything` | `0` |",
        "val/loss",
        "`statistics.json`: text_statistics of `a|b`",
        "| mean_words | 3.25 |",
    ):
        assert part in text, part
    assert "other.json" not in text
    assert str(folder) not in text
    capsys.readouterr()
    exec(text.split("```python\n")[1].split("```")[0], {})
    shown = capsys.readouterr().out.strip()
    question = ["--prompt=Which day comes after Monday?", "--max-new-tokens=256"]
    assert main(["generate", "--model=out", "--device=cpu", *question]) == 0
    assert capsys.readouterr().out.strip() == shown


def test_the_card_of_a_checkpoint_is_of_its_own_run(short: list[str], folder: Path) -> None:
    base = folder / "secret" / "base"
    shutil.copytree(TINY, base)
    assert main(["fit", *short, "--name=r", f"--model.base={base}", "--model.weight_decay=0.25"]) == 0
    result = {"schema": "lightning_neft.result/1", "kind": "text_statistics", "label": "a", "provenance": {}}
    (first_run("r") / "mine.json").write_text(json.dumps({**result, "mean_words": 3.25}))
    (first_run("r") / "without.json").write_text(json.dumps(result))
    other = folder / "results"
    other.mkdir()
    (folder / "stray.json").write_text(json.dumps({**result, "mean_words": 7.5}))
    # `last` is found from here; the files that lie beside this folder are nobody's.
    os.chdir(other)
    given = [f"--trainer.default_root_dir={folder / 'runs'}", f"--data.source={folder / 'data.json'}"]
    given += ["--name=r", f"--model.base={base}"]
    assert main(["export", *given, "--ckpt_path=last", "--output=out"]) == 0
    text = Path("out/README.md").read_text()
    assert "| `model.weight_decay` | `0.25` |" in text
    assert "| last | " in text
    assert "`mine.json`: text_statistics" in text
    assert "without.json" not in text
    assert "stray.json" not in text
    assert "| base model | `base` |" in text
    for written in Path("out").glob("*"):
        assert b"secret" not in written.read_bytes(), written


def test_a_hub_base_and_dataset_are_named_for_the_hub() -> None:
    from lightning_neft.models.description import ModelDescription
    from lightning_neft.saving.model_card import model_card

    facts = ModelDescription("meta-llama/Llama-2-7b-hf", "L", "causal_lm", template="alpaca", alpha=5.0, data="alpaca")
    text = model_card(facts, "x", config={}, run=None, results={}, has_chat_template=False)
    meta = yaml.safe_load(text.split("---\n")[1])
    assert meta["base_model"] == "meta-llama/Llama-2-7b-hf"
    assert meta["datasets"] == ["tatsu-lab/alpaca"]
    assert meta["license"] == "llama2"
    assert "CC BY-NC 4.0" in text
    odd = ModelDescription("huggyllama/llama-7b", "L", "causal_lm", alpha=None, data="https://x.y/z")
    meta = yaml.safe_load(
        model_card(odd, "x", config={}, run=None, results={}, has_chat_template=False).split("---\n")[1]
    )
    assert meta["license"] == "other"
    assert meta["license_name"].startswith("llama-licence-of-meta")
    assert "datasets" not in meta
    assert "neftune" not in meta["tags"]


def test_a_classifier_keeps_its_classes(folder: Path, ids: torch.Tensor) -> None:
    rows = [{"text": f"{word} {number}", "label": word} for word in ("up", "down") for number in range(6)]
    (folder / "c.json").write_text(json.dumps(rows))
    train = ["--task=sequence_classification", "--data.source=c.json", "--data.val_size=2", "--name=c"]
    train += ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--model.lora.r=2", "--model.learning_rate=0.01"]
    assert main(["fit", *train]) == 0
    (folder / "c.json").unlink()
    assert main(["export", *train, "--ckpt_path=last", "--output=last"]) == 0
    assert main(["export", "--model", str(first_run("c") / "model"), "--output=best"]) == 0
    trained = logits(load_model(str(first_run("c") / "model")).model, ids)
    for name in ("last", "best"):
        loaded = AutoModelForSequenceClassification.from_pretrained(name)
        assert loaded.config.id2label == {0: "down", 1: "up"}
        torch.testing.assert_close(logits(loaded, ids), trained, **CLOSE)


def test_weights_are_written_in_the_dtype_that_is_asked_for(short: list[str], folder: Path) -> None:
    assert main(["fit", *short, "--name=r"]) == 0
    assert main(["export", "--model", str(first_run("r")), "--output=out", "--dtype=bfloat16"]) == 0
    assert AutoModelForCausalLM.from_pretrained("out").dtype == torch.bfloat16
    facts = read_description(folder / "out")
    assert facts is not None
    assert facts.dtype == "bfloat16"


def test_a_folder_is_replaced_on_request_and_only_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")
    assert main(["export", "--model", "tiny", "--output=out", "--template=alpaca"]) == 2
    first = line_of(capsys.readouterr().err)
    assert re.search("folder out .*--output, or --overwrite", first)
    assert main(["export", "--model", "tiny", "--output=out", "--template=alpaca", "--overwrite"]) == 2
    second = line_of(capsys.readouterr().err)
    assert re.search(r"folder out .*lightning_neft\.json", second)
    snapshot(f"{first}\n{second}")
    assert [path.name for path in (folder / "out").iterdir()] == ["mine.txt"]
    (folder / "out" / "lightning_neft.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr("lightning_neft.saving.folder.write_description", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["export", "--model", "tiny", "--output=out", "--template=alpaca", "--overwrite"])
    assert {path.name for path in folder.iterdir()} == {"out"}
    assert (folder / "out" / "mine.txt").read_text() == "mine"
    assert main(["export", "--model", "tiny", "--output=out", "--template=alpaca", "--overwrite"]) == 0
    assert not (folder / "out" / "mine.txt").exists()


@pytest.mark.parametrize("output", ["runs", ".", "runs/r/version_0/checkpoints"])
def test_what_is_exported_is_never_overwritten(
    output: str,
    short: list[str],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    snapshot: Callable[[str], None],
) -> None:
    assert main(["fit", *short, "--name=r"]) == 0
    there = sorted(folder.rglob("*"))
    assert main(["export", *short, "--name=r", "--ckpt_path=last", f"--output={output}", "--overwrite"]) == 2
    line = line_of(capsys.readouterr().err)
    assert f" {output} holds " in line
    snapshot(line)
    assert sorted(folder.rglob("*")) == there


@pytest.mark.parametrize(
    "what", ["the model that is exported", "the checkpoint that is exported", "the data of the run"]
)
def test_an_export_never_replaces_its_own_inputs(
    what: str, short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "lightning_neft.json").write_text("{}")
    options = ["--model=out"]
    if "model" not in what:
        assert main(["fit", *short, "--name=r", "--samples=0"]) == 0
        checkpoint, data = (
            (out / "last.ckpt", Path("data.json")) if "checkpoint" in what else (Path("c.ckpt"), out / "d")
        )
        (first_run("r") / "checkpoints/last.ckpt").rename(checkpoint)
        Path("data.json").rename(data)
        options = [*short, f"--data.source={data}", f"--ckpt_path={checkpoint}"]
    there = sorted(out.iterdir())
    assert main(["export", *options, "--output=out", "--overwrite"]) == 2
    assert f"--output out holds {what}" in capsys.readouterr().err.replace(str(folder) + "/", "")
    assert sorted(out.iterdir()) == there


@pytest.mark.parametrize("is_dangling", [False, True])
def test_a_link_as_the_output_is_followed(folder: Path, is_dangling: bool) -> None:
    if not is_dangling:
        (folder / "there").mkdir()
    (folder / "link").symlink_to("there")
    assert main(["export", "--model=tiny", "--template=alpaca", "--output=link"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["link", "there"]
    assert (folder / "link").is_symlink()
    assert (folder / "there/config.json").is_file()


class Hub:
    """What a hub gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Any] = []
        monkeypatch.setattr(HfApi, "create_repo", self.create)
        monkeypatch.setattr(HfApi, "upload_folder", self.upload)

    def create(self, repo_id: str, **options: Any) -> str:
        self.calls.append(("create", repo_id, options))
        return f"https://hub/{repo_id}"

    def upload(self, *, folder_path: Path, repo_id: str, **_: Any) -> None:
        names = {path.name for path in Path(folder_path).iterdir()}
        self.calls.append(("upload", repo_id, names))


def test_a_push_makes_the_repository_and_uploads_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub(monkeypatch)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["export", "--model", "tiny", "--template=alpaca", "--push=me/it", "--private"]) == 0
    (_, repo, options), (_, uploaded, names) = hub.calls
    assert (repo, uploaded, options) == ("me/it", "me/it", {"exist_ok": True, "private": True})
    assert {"model.safetensors", "tokenizer.json", "README.md", "chat_template.jinja", "lightning_neft.json"} <= names
    captured = capsys.readouterr()
    assert "pushed: https://hub/me/it" in captured.err
    assert "hf_secret" not in captured.out + captured.err
    assert not list(folder.iterdir())


def test_a_hub_that_refuses_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    from huggingface_hub.errors import OfflineModeIsEnabled

    def refuse(*_: Any, **__: Any) -> None:
        raise OfflineModeIsEnabled("no network\nat all")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    assert main(["export", "--model", "tiny", "--template=alpaca", "--push=me/it", "--output=out"]) == 2
    line = line_of(capsys.readouterr().err)
    assert "--push me/it: " in line
    assert "no network at all" in line
    snapshot(line)
    assert (folder / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("args", "names"),
    [
        ([], "--model --config --ckpt_path"),
        (["--config=quickstart", "--output=x"], "--model --config --ckpt_path"),
        (["--model=tiny"], "--output --push"),
        (["--model=tiny", "--ouput=x"], "--ouput --output?"),
        (["--model=tiny", "--output=x", "--name=y"], "--name=y --model"),
        (["--model=tiny", "--push=a b"], "--push"),
        (["--model=./nope", "--output=x"], "./nope"),
        (["--model=tiny", "--output=x", "--dtype=int8"], "--dtype int8 bfloat16"),
        (["--config=quickstart", "--ckpt_path=no.ckpt", "--output=x"], "--ckpt_path no.ckpt"),
    ],
)
def test_a_mistake_is_one_line(
    args: list[str], names: str, folder: Path, capsys: pytest.CaptureFixture[str], snapshot: Callable[[str], None]
) -> None:
    assert main(["export", *args]) == 2
    line = line_of(capsys.readouterr().err)
    assert [name for name in names.split() if name not in line] == []
    # The rest is worded by argparse and huggingface_hub.
    snapshot(line.partition("invalid choice")[0].partition("a repository:")[0])
    assert not list(folder.iterdir())


@pytest.mark.parametrize("inside", ["model", "checkpoints"])
def test_the_model_of_a_run_is_not_replaced_by_its_export(
    inside: str, short: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *short, "--name=r", "--samples=0", "--model.lora.r=2"]) == 0
    run = first_run("r")
    there = sorted(run.rglob("*"))
    assert main(["export", f"--model={run}", f"--output={run / inside}", "--overwrite"]) == 2
    assert "holds the model that is exported" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == there


def test_a_resumed_run_with_nothing_left_is_exported(short: list[str], folder: Path) -> None:
    assert main(["fit", *short, "--name=r", "--samples=0"]) == 0
    assert main(["fit", *short, "--name=r", "--samples=0", "--ckpt_path=last"]) == 0
    run = Path("runs/r/version_1")
    assert not (run / "checkpoints").exists()
    assert main(["export", f"--model={run}", "--output=out"]) == 0
    assert (folder / "out" / "model.safetensors").is_file()


def test_an_export_does_not_replace_a_file_of_the_user(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export = ["export", "--model=tiny", "--output=out", "--overwrite"]
    assert main(export) == 0
    assert main(export) == 0
    (folder / "out/mine.txt").write_text("x")
    assert main(export) == 2
    assert "out holds mine.txt, which lightning_neft did not write" in capsys.readouterr().err
    assert (folder / "out/mine.txt").read_text() == "x"


def test_a_template_of_a_file_travels_with_the_model(short: list[str], folder: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    (folder / "mine.jinja").write_text(template)
    assert main(["fit", *short, "--name=r", "--samples=0", "--data.template=mine.jinja"]) == 0
    assert main(["export", f"--model={first_run('r')}", "--output=whole"]) == 0
    (folder / "mine.jinja").unlink()
    for model in (first_run("r") / "model", Path("whole")):
        assert json.loads((model / "lightning_neft.json").read_text())["template"] == "tokenizer"
        assert AutoTokenizer.from_pretrained(model).chat_template == template
        assert main(["generate", f"--model={model}", "--prompt=Say cat.", "--max-new-tokens=2"]) == 0
