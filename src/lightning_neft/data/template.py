"""Prompt templates: one object that words the prompt, for training and for generation alike."""

from __future__ import annotations

from lightning_neft.data.sample import Sample

__all__ = ["AlpacaTemplate"]

_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


class AlpacaTemplate:
    r"""The Alpaca prompt, both forms, as the authors of NEFTune trained with it. The answer follows the colon at once.

    Example:
        >>> AlpacaTemplate().prompt(Sample("Add.", "1 and 2", "3")).partition("\n\n")[2]
        '### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:'
    """

    def prompt(self, sample: Sample) -> str:
        """Return what the model reads before its answer."""
        # str.format looks at the template only: braces inside an instruction stay what they are.
        form = _WITH_INPUT if sample.input else _WITHOUT_INPUT
        return form.format(instruction=sample.instruction, input=sample.input)
