"""The config of a base: found, checked and loaded."""

from __future__ import annotations

import pytest

from lightning_neft.errors import ModelError
from lightning_neft.hub.base_config import find_base, load_base_config
from lightning_neft.hub.tiny_models import TINY


def test_tiny_and_a_config_file_can_be_named(tmp_path):
    assert find_base("tiny") == str(TINY)
    file = tmp_path / "config.json"
    file.write_text((TINY / "config.json").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_base_config(str(file)).hidden_size == load_base_config("tiny").hidden_size == 128


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, r"has no config\.json; give the folder of a transformers model"),
        (
            lambda folder: (folder / "adapter_config.json").touch(),
            "holds only adapters; give the model that they were",
        ),
        (
            lambda folder: (folder / "config.json").write_text("{"),
            r"the config of model base .* cannot be loaded: .*JSON",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'),
            r"the config of model base .* cannot be loaded: .*nonesuch",
        ),
    ],
)
def test_a_folder_without_a_config_of_use_is_an_error(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_base_config(str(tmp_path))


def test_a_file_that_is_not_a_config_is_an_error(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match="is a file; give a folder"):
        load_base_config(str(tmp_path / "model.safetensors"))


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        load_base_config(str(tmp_path / "nope"))
