"""A tokenizer of whole words, line breaks and marks, whose ids can be written out by hand.

A space belongs to the word behind it, as in GPT-2's and Llama's vocabularies, so white space shows in the ids. The
vocabulary is in tests/data/tokenizers/words.json: special tokens and marks, then the words of each template in the
order in which it says them, then those of the samples.
"""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from lightning_neft.data.conversation import Conversation, Message, Role

WORDS = Path(__file__).parent / "data" / "tokenizers" / "words.json"


def tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    """Ids: <s> 0, which it puts before a text, </s> 1, unknown 2. No padding token, no chat template."""
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **special_tokens}
    return PreTrainedTokenizerFast(tokenizer_file=str(WORDS), **names)


def talk(*contents: str, system: str = "") -> Conversation:
    """A conversation in which user and assistant take turns, the user first."""
    roles: tuple[Role, ...] = ("user", "assistant")
    turns = tuple(Message(roles[number % 2], content) for number, content in enumerate(contents))
    return Conversation((Message("system", system), *turns) if system else turns)
