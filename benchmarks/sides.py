"""The sides of the benchmark: TRL's SFTTrainer, a hand-written loop, and `lightning_neft fit`, on the same samples.

All of them train one epoch with alpha 5, 8 samples (or packed rows) a batch, AdamW at 5e-5 without weight decay, a
cosine after 3 % of warm-up, gradients clipped to 1. Each is to run in a process of its own, and returns what its
`Meter` says together with its settings.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from workload import MAX_LENGTH, read_samples

ALPHA = 5
BATCH_SIZE = 8
LEARNING_RATE = 5e-5
WARMUP_RATIO = 0.03

# What differs from the defaults of SFTConfig, which on a CPU too are float32 weights, bf16 autocast and activation
# checkpointing. `trl_tuned` is the fastest combination found; `trl_tuned_fp32` computes in float32, as the others do
# on a CPU.
TRL: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl_packed": {"packing": True},
    "trl_padding_free": {"padding_free": True, "max_length": None},
    "trl_grouped": {"train_sampling_strategy": "group_by_length"},
    "trl_tuned": {"train_sampling_strategy": "group_by_length", "gradient_checkpointing": False},
    "trl_tuned_fp32": {"train_sampling_strategy": "group_by_length", "gradient_checkpointing": False, "bf16": False},
}
# How its batches are made, and whether it computes in bf16 autocast on a CPU too.
HAND = {
    "hand_random": ("random", False),
    "hand_grouped": ("length_grouped", False),
    "hand_bf16": ("length_grouped", True),
}
# What differs from our defaults.
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours_random": {"data": {"batching": "random"}},
    "ours_packed": {"data": {"batching": "packed"}},
    # The precision of TRL's defaults.
    "ours_bf16": {"trainer": {"precision": "bf16-mixed"}},
    "ours_clean": {"neftune": {"alpha": 0}},
    # The program chooses the precision.
    "ours_default": {"trainer": {"precision": None}},
    "ours_selective": {"trainer": {"precision": None}, "model": {"gradient_checkpointing": "selective"}},
    "ours_checkpointed": {"trainer": {"precision": None}, "model": {"gradient_checkpointing": True}},
    "ours_compiled": {"trainer": {"precision": None}, "model": {"compile": True}},
}


def run_side(side: str, folder: Path, gpu: bool) -> dict[str, Any]:
    """Train once, and return measurements and settings.

    Args:
        side: A name from the tables above.
        folder: What `workload.prepare` wrote.
        gpu: Whether to train on the GPU, in bf16 autocast over float32 weights, which is TRL's default, or on the CPU:
            in float32, but for TRL, whose default is bf16 autocast there too, and for `ours_bf16`.
    """
    if side in TRL:
        return _trl(folder, gpu, TRL[side])
    if side in HAND:
        return _hand(folder, gpu, *HAND[side])
    return _ours(folder, gpu, OURS[side])


def _trl(folder: Path, gpu: bool, changed: dict[str, Any]) -> dict[str, Any]:
    from datasets import Dataset
    from meter import Meter
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    meter = Meter(tokenizer.pad_token_id)

    class Watch(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.start_step()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == state.max_steps:
                meter.stop()

    settings = {
        "max_length": MAX_LENGTH,
        "neftune_noise_alpha": ALPHA,
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARMUP_RATIO,
        **changed,
    }
    config = SFTConfig(
        output_dir=str(folder / "trl"),
        use_cpu=not gpu,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    trainer = SFTTrainer(
        model=str(folder / "model"),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(read_samples(folder)),
        callbacks=[Watch()],
    )
    meter.watch(trainer.model)
    meter.begin_fit()
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    labels = trainer.train_dataset["labels"]
    shown = ("bf16", "gradient_checkpointing", "optim", "packing", "padding_free", "train_sampling_strategy")
    return {
        **meter.result(logged),
        "answer_tokens": sum(label != -100 for row in labels for label in row),
        "settings": settings
        | {name: str(getattr(config, name)) for name in shown}
        | {"weights": str(trainer.model.dtype), "attention": trainer.model.config._attn_implementation},
    }


def _hand(folder: Path, gpu: bool, batching: str, bf16: bool) -> dict[str, Any]:
    import torch
    from meter import Meter
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    prompts, texts = [], []
    for sample in read_samples(folder):
        text = sample["prompt"] + sample["completion"] + tokenizer.eos_token
        prompts.append(len(tokenizer(sample["prompt"])["input_ids"]))
        texts.append(torch.tensor(tokenizer(text)["input_ids"]))
    order = _order([len(text) for text in texts], prompts, batching)

    device = "cuda" if gpu else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(WARMUP_RATIO * len(order)), len(order))
    meter = Meter(tokenizer.pad_token_id)
    meter.watch(model)
    torch.manual_seed(0)
    answer_tokens = 0
    meter.begin_fit()
    for rows in order:
        meter.start_step()
        ids = pad_sequence([texts[row] for row in rows], True, tokenizer.pad_token_id)
        lengths = torch.tensor([[len(texts[row])] for row in rows])
        places = torch.arange(ids.shape[1])
        mask = places < lengths
        labels = ids.where(mask & (places >= torch.tensor([[prompts[row]] for row in rows])), -100)
        answer_tokens += int((labels != -100).sum())
        ids, lengths, mask, labels = (x.to(device, non_blocking=True) for x in (ids, lengths, mask, labels))
        with torch.autocast(device, torch.bfloat16, enabled=gpu or bf16):
            embedded = model.get_input_embeddings()(ids)
            bound = ALPHA / (lengths * embedded.shape[-1]).sqrt() * mask
            noisy = embedded + torch.empty_like(embedded).uniform_(-1, 1) * bound[..., None]
            loss = model(inputs_embeds=noisy, attention_mask=mask.long(), labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        meter.add_loss(loss)
    meter.stop()
    settings = {"batching": batching, "bf16": gpu or bf16, "attention": model.config._attn_implementation}
    return {**meter.result(), "answer_tokens": answer_tokens, "settings": settings}


def _order(lengths: list[int], prompts: list[int], batching: str) -> list[list[int]]:
    """Return the samples of each batch: those that our side has in its first epoch with seed 0."""
    from lightning_neft.data.batching.order import TrainOrder

    weights = [length - prompt for length, prompt in zip(lengths, prompts, strict=True)]
    order = TrainOrder(lengths, weights, batching=batching, batch_size=BATCH_SIZE, max_length=MAX_LENGTH)  # type: ignore[arg-type]
    return [[index for row in plan.rows for index in row] for plan in order.plans(epoch=0)]


def _ours(folder: Path, gpu: bool, changed: dict[str, Any]) -> dict[str, Any]:
    import yaml

    from lightning_neft.cli.main import main

    config = our_config(folder, gpu, changed)
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    code = main(["fit", "--config", str(path)])
    if code:
        raise SystemExit(code)
    from lightning_meter import LightningMeter

    settings = {"data": {**config["data"], "source": "samples.jsonl"}, "neftune": config["neftune"]}
    settings["precision"] = LightningMeter.precision
    return {**LightningMeter.result, "settings": settings}


def our_config(folder: Path, gpu: bool, changed: dict[str, Any]) -> dict[str, Any]:
    """Return the config of `lightning_neft fit`."""
    config: dict[str, dict[str, Any]] = {
        "model": {"base": str(folder / "model"), "learning_rate": LEARNING_RATE},
        "data": {
            "source": str(folder / "samples.jsonl"),
            "format": "prompt_completion",
            "template": "plain",
            "batch_size": BATCH_SIZE,
            "max_length": MAX_LENGTH,
            "val_size": 0,
        },
        "neftune": {"alpha": ALPHA},
        "trainer": {
            "accelerator": "gpu" if gpu else "cpu",
            "devices": 1,
            "precision": "bf16-mixed" if gpu else "32-true",
            "max_epochs": 1,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "logger": False,
            # A folder of its own: a run does not write over the config of another.
            "default_root_dir": str(folder / f"ours-{os.getpid()}"),
            "callbacks": [{"class_path": "lightning_meter.LightningMeter"}],
        },
    }
    merged = {section: {**keys, **changed.get(section, {})} for section, keys in config.items()}
    # None stands for the program's default.
    return {
        section: {key: value for key, value in keys.items() if value is not None} for section, keys in merged.items()
    }
