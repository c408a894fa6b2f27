"""Model folders whose numbers are none that a model can have, or would take time and memory without end."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from bad_input.refusals import FIT, Case, put
from bad_input.test_code import tiny
from lightning_neft.hub.tiny_models import TINY
from lightning_neft.models.weights import load_weights

GENERATE = "generate --model=m --device=cpu --template=alpaca --prompt=Hi --max_new_tokens=2"
# Takes a regular expression centuries on the names of a model's modules.
ENDLESS = "(([a-z_.0-9])+)+X"


def config(key: str, value: object, *says: str) -> Case:
    """The tiny model with another value in its config.json."""
    says = says or ("config.json of model base 'm'", f"{key} must be", f"got {value!r}")
    return Case(f"config: {key} is {value!r}", GENERATE, says, {"m": tiny(config__json={key: value})})


def tokenizer(what: str, file: str, change: Callable[[dict[str, Any]], object], *says: str) -> Case:
    """The tiny model with a change in a file of its tokenizer."""

    def make(path: Path) -> None:
        tiny()(path)
        values = json.loads((path / file).read_text(encoding="utf-8"))
        change(values)
        put(path / file, json.dumps(values))

    return Case(
        f"tokenizer: {what}", GENERATE, says or ("the tokenizer of model base 'm' cannot be loaded",), {"m": make}
    )


def _longer_each_time(values: dict[str, Any]) -> None:
    rule = {"type": "Replace", "pattern": {"Regex": "."}, "content": "x" * 10}
    values["normalizer"] = {"type": "Sequence", "normalizers": [rule] * 10}


CONFIGS = [
    config("vocab_size", -1),
    config("vocab_size", 10**30),
    config("hidden_size", -8),
    config("intermediate_size", -1),
    config("num_attention_heads", 0),
    config("num_key_value_heads", 0),
    config("head_dim", 0),
    config("num_hidden_layers", -1),
    config("num_hidden_layers", 10**9),
    config("num_labels", 10**9),
    config("num_hidden_layers", 1000, "num_hidden_layers is 1000, but its weights are", "tensors"),
    config("intermediate_size", 10**9, "config.json of model base 'm' describes a model of", "its files have 984192"),
    config("hidden_size", 101, "the config of model base 'm'", "config.json", "101", "not a multiple"),
    config("vocab_size", "many", "the config of model base 'm'", "config.json", "'vocab_size' expected int"),
    config("pad_token_id", 10**9, "config.json: pad_token_id must be null or less than vocab_size"),
    config("return_dict", False, "return_dict must be true"),
    config("dtype", [1], "model base 'm' cannot be loaded"),
    Case("config: brackets without end", GENERATE, ("'m'",), {"m": tiny(config__json='{"a":' * 100_000)}),
    Case(
        "fit: no heads",
        f"{FIT} --model.base=m",
        ("num_attention_heads",),
        {"m": tiny(config__json={"num_attention_heads": 0})},
    ),
    Case("doctor: no words", "doctor --model=m", ("vocab_size must be",), {"m": tiny(config__json={"vocab_size": -1})}),
    Case(
        "fit: a classifier of a million times the weights",
        f"{FIT} --model.base=m --task=sequence_classification",
        ("describes a model of",),
        {
            "m": tiny(config__json={"intermediate_size": 10**9}),
            "data.json": [{"text": word, "label": len(word) % 2} for word in ("a", "bb", "c", "dd", "e", "ff")],
        },
    ),
]
TOKENIZERS = [
    tokenizer(
        "a length of text", "tokenizer_config.json", lambda v: v.update(model_max_length="a"), "model_max_length"
    ),
    tokenizer("negative ids", "tokenizer.json", lambda v: v["model"].update(vocab={"a": -1})),
    tokenizer("merges of what there is not", "tokenizer.json", lambda v: v["model"].update(merges=[["qqq", "zzz"]])),
    tokenizer("a pattern that is none", "tokenizer.json", lambda v: v.update(decoder={"type": "Nix"})),
    # The libraries print more than the line here.
    tokenizer(
        "a prefix longer than its words", "tokenizer.json", lambda v: v["model"].update(continuing_subword_prefix="##")
    ),
    tokenizer("a text ten times as long ten times", "tokenizer.json", _longer_each_time, "more than 1024 MB"),
    Case("tokenizer: brackets without end", GENERATE, ("tokenizer", "'m'"), {"m": tiny(tokenizer__json="[" * 100_000)}),
    Case("decoding: brackets without end", GENERATE, ("'m'",), {"m": tiny(generation_config__json='{"a":' * 100_000)}),
]


@pytest.mark.parametrize("case", [*CONFIGS, *TOKENIZERS], ids=str)
def test_is_refused_in_one_line(case: Case, refused: Callable[[Case], None]) -> None:
    refused(case)


@pytest.fixture(autouse=True)
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never ends is stopped sooner."""
    monkeypatch.setattr("lightning_neft.common.limits._SECONDS", 1)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of the tiny model as peft writes them, with its tokenizer."""
    folder = tmp_path_factory.mktemp("adapters")
    model, _ = load_weights("AutoModelForCausalLM", "tiny")
    options = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    get_peft_model(model, options).save_pretrained(str(folder))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, folder / name)
    return folder


HEADER = json.dumps({"a.lora_A.weight": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}).encode()


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("r", 0, "r must be a whole number from 1 to 4, the rank of the weights beside it, got 0"),
        ("r", 10**9, "r must be a whole number from 1 to 4"),
        ("r", "a", "r must be a whole number"),
        ("r", True, "r must be a whole number"),
        ("rank_pattern", {"q_proj": 10**9}, "rank_pattern must be a mapping to whole numbers from 1 to 4"),
        ("rank_pattern", {ENDLESS: 4}, "it does not end within 1 seconds to match its patterns"),
        ("target_modules", ENDLESS, "it does not end within 1 seconds to match its patterns"),
        ("target_modules", "(", "the adapters of model base"),
        ("target_modules", 3, "target_modules must be a pattern or a list"),
        ("target_modules", ["x"] * 100_000, "target_modules must be a pattern or a list of up to 10000 names"),
        ("lora_alpha", float("nan"), "lora_alpha must be a finite number, got nan"),
        ("bias", "nix", "the adapters of model base"),
        ("trainable_token_indices", [10**9], "the adapters of model base"),
        ("layer_replication", [[0, 4]] * 1000, "layer_replication must be null"),
        ("peft_type", "IA3", "peft_type must be LORA, got 'IA3'"),
        ("base_model_name_or_path", None, "base_model_name_or_path must be the folder or hub id"),
        ("base_model_name_or_path", ["tiny"], "base_model_name_or_path must be the folder or hub id"),
        ("base_model_name_or_path", "x" * 100_000, "base_model_name_or_path must be the folder or hub id"),
        (None, "[" * 100_000, "adapter_config.json cannot be read"),
        (None, struct.pack("<Q", 2**60) + b"{}", "the adapters of model base"),
        (None, struct.pack("<Q", len(HEADER)) + HEADER + b"0000", "the adapters of model base"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_adapters_are_refused_in_one_line(
    key: str | None, value: Any, says: str, adapters: Path, refused: Callable[[Case], None]
) -> None:
    def make(path: Path) -> None:
        shutil.copytree(adapters, path)
        if key is not None:
            values = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
            put(path / "adapter_config.json", json.dumps({**values, "base_model_name_or_path": "tiny", key: value}))
        elif isinstance(value, bytes):
            put(path / "adapter_model.safetensors", value)
        else:
            put(path / "adapter_config.json", value)

    refused(Case("adapters", GENERATE, (says,), {"m": make}))
