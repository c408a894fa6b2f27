"""The model card of an exported model: where it comes from, how it was trained, what was measured."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_neft.data.catalogue import find_entry
from lightning_neft.hub.base_models import base_models
from lightning_neft.models.description import ModelFacts

__all__ = ["model_card"]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# The hub's words for licences, by what this package's lists call them.
_LICENCES = {
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "llama 2 community license": "llama2",
    "llama 3.1 community license": "llama3.1",
    "llama 3.2 community license": "llama3.2",
    "gemma terms of use": "gemma",
}
_PIPELINES = {
    "causal_lm": "text-generation",
    "seq2seq_lm": "text2text-generation",
    "sequence_classification": "text-classification",
}
_EXAMPLE = """

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained({name!r}), AutoTokenizer.from_pretrained({name!r})
messages = [{{"role": "user", "content": "Which day comes after Monday?"}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=256)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```"""
# What of a config decides the weights; what is null or off there is left out.
_OPTIONS = (
    "model.learning_rate",
    "model.weight_decay",
    "model.warmup_ratio",
    "model.quantization",
    "model.freeze",
    "model.lora.r",
    "model.lora.alpha",
    "model.lora.dropout",
    "model.lora.dora",
    "model.lora.target_modules",
    "data.batch_size",
    "data.batching",
    "data.prompt_loss",
    "global_batch_size",
    "neftune.distribution",
    "neftune.length",
    "neftune.scope",
    "neftune.scale",
    "neftune.antithetic",
    "neftune.schedule",
    "neftune.warmup",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.accumulate_grad_batches",
    "trainer.gradient_clip_val",
    "trainer.precision",
    "seed_everything",
)
_MEASURED = ("val/loss", "val/perplexity", "val/token_accuracy", "val/accuracy", "val/f1")


def model_card(
    facts: ModelFacts,
    name: str,
    *,
    config: Mapping[str, Any],
    run: Path | None,
    results: Mapping[str, Mapping[str, Any]],
    has_chat_template: bool,
) -> str:
    """Return the text of a README.md for the hub.

    Args:
        facts: How the model was trained.
        name: What to call it.
        config: The config of the run; empty if it is not known.
        run: The folder of the run, whose metrics are taken; None if it is not known.
        results: Results of `lightning_neft evaluate` on the model, by the names of their files.
        has_chat_template: Whether the tokenizer's chat template words prompts as the training did.
    """
    parts = [
        f"---\n{_front_matter(facts)}\n---",
        f"# {name}\n\n{_what(facts)}",
        _use(facts, name, has_chat_template),
        "## Training\n\n" + _table(("", ""), [*_of_training(facts), *_options(config)]),
    ]
    if measured := [*_metrics(run), *_results(results)]:
        parts.append("## Results\n\n" + "\n\n".join(measured))
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: ModelFacts) -> str:
    from huggingface_hub import ModelCardData

    licence = _base_licence(facts)
    known = None if licence is None else _LICENCES.get(licence.lower(), "other")
    data = ModelCardData(
        base_model=facts.base if _HUB_ID.fullmatch(facts.base) else None,
        datasets=[dataset] if (dataset := _dataset(facts)) else None,
        library_name="transformers",
        license=known,
        license_name=re.sub(r"[^a-z0-9.]+", "-", licence.lower()) if licence and known == "other" else None,
        pipeline_tag=_PIPELINES[facts.task],
        tags=["lightning-neft", *(["neftune"] if facts.alpha else [])],
    )
    return str(data.to_yaml()).rstrip()


def _base_licence(facts: ModelFacts) -> str | None:
    return next((model.licence for model in base_models().values() if model.hub_id == facts.base), None)


def _dataset(facts: ModelFacts) -> str | None:
    """Return the id on the hub of the training data."""
    entry = find_entry(facts.data or "")
    source = facts.data if entry is None else entry.source
    return source if source and _HUB_ID.fullmatch(source) else None


def _what(facts: ModelFacts) -> str:
    noise = (
        f"with noise on its embeddings (NEFTune, [arXiv 2310.05914](https://arxiv.org/abs/2310.05914)), "
        f"alpha {facts.alpha:g}"
        if facts.alpha
        else "without noise on its embeddings"
    )
    return f"{_code(facts.base)}, fine-tuned {noise}, with lightning_neft."


def _use(facts: ModelFacts, name: str, has_chat_template: bool) -> str:
    if facts.template is None:
        return "## Use\n\nThe classes are in `config.json`; `AutoModelForSequenceClassification` loads the model."
    words = f"Prompts were worded with the template `{facts.template}`"
    if has_chat_template:
        words += ", which is the tokenizer's chat template: `apply_chat_template(messages, add_generation_prompt=True)`"
    decoding = "`generation_config.json` has the decoding of the paper: greedy, repetition penalty 1.2."
    text = f"## Use\n\n{words}. {decoding}"
    return text + _EXAMPLE.format(name=name) if has_chat_template and facts.task == "causal_lm" else text


def _of_training(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    entry = find_entry(facts.data or "")
    yield "base model", _code(facts.base)
    if facts.expanded_from is not None:
        yield "weights of the base model", f"expanded from {facts.expanded_from} of a GGUF file"
    yield "licence of the base model", _base_licence(facts) or "not known to lightning_neft"
    yield "alpha", "no noise" if facts.alpha is None else f"{facts.alpha:g}"
    yield "recipe", _code(facts.recipe)
    yield "data", _code(facts.data) + (f" ({entry.source})" if entry else "")
    if entry is not None and entry.licence:
        yield "licence of the data", entry.licence
    yield "task, template", f"{facts.task}, {facts.template or 'none'}"
    yield "longest sample", "not known" if facts.max_length is None else f"{facts.max_length} tokens"
    yield "weights", facts.dtype or "not known"
    yield "versions", ", ".join(f"{name} {number}" for name, number in facts.versions.items()) or "not known"


def _options(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in _OPTIONS:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value not in (None, False, -1, 0, []) or (key == "seed_everything" and value == 0):
            yield f"`{key}`", _code(value)


def _metrics(run: Path | None) -> Iterator[str]:
    """Yield a table of what was measured on held-out data: the lowest loss, which is that of the best checkpoint."""
    path = None if run is None else run / "metrics.csv"
    if path is None or not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    if not rows:
        return
    chosen = {"lowest loss": min(rows, key=lambda row: float(row["val/loss"])), "last": rows[-1]}
    names = [name for name in _MEASURED if rows[-1].get(name)]
    lines = [(which, row["step"], *(f"{float(row[name]):.4g}" for name in names)) for which, row in chosen.items()]
    yield "Held-out data, without noise:\n\n" + _table(("", "step", *names), lines)


def _results(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of the plain numbers of each result."""
    for name, found in results.items():
        numbers = [
            (key, f"{value:.4g}" if isinstance(value, float) else str(value))
            for key, value in found.items()
            if isinstance(value, int | float)
        ]
        if numbers:
            yield f"`{name}`: {found.get('kind')} of {_code(found.get('label'))}\n\n" + _table(("", ""), numbers)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(value: object) -> str:
    """Return a value as code, so that nothing in it is taken for Markdown."""
    if value is None:
        return "not known"
    text = " ".join(str(value).split()).replace("`", "'")
    return f"`{text}`"
