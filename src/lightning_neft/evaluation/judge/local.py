"""A judge on this machine: the letter that a causal language model finds more likely as the start of its reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lightning_neft.data.conversation import Message
from lightning_neft.data.templates.chat_template import check_ends, render
from lightning_neft.evaluation.judge.request import Reply
from lightning_neft.evaluation.result import InputFile
from lightning_neft.hub.names import resolve_base
from lightning_neft.hub.tokenizer import leading_ids, load_tokenizer
from lightning_neft.models.execution import evaluating
from lightning_neft.models.weights import load_weights

__all__ = ["LocalJudge"]

# Precedes the reply of models without a chat template.
_LEAD = "\n\nBetter answer:"
_DIGITS = 12


class LocalJudge:
    """A transformers model whose verdict is A or B, whichever is more likely as its next token.

    A small model seldom writes just a letter. Of two letters one is always more likely, so every pair that fits into
    the model's context has a verdict, and the same one each time. A pair that does not fit has none.

    Args:
        base: A folder, a hub id, or `tiny`.
        trust_remote_code: Whether code bundled with the model may run.

    Raises:
        ModelError: If the model or its tokenizer cannot be loaded.
        ConfigError: If its chat template never ends.
    """

    is_paid = False
    workers = 1
    # A second reply would be the same.
    tries = 1

    def __init__(self, base: str, trust_remote_code: bool = False) -> None:
        self._tokenizer = load_tokenizer(base, trust_remote_code)
        if self._tokenizer.chat_template:
            check_ends(self._tokenizer)
        self._model, _ = load_weights("AutoModelForCausalLM", base, dtype="auto", trust_remote_code=trust_remote_code)
        self._model.to("cuda" if torch.cuda.is_available() else "cpu")
        # Only the name of a folder or file: the digest identifies the model, and parent folders are private.
        name = Path(base).name if Path(base).exists() else base
        self.name = f"local:{name}@{_identity(resolve_base(base), self._model.config)}"

    @torch.no_grad()
    def ask(self, prompt: str, key: str, attempt: int) -> Reply:
        """Return the more likely letter; an empty reply if the prompt is longer than the model's context."""
        first, second = self._encoded(prompt)
        place = next(index for index, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
        longest = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if longest is not None and place > longest:
            return Reply("", place, 0)
        # The two are the same up to the letter.
        ids = torch.tensor([first[:place]], device=self._model.device)
        with evaluating(self._model):
            logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, -1]
        return Reply("A" if logits[first[place]] >= logits[second[place]] else "B", place, 1)

    def stop(self) -> None:
        """Nothing waits here."""

    def _encoded(self, prompt: str) -> tuple[list[int], list[int]]:
        """Return the ids of the prompt followed by either letter."""
        if self._tokenizer.chat_template:
            asked = render(self._tokenizer, [Message("user", prompt)], open_prompt=True)
            lead, texts = [], (f"{asked}A", f"{asked}B")
        else:
            lead = leading_ids(self._tokenizer)
            texts = (f"{prompt}{_LEAD} A", f"{prompt}{_LEAD} B")
        # Not verbose: prompts that are too long are reported elsewhere.
        first, second = (self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts)
        return lead + first, lead + second


def _identity(base: str, config: Any) -> str:
    """Return what identifies this model among those of its name: its commit on the hub, or the digest of its files."""
    folder = Path(base)
    if not folder.is_dir():
        return str(config._commit_hash)[:_DIGITS]
    return InputFile.read("judge", folder).sha256[:_DIGITS]
