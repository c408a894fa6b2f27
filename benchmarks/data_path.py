"""Alpaca-like samples to packed rows of tokens: rows a second, the second start, and memory by the number of samples.

    python benchmarks/data_path.py

Our side is `TextData`: a JSON Lines file read, parsed, worded, tokenised, kept on disk, and packed. The peer is
`datasets.map` with the same tokenizer called directly on batches of 1,000: the least that gives the same ids and
labels, without checks, formats or templates, and without packing, which is timed apart on our side. It tokenises the
prompt and the answer apart; `running` tokenises the prompt alone and with its answer, as ours and TRL do, which some
tokenizers need for an answer that begins as in a running text. Each side is a process of its own with an empty cache,
and the sides take turns; all have to give the same ids and labels. Seconds are those within the process, its imports
left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from harness import RESULTS, Record, ratio, run_side, spread, target, write_results

SAMPLES = 52_000
# Of which the slope of the memory is taken.
SIZES = (13_000, 26_000, 52_000)
MAX_LENGTH = 512


def main() -> None:
    """Measure and write the results, or run one side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, nargs="+", default=SIZES, help="the last one is that of the speed")
    parser.add_argument("--out", type=Path, default=RESULTS / "data_path.json")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args.folder, args.samples[-1])), flush=True)
        return
    with tempfile.TemporaryDirectory() as name:
        write_results(args.out, _measure(Path(name), args.samples, args.rounds), ("datasets", "tokenizers", "pyarrow"))


def _measure(folder: Path, sizes: list[int], rounds: int) -> Record:
    records: dict[str, list[Record]] = {"ours": [], "peer": [], "running": [], "again": []}
    memory: dict[str, dict[int, list[int]]] = {"ours": {}, "peer": {}, "running": {}, "again": {}}
    for size in sizes:
        own = folder / str(size)
        own.mkdir()
        _side("prepare", own, size)
        for number in range(rounds if size == sizes[-1] else 2):
            sides = ("ours", "peer", "running") if number % 2 else ("running", "peer", "ours")
            # What ours has kept is there for the second start.
            made = {side: _side(side, own / f"{side}-{number}", size) for side in sides}
            made["again"] = _side("ours", own / f"ours-{number}", size)
            if len({record["digest"] for record in made.values()}) != 1:
                raise SystemExit("the sides did not give the same ids and labels")
            for side, record in made.items():
                memory[side].setdefault(size, []).append(record["peak_rss"])
                if size == sizes[-1]:
                    records[side].append(record)
    speeds = {side: [sizes[-1] / record["seconds"] for record in made] for side, made in records.items()}
    peaks = {side: {size: min(values) for size, values in by_size.items()} for side, by_size in memory.items()}
    slopes = {side: _slope(by_size) for side, by_size in peaks.items()}
    against = ratio(speeds, "ours", "peer")
    against_running = ratio(speeds, "ours", "running")
    again = spread([record["seconds"] for record in records["again"]])
    return {
        "samples": sizes[-1],
        "tokens": records["ours"][0]["tokens"],
        "rows_per_second": {side: spread(values) for side, values in speeds.items() if side != "again"},
        "ours / peer": against,
        "ours / running": against_running,
        "second_start_seconds": again,
        "packing_seconds": spread([record["packing_seconds"] for record in records["ours"]]),
        "fill": records["ours"][0]["fill"],
        "peak_rss": peaks,
        "bytes_per_sample": slopes,
        "targets": [
            target("rows/s: ours / datasets.map", against["median"], ">= 1"),
            target("rows/s: ours / datasets.map on running text", against_running["median"], ">= 1"),
            target("second start / first", again["median"] * speeds["ours"][0] / sizes[-1], "<= 0.1"),
            target("peak memory at the most samples / at a quarter", _growth(peaks["ours"]), "<= 1.05"),
        ],
    }


def _slope(by_size: dict[int, int]) -> float:
    """Bytes of peak memory for each further sample, by least squares."""
    mean = sum(by_size) / len(by_size)
    spread_of = sum((size - mean) ** 2 for size in by_size)
    return sum((size - mean) * peak for size, peak in by_size.items()) / spread_of if spread_of else 0.0


def _growth(by_size: dict[int, int]) -> float:
    return by_size[max(by_size)] / by_size[min(by_size)]


def _side(side: str, folder: Path, size: int) -> Record:
    record = run_side("data_path.py", "--side", side, "--folder", str(folder), "--samples", str(size))
    print(side, size, {key: value for key, value in record.items() if key != "digest"}, flush=True)
    return record


def _prepare(folder: Path, size: int) -> Record:
    import workload

    return workload.prepare(folder, size, workload.TINY)


def _ours(folder: Path, size: int) -> Record:
    """Read and tokenise, or open what is kept; then pack."""
    import datasets  # noqa: F401
    import transformers  # noqa: F401

    from lightning_neft.data.module import TextData

    begun = time.perf_counter()
    data = TextData(
        source=str(folder.parent / "samples.jsonl"),
        tokenizer=str(folder.parent / "model"),
        format="prompt_completion",
        template="plain",
        max_length=MAX_LENGTH,
        batching="packed",
        val_size=0,
        cache_dir=str(folder),
    )
    data.setup("fit")
    made = time.perf_counter()
    order = data.train_order()
    packed = time.perf_counter()
    peak = _peak()
    store = data.prepared.train
    digest, tokens = _digest((store[index].input_ids, store[index].labels) for index in range(len(store)))
    return {
        "seconds": made - begun,
        "packing_seconds": packed - made,
        "fill": tokens / (len(order.rows) * MAX_LENGTH),
        "tokens": tokens,
        "digest": digest,
        "peak_rss": peak,
    }


def _peer(folder: Path, size: int) -> Record:
    """The same ids and labels with `datasets.map`, prompt and answer tokenised apart."""

    def tokenised(batch: dict[str, list[str]], tokenizer: Any) -> dict[str, list[list[int]]]:
        prompts = tokenizer(batch["prompt"], return_attention_mask=False)["input_ids"]
        answers = [text + tokenizer.eos_token for text in batch["completion"]]
        return _rows(prompts, tokenizer(answers, return_attention_mask=False)["input_ids"])

    return _mapped(folder, tokenised)


def _running(folder: Path, size: int) -> Record:
    """The same with the answer's tokens taken from the text of both."""

    def tokenised(batch: dict[str, list[str]], tokenizer: Any) -> dict[str, list[list[int]]]:
        prompts = tokenizer(batch["prompt"], return_attention_mask=False)["input_ids"]
        pairs = zip(batch["prompt"], batch["completion"], strict=True)
        texts = [prompt + answer + tokenizer.eos_token for prompt, answer in pairs]
        encoded = tokenizer(texts, return_attention_mask=False)["input_ids"]
        answers = []
        for prompt, ids in zip(prompts, encoded, strict=True):
            if ids[: len(prompt)] != prompt:
                raise SystemExit("a prompt's tokens are not the first of its text")
            answers.append(ids[len(prompt) :])
        return _rows(prompts, answers)

    return _mapped(folder, tokenised)


def _rows(prompts: list[list[int]], answers: list[list[int]]) -> dict[str, list[list[int]]]:
    pairs = list(zip(prompts, answers, strict=True))
    return {
        "input_ids": [(prompt + answer)[:MAX_LENGTH] for prompt, answer in pairs],
        "labels": [([-100] * len(prompt) + answer)[:MAX_LENGTH] for prompt, answer in pairs],
    }


def _mapped(folder: Path, tokenised: Callable[..., dict[str, list[list[int]]]]) -> Record:
    from datasets import disable_progress_bars, load_dataset
    from transformers import AutoTokenizer

    disable_progress_bars()
    begun = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(folder.parent / "model")
    source = load_dataset("json", data_files=str(folder.parent / "samples.jsonl"), cache_dir=str(folder), split="train")
    made = source.map(
        partial(tokenised, tokenizer=tokenizer), batched=True, batch_size=1000, remove_columns=source.column_names
    )
    ended, peak = time.perf_counter(), _peak()
    digest, tokens = _digest((row["input_ids"], row["labels"]) for row in made)
    return {"seconds": ended - begun, "tokens": tokens, "digest": digest, "peak_rss": peak}


def _digest(samples: Any) -> tuple[str, int]:
    import numpy as np

    digest, tokens = hashlib.sha256(), 0
    for ids, labels in samples:
        digest.update(np.asarray(ids, np.int32).tobytes() + np.asarray(labels, np.int32).tobytes())
        tokens += len(ids)
    return digest.hexdigest(), tokens


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SIDES = {"prepare": _prepare, "ours": _ours, "peer": _peer, "running": _running}

if __name__ == "__main__":
    main()
