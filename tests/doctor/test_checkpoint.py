"""Tensors and rows of checkpoints, under names that may differ, from only the files that hold them."""

from __future__ import annotations

import json

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file

from doctor.small import built
from lightning_neft.doctor.checkpoint import Checkpoint
from lightning_neft.errors import ModelError


def of(folder, *names):
    """A checkpoint with tensors of these names."""
    save_file({name: torch.full((2, 3), float(i)) for i, name in enumerate(names)}, folder / "model.safetensors")
    return Checkpoint(str(folder))


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ("model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("wte.weight", "transformer.wte.weight"),
        ("transformer.wte.weight", "wte.weight"),
        ("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
        ("bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("embeddings.LayerNorm.beta", "bert.embeddings.LayerNorm.bias"),
    ],
)
def test_a_weight_is_found_under_another_name(tmp_path, stored, wanted):
    assert of(tmp_path, "other.norm.weight", stored).find([wanted], taken=()) == stored


def test_any_of_the_names_of_a_shared_weight_will_do(tmp_path):
    checkpoint = of(tmp_path, "shared.weight", "lm_head.weight")
    assert checkpoint.find(["encoder.embed_tokens.weight", "shared.weight"], taken=()) == "shared.weight"


def test_the_weight_of_another_module_is_not_taken(tmp_path):
    checkpoint = of(tmp_path, "model.layers.0.norm.weight", "model.layers.1.norm.weight")
    names = ["model.layers.0.norm.weight", "model.layers.1.norm.weight"]
    assert checkpoint.find(["model.norm.weight"], taken=names) is None
    assert checkpoint.find(["model.embed_tokens.weight"], taken=()) is None


def test_two_names_that_fit_equally_well_are_an_error(tmp_path):
    checkpoint = of(tmp_path, "text.embed_tokens.weight", "speech.embed_tokens.weight")
    with pytest.raises(ModelError, match=r"model\.embed_tokens\.weight could be any of .*speech.*text|text.*speech"):
        checkpoint.find(["model.embed_tokens.weight"], taken=())


def test_rows_are_those_of_the_tensor(tmp_path):
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"table": values}, tmp_path / "model.safetensors")
    checkpoint = Checkpoint(str(tmp_path))
    rows = torch.tensor([6, 0, 3])
    assert torch.equal(checkpoint.read("table", values.shape, rows), values[rows])
    assert torch.equal(checkpoint.read("table", values.shape), values)
    assert checkpoint.dtype() == torch.bfloat16


def test_a_tensor_of_another_shape_is_an_error(tmp_path):
    message = r"model\.safetensors: table has shape \(2, 3\), but the config gives \(2, 4\); use files of one model"
    with pytest.raises(ModelError, match=message):
        of(tmp_path, "table").read("table", torch.Size((2, 4)))


def test_only_shards_with_a_requested_tensor_are_opened(saved):
    model = built("Llama")
    folder = saved(model, max_shard_size="15KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    wanted = index["model.embed_tokens.weight"]
    assert len(set(index.values())) > 2
    for other in set(index.values()) - {wanted}:
        (folder / other).unlink()
    checkpoint = Checkpoint(str(folder))
    table = model.get_input_embeddings().weight
    found = checkpoint.find(["model.embed_tokens.weight"], taken=())
    assert torch.equal(checkpoint.read(found, table.shape, torch.tensor([5])), table[[5]])
    norm = index["model.norm.weight"]
    assert norm != wanted
    with pytest.raises(ModelError, match=f"{norm} is missing, but the index lists it"):
        checkpoint.read("model.norm.weight", torch.Size((32,)))


def test_only_shards_with_a_requested_tensor_are_downloaded(saved, monkeypatch):
    """The hub is a folder here."""
    model = built("Llama")
    folder = saved(model, max_shard_size="15KB")
    fetched = []

    def download(repository, name):
        assert repository == "somebody/something"
        if not (folder / name).is_file():
            raise EntryNotFoundError(name)
        fetched.append(name)
        return str(folder / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    checkpoint = Checkpoint("somebody/something")
    table = model.get_input_embeddings().weight
    assert torch.equal(checkpoint.read("model.embed_tokens.weight", table.shape, torch.tensor([5])), table[[5]])
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))["weight_map"]
    assert fetched == ["model.safetensors.index.json", index["model.embed_tokens.weight"]]
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"'somebody/something' has no model\.safetensors"):
        Checkpoint("somebody/something")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"has no model\.safetensors; use --random-init to examine its config only"),
        ({"pytorch_model.bin": b"x"}, r"has only pickled weights \(\.bin\), which are refused because loading them "),
        ({"model.safetensors": b"no header"}, r"model\.safetensors is not a safetensors file, or is incomplete"),
        ({"model.safetensors.index.json": b"{}"}, r"index\.json is not a checkpoint index: KeyError\('weight_map'\)"),
        ({"model.safetensors.index.json": b"{"}, r"index\.json is not a checkpoint index: JSONDecodeError"),
    ],
)
def test_a_folder_without_readable_weights_is_an_error(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        Checkpoint(str(tmp_path))


def test_a_file_that_was_cut_is_an_error(saved):
    folder = saved(built("Llama"))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="is not a safetensors file, or is incomplete"):
        Checkpoint(str(folder))
