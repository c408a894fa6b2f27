"""What the fuzzer and the test of its corpus share: a file becomes tokens, or is refused in one line."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.cli.errors import explain
from lightning_neft.data.conversation import Labelled
from lightning_neft.data.formats.format import parse_records
from lightning_neft.data.formats.registry import choose_format
from lightning_neft.data.sources.source import open_source
from lightning_neft.data.templates.registry import default_template
from lightning_neft.data.tokenization import encode, label_names
from lightning_neft.errors import DataError
from lightning_neft.hub.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CORPUS = Path(__file__).parent / "corpus"
# The end of a file's name says which reader gets it, except where its first bytes do.
READERS = ("json", "csv", "tsv", "parquet")
_MAX_LENGTH = 256


def read(path: Path) -> str | None:
    """Go the way of a data file up to its tokens.

    Returns:
        None where it has samples, or the line by which it is refused.

    Raises:
        Exception: Anything else than a refusal: what the fuzzer looks for.
        AssertionError: If the line would not stay one on a terminal, or if samples have impossible tokens.
    """
    try:
        records = open_source(str(path))
        chosen = choose_format(records.head, source=records.name)
        samples = parse_records(records, chosen).samples
        is_labelled = isinstance(samples[0], Labelled)
        encoding = encode(
            samples,
            _tokenizer(),
            default_template(chosen, _tokenizer()),
            task="sequence_classification" if is_labelled else "causal_lm",
            max_length=_MAX_LENGTH,
            labels=label_names(samples),
        )
    except DataError as error:
        line = explain(error)
        assert line
        assert line.isprintable(), repr(line)
        return line
    assert records.size == len(samples)
    assert len(encoding.kept) + sum(encoding.dropped.values()) == len(samples)
    size = len(_tokenizer())
    for sample in encoding.samples:
        assert 0 < len(sample.input_ids) <= _MAX_LENGTH
        assert all(0 <= token < size for token in sample.input_ids)
    return None


@cache
def _tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("tiny")
