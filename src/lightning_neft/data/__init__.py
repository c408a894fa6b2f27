"""Instruction data: formats, prompt templates, collation, the data module, and the embedded toy data."""
