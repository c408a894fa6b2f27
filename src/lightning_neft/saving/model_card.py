"""The model card of an exported model: its base, its training, and the results measured on it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_neft.data.catalogue import find_entry
from lightning_neft.hub.base_models import base_models
from lightning_neft.models.description import ModelDescription

__all__ = ["model_card"]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_UNKNOWN = "not known"
# The hub's identifiers of licences, by the names in this package's tables.
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
_TEMPLATE = """\
---
{{ card_data }}
---

# {{ name }}

{{ base }}, fine-tuned {{ noise }}, with lightning_neft.

## Use

{% if template is none -%}
The classes are in `config.json`; `AutoModelForSequenceClassification` loads the model.
{%- else -%}
Prompts are rendered with the template `{{ template }}`
{%- if has_chat_template %}, which is the tokenizer's chat template: `apply_chat_template(messages, \
add_generation_prompt=True)`{% endif %}. `generation_config.json` has the decoding of the paper: greedy, repetition \
penalty 1.2.
{%- if has_chat_template and task == "causal_lm" %}

```python
from transformers import {{ auto_class }}, AutoTokenizer

model, tokenizer = {{ auto_class }}.from_pretrained({{ quoted }}), AutoTokenizer.from_pretrained({{ quoted }})
messages = [{"role": "user", "content": "Which day comes after Monday?"}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
answer = model.generate(**prompt, max_new_tokens=256)[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```
{%- endif %}{% endif %}

## Training

{{ training }}
{%- if results %}

## Results

{{ results | join("\n\n") }}
{%- endif %}
"""
# The class of transformers for a vision-language base; others would drop its towers, or refuse it.
_LOADS_WHOLE = "AutoModelForImageTextToText"
# The options that decide the weights, by section; those that are null or off are omitted.
_OPTIONS = {
    "model": ("optimizer", "learning_rate", "weight_decay", "lr_scheduler", "warmup_ratio", "quantization", "freeze"),
    "model.lora": (
        *("r", "alpha", "dropout", "dora", "use_rslora", "init_lora_weights", "target_modules", "modules_to_save"),
        *("layers_to_transform", "loraplus_lr_ratio"),
    ),
    "data": ("batch_size", "batching", "prompt_loss"),
    "": ("global_batch_size", "seed_everything"),
    "neftune": ("distribution", "length", "scope", "exclude", "scale", "antithetic", "schedule", "warmup"),
    "trainer": ("max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val", "precision"),
}
_MEASURED = ("val/loss", "val/perplexity", "val/token_accuracy", "val/accuracy", "val/f1")
_PAPER = "NEFTune, [arXiv 2310.05914](https://arxiv.org/abs/2310.05914)"


def model_card(
    facts: ModelDescription,
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
        name: Name of the model.
        config: Config of the run; empty if unknown.
        run: Folder of the run, which may hold its metrics; None if unknown.
        results: Results of `lightning_neft evaluate` on the model, by file name.
        has_chat_template: Whether the tokenizer's chat template renders prompts as in training.
    """
    from huggingface_hub import ModelCard, ModelCardData

    # A mixture's sources are joined by commas.
    named = (facts.data or "").split(", ")
    entries = [entry for name in named if (entry := find_entry(name)) is not None]
    sources = [name if (entry := find_entry(name)) is None else entry.source for name in named]
    of_data = [(entry.name, entry.licence) for entry in entries if entry.licence]
    licence = next((model.licence for model in base_models().values() if model.hub_id == facts.base), None)
    known = None if licence is None else _LICENCES.get(licence.lower(), "other")
    training = {
        "base model": _code(facts.base),
        **(
            {"weights of the base model": f"expanded from {facts.expanded_from} of a GGUF file"}
            if facts.expanded_from
            else {}
        ),
        "licence of the base model": licence or "not known to lightning_neft",
        "alpha": "no noise" if facts.alpha is None else f"{facts.alpha:g}",
        "recipe": _code(facts.recipe),
        "data": _code(facts.data) + (f" ({', '.join(entry.source for entry in entries)})" if entries else ""),
        **({"licence of the data": _licences(of_data, is_mixed=len(named) > 1)} if of_data else {}),
        "task, template": f"{facts.task}, {facts.template or 'none'}",
        "longest sample": _UNKNOWN if facts.max_length is None else f"{facts.max_length} tokens",
        "weights": facts.dtype or _UNKNOWN,
        "versions": ", ".join(f"{package} {number}" for package, number in facts.versions.items()) or _UNKNOWN,
        **dict(_options(config)),
    }
    card = ModelCard.from_template(
        ModelCardData(
            base_model=facts.base if _HUB_ID.fullmatch(facts.base) else None,
            datasets=[source for source in sources if _HUB_ID.fullmatch(source)] or None,
            library_name="transformers",
            license=known,
            license_name=re.sub(r"[^a-z0-9.]+", "-", licence.lower()) if licence and known == "other" else None,
            pipeline_tag=_PIPELINES[facts.task],
            tags=["lightning-neft", *(["neftune"] if facts.alpha else [])],
        ),
        template_str=_TEMPLATE,
        name=name,
        quoted=repr(name),
        base=_code(facts.base),
        noise=f"with noise on its embeddings ({_PAPER}), alpha {facts.alpha:g}" if facts.alpha else "without noise",
        task=facts.task,
        template=facts.template,
        auto_class=_LOADS_WHOLE if facts.architecture.endswith("ForConditionalGeneration") else "AutoModelForCausalLM",
        has_chat_template=has_chat_template,
        training=_table(("", ""), [*training.items()]),
        results=[*_metrics(run), *_results(results)],
    )
    return f"{card}\n"


def _licences(of_data: Sequence[tuple[str, str]], is_mixed: bool) -> str:
    return "; ".join(f"{name}: {licence}" if is_mixed else licence for name, licence in of_data)


def _options(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in (f"{section}.{name}".lstrip(".") for section, names in _OPTIONS.items() for name in names):
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        is_plain = key == "model.lora.init_lora_weights" and value is True
        if (value not in (None, False, -1, 0, []) and not is_plain) or (key == "seed_everything" and value == 0):
            yield f"`{key}`", _code(value)


def _metrics(run: Path | None) -> Iterator[str]:
    """Yield a table of the validation metrics: at the lowest loss, as in the best checkpoint, and at the end."""
    path = None if run is None else run / "metrics.csv"
    if path is None or not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    if not rows:
        return
    chosen = {"lowest loss": min(rows, key=lambda row: float(row["val/loss"])), "last": rows[-1]}
    by_source = [name for name in rows[-1] if name.startswith("val/loss/")]
    names = [name for name in (*_MEASURED, *by_source) if rows[-1].get(name)]
    lines = [(which, row["step"], *(f"{float(row[name]):.4g}" for name in names)) for which, row in chosen.items()]
    yield "Validation set, without noise:\n\n" + _table(("", "step", *names), lines)


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
    """Return a value as code, so that nothing in it is read as Markdown."""
    if value is None:
        return _UNKNOWN
    return f"`{' '.join(str(value).split()).replace('`', chr(39))}`"
