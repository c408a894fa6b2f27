"""What every side of the benchmark trains on: samples of Alpaca's lengths, a word-level tokenizer, a random Llama.

One word is one token, so that lengths are exact whoever tokenises. They follow the quantiles below (at 0, 5, 25, 50,
75, 95 and 100 %, linear between them), which were taken from 999 samples of Alpaca-GPT4 style as characters / 4, with
40 tokens for the Alpaca template in front; samples are cut to 512 tokens in all, the end token included.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
ANSWER_TOKENS = (1, 7, 27, 116, 304, 488, 709)
PROMPT_TOKENS = (4, 9, 12, 17, 24, 46, 200)
TEMPLATE_TOKENS = 40
MAX_LENGTH = 512
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
WORDS = 4096 - 3
SEED = 0

TINY: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "tie_word_embeddings": False,
}
# The shape of SmolLM2-135M, whose weights do not matter to the speed.
SMOLLM2: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def lengths(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens of each prompt and of each answer with its end token, in random order."""
    rng = np.random.default_rng(SEED)
    places = (np.arange(count) + 0.5) / count
    prompts = TEMPLATE_TOKENS + np.interp(rng.permutation(places), QUANTILES, PROMPT_TOKENS).round().astype(np.int64)
    answers = 1 + np.interp(rng.permutation(places), QUANTILES, ANSWER_TOKENS).round().astype(np.int64)
    return prompts, np.minimum(answers, MAX_LENGTH - prompts)


def prepare(folder: Path, count: int, shape: dict[str, Any]) -> dict[str, int]:
    """Write `samples.jsonl` (prompt, completion) and the folder `model`; return the number of samples and of tokens."""
    prompts, answers = lengths(count)
    rng = np.random.default_rng(SEED)
    # As uneven as words are, so that there is something to learn.
    shares = 1 / np.arange(1, WORDS + 1)
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        for prompt, answer in zip(prompts, answers - 1, strict=True):
            words = [f"w{word}" for word in rng.choice(WORDS, prompt + answer, p=shares / shares.sum())]
            record = {"prompt": " ".join(words[:prompt]) + " ", "completion": " ".join(words[prompt:])}
            file.write(json.dumps(record) + "\n")
    _save_tokenizer(folder / "model")
    _save_model(folder / "model", shape)
    return {"samples": count, "tokens": int((prompts + answers).sum()), "answer_tokens": int(answers.sum())}


def read_samples(folder: Path) -> list[dict[str, str]]:
    """Read back what `prepare` wrote."""
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [PAD, EOS, UNKNOWN, *(f"w{word}" for word in range(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate(vocabulary)}, UNKNOWN))
    # By the letter too: a side that strips the space between prompt and answer gets the same tokens.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"w\d+"), "isolated")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN)
    fast.save_pretrained(folder)


def _save_model(folder: Path, shape: dict[str, Any]) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        **shape, max_position_embeddings=2048, bos_token_id=None, eos_token_id=1, pad_token_id=0, use_cache=False
    )
    LlamaForCausalLM(config).save_pretrained(folder)
