"""The data module: splitting, notices, batches of each kind and task, and what it refuses."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from lightning_neft.data.batching.order import HeldOutOrder, TrainOrder
from lightning_neft.data.conversation import Labelled
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.module import TextData
from lightning_neft.data.toy import toy_instructions
from lightning_neft.errors import ConfigError, DataError


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{"instruction": f"Say {i}", "output": "bye " * i} for i in range(1, 21)]))
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def prepared(source: str, tokenizer: str, **options) -> TextData:
    data = TextData(source, tokenizer=tokenizer, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def answers(store) -> list[str]:
    return [sample.answer for sample in store.samples]


def test_toy_data_come_with_held_out_samples_of_their_own(words_folder: str) -> None:
    data = prepared("toy", words_folder, val_size=3)
    assert answers(data.prepared.train) == [record["output"] for record in toy_instructions("train")]
    assert answers(data.prepared.held_out) == [record["output"] for record in toy_instructions("held_out")]


@pytest.mark.parametrize(("val_size", "count"), [(4, 4), (0.25, 5), (0.001, 1), (19, 19), (0, 0)])
def test_a_file_is_split_by_count_or_share(source: str, words_folder: str, val_size: float, count: int) -> None:
    data = prepared(source, words_folder, val_size=val_size)
    held_out = [] if data.prepared.held_out is None else answers(data.prepared.held_out)
    train = answers(data.prepared.train)
    assert (len(train), len(held_out)) == (20 - count, count)
    assert not set(train) & set(held_out)


def test_without_a_validation_set_nothing_is_validated(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=0)
    assert data.val_dataloader() == []
    assert data.sample_prompts(3) == []
    for loader in (data.test_dataloader, data.predict_dataloader):
        with pytest.raises(ConfigError, match=r"give data.val_size or data.val_split"):
            loader()


def test_the_seed_changes_the_order_and_not_the_split(source: str, words_folder: str) -> None:
    one, other = (prepared(source, words_folder, val_size=4, seed=seed, batch_size=4) for seed in (1, 2))
    assert answers(one.prepared.held_out) == answers(other.prepared.held_out)
    batches = [[batch["input_ids"].tolist() for batch in data.train_dataloader()] for data in (one, other)]
    assert batches[0] != batches[1]


def test_the_seed_is_that_of_seed_everything_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert TextData().seed == 5
    assert TextData(seed=7).seed == 7
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert TextData().seed == 0


@pytest.mark.parametrize("batching", ["length_grouped", "random", "packed", "flat"])
def test_an_epoch_trains_every_answer_once_whatever_the_batching(source: str, words_folder: str, batching: str) -> None:
    data = prepared(source, words_folder, val_size=4, batch_size=3, batching=batching, max_length=60)
    batches = list(data.train_dataloader())
    # The answer to "Say i" is i words and the end token; without a merge they are one token each.
    expected = sum(len(answer.split()) + 1 for answer in answers(data.prepared.train))
    assert sum(len(batch["loss_targets"]) for batch in batches) == expected
    assert sum(float(batch["step_share"]) for batch in batches) == pytest.approx(len(batches))
    if batching in ("length_grouped", "random"):
        assert sorted(len(batch["labels"]) for batch in batches) == [1, 3, 3, 3, 3, 3]


def test_a_second_start_reads_the_tokens_of_the_first(
    source: str, words_folder: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(source, words_folder, val_size=4)
    monkeypatch.setattr("lightning_neft.data.prepare.parse_records", None)  # would fail if it were called
    second = prepared(source, words_folder, val_size=4)
    assert second.prepared.notices == first.prepared.notices
    assert answers(second.prepared.held_out) == answers(first.prepared.held_out)
    with pytest.raises(TypeError):
        prepared(source, words_folder, val_size=5)


@pytest.mark.parametrize("change", [{"max_length": 30}, {"template": "plain"}, {"val_size": 5}, {"task": "seq2seq_lm"}])
def test_any_option_that_changes_the_tokens_makes_them_anew(
    source: str, words_folder: str, cache: Path, change: dict
) -> None:
    prepared(source, words_folder, val_size=4)
    before = set(cache.glob("lightning_neft/*"))
    assert len(before) == 2
    prepared(source, words_folder, **{"val_size": 4, **change})
    assert len(set(cache.glob("lightning_neft/*")) - before) == 2


def test_what_was_left_out_is_told_once(source: str, words_folder: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = prepared(source, words_folder, val_size=1)
    prompt = int(whole.prepared.train.lengths[0] - whole.prepared.train.trained[0])
    longer = sum(len(answer.split()) + 1 > 5 for answer in answers(whole.prepared.train))
    assert "cut" not in caplog.text
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        data = prepared(source, words_folder, val_size=1, max_length=prompt + 5)
    assert caplog.text.count(f"training data: {longer} of 19 samples truncated to {prompt + 5} tokens") == 1
    assert data.prepared.train.lengths.max() == prompt + 5


def test_nothing_left_to_train_on_is_an_error(source: str, words_folder: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"max_length=8 leaves no room for an answer: the template alpaca alone takes"):
        prepared(source, words_folder, val_size=4, max_length=8)
    with pytest.raises(DataError, match=r"holds out 20 of the 20 samples .* give a smaller data.val_size"):
        prepared(source, words_folder, val_size=20)
    (tmp_path / "empty.json").write_text(json.dumps([{"instruction": "Say", "output": ""}] * 3))
    with pytest.raises(DataError, match=r"none of the 2 training samples .* \(empty answer: 2\)"):
        prepared(str(tmp_path / "empty.json"), words_folder, val_size=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, r"data.max_length must be 2 or more, got 1"),
        ({"max_target_length": 0}, r"data.max_target_length must be 1 or more, got 0"),
        ({"batch_size": 0}, r"data.batch_size must be 1 or more, got 0"),
        ({"num_workers": -1}, r"data.num_workers must be 0 or more, got -1"),
        ({"seed": -1}, r"data.seed must be 0 or more, got -1"),
        ({"val_size": 1.5}, r"data.val_size must be a count .* got 1.5"),
        ({"val_size": -1}, r"data.val_size must be a count .* got -1"),
        ({"prompt_loss": 2.0}, r"data.prompt_loss must be between 0 and 1, got 2.0"),
        ({"task": "seq2seq_lm", "batching": "packed"}, r"data.batching=packed is for the task causal_lm"),
        ({"task": "seq2seq_lm", "prompt_loss": 0.5}, r"data.prompt_loss=0.5 is for the task causal_lm"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextData(**options)


def test_the_ranks_of_the_trainer_shard_the_data(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=3, batch_size=2)
    progress = SimpleNamespace(current=SimpleNamespace(processed=3))
    data.trainer = SimpleNamespace(
        distributed_sampler_kwargs={"num_replicas": 2, "rank": 1},
        fit_loop=SimpleNamespace(epoch_progress=progress),
        callbacks=[],
        overfit_batches=0.0,
        limit_train_batches=2,
        accumulate_grad_batches=2,
    )
    train, held_out = data.train_dataloader(), data.val_dataloader()
    assert isinstance(train.sampler, TrainOrder)
    assert (train.sampler.rank, train.sampler.num_replicas, train.sampler.epoch) == (1, 2, 3)
    assert (train.sampler.accumulate, train.sampler.used) == (2, 2)
    assert isinstance(held_out.sampler, HeldOutOrder)
    # Three samples for two ranks: two for the first, one for the second.
    assert [(batch["labels"] != -100).any(dim=1).tolist() for batch in held_out] == [[True]]


def test_trainer_options_that_break_the_loss_are_refused(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder)
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    for options, message in (
        ({"callbacks": [L.pytorch.callbacks.GradientAccumulationScheduler({0: 1, 2: 4})]}, "use a constant"),
    ):
        data.trainer = L.Trainer(**quiet, **options)
        with pytest.raises(ConfigError, match=message):
            data.train_dataloader()


@pytest.mark.parametrize(
    ("batching", "limit", "count"), [("length_grouped", 2, 2), ("packed", 1, 1), ("random", 0.5, 3)]
)
def test_overfit_batches_repeats_the_same_batches(
    source: str, words_folder: str, batching: str, limit: float, count: int
) -> None:
    seen: list[tuple[int, list[int]]] = []

    class Seen(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
            seen.append((self.current_epoch, batch["input_ids"].flatten().tolist()))
            return self.weight * 1

        def validation_step(self, batch: dict, batch_idx: int) -> None: ...

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters())

    data = TextData(source, words_folder, val_size=4, batch_size=3, batching=batching, max_length=60)
    fitted = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=3, overfit_batches=limit,
    )  # fmt: skip
    fitted.fit(Seen(), data)
    epochs = [[ids for epoch, ids in seen if epoch == number] for number in range(3)]
    assert len(epochs[0]) == count
    assert epochs[0] == epochs[1] == epochs[2]


def test_overfit_batches_and_a_stream_are_refused(source: str, words_folder: str) -> None:
    data = TextData(source, words_folder, val_size=4, streaming=True)
    data.trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, overfit_batches=1)
    with pytest.raises(ConfigError, match=r"^trainer\.overfit_batches=1 .* set data\.streaming false$"):
        data.setup("fit")


def test_prompts_are_the_tokens_before_the_answer(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=3, batch_size=2)
    held_out = data.prepared.held_out
    prompts = [prompt for batch in data.predict_dataloader() for prompt in batch]
    assert prompts == encode_prompts(data.prepared.tokenizer, data.prepared.template, held_out.samples)
    for prompt, encoded in zip(prompts, held_out, strict=True):
        assert encoded.input_ids[: len(prompt)].tolist() == prompt
    (question, ids, reference), *_ = data.sample_prompts(1)
    assert (question, ids, reference) == (held_out.samples[0].messages[0].content, prompts[0], answers(held_out)[0])


def test_texts_with_labels_make_batches_for_a_classifier(words_folder: str, tmp_path: Path) -> None:
    rows = [{"text": f"now {'bye ' * (i % 5)}", "label": ("good", "bad")[i % 2]} for i in range(12)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = prepared(
        str(tmp_path / "texts.jsonl"), words_folder, task="sequence_classification", val_size=4, batch_size=4
    )
    assert data.prepared.format == "text_label"
    assert data.label_names == ["bad", "good"]
    labels = torch.cat([batch["labels"] for batch in data.train_dataloader()])
    assert sorted(labels.tolist()) == sorted(
        data.label_names.index(sample.label) for sample in data.prepared.train.samples if isinstance(sample, Labelled)
    )
    predicted = torch.cat([batch["labels"] for batch in data.predict_dataloader()])
    held_out = [sample.label for sample in data.prepared.held_out.samples]
    assert [data.label_names[index] for index in predicted.tolist()] == held_out


def test_columns_and_split_can_be_named(words_folder: str, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = {"question": [f"Say {i}" for i in range(6)], "reply": ["bye"] * 6}
    train = Dataset.from_dict(rows)
    saved = DatasetDict({"train": train, "test": train.select(range(2))})
    saved.save_to_disk(str(tmp_path / "saved"))
    data = prepared(
        str(tmp_path / "saved"),
        words_folder,
        format="prompt_completion",
        columns={"prompt": "question", "completion": "reply"},
        val_split="test",
    )
    assert (len(data.prepared.train), len(data.prepared.held_out)) == (6, 2)
    assert (data.prepared.format, data.prepared.template.name) == ("prompt_completion", "plain")


def test_a_template_names_its_tokens_and_where_to_stop(source: str, words_folder: str) -> None:
    data = prepared(source, words_folder, val_size=2, template="chatml")
    assert data.special_tokens == ("<|im_start|>", "<|im_end|>")
    assert data.stop_ids == [data.prepared.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert prepared(source, words_folder, val_size=2).special_tokens == ()


@pytest.mark.parametrize("val_size", [0, 4, 0.3])
def test_stored_tokens_do_not_depend_on_the_chunk_size(
    tmp_path: Path, words_folder: str, monkeypatch: pytest.MonkeyPatch, val_size: float
) -> None:
    records = [{"instruction": f"Say {i}", "output": "" if i % 7 == 3 else "bye " * i} for i in range(1, 21)]
    path = tmp_path / "some_empty.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def stored(chunk: int) -> list[object]:
        monkeypatch.setattr("lightning_neft.data.prepare._CHUNK", chunk)
        data = prepared(str(path), words_folder, val_size=val_size, max_length=60, cache_dir=str(tmp_path / str(chunk)))
        stores = [data.prepared.train, data.prepared.held_out]
        return [data.prepared.notices] + [
            [store.kept.tolist(), answers(store), [(s.input_ids.tolist(), s.labels.tolist()) for s in store]]
            for store in stores
            if store is not None
        ]

    whole = stored(1000)
    assert stored(3) == stored(1) == whole
    assert whole[0]
    assert (len(whole) == 3) == bool(val_size)


@pytest.mark.parametrize("cut_conversations", [False, True])
def test_what_a_template_refuses_is_named_by_its_record(
    cut_conversations: bool, tmp_path: Path, words_folder: str
) -> None:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps([{"text": "Say hello"}] * 9))
    with pytest.raises(DataError, match=r"texts\.json, record 1: the conversation .* has no user message"):
        prepared(str(path), words_folder, template="alpaca", cut_conversations=cut_conversations)


@pytest.mark.parametrize("val_size", [0, 3])
def test_an_error_names_the_record_and_keeps_nothing(
    val_size: int, tmp_path: Path, words_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_neft.data.prepare._CHUNK", 3)
    records = [{"instruction": "Say", "output": "" if i == 7 else "bye"} for i in range(9)]
    path = tmp_path / "one_empty.json"
    path.write_text(json.dumps(records))
    with pytest.raises(DataError, match=r"one_empty\.json, record 8: .* has no token to train on \(empty answer\)"):
        prepared(str(path), words_folder, val_size=val_size, strict=True, cache_dir=str(tmp_path / "mine"))
    assert list((tmp_path / "mine").iterdir()) == []
