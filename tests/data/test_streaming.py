"""Training data read as they come: each sample once, whole steps, exact resume, and nothing kept in memory."""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

import tiny
from lightning_neft.cli.main import main
from lightning_neft.data.batching.collate import Collator
from lightning_neft.data.formats.format import Parsed
from lightning_neft.data.module import TextData
from lightning_neft.data.sample_stream import EncodedRecords, SampleStream
from lightning_neft.data.sources.files import FileRecords
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.streaming import Position, StreamedBatches, StreamedLoader
from lightning_neft.data.tokenization import EncodedSample, Encoding
from lightning_neft.errors import ConfigError, DataError

LOG = "lightning.pytorch.utilities.rank_zero"


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and pieces of reading that a few samples fill several of, and a cache of the test's own."""
    monkeypatch.setattr("lightning_neft.data.streaming._BLOCK", 10)
    monkeypatch.setattr("lightning_neft.data.sample_stream._CHUNK", 7)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


class Numbers(Records):
    """Records that hold their own number; counts how many were read."""

    def __init__(self, count: int) -> None:
        super().__init__("numbers", streaming=True)
        self.count, self.read = count, 0

    def __iter__(self) -> Iterator[tuple[Record, str]]:
        for number in range(self.count):
            self.read += 1
            yield {"number": number}, f"numbers, record {number}"

    @property
    def fingerprint(self) -> str:
        raise AssertionError("a stream is not read to know it")


# Record n: nothing to train on where 5 divides n, otherwise n % 3 + 1 samples of n % 7 + 2 tokens, all but one trained.
def pieces(number: int) -> int:
    return 0 if number % 5 == 0 else number % 3 + 1


def stream(count: int, **options: Any) -> tuple[SampleStream, list[int]]:
    """A stream, and the numbers of the records that it has encoded."""
    encoded: list[int] = []

    def encode(records: Sequence[tuple[Record, str]]) -> EncodedRecords:
        encoding, origins = Encoding(), []
        for index, (record, _) in enumerate(records):
            number = record["number"]
            encoded.append(number)
            if not pieces(number):
                encoding.dropped["empty answer"] = encoding.dropped.get("empty answer", 0) + 1
                origins.append(index)
            for piece in range(pieces(number)):
                encoding.kept.append(len(origins))
                origins.append(index)
                ids = np.array([number, piece, *[9] * (number % 7)], np.int32)
                encoding.samples.append(EncodedSample(ids, np.array([-100, *ids[1:]], np.int32)))
        return EncodedRecords(encoding, origins, Parsed())

    return SampleStream(Numbers(count), encode, **options), encoded


def names(batch: Any) -> list[tuple[int, int]]:
    return [(int(sample.input_ids[0]), int(sample.input_ids[1])) for row in batch.rows for sample in row]


def expected(count: int, skip: int = 0) -> list[tuple[int, int]]:
    return [(number, piece) for number in range(skip, count) for piece in range(pieces(number))]


def epoch(world_size: int = 1, start: Position | None = None, count: int = 53, **options: Any) -> list[list[Any]]:
    """The (batch, position behind it) pairs of each rank."""
    ranks = []
    for rank in range(world_size):
        batches = StreamedBatches(stream(count)[0], batch_size=2, rank=rank, world_size=world_size, **options)
        batches.start = start or Position()
        ranks.append(list(batches))
    return ranks


@pytest.mark.parametrize("batching", ["random", "length_grouped"])
@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_every_sample_is_trained_once(batching: Any, world_size: int, accumulate: int) -> None:
    ranks = epoch(world_size, batching=batching, accumulate=accumulate, seed=3)
    assert len({len(pairs) for pairs in ranks}) == 1
    used: list[tuple[int, int]] = []
    for start in range(0, len(ranks[0]), accumulate):
        step = [batch for pairs in ranks for batch, _ in pairs[start : start + accumulate]]
        trained = [sum(len(sample.labels) - 1 for row in batch.rows for sample in row) for batch in step]
        # A copy of another rank's row, for a rank without one, has no share.
        real = [batch.step_share > 0 for batch in step]
        total = sum(tokens for tokens, is_real in zip(trained, real, strict=True) if is_real)
        for batch, tokens, is_real in zip(step, trained, real, strict=True):
            assert batch.step_share == pytest.approx(tokens / total if is_real else 0)
        used += [name for batch, is_real in zip(step, real, strict=True) if is_real for name in names(batch)]
        if start + accumulate < len(ranks[0]):
            assert sum(len(batch.rows) for batch in step) == 2 * world_size * accumulate
    assert sorted(used) == expected(53)


def test_a_block_is_the_next_samples_in_an_order_of_its_own() -> None:
    (pairs,) = epoch(batching="random")
    order = [name for batch, _ in pairs for name in names(batch)]
    blocks = [order[start : start + 10] for start in range(0, len(order), 10)]
    source = expected(53)
    for number, block in enumerate(blocks):
        assert sorted(block) == source[10 * number : 10 * number + 10]
        assert block != sorted(block)
    places = [[source.index(name) - 10 * number for name in block] for number, block in enumerate(blocks[:-1])]
    assert len(set(map(tuple, places))) == len(places)
    for other in ({"start": Position(epoch=1)}, {"seed": 1}):
        (changed,) = epoch(batching="random", **other)
        assert [names(batch) for batch, _ in changed] != [names(batch) for batch, _ in pairs]
    assert [names(batch) for batch, _ in epoch(batching="random")[0]] == [names(batch) for batch, _ in pairs]


@pytest.mark.parametrize("limit", [None, 7, 15])
@pytest.mark.parametrize(("world_size", "accumulate"), [(1, 1), (2, 3)])
def test_from_any_position_the_rest_of_the_epoch_follows(world_size: int, accumulate: int, limit: int | None) -> None:
    options: dict[str, Any] = {"world_size": world_size, "accumulate": accumulate, "limit": limit}
    whole = epoch(count=80, **options)
    positions = [position for _, position in whole[0]]
    assert all([position for _, position in pairs] == positions for pairs in whole)
    assert positions[-1] == Position(epoch=1)
    if limit:
        assert len(positions) == limit
    for number, position in enumerate(positions[:-1], start=1):
        assert position.epoch == 0
        for pairs, rest in zip(whole, epoch(start=position, count=80, **options), strict=True):
            assert [(b.step_share, names(b), p) for b, p in rest] == [
                (b.step_share, names(b), p) for b, p in pairs[number:]
            ]


def test_the_last_step_under_a_limit_has_its_share() -> None:
    (pairs,) = epoch(accumulate=3, limit=7)
    shares = [batch.step_share for batch, _ in pairs]
    assert [sum(shares[start : start + 3]) for start in (0, 3, 6)] == pytest.approx([1, 1, 1])
    for accumulate in (1, 4):
        with pytest.raises(ConfigError, match=r"limit_train_batches=500 is more than the 42 batches"):
            epoch(accumulate=accumulate, limit=500)


def test_a_resumed_run_encodes_nothing_before_its_block() -> None:
    (pairs,) = epoch()
    position = next(position for _, position in pairs if position.block == 3 and position.batch)
    source, encoded = stream(53)
    batches = StreamedBatches(source, batch_size=2)
    batches.start = position
    next(iter(batches))
    assert encoded[0] == position.record > 10


def test_the_first_batch_comes_before_the_rest_is_read() -> None:
    source, encoded = stream(10_000)
    batches = iter(StreamedBatches(source, batch_size=2))
    next(batches)
    # Ten samples for the block and one ahead, in pieces of seven records.
    assert len(encoded) == 14
    assert isinstance(source.records, Numbers)
    assert source.records.read == 14
    for _ in range(100):
        next(batches)
    assert source.records.read < 200


def test_held_out_records_are_skipped() -> None:
    batches = StreamedBatches(stream(53, skip=9)[0], batch_size=2)
    assert sorted(name for batch, _ in batches for name in names(batch)) == expected(53, skip=9)


def test_what_was_left_out_is_told_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=LOG):
        batches = iter(StreamedBatches(stream(53)[0], batch_size=2))
        next(batches)
        assert not caplog.messages
        list(batches)
    count = len(expected(53))
    assert caplog.messages == [f"training data: 11 of {count + 11} samples dropped: empty answer"]


def test_strict_names_the_record_and_an_empty_stream_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^numbers, record 0: the sample has no token to train on \(empty answer\)"):
        list(stream(53, strict=True)[0].samples())
    with pytest.raises(DataError, match=r"no training sample of 'numbers' has a token .* \(empty answer: 1\)"):
        list(stream(1)[0].samples())
    with pytest.raises(DataError, match=r"no records are left"):
        list(stream(5, skip=5)[0].samples())


# Under Lightning, with real text. Answers have different lengths; three records have none.
COUNT = 57
STEP = 6  # two rows, accumulated over three micro-batches


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "data.jsonl"
    rows = [
        {"instruction": f"Say {'now ' * (n % 11)}", "output": "bye " * (n * 5 % 7 + 1) if n % 19 else ""}
        for n in range(COUNT)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


class Bigrams(L.LightningModule):
    """Predicts a token from the one before; keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Sequential(nn.Embedding(60, 8), nn.Linear(8, 60))
        self.seen: list[list[list[int]]] = []
        self.ended: list[int] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch["input_ids"].tolist())
        logits = self.table(batch["input_ids"].flatten()[batch["loss_index"]])
        loss = F.cross_entropy(logits, batch["loss_targets"])
        return loss * batch["step_share"] * self.trainer.accumulate_grad_batches * self.trainer.world_size

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None: ...

    def on_train_epoch_end(self) -> None:
        self.ended.append(len(self.seen))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=2.0)

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.parameters()])

    def on_fit_end(self) -> None:
        """Write down what came of it: other processes can say it in no other way."""
        result = {"steps": self.trainer.global_step, "weights": self.weights().tolist(), "batches": len(self.seen)}
        (Path(self.trainer.default_root_dir) / f"rank {self.trainer.global_rank}.json").write_text(json.dumps(result))


def text_data(source: str, tokenizer: str, **options: Any) -> TextData:
    return TextData(source, tokenizer, **{"streaming": True, "val_size": 4, "batch_size": 2, **options})


def fit(data: TextData, folder: Path, ckpt_path: Path | None = None, **options: Any) -> Bigrams:
    folder.mkdir(exist_ok=True)
    model = Bigrams()
    defaults = {"max_steps": 22, "max_epochs": -1, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    trainer = tiny.trainer(default_root_dir=folder, **{**defaults, **options})
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return model


# Of the first 33 records 28 are trained on: 14 batches of 2 in blocks of 12, 12 and 4 samples. The last of the 5 steps
# of an epoch has two batches; 12 steps are 2 epochs and 2 steps.
FEW, STEPS = 33, 12
TRIGGERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "each step": ({"every_n_train_steps": 1}, {}),
    "end of an epoch": ({"save_on_train_epoch_end": True}, {}),
    "validation in an epoch": ({}, {"val_check_interval": 6, "limit_val_batches": 1}),
    "validation after an epoch": ({}, {"limit_val_batches": 1}),
    "part of an epoch": ({"every_n_train_steps": 1}, {"limit_train_batches": 8}),
}


# Each resumed run writes into a folder of its own here.
@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_run_goes_on_from_each_checkpoint(
    source: str, words_folder: str, tmp_path: Path, trigger: str, workers: int
) -> None:
    checkpoint, options = TRIGGERS[trigger]
    few = tmp_path / "few.jsonl"
    few.write_text("".join(Path(source).read_text().splitlines(keepends=True)[:FEW]))

    def run(name: str, ckpt_path: Path | None = None) -> Bigrams:
        saving = ModelCheckpoint(tmp_path / name, "{step}", save_top_k=-1, **checkpoint)
        saved = {"callbacks": [saving], "enable_checkpointing": True}
        options_here = {**options, **saved, "accumulate_grad_batches": 3, "max_steps": STEPS}
        return fit(text_data(str(few), words_folder, num_workers=workers), tmp_path / name, ckpt_path, **options_here)

    unbroken = run("unbroken")
    size = options.get("limit_train_batches", 14)
    assert unbroken.ended[:2] == [size, 2 * size]
    assert unbroken.seen[:size] != unbroken.seen[size : 2 * size]
    steps = sorted(int(path.stem.partition("=")[2]) for path in (tmp_path / "unbroken").glob("*.ckpt"))
    assert steps
    for step in steps:
        resumed = run(f"from {step}", tmp_path / "unbroken" / f"step={step}.ckpt")
        assert resumed.seen == unbroken.seen[len(unbroken.seen) - len(resumed.seen) :], step
        assert torch.equal(resumed.weights(), unbroken.weights()), step
        # And from a checkpoint of the resumed run, another one each time. In a new folder the step that it started from
        # is saved again at the next batch, in the middle of an optimiser step.
        later = [path for path in sorted((tmp_path / f"from {step}").glob("*.ckpt")) if path.stem != f"step={step}"]
        for again in later[step % max(1, len(later)) :][:1]:
            twice = run(f"from {step} and {again.stem}", again)
            assert torch.equal(twice.weights(), unbroken.weights()), (step, again.stem)


def test_two_processes_take_the_steps_of_one(source: str, words_folder: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"precision": "64-true"}
    single = fit(text_data(source, words_folder, batch_size=8, batching="random"), tmp_path / "one", **options)
    two = text_data(source, words_folder, batching="random")
    fit(two, tmp_path / "two", strategy="ddp_fork", devices=2, accumulate_grad_batches=2, **options)
    moved = single.weights() - Bigrams().double().weights()
    for rank in range(2):
        found = json.loads((tmp_path / "two" / f"rank {rank}.json").read_text())
        # Of the last step of an epoch, 2 samples, one each.
        assert (found["steps"], found["batches"]) == (22, 3 * 13 + 2)
        assert (
            torch.tensor(found["weights"]) - single.weights()
        ).norm() / moved.norm() < 1e-5  # the shares are float32


def test_the_whole_stream_is_what_training_without_streaming_has(source: str, words_folder: str) -> None:
    data = text_data(source, words_folder, val_size=0)
    stored = text_data(source, words_folder, val_size=0, streaming=False)
    rows = []
    for one in (data, stored):
        one.setup("fit")
        rows.append(
            Counter(
                tuple(ids[:length].tolist())
                for batch in one.train_dataloader()
                for ids, length in zip(batch["input_ids"], batch["attention_mask"].sum(1), strict=True)
            )
        )
    assert rows[0] == rows[1]
    assert sum(rows[0].values()) == COUNT - 3


def test_the_first_records_are_held_out_and_kept(source: str, words_folder: str, tmp_path: Path) -> None:
    data = text_data(source, words_folder, val_size=5)
    data.setup("fit")
    # The very first one has no answer.
    assert [sample.answer for sample in data.prepared.held_out.samples] == [
        "bye " * (n * 5 % 7 + 1) for n in range(1, 5)
    ]
    assert "held-out data: 1 of 5 samples dropped: empty answer" in data.prepared.notices
    assert len(list((tmp_path / "cache" / "lightning_neft").iterdir())) == 1
    with pytest.raises(DataError, match=r"does not store the training samples"):
        _ = data.prepared.train
    for count in (COUNT, COUNT + 5):
        with pytest.raises(DataError, match=rf"data.val_size={count} holds out all {COUNT} records"):
            text_data(source, words_folder, val_size=count).setup("fit")


def test_seq2seq_streams_too(source: str, words_folder: str) -> None:
    data = text_data(source, words_folder, task="seq2seq_lm")
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert sum(len(batch["input_ids"]) for batch in batches) == COUNT - 4 - 2
    assert sum(float(batch["step_share"]) for batch in batches) == pytest.approx(len(batches))


def test_long_conversations_are_cut_as_without_streaming(words_folder: str, tmp_path: Path) -> None:
    turns = [{"from": role, "value": "Say bye now" + " now" * n} for n in range(6) for role in ("human", "gpt")]
    rows = [{"conversations": turns[: 2 + 2 * (n % 6)]} for n in range(20)]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for streaming in (True, False):
        options = {"val_size": 0, "cut_conversations": True, "max_length": 80, "streaming": streaming}
        data = text_data(str(tmp_path / "talk.jsonl"), words_folder, **options)
        data.setup("fit")
        loader = data.train_dataloader()
        found.append(
            sorted(
                ids[:length].tolist()
                for batch in loader
                for ids, length in zip(batch["input_ids"], batch["attention_mask"].sum(1), strict=True)
            )
        )
        if streaming:
            assert isinstance(loader, StreamedLoader)
            assert data.prepared.stream is not None
            pieces_of = Counter(streamed.record for streamed in data.prepared.stream.samples())
            assert max(pieces_of.values()) > 1
    assert found[0] == found[1]


def test_states_are_those_of_the_batches_trained_on(source: str, words_folder: str) -> None:
    data = text_data(source, words_folder)
    data.setup("fit")
    loader = data.train_dataloader()
    batches = loader.batches
    positions = [position for _, position in batches]
    fingerprint = loader.state_dict()["fingerprint"]
    for ahead in (0, 1):
        loader = StreamedLoader(batches, Collator(0), trainer=tiny.trainer() if ahead else None)
        states = [loader.state_dict(), *(loader.state_dict() for _ in loader), loader.state_dict()]
        behind = [Position(), *[Position()] * ahead, *positions][: len(positions) + 1]
        assert states == [{**asdict(p), "fingerprint": fingerprint} for p in [*behind, positions[-1]]]
    for change in ({"seed": 1}, {"batch_size": 3}, {"max_length": 40}, {"val_size": 5}, {"batching": "random"}):
        other = text_data(source, words_folder, **change)
        other.setup("fit")
        with pytest.raises(DataError, match=r"another stream or order of the training data"):
            other.train_dataloader().load_state_dict(states[3])
    loader.load_state_dict({**asdict(replace(positions[4], epoch=3)), "fingerprint": fingerprint})
    assert loader.state_dict()["epoch"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "sequence_classification"}, r"the classes are unknown"),
        ({"batching": "packed"}, r"needs data.batching random or length_grouped, got packed"),
        ({"batching": "flat"}, r"needs data.batching random or length_grouped, got flat"),
        ({"num_workers": 2}, r"data.num_workers must be 0 or 1, got 2"),
        ({"val_size": 0.05}, r"data.val_size=0.05 is a share"),
    ],
)
def test_options_that_do_not_go_with_it_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data.streaming.*{message}"):
        TextData("data.jsonl", streaming=True, **{"val_size": 0, **options})
    assert TextData("toy", streaming=True).options.val_split == "held_out"


def test_an_endless_run_or_a_share_of_an_epoch_is_refused(source: str, words_folder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.streaming: .* give trainer.max_steps$"):
        fit(text_data(source, words_folder), tmp_path, max_steps=-1, max_epochs=2)
    with pytest.raises(ConfigError, match=r"trainer.limit_train_batches=0.5 is a share"):
        fit(text_data(source, words_folder), tmp_path, limit_train_batches=0.5)


def test_preview_shows_the_first_samples_alone(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["preview", "--model.base=tiny", f"--data.source={source}", "--data.streaming=true", "--data.val_size=2"]
    assert main([*args, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["streaming"], found["train"]["samples"], found["held_out"]["samples"]) == (True, 7, 1)
    assert len(found["samples"]) == 3
    assert main(args) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "streaming: the training data here are the samples of the first records" in printed
    assert "training data: 7 samples" in printed
    assert "these samples in batches of 16 rows" in printed


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_source(
    words_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_neft.data.streaming._BLOCK", 1000)
    monkeypatch.setattr("lightning_neft.data.sample_stream._CHUNK", 1000)
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for n in range(50_000):
            print(json.dumps({"instruction": f"Say {n}", "output": "bye " * 60, "more": str(n) * 300}), file=file)
    assert path.stat().st_size > 80e6
    read = 0
    whole = FileRecords.__iter__

    def counted(self: FileRecords) -> Iterator[tuple[Record, str]]:
        nonlocal read
        for pair in whole(self):
            read += 1
            yield pair

    monkeypatch.setattr(FileRecords, "__iter__", counted)
    data = text_data(str(path), words_folder, val_size=50, batch_size=16)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    next(batches)
    assert read < 2500
    rows = 16 + sum(len(batch["labels"]) for batch in islice(batches, 500))
    start, most = resident(), 0
    for number, batch in enumerate(batches):
        rows += len(batch["labels"])
        if number % 50 == 0:
            most = max(most, resident())
    assert rows == 50_000 - 50
    assert most - start < 15e6
