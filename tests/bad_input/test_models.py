"""Model folders with impossible numbers, or with numbers that would take unlimited time and memory."""

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

GENERATE = "generate --model=m --device=cpu --template=alpaca --prompt=Hi --max-new-tokens=2"
# Takes a regular expression centuries on the names of a model's modules.
ENDLESS = "(([a-z_.0-9])+)+X"


def config(key: str, value: object, *names: str) -> Case:
    """The tiny model with another value in its config.json."""
    names = names or ("config.json", "'m'", key, repr(value))
    return Case(f"config: {key} is {value!r}", GENERATE, names, {"m": tiny(config__json={key: value})})


def tokenizer(what: str, file: str, change: Callable[[dict[str, Any]], object], *names: str) -> Case:
    """The tiny model with a change in a file of its tokenizer."""

    def make(path: Path) -> None:
        tiny()(path)
        values = json.loads((path / file).read_text(encoding="utf-8"))
        change(values)
        put(path / file, json.dumps(values))

    return Case(f"tokenizer: {what}", GENERATE, names or ("tokenizer", "'m'"), {"m": make})


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
    config("num_hidden_layers", 1000, "num_hidden_layers", "1000"),
    config("intermediate_size", 10**9, "config.json", "'m'", "984192"),
    config("hidden_size", 101, "'m'", "config.json", "101"),
    config("vocab_size", "many", "'m'", "config.json", "'vocab_size'"),
    config("pad_token_id", 10**9, "config.json", "pad_token_id", "vocab_size"),
    config("return_dict", False, "return_dict"),
    config("dtype", [1], "'m'"),
    Case("config: brackets without end", GENERATE, ("'m'",), {"m": tiny(config__json='{"a":' * 100_000)}),
    Case(
        "fit: no heads",
        f"{FIT} --model.base=m",
        ("num_attention_heads",),
        {"m": tiny(config__json={"num_attention_heads": 0})},
    ),
    Case("doctor: no words", "doctor --model=m", ("vocab_size",), {"m": tiny(config__json={"vocab_size": -1})}),
    Case(
        "fit: a classifier of a million times the weights",
        f"{FIT} --model.base=m --task=sequence_classification",
        (),
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
    # Whether time or memory ends first depends on the machine.
    tokenizer("a text ten times as long ten times", "tokenizer.json", _longer_each_time),
    Case("tokenizer: brackets without end", GENERATE, ("'m'",), {"m": tiny(tokenizer__json="[" * 100_000)}),
    Case("decoding: brackets without end", GENERATE, ("'m'",), {"m": tiny(generation_config__json='{"a":' * 100_000)}),
]


@pytest.mark.parametrize("case", [*CONFIGS, *TOKENIZERS], ids=str)
def test_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)


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


ADAPTERS: dict[str, tuple[str | None, Any, tuple[str, ...]]] = {
    "no rank": ("r", 0, ("r", "1", "4", "0")),
    "a rank beyond that of the weights": ("r", 10**9, ("r", "1", "4")),
    "a rank of text": ("r", "a", ("r", "'a'")),
    "a rank of true": ("r", True, ("r", "True")),
    "a rank of a module beyond that of the weights": ("rank_pattern", {"q_proj": 10**9}, ("rank_pattern", "1", "4")),
    "an endless pattern of ranks": ("rank_pattern", {ENDLESS: 4}, ("rank_pattern", "1 seconds")),
    "an endless pattern": ("target_modules", ENDLESS, ("target_modules", "1 seconds")),
    "a broken pattern": ("target_modules", "(", ("'m'",)),
    "modules that are a number": ("target_modules", 3, ("target_modules", "3")),
    "too many modules": ("target_modules", ["x"] * 100_000, ("target_modules", "10000")),
    "an alpha of NaN": ("lora_alpha", float("nan"), ("lora_alpha", "nan")),
    "an unknown bias": ("bias", "nix", ("'m'", "nix")),
    "tokens beyond the vocabulary": ("trainable_token_indices", [10**9], ("'m'",)),
    "repeated layers": ("layer_replication", [[0, 4]] * 1000, ("layer_replication",)),
    "another type": ("peft_type", "IA3", ("peft_type", "LORA", "'IA3'")),
    "no base": ("base_model_name_or_path", None, ("base_model_name_or_path",)),
    "a list for the base": ("base_model_name_or_path", ["tiny"], ("base_model_name_or_path", "['tiny']")),
    "a base of a long name": ("base_model_name_or_path", "x" * 100_000, ("base_model_name_or_path",)),
    "brackets without end": (None, "[" * 100_000, ("adapter_config.json",)),
    "weights whose header has no end": (None, struct.pack("<Q", 2**60) + b"{}", ("'m'",)),
    "weights of a shape without end": (None, struct.pack("<Q", len(HEADER)) + HEADER + b"0000", ("'m'",)),
}


@pytest.mark.parametrize(("key", "value", "names"), ADAPTERS.values(), ids=ADAPTERS)
def test_adapters_are_refused_in_one_line(
    key: str | None, value: Any, names: tuple[str, ...], adapters: Path, assert_refused: Callable[[Case], None]
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

    assert_refused(Case("adapters", GENERATE, names, {"m": make}))
