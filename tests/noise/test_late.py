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


class OnDevice:
    """A bool scalar of another device, as far as `LateErrors` asks; counts the waits for its value."""

    device = torch.device("meta")
    waits = 0

    def __init__(self, value):
        self.value = value

    def to(self, device, **options):
        return torch.tensor(self.value) if device == "cpu" else self

    def __or__(self, other):
        return OnDevice(self.value or other.value)

    def __bool__(self):
        OnDevice.waits += 1
        return self.value


class Event:
    def __init__(self, device):
        pass

    def record(self):
        pass

    def synchronize(self):
        pass


def test_on_a_device_an_error_comes_within_two_copies(monkeypatch):
    monkeypatch.setattr(late.torch, "Event", Event)
    OnDevice.waits = 0
    errors = LateErrors()

    def end(number):
        errors.add(OnDevice(number == 3), LengthsError("batch 3"))
        errors.end_batch()

    for number in range(127):
        end(number)
    with pytest.raises(LengthsError, match="batch 3"):
        end(127)
    assert OnDevice.waits == 0


def test_settling_waits_once_and_forgets():
    errors = LateErrors()
    for number in range(3):
        errors.add(OnDevice(number == 1), NoNoiseError("one of three"))
        errors.end_batch()
    with pytest.raises(NoNoiseError, match="one of three"):
        errors.settle()
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
