"""`data.sources` and `data.val_source`: batches, templates, validation sets and classes of several sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lightning_neft.data.conversation import Labelled
from lightning_neft.data.exchange_ids import encode_prompts
from lightning_neft.data.mixture import Mixture
from lightning_neft.data.module import TextData
from lightning_neft.data.options import Source
from lightning_neft.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def alpaca(folder: Path, name: str, word: str, count: int) -> str:
    records = [{"instruction": f"Say {word} {i}", "output": f"{word} " * i} for i in range(1, count + 1)]
    path = folder / f"{name}.json"
    path.write_text(json.dumps(records))
    return str(path)


@pytest.fixture
def bye(tmp_path: Path) -> str:
    return alpaca(tmp_path, "bye", "bye", 20)


@pytest.fixture
def hello(tmp_path: Path) -> str:
    return alpaca(tmp_path, "hello", "hello", 10)


@pytest.fixture
def chat(tmp_path: Path) -> str:
    turns = [{"role": "user", "content": "Say now"}, {"role": "assistant", "content": "now"}]
    (tmp_path / "chat.jsonl").write_text(f"{json.dumps({'messages': turns})}\n" * 6)
    return str(tmp_path / "chat.jsonl")


def made(tokenizer: str, sources: list[Source] | None = None, **options) -> TextData:
    data = TextData(tokenizer=tokenizer, sources=sources, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def answers(store) -> list[str]:
    return [sample.answer for sample in store.samples]


def test_sources_are_mixed_by_weight(bye: str, hello: str, words_folder: str) -> None:
    data = made(words_folder, [Source(bye, weight=3), Source(hello, weight=1)], val_size=0)
    train = data.prepared.train
    assert isinstance(train, Mixture)
    found = answers(train)
    # The first source ends the epoch.
    assert sum("bye" in answer for answer in found) == 20
    assert 2 <= sum("hello" in answer for answer in found) <= 10
    assert [len(train[index].input_ids) for index in range(len(train))] == train.lengths.tolist()
    assert [int((train[index].labels != -100).sum()) for index in range(len(train))] == train.trained.tolist()


@pytest.mark.parametrize("batching", ["length_grouped", "random", "packed", "flat"])
def test_each_batching_goes_across_the_sources(bye: str, hello: str, words_folder: str, batching: str) -> None:
    data = made(
        words_folder, [Source(bye), Source(hello, samples=6)], val_size=0, batching=batching, batch_size=3,
        max_length=120,
    )  # fmt: skip
    batches = list(data.train_dataloader())
    expected = sum(len(answer.split()) + 1 for answer in answers(data.prepared.train))
    assert sum(len(batch["loss_targets"]) for batch in batches) == expected
    assert all("sources" not in batch for batch in batches)
    # The words "bye" 6 and "hello" 5.
    both = [batch for batch in batches if {5, 6} <= set(batch["input_ids"].flatten().tolist())]
    assert both
    if batching == "packed":
        rows = [set(row) for batch in batches for row in batch["input_ids"].tolist()]
        assert any({5, 6} <= row for row in rows)


def test_the_seed_decides_the_samples_and_not_the_validation(bye: str, hello: str, words_folder: str) -> None:
    sources = [Source(bye, samples=4), Source(hello)]
    one, same, other = (made(words_folder, sources, val_size=2, seed=seed) for seed in (1, 1, 2))
    assert answers(one.prepared.train) == answers(same.prepared.train) != answers(other.prepared.train)
    assert answers(one.prepared.held_out) == answers(other.prepared.held_out)
    assert one.prepared.digest == other.prepared.digest
    orders = [[batch["input_ids"].tolist() for batch in data.train_dataloader()] for data in (one, same)]
    assert orders[0] == orders[1]


def test_a_source_keeps_its_stored_tokens(bye: str, hello: str, words_folder: str, cache: Path) -> None:
    made(words_folder, source=bye, val_size=2)
    before = set(cache.glob("lightning_neft/*"))
    made(words_folder, [Source(bye), Source(hello)], val_size=2)
    assert len(set(cache.glob("lightning_neft/*")) - before) == 2  # those of the other source


def test_validation_batches_number_the_sources(bye: str, hello: str, words_folder: str) -> None:
    data = made(words_folder, [Source(bye), Source(hello)], val_size=3, batch_size=2)
    assert data.held_out_names == ["bye", "hello"]
    found = []
    for batch in data.val_dataloader():
        for ids, source in zip(batch["input_ids"].tolist(), batch["sources"].tolist(), strict=True):
            found.append(source)
            assert (6 in ids, 5 in ids) == (source == 0, source == 1)
    assert sorted(found) == [0, 0, 0, 1, 1, 1]


def test_notices_name_their_source(bye: str, hello: str, words_folder: str) -> None:
    notices = made(words_folder, [Source(bye), Source(hello, samples=5)], val_size=0, max_length=40).prepared.notices
    assert any(notice.startswith("bye: training data: ") and "truncated" in notice for notice in notices)
    assert notices[-1] == "an epoch of the mixture has 25 training samples (bye: all 20; hello: 5 of its 10)"


def test_repeated_samples_are_reported(bye: str, hello: str, words_folder: str) -> None:
    sources = [Source(bye, weight=1), Source(hello, weight=3)]
    data = made(words_folder, sources, val_size=0, stopping_strategy="all_exhausted")
    shares = data.prepared.train.shares()
    assert (shares[0].distinct, shares[1].distinct) == (20, 10)
    assert shares[1].samples > 10
    assert f"hello: all 10, drawn {shares[1].samples} times" in data.prepared.notices[-1]


def test_each_source_is_rendered_by_its_own_template(bye: str, chat: str, words_folder: str) -> None:
    sources = [Source(bye, template="plain"), Source(chat)]
    data = made(words_folder, sources, val_size=2, template="vicuna")
    assert [source.template.name for source in data.prepared.sources] == ["plain", "vicuna"]
    assert data.prepared.template.name == "vicuna"
    prompts = [ids for batch in data.predict_dataloader() for ids in batch]
    held_out = data.prepared.held_out
    for number, (ids, sample) in enumerate(zip(prompts, held_out.samples, strict=True)):
        source = data.prepared.sources[int(held_out.sources[number])]
        assert ids == encode_prompts(data.prepared.tokenizer, source.template, [sample])[0]
        # Exactly what precedes the answer in training.
        assert held_out[number].input_ids[: len(ids)].tolist() == ids
    assert [ids for _, ids, _ in data.sample_prompts(3)] == prompts[:3]


def test_different_templates_need_one_for_the_model(bye: str, chat: str, words_folder: str) -> None:
    with pytest.raises(ConfigError, match=r"\(bye: alpaca, chat: chatml\), and the model is prompted with one; give"):
        made(words_folder, [Source(bye), Source(chat)])


def test_templates_in_files_do_not_replace_each_other(bye: str, hello: str, words_folder: str, tmp_path: Path) -> None:
    text = "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'user' -%}Say WORD {{ m.content }} :"
    text += "{%- else -%}{% generation %} {{ m.content }}{{ eos_token }}{% endgeneration %}{%- endif -%}{%- endfor -%}"
    for word in ("now", "hello"):
        (tmp_path / f"{word}.jinja").write_text(text.replace("WORD", word))
    templates = [str(tmp_path / f"{word}.jinja") for word in ("now", "hello")]
    sources = [Source(bye, template=templates[0]), Source(hello, template=templates[1])]
    data = made(words_folder, sources, val_size=0, template=templates[0])
    train = data.prepared.train
    second = {int(source): set() for source in (0, 1)}
    for index in range(len(train)):
        second[int(train.sources[index])].add(train[index].input_ids[2])
    assert second == {0: {7}, 1: {5}}  # "now", "hello"


def test_classes_are_those_of_all_sources(words_folder: str, tmp_path: Path) -> None:
    for name, labels in (("one", ("good", "bad")), ("two", ("fair", "good"))):
        rows = [{"text": f"now {'bye ' * (i % 5)}", "label": labels[i % 2]} for i in range(12)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = [Source(str(tmp_path / f"{name}.jsonl")) for name in ("one", "two")]
    data = made(words_folder, sources, task="sequence_classification", val_size=4, batch_size=4)
    assert data.label_names == ["bad", "fair", "good"]
    for store in (data.prepared.train, data.prepared.held_out):
        found = [data.label_names[int(store[index].labels[0])] for index in range(len(store))]
        assert found == [sample.label for sample in store.samples if isinstance(sample, Labelled)]
    assert torch.cat([batch["labels"] for batch in data.train_dataloader()]).unique().tolist() == [0, 1, 2]


def test_the_toy_data_of_a_mixture_keep_their_validation_set(bye: str, words_folder: str) -> None:
    data = made(words_folder, [Source("toy", samples=10), Source(bye)], val_size=2)
    assert [len(source.held_out) for source in data.prepared.sources] == [240, 2]


def test_a_validation_source_is_read_like_the_training_data(bye: str, chat: str, words_folder: str) -> None:
    data = made(words_folder, source=bye, val_source=chat)
    assert len(data.prepared.train) == 20
    assert answers(data.prepared.held_out) == ["now"] * 6
    # With its own format, and the template of the training data.
    assert data.prepared.template.name == "alpaca"
    (_, ids, _), *_ = data.sample_prompts(1)
    assert data.prepared.held_out[0].input_ids[: len(ids)].tolist() == ids
    assert all("sources" not in batch for batch in data.val_dataloader())


def test_val_split_is_that_of_the_validation_source(bye: str, words_folder: str, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = {"instruction": ["Say now"] * 5, "output": ["now"] * 5}
    splits = {"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows).select(range(2))}
    DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    data = made(words_folder, source=bye, val_source=str(tmp_path / "saved"), val_split="test")
    assert (len(data.prepared.train), len(data.prepared.held_out)) == (20, 2)
    toy = made(words_folder, source=bye, val_source="toy")
    assert len(toy.prepared.held_out) == 240


def test_a_validation_source_for_a_mixture_and_a_stream(bye: str, hello: str, chat: str, words_folder: str) -> None:
    mixed = made(words_folder, [Source(bye), Source(hello)], val_source=chat)
    assert (len(mixed.prepared.train), len(mixed.prepared.held_out)) == (30, 6)
    assert mixed.held_out_names == []
    streamed = made(words_folder, source=bye, val_source=chat, streaming=True)
    assert len(streamed.prepared.held_out) == 6
    assert streamed.prepared.stream.skip == 0


@pytest.mark.parametrize("streaming", [False, True])
def test_a_changed_validation_source_is_read_anew(bye: str, chat: str, words_folder: str, streaming: bool) -> None:
    before = made(words_folder, source=bye, val_source=chat, streaming=streaming).prepared
    lines = Path(chat).read_text().splitlines(keepends=True)
    Path(chat).write_text("".join(lines[:4]))  # begins as before
    after = made(words_folder, source=bye, val_source=chat, streaming=streaming).prepared
    assert (len(before.held_out), len(after.held_out)) == (6, 4)
    assert before.digest != after.digest


def test_a_validation_class_of_another_file_is_known(words_folder: str, tmp_path: Path) -> None:
    for name, labels in (("one", ("good", "bad")), ("two", ("bad", "bad")), ("three", ("bad", "worse"))):
        rows = [{"text": f"now {'bye ' * (i % 5)}", "label": labels[i % 2]} for i in range(6)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, two, three = (str(tmp_path / f"{name}.jsonl") for name in ("one", "two", "three"))
    data = made(words_folder, source=one, val_source=two, task="sequence_classification")
    assert {int(sample.labels[0]) for sample in data.prepared.held_out} == {0}
    with pytest.raises(DataError, match=r"the label 'worse' .* is not one of the classes"):
        made(words_folder, source=one, val_source=three, task="sequence_classification")


def test_validating_on_the_training_data_is_refused(bye: str, words_folder: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.json"
    copy.write_bytes(Path(bye).read_bytes())
    with pytest.raises(DataError, match=r"data.val_source=.*copy.json has the same records as the training data"):
        made(words_folder, source=bye, val_source=str(copy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "a.json", "sources": [Source("b.json")]}, r"exclude each other; omit one .*--data.source null"),
        ({"sources": []}, r"data.sources is an empty list"),
        ({"sources": [Source("a.json", weight=1, samples=2)]}, r"entry 1 \(a.json\): weight=1 and samples=2 exclude"),
        ({"sources": [Source("a.json"), Source("b.json", weight=0)]}, r"entry 2 \(b.json\): weight must be above 0"),
        ({"sources": [Source("a.json", samples=0)]}, r"entry 1 \(a.json\): samples must be 1 or more, got 0"),
        ({"sources": [Source("a.json")], "format": "alpaca"}, r"data.format is for data.source; give format in the"),
        ({"sources": [Source("a.json")], "streaming": True, "val_size": 0}, r"data.streaming reads a single source"),
        ({"mix_strategy": "interleave"}, r"data.mix_strategy=interleave is for data.sources"),
        ({"stopping_strategy": "all_exhausted"}, r"data.stopping_strategy=all_exhausted is for data.sources"),
        ({"val_source": "a.json", "val_size": 0.1}, r"data.val_source=a.json .*data.val_size=0.1 .*val_size null"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextData(**options)
