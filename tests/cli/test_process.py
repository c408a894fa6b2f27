"""What malloc is told before a training on a CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lightning_neft.cli.main import main
from lightning_neft.cli.process import keep_freed_memory

# Pages that a process gets anew for the second of two blocks of 64 MB, the first one being freed before.
_PAGES = """
import resource, sys
from lightning_neft.cli.process import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(2**26)
    ctypes.memset(block, 1, 2**26)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _is_glibc() -> bool:
    import platform

    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not _is_glibc(), reason="other C libraries have their own ways")
def test_freed_memory_is_there_for_the_next_tensor() -> None:
    def pages(what: str) -> int:
        done = subprocess.run([sys.executable, "-c", _PAGES, what], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert pages("keep") < 100 < pages("leave")


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr("ctypes.CDLL", None)
    assert not keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", None)
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert not keep_freed_memory()


def test_a_fit_on_a_cpu_keeps_it(short: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("lightning_neft.cli.fit.keep_freed_memory", lambda: calls.append(True))
    assert main(["fit", *short, "--samples=0", "--trainer.logger=false", "--trainer.enable_checkpointing=false"]) == 0
    assert calls == [True]
