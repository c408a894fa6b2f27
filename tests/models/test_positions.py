"""Samples that are longer than a model has positions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import BertConfig, GPT2Config, LlamaConfig, PretrainedConfig, RobertaConfig, T5Config

from lightning_neft.cli.main import main
from lightning_neft.data.module import TextData
from lightning_neft.errors import ModelError
from lightning_neft.models.vocabulary import check_positions


def saved(config: PretrainedConfig, folder: Path) -> str:
    config.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (BertConfig(max_position_embeddings=64), 64),
        (GPT2Config(n_positions=32), 32),
        # Two of the rows come before the first position.
        (RobertaConfig(max_position_embeddings=66, pad_token_id=1), 64),
    ],
    ids=["bert", "gpt2", "roberta"],
)
def test_a_table_of_positions_has_an_end(config: PretrainedConfig, positions: int, tmp_path: Path) -> None:
    base = saved(config, tmp_path)
    check_positions(base, positions)
    with pytest.raises(
        ModelError, match=f"has {positions + 1} tokens.* has {positions} positions; set data.max_length={positions}$"
    ):
        check_positions(base, positions + 1)


def test_rotary_positions_go_on_with_a_warning(tmp_path: Path) -> None:
    base = saved(LlamaConfig(max_position_embeddings=64), tmp_path)
    check_positions(base, 64)
    with pytest.warns(UserWarning, match="the longest sample has 65 tokens"):
        check_positions(base, 65)


def test_relative_positions_have_no_end(tmp_path: Path) -> None:
    check_positions(saved(T5Config(), tmp_path), 100_000)


def test_the_longest_sample_is_looked_for_in_all_of_them(tmp_path: Path) -> None:
    records = [{"prompt": "a " * count, "completion": "b"} for count in (3, 40, 5)]
    (tmp_path / "data.json").write_text(json.dumps(records))
    for held_out in (1, 0):
        data = TextData(str(tmp_path / "data.json"), val_size=held_out, cache_dir=str(tmp_path / "cache"))
        data.setup("fit")
        stores = [store for store in (data.prepared.train, data.prepared.held_out) if store is not None]
        assert data.longest_sample == max(len(store[i].input_ids) for store in stores for i in range(len(store)))


def test_a_fit_ends_with_one_line_before_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    from lightning_neft.hub.tiny_models import TINY

    base = tmp_path / "base"
    saved(GPT2Config(n_positions=16), base)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (base / file).write_bytes((TINY / file).read_bytes())
    assert main(["fit", f"--model.base={base}", "--trainer.accelerator=cpu", "--trainer.max_steps=1"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lightning_neft: ")]
    assert "has 16 positions; set data.max_length=16" in line
