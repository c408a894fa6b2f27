"""The table: every architecture on which noise has to be on, or loud. One list, which tests and docs both read."""

from __future__ import annotations

from matrix import adapters, custom, decoders, encoder_decoders, encoders, vision_language
from matrix.rows import Architecture

ROWS: list[Architecture] = [
    *decoders.ROWS,
    *encoder_decoders.ROWS,
    *encoders.ROWS,
    *vision_language.ROWS,
    *adapters.ROWS,
    *custom.ROWS,
]
