"""Tiny models of many architectures, as the table of architectures has them, and where their weights lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lightning_neft.doctor.report import ModelReport
from lightning_neft.doctor.subject import Subject
from matrix.architectures import ROWS
from matrix.rows import Architecture

_FAMILIES = ("Decoders", "Encoders", "Encoder-decoders", "Vision-language models")
# Models of transformers that get noise without further options.
NAMES = [row.name for row in ROWS if row.family in _FAMILIES and row.error is None]


def row_of(name: str) -> Architecture:
    return next(row for row in ROWS if row.name == name)


def built(name: str) -> PreTrainedModel:
    """The model of a row on seeded random weights, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = row_of(name).build()
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def on_meta(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same config without weights."""
    with torch.device("meta"):
        return type(model)(model.config).eval()


def subject_of(model: nn.Module, root: nn.Module | None = None) -> Subject:
    """A model that has its weights."""
    report = ModelReport("here", type(model).__name__, 1, 1, "checkpoint", "float32", "eval", None, False)
    return Subject(root or model, model, None, report)


def rms(values: Tensor) -> float:
    return values.double().square().mean().sqrt().item()


def outside_of_blocks(model: PreTrainedModel) -> int:
    """Elements of all that is in no list of modules and no output layer: nothing else stands in front of a block."""
    inside = {id(p) for m in model.modules() if isinstance(m, nn.ModuleList) for p in m.parameters()}
    head = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        inside |= {id(p) for p in head.parameters()}
    buffers = sum(buffer.numel() for buffer in model.buffers())
    return buffers + sum(p.numel() for p in model.parameters() if id(p) not in inside)
