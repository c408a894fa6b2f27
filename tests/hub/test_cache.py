"""A hub that does not answer, and one that does."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig

from lightning_neft.errors import ModelError
from lightning_neft.hub import cache
from lightning_neft.hub.cache import cache_without_hub
from lightning_neft.hub.names import loading
from lightning_neft.hub.tiny_models import TINY


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bases that the hub was asked for; it does not answer."""
    bases: list[str] = []

    def no_answer(self: object, base: str, **options: object) -> None:
        bases.append(base)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", no_answer)
    cache._answers.cache_clear()
    return bases


def offline_within(base: str) -> bool:
    with cache_without_hub(base):
        return constants.is_offline_mode()


def test_without_a_response_loading_is_offline(asked: list[str]) -> None:
    assert offline_within("owner/model")
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(ValueError, match="broken"), cache_without_hub("owner/model"):
        raise ValueError("broken")
    assert not constants.HF_HUB_OFFLINE
    assert asked == ["owner/model"]  # once, for both


def test_a_base_that_is_not_in_the_cache_is_one_line_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    begun = time.monotonic()
    expected = "the config of model base 'owner/model' cannot be loaded: We couldn't connect"
    with pytest.raises(ModelError, match=expected), loading("config", "owner/model"):
        AutoConfig.from_pretrained("owner/model", cache_dir=tmp_path)
    assert time.monotonic() - begun < 5


def test_a_hub_that_answers_is_used_even_if_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, base: str, **options: object) -> None:
        raise HFValidationError("no such name")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    assert not offline_within("owner/model")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **options: SimpleNamespace())
    assert not offline_within("owner/other")


def test_no_query_for_a_folder_or_an_offline_user(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not offline_within(str(TINY))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert offline_within("owner/model")
    assert constants.HF_HUB_OFFLINE
    assert asked == []
