"""The bundled toy data, the generator that made them, and the tiny base model that was pretrained on its prose."""

import doctest
import gzip
import hashlib
import json
import math
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from toy_data import answers, instructions, prose, tasks, world
from toy_data.instructions import instructions_by_kind
from toy_data.prose import toy_text
from toy_data.tasks import TASKS, Task
from toy_data.world import OPPOSITES, THINGS, VERBS, Draw
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightning_neft.data.toy import toy_instructions
from pages import ROOT, script

BASE = Path(str(files("lightning_neft") / "hub" / "tiny_llama"))
SPLITS = ("train", "held_out")
KINDS = [task.kind for task in TASKS]
PLURALS = {thing.name: thing.plural for thing in THINGS}


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def asked(record):
    return record["instruction"], record["input"]


def listed(record):
    """The words of the list in a request, wherever it stands."""
    text = record["input"] or record["instruction"].rpartition(": ")[2]
    return text.split(", ")


@pytest.mark.parametrize(("split", "expected"), [("train", "2a46fce452677cb9"), ("held_out", "1399afc4b0da0a82")])
def test_instructions_are_the_same_on_every_machine_and_version(split, expected):
    # A change of the data is fine where it is wanted, but the committed base and the measured numbers go with it.
    records = toy_instructions(split)
    assert digest([{name: text for name, text in record.items() if name != "kind"} for record in records]) == expected


def test_the_bundled_file_is_what_the_script_writes():
    made = script(ROOT / "scripts" / "make_toy_data.py")
    assert gzip.decompress(made.FILE.read_bytes()).decode() == made.lines(), "run python scripts/make_toy_data.py"


@pytest.mark.parametrize("module", [answers, instructions, prose, tasks, world], ids=lambda module: module.__name__)
def test_examples_of_the_generator(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("split", SPLITS)
def test_each_record_names_its_kind(split):
    for kind, records in instructions_by_kind(split).items():
        assert {record["kind"] for record in records} == {kind}


def test_prose_depends_on_the_seed_alone():
    assert digest(list(toy_text(1, 200))) == "1a00648369e89717"
    assert list(toy_text(1, 5)) != list(toy_text(2, 5))


def test_global_random_state_is_neither_read_nor_moved():
    code = (
        "import random; random.seed(3); before = random.getstate()\n"
        "from toy_data.instructions import instructions; from toy_data.prose import toy_text\n"
        "first = instructions('held_out'), list(toy_text(1, 5))\n"
        "assert random.getstate() == before, 'moved'\n"
        "random.seed(4)\n"
        "assert (instructions('held_out'), list(toy_text(1, 5))) == first, 'read'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "scripts")
    assert done.returncode == 0, done.stderr


def test_import_needs_the_standard_library_only():
    code = (
        "import sys, lightning_neft.data.toy as toy; toy.toy_instructions('train')\n"
        "print(sorted({'torch', 'transformers', 'lightning', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_no_request_occurs_twice_within_or_across_the_splits():
    requests = [asked(record) for split in SPLITS for record in toy_instructions(split)]
    assert len(requests) == 2640
    assert len(set(requests)) == 2640


@pytest.mark.parametrize(("split", "share"), [("train", 120), ("held_out", 12)])
def test_every_kind_has_its_share_of_both_splits(split, share):
    by_kind = instructions_by_kind(split)
    assert list(by_kind) == KINDS
    assert len(KINDS) == 20
    assert {kind: len(records) for kind, records in by_kind.items()} == dict.fromkeys(KINDS, share)
    flat = [record for records in by_kind.values() for record in records]
    mixed = toy_instructions(split)
    assert sorted(map(asked, mixed)) == sorted(map(asked, flat))
    assert mixed != flat


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_every_phrasing_of_a_kind_is_met_in_training(task):
    seen = {
        phrasing
        for phrasing in task.phrasings
        for record in instructions_by_kind("train")[task.kind]
        if record["instruction"].startswith(phrasing.partition("|")[0].partition("{")[0])
        and bool(record["input"]) == bool(phrasing.partition("|")[2])
    }
    assert seen == set(task.phrasings)


@pytest.mark.parametrize("split", SPLITS)
def test_records_are_alpaca_records_with_nothing_missing(split):
    for record in toy_instructions(split):
        assert list(record) == ["instruction", "input", "output", "kind"]
        assert record["instruction"].strip()
        assert record["output"].strip()
        for text in record.values():
            assert isinstance(text, str)
            assert text == text.strip()
            assert not {"{", "}", "|"} & set(text)


def test_requests_come_with_and_without_input():
    with_input = sum(bool(record["input"]) for record in toy_instructions("train"))
    assert 960 < with_input < 1920  # 40 % and 80 % of 2,400


@pytest.mark.parametrize("split", SPLITS)
def test_closed_answers_are_right(split):
    by_kind = instructions_by_kind(split)
    for record in by_kind["sort"]:
        assert record["output"].split(", ") == sorted(listed(record))
    for record in by_kind["reverse"]:
        assert record["output"].split(", ") == list(reversed(listed(record)))
    for record in by_kind["count"]:
        assert int(record["output"]) == len(listed(record))
    for record in by_kind["first"]:
        assert record["output"] == listed(record)[0]
    for record in by_kind["last"]:
        assert record["output"] == listed(record)[-1]
    for record in by_kind["add"]:
        numbers = [int(word.strip(".?")) for word in " ".join(asked(record)).split() if word.strip(".?").isdigit()]
        assert int(record["output"]) == sum(numbers)
    kinds = {thing.name: thing.kind for thing in THINGS}
    for record in by_kind["odd_one_out"]:
        others = {kinds[name] for name in listed(record) if name != record["output"]}
        assert len(listed(record)) == 3
        assert len(others) == 1
        assert kinds[record["output"]] not in others


def test_yes_and_no_are_about_equally_often_right():
    answers = [record["output"].partition(",")[0] for record in instructions_by_kind("train")["yes_no"]]
    assert set(answers) == {"Yes", "No"}
    assert 40 <= answers.count("Yes") <= 80


def test_a_closed_request_has_one_answer_however_it_is_drawn():
    for task in TASKS:
        answers = {}
        draw = Draw(11)
        for _ in range(2000):
            record = task.record(draw)
            answers.setdefault(asked(record), set()).add(record["output"])
        ambiguous = any(len(outputs) > 1 for outputs in answers.values())
        assert ambiguous != task.closed, task.kind


def test_open_answers_vary_in_length():
    by_kind = instructions_by_kind("train")
    for kind in (task.kind for task in TASKS if not task.closed):
        lengths = [len(record["output"].split()) for record in by_kind[kind]]
        assert max(lengths) >= 1.5 * min(lengths), kind


def test_world_tables_have_no_word_twice():
    for words in ([thing.name for thing in THINGS], [word for word, _ in OPPOSITES], [now for now, _ in VERBS]):
        assert len(words) == len(set(words))
    assert all(OPPOSITES.count((other, word)) == 1 for word, other in OPPOSITES)


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"^split must be 'train' or 'held_out', got 'test'$"):
        toy_instructions("test")


def test_a_kind_with_too_few_requests_is_named(monkeypatch):
    few = Task("few", True, ("Say {x}.|",), lambda draw: ({"x": str(draw.below(7))}, "x"))
    monkeypatch.setattr(instructions, "TASKS", (few,))
    with pytest.raises(RuntimeError, match=r"^kind 'few' has 7 different requests, add phrasings or words to it$"):
        instructions_by_kind("train")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def base():
    return AutoModelForCausalLM.from_pretrained(BASE).eval()


def test_base_parameters_are_finite_float32_and_about_a_million(base):
    assert all(torch.isfinite(parameter).all() for parameter in base.parameters())
    assert {parameter.dtype for parameter in base.parameters()} == {torch.float32}
    assert 0.9e6 < sum(parameter.numel() for parameter in base.parameters()) < 1.1e6
    assert base.get_input_embeddings().weight is base.get_output_embeddings().weight


def test_base_folder_is_small_and_names_no_place_it_was_made_at():
    assert sorted(path.name for path in BASE.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sum(path.stat().st_size for path in BASE.iterdir()) < 4.2e6

    def strings(value):
        if isinstance(value, dict):
            return [text for pair in value.items() for part in pair for text in strings(part)]
        if isinstance(value, list):
            return [text for part in value for text in strings(part)]
        return [value] if isinstance(value, str) else []

    for path in BASE.glob("*.json"):
        parsed = json.loads(path.read_text(encoding="utf-8"))
        assert "_name_or_path" not in parsed
        if path.name != "tokenizer.json":  # its merges are no paths, and a vocabulary may hold a slash
            assert not [text for text in strings(parsed) if text.startswith(("/", "~")) or ":\\" in text]


def test_the_tokenizer_agrees_with_the_model(base, tokenizer):
    assert len(tokenizer) == base.config.vocab_size == 1024
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(ids)) == 3
    for config in (base.config, base.generation_config):
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == ids
    assert tokenizer.model_max_length == base.config.max_position_embeddings


def test_encoding_puts_bos_in_front_and_adds_nothing_else(tokenizer):
    encoded = tokenizer("A cat is an animal.")
    assert sorted(encoded) == ["attention_mask", "input_ids"]
    assert encoded["input_ids"][0] == tokenizer.bos_token_id
    bare = tokenizer("A cat is an animal.", add_special_tokens=False)["input_ids"]
    assert encoded["input_ids"][1:] == bare
    assert not set(bare) & set(tokenizer.all_special_ids)


def test_tokenizer_gives_back_every_text(tokenizer):
    texts = [*toy_text(7, 200), *(text for record in toy_instructions("held_out") for text in record.values())]
    texts.append("Ünïcödé 猫 🙂\t two  spaces , and . marks\n\n### Response:\n")
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text


def test_toy_words_are_single_tokens(tokenizer):
    for name in PLURALS:
        for text in (name, f" {name}"):
            assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1, text


def prose_loss(base, tokenizer):
    total, count = 0.0, 0
    with torch.no_grad():
        for text in toy_text(seed=77, n=60):
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            total += base(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return total / count


def test_base_has_learned_the_prose(base, tokenizer):
    loss = prose_loss(base, tokenizer)
    # Measured: 0.69. A uniform guess would have log(1024) = 6.93, the words' frequencies alone about 5.
    assert loss < 1.2
    assert loss < math.log(len(tokenizer)) / 4


def test_base_knows_facts_and_lists_but_not_the_format(base, tokenizer):
    def continued(prompt):
        encoded = tokenizer(prompt, return_tensors="pt")
        ids = base.generate(**encoded, max_new_tokens=12, do_sample=False)[0, encoded["input_ids"].shape[1] :]
        return tokenizer.decode(ids).partition('"')[0]

    assert continued('The opposite of "hot" is "') == "cold"
    assert continued('The kind of "violin" is "') == "instrument"
    assert continued('Backwards, "drum, pear, cat" becomes "') == "cat, pear, drum"
    # The format is what fine-tuning teaches: these words stand in no prose.
    assert not any("### " in text or "instruction" in text for text in toy_text(1, 2000))
