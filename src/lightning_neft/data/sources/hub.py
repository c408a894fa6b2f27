"""Datasets of the Hugging Face hub, with errors that state the fix. Code of a dataset is never run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from lightning_neft.common.near_names import nearest
from lightning_neft.data.catalogue import catalogue
from lightning_neft.data.sources.records import Record, Records
from lightning_neft.data.sources.tables import TableRecords, unknown_split
from lightning_neft.errors import DataError

if TYPE_CHECKING:
    from datasets import IterableDataset

__all__ = ["StreamRecords", "fetch", "open_hub"]

# Seconds to wait for the hub's first response.
_PATIENCE = 10


class StreamRecords(Records):
    """The rows of a dataset that is streamed from the hub.

    Args:
        name: Name in messages; rows are "NAME, row N".
        dataset: The stream.
        origin: Id, subset, split and commit, for the fingerprint.
    """

    def __init__(self, name: str, dataset: IterableDataset, origin: tuple[str | None, ...]) -> None:
        super().__init__(name, streaming=True)
        self._dataset = dataset
        self._origin = origin

    @override
    def __iter__(self) -> Iterator[tuple[Record, str]]:
        repo, subset, split, commit = self._origin
        with _explained(str(repo), subset=subset, split=split, revision=commit):
            for number, row in enumerate(self._dataset, start=1):
                yield row, f"{self.name}, row {number}"

    @property
    @override
    def fingerprint(self) -> str:
        """SHA-256 over id, subset, split and commit."""
        return hashlib.sha256(repr(self._origin).encode()).hexdigest()


def open_hub(
    repo: str,
    *,
    subset: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
) -> Records:
    """Open a dataset of the hub; without a network, from the cache of the datasets library.

    Args:
        repo: Its id, "owner/name".
        subset: Its configuration, where it has several.
        split: A split, or a slice of one such as "train[:1000]"; `train` by default.
        revision: Branch, tag or commit; the newest one by default.
        streaming: Whether to read rows as they are needed, without downloading everything first.

    Raises:
        DataError: If it is gated, does not exist, is neither reachable nor cached, or has no such subset, split or
            revision.
    """
    import datasets

    split = split or "train"
    name = repo if split == "train" else f"{repo} ({split})"
    reachable, commit = _look_up(repo, revision)
    # A cached dataset need not be streamed.
    streaming = streaming and reachable
    if streaming and "[" in split:
        raise DataError(f"{repo}: the slice {split!r} cannot be streamed; omit the slice, or data.streaming")
    with _explained(repo, subset=subset, split=split, revision=revision), _offline(not reachable):
        dataset = datasets.load_dataset(repo, name=subset, split=split, revision=commit, streaming=streaming)
    if streaming:
        return StreamRecords(name, dataset, (repo, subset, split, commit))
    # The cache returns its newest version, whatever the revision; its folders are named after commits.
    if revision and not reachable and not any(revision in Path(file["filename"]).parts for file in dataset.cache_files):
        raise DataError(
            f"{repo}: the hub does not answer, and the newest version in the cache is not the commit {revision!r}; "
            "omit revision to use the cached one, or try again with a network"
        )
    return TableRecords(name, dataset)


def fetch(source: str, file: str, revision: str | None = None) -> Path:
    """Return the local copy of one file of a dataset of the hub, or of a web address; downloaded once.

    Args:
        source: Id of the dataset, or the beginning of an address, `https://...`, that `file` completes.
        file: Its path there.
        revision: Branch, tag or commit of the dataset; the newest one by default.

    Raises:
        DataError: If it cannot be downloaded.
    """
    if source.startswith(("https://", "http://")):
        return _fetch_address(f"{source}/{file}")
    from huggingface_hub import hf_hub_download

    reachable, commit = _look_up(source, revision)
    with _explained(source, revision=revision, file=file):
        path = hf_hub_download(source, file, repo_type="dataset", revision=commit, local_files_only=not reachable)
    return Path(path)


def _fetch_address(address: str) -> Path:
    from datasets import DownloadConfig, DownloadManager

    # Without a check for changes: the addresses of the catalogue name a commit.
    manager = DownloadManager(download_config=DownloadConfig(use_etag=False))
    try:
        return Path(manager.download(address))
    except Exception as error:
        raise DataError(
            f"{address} cannot be downloaded ({type(error).__name__}); download it elsewhere and give the file's path"
        ) from error


def _look_up(repo: str, revision: str | None) -> tuple[bool, str | None]:
    """Return whether the hub answers, and the commit of a revision.

    Called first, because without a network the libraries' own downloads retry for half a minute.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return True, HfApi().dataset_info(repo, revision=revision, timeout=_PATIENCE).sha
    except (HfHubHTTPError, HFValidationError):
        # The hub answers with an error. Loading the data raises it again, unless they are in the cache.
        return True, revision
    # Of requests, httpx or huggingface_hub, depending on its version.
    except Exception:
        return False, revision


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Make the datasets library use its cache at once."""
    import datasets.config

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


@contextmanager
def _explained(repo: str, **asked: str | None) -> Iterator[None]:
    """Turn any error of the libraries about a dataset into a `DataError` of one line."""
    try:
        yield
    except Exception as error:
        raise DataError(_explanation(error, repo, **asked)) from error


def _explanation(
    error: BaseException,
    repo: str,
    *,
    subset: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    file: str | None = None,
) -> str:
    from datasets import exceptions
    from huggingface_hub import errors

    chain = list(_chain(error))
    text = " ".join(str(link) for link in chain)
    page = f"https://huggingface.co/datasets/{repo}"

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if is_a(errors.GatedRepoError) or "gated dataset" in text:
        return f"{repo} is gated: accept its licence on {page}, then set HF_TOKEN to a token of that account"
    if is_a(errors.RevisionNotFoundError) or re.search(r"Revision '.*' doesn't exist", text):
        return f"{repo} has no revision {revision!r}; give a branch, a tag or a commit of {page}"
    if is_a(errors.RemoteEntryNotFoundError):
        return f"{repo} has no file {file!r}; its files are listed on {page}/tree/main"
    if "Dataset scripts are no longer supported" in text:
        return (
            f"{repo} contains a loading script, which is never run; download one of its data files from {page} "
            "and give the file's path"
        )
    if is_a(exceptions.DataFilesNotFoundError) or "doesn't contain any data files" in text:
        return (
            f"{repo} has no data file that the datasets library detects; download one from {page} and give the "
            "file's path"
        )
    if is_a(exceptions.DatasetNotFoundError, errors.RepositoryNotFoundError):
        return f"{repo} is not on the hub, or is private and HF_TOKEN is not set; {_nearest(repo)}see {page}"
    if found := re.search(r"(?:Unknown split|Bad split).*\[(.*)\]", text):
        return str(unknown_split(repo, str(split), _names(found[1])))
    if found := re.search(r"BuilderConfig '.*' not found\. Available: \[(.*)\]", text):
        return f"{repo} has no subset {subset!r}; choose one of {', '.join(_names(found[1]))}"
    if found := re.search(r"Config name is missing\.\s.*?\[(.*?)\]", text):
        return f"{repo} has several subsets; choose one of {', '.join(_names(found[1]))}"
    codes = [getattr(getattr(link, "response", None), "status_code", 0) for link in chain]
    if refused := next((code for code in codes if code in (401, 403)), 0):
        return f"the hub refuses {repo} ({refused}): set HF_TOKEN to a valid token of an account with access to {page}"
    if is_a(ConnectionError, TimeoutError, errors.LocalEntryNotFoundError):
        return (
            f"{repo} cannot be loaded: the hub does not answer, or HF_HUB_OFFLINE is set, and it is not in the cache; "
            "give a local file, or open it once with a network, which fills the cache"
        )
    return f"{repo} cannot be loaded ({_one_line(chain[-1])}); see {page}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _nearest(repo: str) -> str:
    """Return a hint at the nearest dataset of the catalogue."""
    names: dict[str, str] = {}
    for entry in catalogue().values():
        names[entry.source.lower()] = names[entry.name] = f"{entry.name} ({entry.source})"
    wanted = (repo.lower(), repo.lower().partition("/")[2])
    near = [match for name in wanted if (match := nearest(name, names, cutoff=0.75))]
    return f"did you mean {names[near[0]]}? " if near else ""


def _names(listed: str) -> list[str]:
    """Return the names in the repr of a list."""
    return re.findall(r"'([^']+)'", listed)


def _one_line(error: Any) -> str:
    """Return an error's text without line breaks, tokens and signatures of download addresses."""
    text = " ".join(str(error).split()) or "no reason given"
    text = re.sub(r"hf_[A-Za-z0-9]{8,}", "hf_***", re.sub(r"(https?://[^\s?]+)\?\S+", r"\1", text))
    return f"{type(error).__name__}: {text if len(text) <= 200 else text[:197] + '...'}"
