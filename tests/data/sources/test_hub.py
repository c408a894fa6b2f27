"""What the errors of the hub and of the datasets library become, without a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import exceptions
from huggingface_hub import errors

from lightning_neft.data.sources.hub import StreamRecords, fetch, open_hub
from lightning_neft.errors import DataError

PAGE = "https://huggingface.co/datasets/me/data"
COMMIT = "a" * 40
ROWS = [{"text": "a"}, {"text": "b"}]


def response(status: int = 403) -> Any:
    return SimpleNamespace(headers={}, request=None, status_code=status)


def stop(error: BaseException) -> Callable[..., Any]:
    def raise_it(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raise_it


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub knows every dataset."""
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: SimpleNamespace(sha=COMMIT))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no network."""
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", stop(ConnectionError("no route to host")))


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


SILENT = (
    "me/data cannot be loaded: the hub does not answer, or HF_HUB_OFFLINE is set, and it is not in the cache; give a "
    "local file, or open it once with a network, which fills the cache"
)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (errors.GatedRepoError("403 Forbidden", response=response()), []),
        (exceptions.DatasetNotFoundError("Dataset 'me/data' is a gated dataset on the Hub. You must be ..."), []),
        (caused(FileNotFoundError("x"), errors.GatedRepoError("403", response=response())), []),
        (errors.RepositoryNotFoundError("404", response=response(404)), []),
        (errors.RepositoryNotFoundError("401", response=response(401)), []),
        (exceptions.DatasetNotFoundError("Dataset 'me/data' doesn't exist on the Hub or cannot be accessed."), []),
        (
            errors.HfHubHTTPError("401 Unauthorized", response=response(401)),
            [],
        ),
        (
            errors.RevisionNotFoundError("404", response=response(404)),
            ["'v1'"],
        ),
        (
            exceptions.DatasetNotFoundError("Revision 'v1' doesn't exist for dataset 'me/data' on the Hub."),
            ["'v1'"],
        ),
        (ConnectionError("Couldn't reach 'me/data' on the Hub (LocalEntryNotFoundError)"), []),
        (errors.OfflineModeIsEnabled("offline"), []),
        (errors.LocalEntryNotFoundError("not in the cache"), []),
        (TimeoutError("timed out"), []),
        (
            ValueError("Unknown split \"trian\". Should be one of ['train', 'test']."),
            ["'trian'", "did you mean train"],
        ),
        (
            ValueError("Bad split: trian. Available splits: ['train', 'test']"),
            ["'trian'", "did you mean train"],
        ),
        (
            ValueError("BuilderConfig 'nl' not found. Available: ['de', 'en']"),
            ["'nl'"],
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['de', 'en']\nExample"),
            [],
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found data.py"),
            [],
        ),
        (
            exceptions.DataFilesNotFoundError("No (supported) data files found in me/data"),
            [],
        ),
        (
            caused(exceptions.DatasetGenerationError("An error occurred"), ValueError("Trailing\ndata at 8")),
            [],
        ),
        (OSError(), []),
    ],
)
@pytest.mark.usefixtures("answering")
def test_each_error_is_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, named: list[str], snapshot: Callable[[str], None]
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", stop(error))
    with pytest.raises(DataError) as caught:
        open_hub("me/data", subset="nl", split="trian", revision="v1")
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("me/data", *named))


@pytest.mark.usefixtures("answering")
def test_no_token_or_signature_gets_into_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "401 for https://cdn.example.org/file?X-Signature=secret&user=me with hf_AbCdEfGh1234567890 " + "x" * 500
    monkeypatch.setattr(datasets, "load_dataset", stop(RuntimeError(text)))
    with pytest.raises(DataError) as caught:
        open_hub("me/data")
    assert "secret" not in str(caught.value)
    assert "AbCdEfGh" not in str(caught.value)
    assert "401 for https://cdn.example.org/file with hf_***" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("repo", "meant"),
    [
        ("tatsu/alpaca", "alpaca (tatsu-lab/alpaca)"),
        ("GAIR/limaa", "lima (GAIR/lima)"),
        ("databricks/dolly-15k", "dolly-15k (databricks/databricks-dolly-15k)"),
    ],
)
@pytest.mark.usefixtures("answering")
def test_the_nearest_dataset_of_the_catalogue_is_named(monkeypatch: pytest.MonkeyPatch, repo: str, meant: str) -> None:
    monkeypatch.setattr(datasets, "load_dataset", stop(exceptions.DatasetNotFoundError("no")))
    with pytest.raises(DataError, match="did you mean") as caught:
        open_hub(repo)
    assert f"did you mean {meant}? see" in str(caught.value)


def loading(dataset: Any, calls: list[Any]) -> Callable[..., Any]:
    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs, datasets.config.HF_HUB_OFFLINE))
        return dataset

    return load_dataset


@pytest.mark.usefixtures("answering")
def test_the_rows_come_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", loading(datasets.Dataset.from_list(ROWS), calls))
    records = open_hub("me/data", subset="de", split="test")
    assert list(records) == [(ROWS[0], "me/data (test), row 1"), (ROWS[1], "me/data (test), row 2")]
    assert records.size == 2
    asked = {"name": "de", "split": "test", "revision": COMMIT, "streaming": False}
    assert calls == [(("me/data",), asked, False)]


@pytest.mark.usefixtures("answering")
def test_a_stream_is_not_counted_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = datasets.Dataset.from_list(ROWS).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", loading(stream, []))
    records = open_hub("me/data", streaming=True)
    assert list(records) == list(records) == [(ROWS[0], "me/data, row 1"), (ROWS[1], "me/data, row 2")]
    assert records.size is None
    others = [("me/data", None, "test", COMMIT), ("me/data", "de", "train", COMMIT), ("me/data", None, "train", "b")]
    assert len({records.fingerprint, *(StreamRecords("x", stream, other).fingerprint for other in others)}) == 4
    assert records.fingerprint == open_hub("me/data", streaming=True).fingerprint


@pytest.mark.usefixtures("answering")
def test_a_stream_that_breaks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield ROWS[0]
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(datasets, "load_dataset", loading(rows(), []))
    records = iter(open_hub("me/data", streaming=True))
    assert next(records) == (ROWS[0], "me/data, row 1")
    with pytest.raises(DataError) as caught:
        next(records)
    assert str(caught.value) == SILENT


@pytest.mark.usefixtures("answering")
def test_a_stream_does_not_begin_with_a_slice() -> None:
    with pytest.raises(DataError, match=r"me/data: the slice 'train\[:5\]' cannot be streamed"):
        open_hub("me/data", split="train[:5]", streaming=True)


@pytest.mark.usefixtures("silent")
def test_without_a_network_the_cache_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", loading(datasets.Dataset.from_list(ROWS), calls))
    records = open_hub("me/data", streaming=True)
    asked = {"name": None, "split": "train", "revision": None, "streaming": False}
    assert calls == [(("me/data",), asked, True)]
    assert not datasets.config.HF_HUB_OFFLINE
    assert records.size == 2


@pytest.mark.usefixtures("silent")
def test_the_cache_is_not_taken_for_another_revision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, snapshot: Callable[[str], None]
) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / COMMIT)
    monkeypatch.setattr(datasets, "load_dataset", loading(datasets.load_from_disk(tmp_path / COMMIT), []))
    assert open_hub("me/data", revision=COMMIT).size == 2
    with pytest.raises(DataError) as caught:
        open_hub("me/data", revision="main")
    snapshot(text := str(caught.value))
    assert "'main'" in text


@pytest.mark.usefixtures("silent")
def test_what_is_nowhere_is_known_within_a_second(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.monotonic()
    for open_it in (lambda: open_hub("me/data"), lambda: open_hub("me/data", streaming=True)):
        with pytest.raises(DataError) as caught:
            open_it()
        assert str(caught.value) == SILENT
    # The libraries by themselves try for 23 seconds.
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (errors.GatedRepoError("403", response=response()), []),
        (errors.RepositoryNotFoundError("404", response=response(404)), []),
        (
            errors.RemoteEntryNotFoundError("404", response=response(404)),
            ["'x.json'"],
        ),
        (errors.LocalEntryNotFoundError("no network"), []),
    ],
)
@pytest.mark.usefixtures("answering")
def test_a_file_that_cannot_be_had_is_explained(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, named: list[str], snapshot: Callable[[str], None]
) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", stop(error))
    with pytest.raises(DataError) as caught:
        fetch("me/data", "x.json")
    snapshot(text := str(caught.value))
    assert all(part in text for part in ("me/data", *named))


def test_a_file_is_fetched_as_of_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def download(*args: Any, **kwargs: Any) -> str:
        calls.append((args, kwargs))
        return "/cache/x.json"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for outcome in (lambda *args, **kwargs: SimpleNamespace(sha=COMMIT), stop(OSError("no network"))):
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", outcome)
        assert fetch("me/data", "x.json", "v1") == Path("/cache/x.json")
    assert calls == [
        (("me/data", "x.json"), {"repo_type": "dataset", "revision": COMMIT, "local_files_only": False}),
        (("me/data", "x.json"), {"repo_type": "dataset", "revision": "v1", "local_files_only": True}),
    ]
