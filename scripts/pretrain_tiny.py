"""Make the tiny base model of the quick start: train its tokenizer, pretrain it on toy prose, write it as a folder.

    python scripts/pretrain_tiny.py

writes src/lightning_neft/hub/tiny_llama/, which `AutoModelForCausalLM.from_pretrained` reads. Every seed is fixed. It
took 14 minutes on two CPU cores that others used as well.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from toy_data.prose import toy_text
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lightning_neft.data.toy import toy_instructions

HOME = Path(__file__).resolve().parent.parent / "src" / "lightning_neft" / "hub" / "tiny_llama"
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
SEED = 5
TRAIN_SEED, HELD_OUT_SEED, TOKENIZER_SEED = 1, 2, 3
BLOCK = 128
MAX_LENGTH = 1024
VOCABULARY, WIDTH, DOCUMENTS = 1024, 128, 115_000
STEPS, BATCH_SIZE, LEARNING_RATE = 2000, 32, 3e-3
FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")

# Only the tokenizer sees this text. The base itself must not know the format: fine-tuning is to teach that.
ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:{output}"
)
ALPACA_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:{output}"
)


def train_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on toy prose and toy instructions; encoding puts `<s>` in front and nothing behind."""
    records = toy_instructions("train")
    instructions = ((ALPACA if record["input"] else ALPACA_NO_INPUT).format(**record) for record in records)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        chain(toy_text(TOKENIZER_SEED, 8000), instructions),
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[BOS, EOS, PAD],
            # All 256 bytes, also those the toy data lacks: then no text at all is out of vocabulary.
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="right",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def packed_blocks(tokenizer: PreTrainedTokenizerFast, seed: int, documents: int) -> torch.Tensor:
    """Return toy prose as rows of BLOCK token ids: documents one after another, each with `<s>` and `</s>`."""
    ids: list[int] = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(list(toy_text(seed, documents))):
        ids.extend(encoding.ids)
        ids.append(tokenizer.eos_token_id)
    rows = len(ids) // BLOCK
    return torch.tensor(ids[: rows * BLOCK]).view(rows, BLOCK)


def batches(blocks: torch.Tensor, size: int, steps: int) -> Iterator[torch.Tensor]:
    """Yield `steps` batches of rows; each pass over the rows is in a new order."""
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(blocks))
        yield blocks[order[:size]]
        order = order[size:]


@torch.no_grad()
def loss_on(model: LlamaForCausalLM, blocks: torch.Tensor) -> float:
    """Return the mean loss of a token, in nats."""
    model.eval()
    losses = [model(input_ids=rows, labels=rows).loss.item() for rows in blocks.split(32)]
    model.train()
    return sum(losses) / len(losses)


def pretrain(
    model: LlamaForCausalLM, train: torch.Tensor, held_out: torch.Tensor, steps: int, size: int, peak: float
) -> None:
    """Train in place with AdamW: 3 % linear warm-up, then a cosine down to a tenth of the peak learning rate."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95))
    warm = max(1, round(0.03 * steps))
    start = time.perf_counter()
    for step, rows in enumerate(batches(train, size, steps)):
        share = min(1.0, max(0.0, (step - warm) / (steps - warm)))
        factor = (step + 1) / warm if step < warm else 0.55 + 0.45 * math.cos(math.pi * share)
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            seconds = time.perf_counter() - start
            print(f"step {step:5d}  train loss {loss.item():.4f}  {seconds:6.1f} s", flush=True)
        if step % 500 == 499:
            print(f"step {step:5d}  held-out loss {loss_on(model, held_out):.4f}", flush=True)


def write(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, home: Path) -> None:
    """Write model and tokenizer to a temporary folder beside `home`, then put it in its place."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as temporary:
        folder = Path(temporary) / home.name
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors writes for the owner only
        written = sorted(path.name for path in folder.iterdir())
        if written != sorted(FILES):
            raise RuntimeError(f"expected the files {sorted(FILES)}, got {written}")
        if home.exists():
            shutil.rmtree(home)
        folder.rename(home)


def main() -> None:
    """Run the whole of it."""
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(VOCABULARY)
    train = packed_blocks(tokenizer, TRAIN_SEED, DOCUMENTS)
    held_out = packed_blocks(tokenizer, HELD_OUT_SEED, 1000)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            **special,
        )
    )
    model.generation_config = GenerationConfig(**special)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count:,} parameters, {train.numel():,} tokens of prose, log(vocabulary) {math.log(len(tokenizer)):.2f}")
    model.train()
    pretrain(model, train, held_out, STEPS, BATCH_SIZE, LEARNING_RATE)
    # Rounded to bfloat16 but stored as float32: it loads ready for a CPU, and an archive of it is half as large.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    print(f"final train loss {loss_on(model, train[:500]):.4f}, held-out loss {loss_on(model, held_out):.4f}")
    write(model, tokenizer, HOME)


if __name__ == "__main__":
    main()
