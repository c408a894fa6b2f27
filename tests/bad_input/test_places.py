"""Broken checkpoints and model folders, and places where nothing can be written."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch

from bad_input.refusals import FIT, Case, Content, put
from lightning_neft.hub.names import resolve_base

_GENERATE = "generate --device=cpu --template=alpaca --prompt=Hi"
_FILE = "generate --model=tiny --template=alpaca --device=cpu --max-new-tokens=2 --input=data.json"


class Malicious:
    """Would make a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def saved(value: Any) -> bytes:
    """A checkpoint of this."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _tiny(**changes: Content | None) -> Callable[[Path], None]:
    """The tiny model with files of it changed; None removes one."""

    def make(path: Path) -> None:
        copytree(resolve_base("tiny"), path)
        for name, content in changes.items():
            file = path / name.replace("__", ".")
            if content is None:
                file.unlink()
            else:
                put(file, content)

    return make


def _folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


def checkpoint(what: str, content: Content, *names: str, verb: str = "validate") -> Case:
    """A file that --ckpt_path names."""
    return Case(what, f"{verb} {FIT[4:]} --ckpt_path=c.ckpt", names, {"c.ckpt": content})


def model(what: str, make: Callable[[Path], None], *names: str, command: str = f"{_GENERATE} --model=m") -> Case:
    """A folder that --model names."""
    return Case(what, command, names, {"m": make})


_WEIGHTS = saved({"state_dict": {"model.wrong.weight": torch.ones(2, 2)}, "pytorch-lightning_version": "2.6.0"})

CHECKPOINTS = [
    checkpoint("a checkpoint that is empty", b"", "--ckpt_path", "c.ckpt"),
    checkpoint("a checkpoint that is cut", _WEIGHTS[: len(_WEIGHTS) // 2], "--ckpt_path", "c.ckpt"),
    checkpoint("a checkpoint of text", "weights", "--ckpt_path", "c.ckpt"),
    checkpoint("an archive of something else", _archive("a.txt", b"x"), "c.ckpt"),
    checkpoint("a checkpoint whose inside is broken", _archive("archive/data.pkl", b"\x80\x02garbage"), "c.ckpt"),
    checkpoint("a plain pickle", pickle.dumps({"state_dict": {}}), "--ckpt_path", "c.ckpt"),
    checkpoint("a pickle with a payload", saved({"state_dict": Malicious()}), "c.ckpt"),
    checkpoint(
        "a payload beside the weights", saved({"state_dict": {}, "callbacks": Malicious()}), "c.ckpt", verb="fit"
    ),
    checkpoint("a checkpoint that is a tensor", saved(torch.ones(3)), "c.ckpt"),
    checkpoint("a checkpoint that is a list", saved([1, 2]), "c.ckpt"),
    checkpoint("a checkpoint without weights", saved({"epoch": 1}), "c.ckpt"),
    checkpoint("a checkpoint of weights alone", saved({"model.wrong.weight": torch.ones(2)}), "c.ckpt"),
    checkpoint("a checkpoint of another architecture", _WEIGHTS, "model.model.embed_tokens.weight"),
    checkpoint("a checkpoint of another architecture to resume from", _WEIGHTS, "c.ckpt", verb="fit"),
    checkpoint("a checkpoint whose weights are text", saved({"state_dict": {"model.a": "b"}}), "c.ckpt"),
    checkpoint("a checkpoint whose weights are a list", saved({"state_dict": [1]}), "c.ckpt"),
    checkpoint("a folder that is no checkpoint", _folder, "c.ckpt"),
    checkpoint("predict: a folder that is no checkpoint", _folder, "c.ckpt", verb="predict"),
    checkpoint("test: a checkpoint that is cut", _WEIGHTS[:100], "c.ckpt", verb="test"),
    Case("a checkpoint that is not there", f"test {FIT[4:]} --ckpt_path=nix.ckpt", ("--ckpt_path", "nix.ckpt")),
    Case("a checkpoint of no name", f"validate {FIT[4:]} --ckpt_path=", ("--ckpt_path",)),
    Case(
        "export: a checkpoint that is cut",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("c.ckpt",),
        {"c.ckpt": _WEIGHTS[:100]},
    ),
    Case(
        "export: a payload",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("--ckpt_path", "c.ckpt"),
        {"c.ckpt": saved({"state_dict": Malicious()})},
    ),
    Case(
        "export: a checkpoint of another architecture",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("model.model.embed_tokens.weight",),
        {"c.ckpt": _WEIGHTS},
    ),
    Case(
        "export: a checkpoint without weights",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("c.ckpt",),
        {"c.ckpt": saved({"epoch": 1})},
    ),
    Case(
        "export: a checkpoint that is a list",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("c.ckpt",),
        {"c.ckpt": saved([1])},
    ),
    Case(
        "export: a folder that is no checkpoint",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("c.ckpt",),
        {"c.ckpt": _folder},
    ),
    Case(
        "export: a broken archive",
        "export --config=quickstart --ckpt_path=c.ckpt --output=o",
        ("c.ckpt",),
        {"c.ckpt": _archive("archive/data.pkl", b"\x80\x02garbage")},
    ),
    Case(
        "generate: a payload",
        "generate --config=quickstart --prompt=Hi --device=cpu --ckpt_path=c.ckpt",
        ("--ckpt_path", "c.ckpt"),
        {"c.ckpt": saved({"state_dict": Malicious()})},
    ),
    Case(
        "evaluate: a payload",
        "evaluate --clean-loss --config=quickstart --ckpt_path=c.ckpt",
        ("--ckpt_path", "c.ckpt"),
        {"c.ckpt": saved({"state_dict": Malicious()})},
    ),
    Case(
        "evaluate: a checkpoint of another architecture",
        "evaluate --clean-loss --config=quickstart --ckpt_path=c.ckpt",
        ("model.model.embed_tokens.weight",),
        {"c.ckpt": _WEIGHTS},
    ),
]

MODELS = [
    model("a model that is an empty folder", _folder, "m", "config.json", "adapter_config.json"),
    model("a model without a config", _tiny(config__json=None), "m", "config.json"),
    model("a model without weights", _tiny(model__safetensors=None), "m"),
    model("a model without a tokenizer", _tiny(tokenizer__json=None), "m"),
    model("weights that are cut", _tiny(model__safetensors=b"\x10\0\0\0"), "m"),
    model("weights that are empty", _tiny(model__safetensors=b""), "m"),
    model("weights that are a pickle", _tiny(model__safetensors=pickle.dumps(Malicious())), "m"),
    model("a config that is cut", _tiny(config__json='{"model_type": "ll'), "m"),
    model("a config that is a list", _tiny(config__json=[1]), "m"),
    model("a config of an unknown architecture", _tiny(config__json={"model_type": "nobody"}), "nobody"),
    model("a config without an architecture", _tiny(config__json={}), "m"),
    model("a config with a width of text", _tiny(config__json={"model_type": "llama", "hidden_size": "wide"}), "m"),
    model(
        "a config with other sizes",
        _tiny(
            config__json={
                "model_type": "llama",
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_attention_heads": 2,
                "num_hidden_layers": 1,
                "vocab_size": 16,
            }
        ),
        "m",
    ),
    model("a tokenizer that is cut", _tiny(tokenizer__json='{"version": "1'), "m"),
    model("a tokenizer that is a list", _tiny(tokenizer__json=[]), "m"),
    model("facts that are cut", _tiny(lightning_neft__json='{"format": 1'), "lightning_neft.json"),
    model("facts that are a list", _tiny(lightning_neft__json=[1]), "lightning_neft.json"),
    model("facts of a later form", _tiny(lightning_neft__json={"format": 99}), "lightning_neft.json"),
    model(
        "facts of a task that there is not",
        _tiny(
            lightning_neft__json={
                "format": 1,
                "base": "tiny",
                "architecture": "x",
                "task": "dance",
                "template": "alpaca",
                "max_length": 9,
                "alpha": 5,
                "recipe": "r",
                "versions": {},
            }
        ),
        "lightning_neft.json",
    ),
    model("adapters of a base that is not named", _tiny(adapter_config__json={}), "adapter_config.json"),
    model("adapters that are a list", _tiny(adapter_config__json=[]), "adapter_config.json"),
    model(
        "adapters without weights",
        _tiny(adapter_config__json={"base_model_name_or_path": "tiny"}),
        "adapter_model.safetensors",
    ),
    model(
        "adapters that are a pickle",
        _tiny(adapter_config__json={"base_model_name_or_path": "tiny", "peft_type": "LORA"}, adapter_model__bin=b"x"),
        "adapter_model.safetensors",
    ),
    model(
        "adapters that are cut",
        _tiny(
            adapter_config__json={"base_model_name_or_path": "tiny", "peft_type": "LORA"},
            adapter_model__safetensors=b"x",
        ),
        "m",
    ),
    model(
        "adapters of themselves",
        _tiny(
            adapter_config__json={"base_model_name_or_path": "m", "peft_type": "LORA"}, adapter_model__safetensors=b"x"
        ),
        "m",
    ),
    model(
        "a model with code of its own",
        _tiny(
            config__json={"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}},
            mine__py="open('touched', 'w')",
        ),
        "m",
    ),
    model("doctor: weights that are cut", _tiny(model__safetensors=b"\x10"), "m", command="doctor --model=m"),
    model("doctor: a config that is a list", _tiny(config__json=[1]), "m", command="doctor --model=m"),
    model("doctor: no config", _folder, "m", command="doctor --model=m"),
    model(
        "export: weights that are cut", _tiny(model__safetensors=b"\x10"), "m", command="export --model=m --output=o"
    ),
    model("export: no config", _folder, "m", command="export --model=m --output=o"),
    model("fit: weights that are cut", _tiny(model__safetensors=b"\x10"), "m", command=f"{FIT} --model.base=m"),
    model(
        "fit: a config of an unknown architecture",
        _tiny(config__json={"model_type": "nobody"}),
        "nobody",
        command=f"{FIT} --model.base=m",
    ),
    model("fit: a tokenizer that is cut", _tiny(tokenizer__json="{"), "m", command=f"{FIT} --model.base=m"),
    Case("generate: a model that is a file", f"{_GENERATE} --model=data.json", ("data.json",)),
    Case("doctor: a model that is a file", "doctor --model=data.json", ("data.json",)),
    Case("export: a model that is a file", "export --model=data.json --output=o", ("data.json",)),
    Case("export: a model that is not there", "export --model=./nix --output=o", ("./nix",)),
    Case("generate: a model of an empty name", f"{_GENERATE} --model=", ("''",)),
    Case("doctor: a model of an empty name", "doctor --model=", ("''",)),
    Case(
        "generate: a device that there is not",
        "generate --model=tiny --template=alpaca --prompt=a --device=gpu9",
        ("--device", "gpu9"),
    ),
    Case(
        "generate: a template that there is not",
        "generate --model=tiny --prompt=a --template=alpacca",
        ("alpacca", "alpaca"),
    ),
    Case(
        "generate: a dtype that there is not",
        "generate --model=tiny --prompt=a --dtype=int8",
        ("--dtype", "int8", "bfloat16"),
    ),
]

PLACES = [
    Case("runs is a file", FIT, ("runs",), {"runs": "x"}),
    Case("the folder of the run is a file", f"{FIT} --name=a", ("runs/a",), {"runs/a": "x"}),
    Case("the root of runs is a file", f"{FIT} --trainer.default_root_dir=data.json", ("data.json",)),
    Case("the root of runs is below a file", f"{FIT} --trainer.default_root_dir=data.json/x", ("data.json",)),
    Case("the root of runs is in /proc", f"{FIT} --trainer.default_root_dir=/proc/nix", ("/proc/nix",)),
    Case("checkpoints below a file", f"{FIT} --checkpoint.dirpath=data.json/x", ("data.json",)),
    Case("predictions below a file", f"predict {FIT[4:]} --trainer.default_root_dir=data.json/x", ("data.json",)),
    Case("generate: an output below a file", f"{_FILE} --output=outputs.json/o.json", ("outputs.json",)),
    Case("generate: an output in /proc", f"{_FILE} --output=/proc/o.json", ("/proc/", "o.json.partial.jsonl")),
    Case(
        "generate: an output that is there",
        "generate --model=tiny --template=alpaca --input=data.json --output=outputs.json",
        ("outputs.json", "--overwrite"),
    ),
    Case(
        "generate: an output that is a folder",
        "generate --model=tiny --template=alpaca --input=data.json --output=.",
        ("--output .",),
    ),
    Case(
        "generate: kept answers that are none",
        f"{_FILE} --output=o.json",
        ("o.json.partial.jsonl",),
        {"o.json.partial.jsonl": "[1]\n"},
    ),
    Case(
        "generate: kept answers of another model",
        f"{_FILE} --output=o.json",
        ("o.json.partial.jsonl", "--overwrite"),
        {"o.json.partial.jsonl": '{"fingerprint": "x"}\n{"index": 0, "output": "a"}\n'},
    ),
    Case(
        "generate: kept answers that are a number",
        f"{_FILE} --output=o.json",
        ("o.json.partial.jsonl",),
        {"o.json.partial.jsonl": "5\n"},
    ),
    Case(
        "generate: kept answers that are a folder",
        f"{_FILE} --output=o.json",
        ("o.json.partial.jsonl",),
        {"o.json.partial.jsonl/x": "5\n"},
    ),
    Case("export: an output that is a file", "export --model=tiny --output=data.json", ("--output", "data.json")),
    Case("export: an output in use", "export --model=tiny --output=.", ("--output", "--overwrite")),
    Case(
        "export: an output below a file", "export --model=tiny --template=alpaca --output=data.json/x", ("data.json",)
    ),
    Case("export: an output in /proc", "export --model=tiny --template=alpaca --output=/proc/x", ("/proc/.x.",)),
    Case("export: a repository of no name", "export --model=tiny --push=a/b/c", ("--push", "'a/b/c'")),
    Case("export: a repository by a path", "export --model=tiny --push=../x", ("--push", "'../x'")),
    Case("recipes copy: below a file", "recipes copy quickstart data.json/x.yaml", ("data.json/x.yaml",)),
    Case("recipes copy: a file that is there", "recipes copy quickstart data.json", ("data.json",)),
    Case("recipes copy: into /proc", "recipes copy quickstart /proc/x.yaml", ("/proc/x.yaml",)),
    Case("evaluate: an output below a file", "evaluate --outputs outputs.json --out data.json/r.json", ("data.json",)),
    Case("evaluate: an output in /proc", "evaluate --outputs outputs.json --out /proc/x/r.json", ("/proc/x",)),
    Case("report: a page below a file", "report outputs.json --out data.json/r.html", ("data.json",)),
    Case("report: a page in /proc", "report outputs.json --out /proc/x/r.html", ("/proc/x",)),
    Case("report: a page over its input", "report outputs.json --out outputs.json", ("outputs.json",)),
    Case(
        "study: a folder below a file",
        "study --alphas=0,5 --data.source=data.json --data.val_size=2 --out=data.json/x",
        ("data.json",),
    ),
]

CASES = [*CHECKPOINTS, *MODELS, *PLACES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)
