"""Fixtures for all tests: small models and batches, quiet trainers, and a process left as it was found."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

# Without a GPU the kernel of the noise is interpreted. Triton reads this when it is imported, which Lightning does.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
# What compiles to C++ does so here: a pool of processes would import torch first. Without vector instructions: the
# compiler tries out each set of them.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")

# Lightning's log handler takes the standard error that it finds when it is imported: in a test that would be a captured
# one, closed for all later tests.
import lightning.pytorch  # noqa: F401
import pytest
from hypothesis import settings

from snapshots import Key, Snapshots, key_of, masked

# Models this small run faster on one thread, and a second test process does not fight for the same cores. The variable
# is for the processes that tests start: sums over another number of threads round differently, and runs are compared to
# the bit.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
# What a shell runs in the background ignores Ctrl-C, which tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in each run: what fails has to do with the change. `make fuzz` draws others, and more of them.
settings.register_profile("suite", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("fuzz", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    """seed_everything and distributed strategies set environment variables that would leak into the next test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


_COLLECTED = pytest.StashKey[dict[Path, list[Key]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-snapshots", action="store_true", help="write the files in snapshots/ instead of comparing with them"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("write_snapshots") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--write-snapshots: several processes would write the same file; omit -n")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the tests that have a snapshot, before some of them are deselected."""
    collected = config.stash.setdefault(_COLLECTED, {})
    for item in items:
        if isinstance(item, pytest.Function) and "snapshot" in item.fixturenames:
            collected.setdefault(item.path, []).append(key_of(item))


def pytest_collection_finish() -> None:
    """Take what the imports have made out of each later garbage collection, in forked processes too."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def snapshots(request: pytest.FixtureRequest) -> Iterator[Snapshots]:
    """The snapshots of a module."""
    config = request.config
    found = Snapshots(request.path, config.getoption("write_snapshots"))
    yield found
    is_whole = not any("::" in arg for arg in config.args) and not config.getoption("lf", False)
    found.finish(config.stash[_COLLECTED][request.path], is_whole)


@pytest.fixture
def snapshot(
    request: pytest.FixtureRequest, snapshots: Snapshots, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], None]:
    """Compares a text with the snapshot of the test, without the names of temporary folders."""
    return lambda text: snapshots.compare(key_of(request.node), masked(text, tmp_path_factory.getbasetemp()))
