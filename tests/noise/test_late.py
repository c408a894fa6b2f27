"""Errors known on a device only: raised in the end, and not waited for before."""

from __future__ import annotations

import pytest
import torch

from lightning_neft import EmbeddingNoise
from lightning_neft.errors import LengthsError, NoNoiseError
from lightning_neft.noise import late
from lightning_neft.noise.late import LateErrors
from tiny import batch


def test_on_the_cpu_an_error_comes_at_once():
    errors = LateErrors()
    errors.add(torch.tensor(False), NoNoiseError("one"))
    with pytest.raises(NoNoiseError, match="two"):
        errors.add(torch.tensor(True), NoNoiseError("two"))


class OnDevice(torch.Tensor):
    """A bool of another device, as far as `LateErrors` asks; counts the waits for its value."""

    device = torch.device("meta")
    waits = 0

    def to(self, device, non_blocking=False):
        if device != "cpu":
            return self
        OnDevice.waits += not non_blocking
        return self.as_subclass(torch.Tensor)


def on_device(value):
    return torch.tensor(value).as_subclass(OnDevice)


class Event:
    def __init__(self, device):
        pass

    def record(self):
        pass

    def synchronize(self):
        pass


@pytest.fixture
def no_events(monkeypatch):
    monkeypatch.setattr(late.torch, "Event", Event)
    OnDevice.waits = 0


def test_on_a_device_an_error_comes_within_two_copies(no_events):
    errors = LateErrors()

    def end(number):
        errors.add(on_device(False), LengthsError(f"none in {number}"))
        errors.add(on_device(number in (3, 5)), LengthsError(f"batch {number}"))
        errors.end_batch()

    for number in range(127):
        end(number)
    with pytest.raises(LengthsError, match="batch 3"):
        end(127)
    assert OnDevice.waits == 0


def test_settling_waits_once_and_forgets(no_events):
    errors = LateErrors()
    for number in range(3):
        errors.add(on_device(number > 0), NoNoiseError(f"batch {number}"))
        errors.end_batch()
    with pytest.raises(NoNoiseError, match="batch 1"):
        errors.settle()
    errors.settle()
    assert OnDevice.waits == 1


def test_settling_reads_what_was_copied_before(no_events):
    errors = LateErrors()
    for number in range(70):
        errors.add(on_device(number in (3, 68)), NoNoiseError(f"batch {number}"))
        errors.end_batch()
    with pytest.raises(NoNoiseError, match="batch 3"):
        errors.settle()


def test_only_the_first_batch_and_detaching_wait(monkeypatch):
    """As on a device: no flag raises when it is added."""
    asked = []
    monkeypatch.setattr(LateErrors, "add", lambda self, flag, error: asked.append("add"))
    monkeypatch.setattr(LateErrors, "settle", lambda self: asked.append("settle"))
    monkeypatch.setattr(LateErrors, "end_batch", lambda self: asked.append("end"))
    table, given = torch.nn.Embedding(60, 8), batch([6, 3])
    noise = EmbeddingNoise(5).attach(table)
    asked.clear()
    for step in range(2):
        with noise.armed(given, step):
            table(given["input_ids"])
    noise.check()
    noise.detach()
    assert asked == ["add", "settle", "end", "add", "end", "settle", "settle"]
