"""Tokens on disk: the same as they were encoded, found again, rebuilt when broken, written by several at once."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forked import Forked
from lightning_neft.data import token_store
from lightning_neft.data.conversation import Conversation, Labelled, Message
from lightning_neft.data.templates.bundled import BundledTemplate
from lightning_neft.data.templates.chat_template import ChatTemplate
from lightning_neft.data.token_store import Stored, TokenStore, fingerprint, open_or_build
from lightning_neft.data.tokenization import EncodedSample, Encoding, encode
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import add_special_tokens
from words import talk, tokenizer

SAMPLES = [EncodedSample([0, 5, 1], [-100, 5, 1]), EncodedSample([0, 4], [-100, -100]), EncodedSample([9], [9])]


def three() -> Iterator[Stored]:
    """In two parts, whose counts add up."""
    yield Stored(Encoding(SAMPLES[:2], kept=[0, 2], dropped={"empty answer": 2}, untrained=4))
    yield Stored(Encoding(SAMPLES[2:], kept=[5], truncated=1, dropped={"empty answer": 1}))


def same(store: TokenStore, samples: list[EncodedSample]) -> bool:
    found = [(list(sample.input_ids), list(sample.labels)) for sample in (store[i] for i in range(len(store)))]
    return found == [(list(sample.input_ids), list(sample.labels)) for sample in samples]


def never() -> list[Stored]:
    raise AssertionError("built although the tokens are there")


def test_stored_tokens_are_read_back_at_each_start(tmp_path: Path) -> None:
    for build in (three, never):
        store = open_or_build("x", build, tmp_path)
        assert same(store, SAMPLES)
        assert (store.lengths.tolist(), store.lengths.dtype) == ([3, 2, 1], np.int32)
        assert (store.trained.tolist(), store.trained.dtype) == ([2, 0, 1], np.int32)
        assert (store.kept.tolist(), store.kept.dtype) == ([0, 2, 5], np.int64)
        assert (store.truncated, store.dropped, store.untrained, store.facts) == (1, {"empty answer": 3}, 4, {})
        assert store.notices("training", 9)[:2] == [
            "training data: 1 of 6 samples truncated to 9 tokens",
            "training data: 3 of 6 samples dropped: empty answer",
        ]


def test_samples_are_views_of_the_file(tmp_path: Path) -> None:
    store = open_or_build("x", three, tmp_path)
    ids = store[0].input_ids
    assert isinstance(ids, np.ndarray)
    assert (ids.dtype, ids.base is not None, ids.flags.writeable) == (np.int32, True, False)
    assert np.shares_memory(ids, store[0].input_ids)


def test_indices_beyond_the_end_are_refused(tmp_path: Path) -> None:
    store = open_or_build("x", three, tmp_path)
    for index in (3, -1):
        with pytest.raises(IndexError, match=f"sample {index} of 3"):
            store[index]


def test_many_samples_over_several_arrays(tmp_path: Path) -> None:
    # Arrow keeps a thousand rows in an array, and a block of ours has ten thousand.
    samples = [EncodedSample(range(i % 7), range(i % 5)) for i in range(23_456)]
    store = open_or_build("x", lambda: [Stored(Encoding(samples, list(range(len(samples)))))], tmp_path)
    assert same(store, samples)
    assert store.lengths.tolist() == [i % 7 for i in range(23_456)]
    assert store.kept.tolist() == list(range(23_456))


def test_no_samples_at_all(tmp_path: Path) -> None:
    for build in (lambda: [Stored(Encoding(dropped={"empty answer": 2}), samples=[])], never):
        store = open_or_build("x", build, tmp_path)
        assert (len(store), store.lengths.tolist(), store.trained.tolist(), store.kept.tolist()) == (0, [], [], [])
        assert (store.dropped, store.samples) == ({"empty answer": 2}, [])


def test_samples_and_facts_are_kept_where_they_are_given(tmp_path: Path) -> None:
    samples = [
        Conversation.exchange("Say\u2028it", "héllo", context="now", system="Be kind"),
        Conversation((Message("assistant", "a\nb"),)),
        Labelled("text", 3),
        Labelled("text", "name"),
    ]
    facts = {"format": "alpaca", "labels": [1, "b"]}
    for build in (lambda: [Stored(Encoding(), samples, facts)], never):
        store = open_or_build("x", build, tmp_path)
        assert (store.samples, store.facts) == (samples, facts)


def test_samples_that_were_not_kept_are_not_made_up(tmp_path: Path) -> None:
    store = open_or_build("x", three, tmp_path)
    with pytest.raises(DataError, match="only the tokens of these samples were stored"):
        _ = store.samples


def test_a_worker_process_opens_the_files_itself(tmp_path: Path) -> None:
    store = open_or_build("x", three, tmp_path)
    assert len(pickle.dumps(store)) < 500
    assert same(pickle.loads(pickle.dumps(store)), SAMPLES)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "about.json").unlink(),
        lambda folder: truncate(folder / "about.json"),
        lambda folder: (folder / "about.json").write_text("[]"),
        lambda folder: (folder / "about.json").write_text(
            (folder / "about.json").read_text().replace('"size": [3, 6]', '"size": [3, 7]')
        ),
        lambda folder: (folder / "tokens.arrow").unlink(),
        lambda folder: truncate(folder / "tokens.arrow"),
        lambda folder: (folder / "tokens.arrow").write_bytes(b""),
    ],
)
def test_broken_tokens_are_made_anew_with_a_notice(harm: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_or_build("x", three, tmp_path)
    harm(tmp_path / "x")
    with caplog.at_level(logging.INFO):
        store = open_or_build("x", three, tmp_path)
    assert same(store, SAMPLES)
    assert f"the stored tokens in {tmp_path / 'x'} are broken or incomplete" in caplog.text
    assert same(open_or_build("x", never, tmp_path), SAMPLES)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_nothing_is_said_where_nothing_was_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_or_build("x", three, tmp_path)
        open_or_build("x", never, tmp_path)
    assert caplog.text == ""


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        open_or_build("x", never, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_killed_while_writing_leaves_no_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = token_store.write_text

    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(token_store, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        open_or_build("x", three, tmp_path)
    monkeypatch.setattr(token_store, "write_text", written)
    assert not (tmp_path / "x").exists()
    assert same(open_or_build("x", three, tmp_path), SAMPLES)


def test_of_two_that_build_at_once_both_have_the_tokens(tmp_path: Path) -> None:
    both_are_building = threading.Barrier(2, timeout=60)
    stores: list[TokenStore] = []

    def build() -> Iterator[Stored]:
        both_are_building.wait()
        return three()

    threads = [threading.Thread(target=lambda: stores.append(open_or_build("x", build, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [same(store, SAMPLES) for store in stores] == [True, True]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_two_processes_that_tokenise_at_once_share_the_tokens(tmp_path: Path) -> None:
    def build(start: Path, number: int) -> int:
        def stored() -> Iterator[Stored]:
            (start / f"{number}").touch()
            while len(list(start.iterdir())) < 2:
                time.sleep(0.0005)
            return three()

        return 0 if same(open_or_build(start.name, stored, tmp_path / "cache"), SAMPLES) else 1

    for round_ in range(10):
        start = tmp_path / f"x{round_}"
        start.mkdir()
        processes = [Forked(partial(build, start, number), tmp_path / "log") for number in range(2)]
        assert [process.wait() for process in processes] == [0, 0], (tmp_path / "log").read_text()
        assert same(open_or_build(start.name, never, tmp_path / "cache"), SAMPLES)
    # Nothing half-written beside them.
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [f"x{number}" for number in range(10)]


def test_the_second_to_finish_leaves_what_the_first_has_written(tmp_path: Path) -> None:
    def slow() -> list[Stored]:
        open_or_build("x", three, tmp_path)
        return [Stored(Encoding([], []))]

    assert same(open_or_build("x", slow, tmp_path), SAMPLES)


def test_what_another_process_fixed_meanwhile_is_kept(tmp_path: Path) -> None:
    open_or_build("x", three, tmp_path)
    (tmp_path / "x" / "about.json").unlink()

    def slow() -> list[Stored]:
        open_or_build("x", three, tmp_path)
        return [Stored(Encoding([], []))]

    assert same(open_or_build("x", slow, tmp_path), SAMPLES)


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=rf"cannot be stored in {tmp_path / 'file'}: .*; give another folder"):
        open_or_build("x", three, tmp_path / "file")


def test_by_default_the_tokens_are_in_the_cache_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    assert open_or_build("x", three).folder == tmp_path / "lightning_neft" / "x"


def test_encoded_samples_come_back_as_they_went(tmp_path: Path) -> None:
    encoding = encode([talk("Say", "hello", "now", "bye")], tokenizer(), BundledTemplate("plain"), max_length=9)
    store = open_or_build("x", lambda: [Stored(encoding)], tmp_path)
    assert same(store, encoding.samples)


# Fingerprints


def test_a_fingerprint_is_the_same_for_the_same_parts() -> None:
    parts: dict[str, Any] = {"source": "a", "max_length": 512, "columns": {"a": "b", "c": "d"}}
    turned: dict[str, Any] = {"columns": {"c": "d", "a": "b"}, "max_length": 512, "source": "a"}
    first = fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), **parts)
    assert first == fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), **turned)
    assert len(first) == 64


def test_a_fingerprint_changes_with_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    grown, chat, other_chat = tokenizer(), tokenizer(), tokenizer()
    add_special_tokens(grown, ["<|im_end|>"])
    chat.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    other_chat.chat_template = chat.chat_template + "{{ '' }}"
    found = [
        fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), source="a", max_length=512),
        fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), source="b", max_length=512),
        fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), source="a", max_length=511),
        fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), source="a"),
        fingerprint(tokenizer=tokenizer(), template=BundledTemplate("alpaca"), source="a", max_length=512),
        fingerprint(tokenizer=grown, template=BundledTemplate("plain"), source="a", max_length=512),
        fingerprint(tokenizer=chat, template=ChatTemplate(chat), source="a", max_length=512),
        fingerprint(tokenizer=other_chat, template=ChatTemplate(other_chat), source="a", max_length=512),
    ]
    monkeypatch.setattr(token_store, "ENCODING_VERSION", 0)
    found.append(fingerprint(tokenizer=tokenizer(), template=BundledTemplate("plain"), source="a", max_length=512))
    assert len(set(found)) == len(found)


def test_a_changed_template_changes_the_fingerprint() -> None:
    class Reworded(BundledTemplate):
        def _prompt(self, turn: Any, first: bool, tools: str = "") -> str:
            return super()._prompt(turn, first, tools).replace("Input", "Context")

    fingerprints = {fingerprint(tokenizer=tokenizer(), template=kind("alpaca")) for kind in (BundledTemplate, Reworded)}
    assert len(fingerprints) == 2


def test_about_is_plain_json(tmp_path: Path) -> None:
    open_or_build("x", three, tmp_path)
    assert json.loads((tmp_path / "x" / "about.json").read_text())["dropped"] == {"empty answer": 3}
