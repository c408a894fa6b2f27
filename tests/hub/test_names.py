"""Names of base models."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, GraniteConfig

from lightning_neft.errors import ModelError
from lightning_neft.hub.names import RANDOM_T5, loading, resolve_base
from lightning_neft.hub.tiny_models import TINY


def test_tiny_is_the_folder_in_the_package() -> None:
    assert resolve_base("tiny") == resolve_base("tiny-llama") == str(TINY)


def test_the_random_encoder_decoder_is_made_once_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    folder = Path(resolve_base(RANDOM_T5))
    assert folder.is_relative_to(tmp_path)
    assert AutoConfig.from_pretrained(folder).is_encoder_decoder
    assert AutoTokenizer.from_pretrained(folder)("Say cat.")["input_ids"]
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert resolve_base(RANDOM_T5) == str(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_a_hub_id_stays_as_it_is_and_a_folder_has_to_be_there(tmp_path: Path) -> None:
    assert resolve_base("owner/tiny-t5") == "owner/tiny-t5"
    with pytest.raises(ModelError, match="no such folder"):
        resolve_base(str(tmp_path / "none"))
    with pytest.raises(ModelError, match="no such folder"):
        resolve_base("runs/none/model")


def test_a_missing_class_is_reported_without_listing_all() -> None:
    with pytest.raises(ModelError) as caught, loading("weights", "some/base"):
        AutoModelForSequenceClassification.from_config(GraniteConfig())
    assert str(caught.value) == (
        "the weights of model base 'some/base' cannot be loaded: transformers has no "
        "AutoModelForSequenceClassification for a GraniteConfig; give another base, or another task"
    )


def test_a_long_reason_is_one_line_that_is_cut() -> None:
    with pytest.raises(ModelError) as caught, loading("config", "some/base"):
        raise OSError("it is not\nthere " + "and so on " * 100)
    line = str(caught.value)
    assert line.startswith("the config of model base 'some/base' cannot be loaded: it is not there and so on ")
    assert line.endswith(" ...")
    assert len(line) < 500
