"""The data module: splitting, notices, batches, and what it refuses."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_neft.data.module import InstructionData
from lightning_neft.data.order import HeldOutOrder, TrainOrder
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import ConfigError, DataError


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"instruction": f"Say {i}", "output": "bye " * i} for i in range(1, 21)]))
    return str(path)


def prepared(source: str, tokenizer: str, **options) -> InstructionData:
    data = InstructionData(source, tokenizer, **options)
    data.setup("fit")
    return data


def test_toy_data_come_with_held_out_samples_of_their_own(words_folder: str) -> None:
    data = prepared("toy", words_folder, val_size=3)
    assert [vars(sample) for sample in data.train_samples] == toy_instructions("train")
    assert [vars(sample) for sample in data.held_out_samples] == toy_instructions("held_out")


@pytest.mark.parametrize(("val_size", "count"), [(4, 4), (0.25, 5), (0.001, 1), (19, 19)])
def test_a_file_is_split_by_count_or_share(source: str, words_folder: str, val_size: float, count: int) -> None:
    data = prepared(source, words_folder, val_size=val_size)
    assert (len(data.train_samples), len(data.held_out_samples)) == (20 - count, count)
    assert not set(data.train_samples) & set(data.held_out_samples)


def test_the_split_is_the_same_for_all_seeds_and_the_order_is_not(source: str, words_folder: str) -> None:
    one, other = (prepared(source, words_folder, val_size=4, seed=seed, batch_size=4) for seed in (1, 2))
    assert one.held_out_samples == other.held_out_samples
    batches = [[batch["input_ids"].tolist() for batch in data.train_dataloader()] for data in (one, other)]
    assert batches[0] != batches[1]


def test_the_seed_is_that_of_seed_everything_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert InstructionData().seed == 5
    assert InstructionData(seed=7).seed == 7
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert InstructionData().seed == 0


def test_an_epoch_has_every_sample_once_and_labels_on_answers_only(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=4, batch_size=3)
    batches = list(data.train_dataloader())
    assert [len(batch["labels"]) for batch in batches] == [3, 3, 3, 3, 3, 1]
    # The answer to "Say i" is i words and the end token; without a merge they are one token each.
    trained = sorted(int(row.sum()) for batch in batches for row in (batch["labels"] != -100))
    assert trained == sorted(len(sample.output.split()) + 1 for sample in data.train_samples)
    for batch in batches:
        assert batch["labels"][batch["attention_mask"] == 0].unique().tolist() in ([], [-100])


def test_cut_and_dropped_samples_are_counted_in_a_notice(
    source: str, words_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = prepared(source, words_folder, val_size=1)
    prompt = len(whole.train_dataloader().dataset[0].input_ids) - len(whole.train_samples[0].output.split()) - 1
    longer = sum(len(sample.output.split()) + 1 > 5 for sample in whole.train_samples)
    assert "cut" not in caplog.text
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        data = prepared(source, words_folder, val_size=1, max_length=prompt + 5)
    assert f"training data: of 19 samples, {longer} were cut to {prompt + 5} tokens and 0 left out" in caplog.text
    assert max(len(sample.input_ids) for sample in data.train_dataloader().dataset.samples) == prompt + 5


def test_nothing_left_to_train_on_is_an_error(source: str, words_folder: str) -> None:
    with pytest.raises(DataError, match=r"none of the 4 held-out samples of .* within data.max_length=8; raise it"):
        prepared(source, words_folder, val_size=4, max_length=8)
    with pytest.raises(DataError, match=r"holds out 20 of the 20 samples .* give a smaller data.val_size"):
        prepared(source, words_folder, val_size=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, r"data.max_length must be 2 or more, got 1"),
        ({"batch_size": 0}, r"data.batch_size must be 1 or more, got 0"),
        ({"num_workers": -1}, r"data.num_workers must be 0 or more, got -1"),
        ({"seed": -1}, r"data.seed must be 0 or more, got -1"),
        ({"val_size": 0}, r"data.val_size must be a count .* got 0"),
        ({"val_size": 1.5}, r"data.val_size must be a count .* got 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InstructionData(**options)


def test_the_ranks_of_the_trainer_shard_the_data(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=3, batch_size=2)
    progress = SimpleNamespace(current=SimpleNamespace(processed=3))
    data.trainer = SimpleNamespace(
        distributed_sampler_kwargs={"num_replicas": 2, "rank": 1}, fit_loop=SimpleNamespace(epoch_progress=progress)
    )
    train, held_out = data.train_dataloader(), data.val_dataloader()
    assert (train.sampler.rank, train.sampler.num_replicas) == (1, 2)
    assert isinstance(train.sampler, TrainOrder)
    assert train.sampler.epoch == 3
    assert isinstance(held_out.sampler, HeldOutOrder)
    # Three samples for two ranks: the second one's second is a stand-in without a label.
    batches = list(held_out)
    assert [(batch["labels"] != -100).any(dim=1).tolist() for batch in batches] == [[True, False]]


def test_a_resume_with_another_order_is_refused(source: str, words_folder: str) -> None:
    state = prepared(source, words_folder, val_size=4).state_dict()
    prepared(source, words_folder, val_size=4).load_state_dict(state)
    with pytest.raises(DataError, match=r"samples 16 then, 15 now; batch_size 16 then, 4 now; seed 0 then, 1 now"):
        prepared(source, words_folder, val_size=5, batch_size=4, seed=1).load_state_dict(state)


def test_prompts_to_predict_are_those_of_the_held_out_samples(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=3, batch_size=2)
    prompts = [prompt for batch in data.predict_dataloader() for prompt in batch]
    assert prompts == [data.template.prompt(sample) for sample in data.held_out_samples]
