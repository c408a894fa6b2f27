"""One fit of a real pretrained model on real instructions: ours, TRL, and a hand-written loop, as one table.

    python scripts/real_bases.py --into .real
    python benchmarks/real_model.py --model .real/smollm2-135m-instruct --data instructions.jsonl
    python benchmarks/real_model.py --model .real/gemma3-270m --data instructions.jsonl --rounds 3

Needs the extra `bench`. The data are records of `instruction`, an optional `input`, and `output`, as JSON Lines or one
JSON list. Every side trains one epoch on the same samples in batches of 8, none longer than 512 tokens; a side that did
not see exactly their tokens ends the benchmark. What the sides do: `sides.py`. `gemm` measures the rate of the model's
matrix products in each round. A side's share of it counts 6 operations per weight and token, without attention. Each
side of each round is a process of its own, whose figures are written at once: the same command continues where it was
stopped. Figures need a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from comparison import check_tokens, ratio, summary, table
from harness import RESULTS, Record, run_side, spread, target, write_results

# Nothing heavy here: on Linux, the peak memory of a new process begins at that of the one that started it.

SIDES = ("trl", "trl_tuned", "hand_bf16", "ours_default", "ours_selective", "ours_checkpointed")
PACKAGES = ("torch", "transformers", "trl", "accelerate", "lightning", "lightning-neft")
PROMPT = "### Instruction:\n{instruction}\n\n{extra}### Response:\n"
# Of the products that are timed: about a batch.
ROWS = 2048


def main() -> None:
    """Run the benchmark, or one side of it."""
    parser = parser_of_workload(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", metavar="SIDE", default=SIDES, help="those of sides.py that take part")
    parser.add_argument("--out", type=Path, help="by default results/real_model/MODEL.json")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(_in_this_process(args)), flush=True)
        return
    out = args.out or RESULTS / "real_model" / f"{args.model.resolve().name}.json"
    with tempfile.TemporaryDirectory() as folder:
        given = [f"--model={args.model}", f"--data={args.data}", f"--folder={folder}", f"--longest={args.longest}"]
        workload = run_side("real_model.py", *given, "--side=prepare", f"--samples={args.samples}")
        workload.pop("wall_seconds")
        print(f"{workload['samples']} samples, {workload['tokens']} tokens", flush=True)
        rounds = _rounds_so_far(out, workload)
        for number in range(args.rounds):
            if number == len(rounds):
                rounds.append({})
            # Each round begins with another side, so that none is always the first.
            start = number % len(args.sides)
            for side in ("gemm", *args.sides[start:], *args.sides[:start]):
                if side in rounds[number]:
                    continue
                record = run_side("real_model.py", *given, f"--side={side}")
                if side != "gemm":
                    check_tokens(side, record, workload)
                    print(f"{side}: {record['tokens_per_second']:.0f} tokens/s", flush=True)
                rounds[number][side] = record
                write_results(out, {"model": args.model.name, "workload": workload, "rounds": rounds}, PACKAGES)
    report = _report(rounds[: args.rounds], list(args.sides))
    write_results(out, {"model": args.model.name, "workload": workload, **report}, PACKAGES)
    print(table(report))
    for side, row in report["sides"].items():
        shares = ", ".join(f"{row[f'share_{name}']:.0%} of the {name} products" for name in ("bf16", "float32"))
        print(f"{side}: {shares}")


def parser_of_workload(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what is trained, and of the side that a process of its own runs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="a folder of scripts/real_bases.py")
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="instructions, JSON Lines or JSON")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--longest", type=int, default=512, help="longer samples are dropped; in tokens")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def _rounds_so_far(out: Path, workload: Record) -> list[dict[str, Record]]:
    if not out.is_file():
        return []
    found = json.loads(out.read_text(encoding="utf-8"))
    if found["workload"] != workload:
        raise SystemExit(f"{out} has figures of other samples; give another --out, or remove it")
    rounds: list[dict[str, Record]] = found["rounds"]
    return rounds


def _report(rounds: list[dict[str, Record]], sides: list[str]) -> Record:
    """Return the summary of each side with its share of the products' rate, and the targets."""
    rows = {side: summary([one[side] for one in rounds]) for side in sides}
    for side, row in rows.items():
        for name in ("bf16", "float32"):
            used = [one[side]["tokens_per_second"] * one["gemm"]["flops_per_token"] for one in rounds]
            rates = [one["gemm"][name] for one in rounds]
            row[f"share_{name}"] = spread([share / rate for share, rate in zip(used, rates, strict=True)])["median"]
    targets = []
    if "ours_default" in rows:
        share = rows["ours_default"]["share_bf16"]
        targets = [target("share of the bf16 products", share, ">= 0.6")]
        for other, key, wanted in (
            ("trl", "tokens_per_second", ">= 3"),
            ("trl_tuned", "tokens_per_second", ">= 2"),
            ("trl", "peak_rss", "<= 0.6"),
        ):
            if other in rows:
                value = ratio(rounds, "ours_default", other, key)
                targets.append(target(f"{key}: ours_default / {other}", value, wanted))
    for side in {"ours_selective", "ours_checkpointed"} & set(rows) if "trl" in rows else ():
        for key, wanted in (("tokens_per_second", ">= 2"), ("peak_rss", "<= 0.75")):
            targets.append(target(f"{key}: {side} / trl", ratio(rounds, side, "trl", key), wanted))
    return {"sides": rows, "targets": targets, "rounds": rounds}


def _in_this_process(args: argparse.Namespace) -> Record:
    if args.side == "prepare":
        return _prepare(args.folder, args.model.resolve(), args.data, args.samples, args.longest)
    if args.side == "gemm":
        return _products(args.model)
    import sides

    return sides.run_side(args.side, args.folder, gpu=False)


def _prepare(folder: Path, model: Path, data: Path, count: int, longest: int) -> Record:
    """Write `samples.jsonl` (prompt, completion) and a link `model`; return how many samples and tokens they are."""
    from transformers import AutoTokenizer

    text = data.read_text(encoding="utf-8")
    records = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    (folder / "model").symlink_to(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    kept, tokens, answers = [], 0, 0
    for record in records:
        extra = f"### Input:\n{record['input']}\n\n" if record.get("input") else ""
        prompt = PROMPT.format(instruction=record["instruction"].strip(), extra=extra)
        completion = record["output"].strip()
        asked = tokenizer(prompt)["input_ids"]
        ids = tokenizer(prompt + completion + tokenizer.eos_token)["input_ids"]
        # Sides tokenise the two together or apart: only samples that are the same either way.
        if not completion or len(ids) > longest or ids[: len(asked)] != asked:
            continue
        kept.append(json.dumps({"prompt": prompt, "completion": completion}))
        # As the meter counts them, where the end token pads too.
        tokens += sum(one != tokenizer.pad_token_id for one in ids)
        answers += len(ids) - len(asked)
        if len(kept) == count:
            break
    if len(kept) < count:
        raise SystemExit(f"{data} has {len(kept)} samples of up to {longest} tokens, --samples {count} are wanted")
    (folder / "samples.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return {"samples": count, "tokens": tokens, "answer_tokens": answers}


def _products(model: Path) -> Record:
    """Return the rate of the model's matrix products, in operations a second, and the operations a token."""
    import time
    from collections import Counter

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    linear = [module for module in built.modules() if isinstance(module, torch.nn.Linear)]
    shapes = Counter(tuple(module.weight.shape) for module in linear)
    result: Record = {"flops_per_token": 6 * sum(rows * columns * times for (rows, columns), times in shapes.items())}
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        operations = seconds = 0.0
        for (rows, columns), times in shapes.items():
            given, weights = torch.randn(ROWS, columns, dtype=dtype), torch.randn(rows, columns, dtype=dtype)
            torch.nn.functional.linear(given, weights)
            begun = time.perf_counter()
            repeats = 0
            while time.perf_counter() - begun < 0.5:
                torch.nn.functional.linear(given, weights)
                repeats += 1
            seconds += times * (time.perf_counter() - begun) / repeats
            operations += times * 2.0 * ROWS * rows * columns
        result[name] = operations / seconds
    return result


if __name__ == "__main__":
    main()
