"""doctor on vision-language bases: the text embedding gets noise, and the towers are named."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lightning_neft.doctor import subject
from lightning_neft.doctor.batch import sample_batch
from lightning_neft.doctor.examine import examine
from lightning_neft.doctor.subject import open_subject
from lightning_neft.doctor.table import print_report
from lightning_neft.hub.base_config import load_base_config
from lightning_neft.noise.injector import EmbeddingNoise
from vision_bases import TOWERS, save_base


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("family", ["Gemma 3", "Gemma 4", "Qwen3.5"])
def test_towers_are_named_and_text_gets_the_noise(family, is_large, tmp_path, monkeypatch):
    folder = save_base(family, tmp_path / "base")
    if is_large:  # few of its weights are read, by the keys of the checkpoint
        monkeypatch.setattr(subject, "_SMALL", 0)
    config = load_base_config(folder, attn_implementation="eager")
    found = open_subject(config, folder)
    batch, _ = sample_batch(config, None, writes=True)
    report = examine(found, batch, EmbeddingNoise(alpha=5), options={"alpha": 5.0}, is_of_user=False)
    assert [one.name for one in report.embeddings] == ["model.language_model.embed_tokens"]
    assert not [note for note in report.notes if "initialised" in note]
    assert report.model.towers.startswith(f"{', '.join(TOWERS[family])} (")
    assert report.to_json()["model"]["towers"] == report.model.towers
    file = io.StringIO()
    print_report(report, Console(file=file, width=120))
    row = file.getvalue().partition("\ntowers")[2].partition("\nweights")[0]
    assert " ".join(row.split()) == f"{report.model.towers} read no text: freeze them in your own module"
