"""Configs: YAML that is none, unknown keys at every level, wrong classes, and sections that contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bad_input.refusals import FIT, Case, Content


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def yaml(what: str, text: Content, *says: str, command: str = "fit -c c.yaml") -> Case:
    """A config of this text, given to fit."""
    return Case(what, command, says, {"c.yaml": text})


def key(what: str, text: str, *says: str, command: str = "fit -c c.yaml") -> Case:
    """A config of a line, in which a key is wrong."""
    return yaml(what, text, "c.yaml, line 1", *says, command=command)


def option(what: str, options: str, *says: str) -> Case:
    """Options after those of a short fit."""
    return Case(what, f"{FIT} {options}", says)


CARD = """card:
  model: tiny
  licences: {model: Apache-2.0, data: Apache-2.0}
  gated: false
  alpha_source: {kind: default-untested, reference: none}
  status: {kind: smoke}
model: {base: tiny}
data: {source: toy}
neftune: {alpha: 5}
"""

_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(8)
)

TEXTS = [
    yaml("a config that is empty", "", "c.yaml: holds no keys"),
    yaml("a config of white space", " \n\n", "c.yaml: holds no keys"),
    yaml("a config that is null", "null", "c.yaml", "expected a mapping of sections"),
    yaml("a config that is a number", "5", "c.yaml: expected a mapping of sections", "got int"),
    yaml("a config that is a text", "fit it", "c.yaml: expected a mapping of sections", "got str"),
    yaml("a config of several documents", "data: {source: toy}\n---\nmodel: {base: tiny}", "c.yaml", "document"),
    yaml(
        "a cyclic anchor",
        "data: &a\n  source: *a",
        "c.yaml, line 1: YAML aliases may not refer to themselves",
        "write the value out",
    ),
    yaml("a cyclic anchor at the top", "&a\ndata: *a", "c.yaml", "alias"),
    yaml("a cyclic list", "neftune:\n  target: &t [*t]", "c.yaml", "alias"),
    yaml("a cycle in options that are free", "trainer:\n  plugins: &t [*t]", "c.yaml", "alias"),
    yaml("an anchor that there is not", "data: *nowhere", "c.yaml, line 1: not valid YAML: found undefined alias"),
    yaml("a merge of what is no mapping", "data:\n  <<: 5", "c.yaml, line 2", "<<"),
    yaml("a key that is a list", "? [a, b]\n: 5", "c.yaml, line 1"),
    yaml("a key that is a mapping", "{{a: b}: 5}", "c.yaml, line 1"),
    yaml("a key that is a number", "5: 6", "c.yaml, line 1: unknown key 5"),
    yaml("a key that is empty", "'': 6", "c.yaml, line 1: unknown key"),
    yaml("a key with a dot", "data.sorce: toy", "c.yaml, line 1: unknown key data.sorce", "did you mean data.source?"),
    yaml("a tag that would run code", "data: !!python/object/apply:os.system ['touch x']", "c.yaml", "tag"),
    yaml("a tag inside of a section", "data:\n  source: !!python/name:os.system", "c.yaml", "tag"),
    yaml("a tag that nobody knows", "data:\n  source: !secret x", "c.yaml", "tag"),
    yaml("a key given twice deep down", "model:\n  lora: {r: 1, r: 2}", "c.yaml, line 2: model.lora.r is given twice"),
    yaml("tabs after a space", "data:\n \tsource: toy", "c.yaml, line 2: not valid YAML"),
    yaml("a bracket that does not close", "data: {source: toy", "c.yaml", "not valid YAML"),
    yaml("a quotation mark that does not close", "data: {source: 'toy}", "c.yaml", "not valid YAML"),
    yaml("an indent that fits nothing", "data:\n    source: toy\n  seed: 1", "c.yaml, line 3: not valid YAML"),
    yaml("a config in UTF-16", "data: {source: toy}".encode("utf-16"), "c.yaml: cannot be read as YAML"),
    yaml("a config in Latin-1", "data: {source: café}".encode("latin-1"), "c.yaml: cannot be read as YAML"),
    yaml("a config with a NUL byte", b"data: {source: 'a\0b'}", "c.yaml: cannot be read as YAML"),
    yaml("a config that is gzip", b"\x1f\x8b\x08\x00abc", "c.yaml: cannot be read as YAML"),
    yaml("a config nested a thousand deep", "data: " + "[" * 1000 + "]" * 1000, "c.yaml", "nested"),
    yaml("a config nested in mappings", "data: " + "{a: " * 1000 + "1" + "}" * 1000, "c.yaml", "nested"),
    yaml(
        "aliases that grow beyond memory",
        _BOMB,
        "c.yaml, line 6: its aliases expand to too many values",
    ),
    yaml("a config that points at itself", _loop, "c.yaml"),
    yaml("a truth value that is none", "data: {streaming: !!bool maybe}", "c.yaml, line 1: 'maybe'", "as !!bool"),
    yaml("a time that is none", "data: {source: !!timestamp x}", "c.yaml, line 1: 'x'", "as !!timestamp"),
    yaml("a number that is empty", "trainer: {max_epochs: !!int ''}", "c.yaml, line 1: ''", "as !!int"),
    yaml("a null that is something", "trainer: {max_epochs: !!null x}", "c.yaml, line 1: 'x'", "as !!null"),
    yaml("bytes", "data: {source: !!binary dG95}", "c.yaml, line 1: the tag !!binary"),
    yaml("a set for a section", "data: !!set {source}", "c.yaml, line 1: the tag !!set"),
    yaml("an octal number", "data: {batch_size: 010}", "c.yaml, line 1: 010 is 8 in YAML; write that"),
    yaml("a time for a number", "data: {batch_size: 1:30}", "c.yaml, line 1: 1:30 is 90 in YAML; write that"),
    yaml("a time with a fraction", "neftune: {alpha: 1:30.5}", "c.yaml, line 1: 1:30.5 is 90.5 in YAML"),
    yaml("a NUL that is written out", 'name: "a\\0b"', "c.yaml, line 1: 'a\\x00b' contains a NUL"),
    yaml("half of a character", 'name: "\\ud800"', "c.yaml, line 1", "surrogate"),
    yaml("a name of two lines", "name: |\n  a\n  b", "name 'a\\nb", "cannot be shown"),
    yaml("a config in a config", "config: data.json", "c.yaml, line 1: config is an option of the command line"),
    yaml("a config in a config, written out", "config: {data: {source: toy}}", "c.yaml, line 1: config is an option"),
    yaml("print_config in a config", "print_config: true", "c.yaml, line 1: print_config is an option"),
    yaml("a file for a section in a config", "model: {lora: data.json}", "c.yaml, line 1: model.lora is a section"),
    *(
        Case(f"{what} for --{section}", f"{FIT} --{section} s.yaml", ("s.yaml", says), {"s.yaml": content})
        for section in ("data", "model.lora", "neftune")
        for what, content, says in (
            ("aliases that grow beyond memory", _BOMB, "its aliases expand to too many values"),
            ("a file of bytes", b"\0\xff", "cannot be read as YAML"),
            ("a list", "[1]", "expected a mapping of the keys of"),
            ("an unknown key", "a:\nzzz: 1", "line 2: unknown key"),
        )
    ),
    Case(
        "aliases that grow beyond memory, for a class",
        f"{FIT} --trainer.callbacks s.yaml",
        ("its aliases expand to too many values",),
        {"s.yaml": _BOMB},
    ),
    Case(
        "aliases that grow beyond memory, on the command line",
        f"{FIT} --card '{{{', '.join(_BOMB.split(chr(10))[:-1])}}}'",
        ("its aliases expand to too many values",),
    ),
    yaml("a config for preview that is a list", "[a]", "c.yaml: expected a mapping", command="preview -c c.yaml"),
    yaml("a config for doctor that is empty", "", "c.yaml: holds no keys", command="doctor -c c.yaml"),
    yaml("a config for generate with tabs", "data:\n\tsource: x", "c.yaml, line 2", command="generate -c c.yaml"),
    yaml(
        "a config for export that is a text",
        "x",
        "c.yaml: expected a mapping",
        command="export -c c.yaml --ckpt_path=data.json --output=o",
    ),
    yaml(
        "a config for evaluate with a cycle",
        "data: &a {source: *a}",
        "c.yaml",
        command="evaluate --clean-loss -c c.yaml",
    ),
    yaml("recipes show: a list", "[a]", "c.yaml: expected a mapping", command="recipes show c.yaml"),
    yaml("recipes show: empty", "", "c.yaml: expected a mapping", command="recipes show c.yaml"),
    yaml(
        "recipes show: no card",
        "model: {base: tiny}",
        "c.yaml: not a recipe: the section card is missing",
        command="recipes show c.yaml",
    ),
    yaml("recipes show: a cycle", CARD + "trainer: &a {x: *a}", "c.yaml", command="recipes show c.yaml"),
    yaml(
        "recipes show: data of no mapping",
        CARD.replace("data: {source: toy}", "data: toy"),
        "c.yaml",
        "data.source",
        command="recipes show c.yaml",
    ),
    yaml(
        "recipes show: alpha of text",
        CARD.replace("alpha: 5", "alpha: lots"),
        "c.yaml",
        "neftune.alpha",
        command="recipes show c.yaml",
    ),
    yaml(
        "recipes show: alpha of NaN",
        CARD.replace("alpha: 5", "alpha: .nan"),
        "c.yaml",
        "neftune.alpha",
        command="recipes show c.yaml",
    ),
    yaml(
        "recipes show: lora of a number",
        CARD.replace("{base: tiny}", "{base: tiny, lora: 8}"),
        "model.lora is a section with keys of its own, got '8'",
        command="recipes show c.yaml",
    ),
    yaml(
        "recipes show: a tag that would run code",
        CARD + "trainer: !!python/object/apply:os.system ['touch x']",
        "c.yaml",
        command="recipes show c.yaml",
    ),
    Case("a config that is not there", "fit -c nix.yaml", ("'nix.yaml' is neither a file",)),
    Case("a config that is a folder", "preview -c .", ("--config . is a folder", "give a YAML file in it")),
    Case(
        "two configs, the second one broken",
        "fit -c c.yaml -c d.yaml",
        ("d.yaml, line 1", "data.sorce"),
        {"c.yaml": "data: {source: toy}", "d.yaml": "data: {sorce: x}"},
    ),
]

KEYS = [
    key("unknown section", "trianer: {max_epochs: 1}", "unknown key trianer; did you mean trainer?"),
    key("unknown key in data", "data: {sourc: x}", "unknown key data.sourc; did you mean data.source?"),
    key("unknown key in model", "model: {bse: x}", "unknown key model.bse; did you mean model.base?"),
    key(
        "unknown key in lora",
        "model: {lora: {alhpa: 1}}",
        "unknown key model.lora.alhpa; did you mean model.lora.alpha?",
    ),
    key("unknown key in checkpoint", "checkpoint: {moniter: x}", "unknown key checkpoint.moniter"),
    key(
        "unknown key in trainer",
        "trainer: {max_step: 1}",
        "unknown key trainer.max_step; did you mean trainer.max_steps?",
    ),
    yaml("a section for a value", "task: {a: 1}", "task: got", "causal_lm"),
    key("a list for a section", "model: [a]", "model is a section with keys of its own"),
    key("data that is a text", "data: toy", "data is a section with keys of its own, got 'toy'"),
]
CARDS = [
    yaml(
        "an unknown key in the card",
        CARD.replace("\n  ", "\n  nots: x\n  ", 1),
        "c.yaml, line 2: card.nots is not known; did you mean card.notes?",
    ),
    yaml("a card that is a text", "card: 5", "c.yaml, line 1: card: got 5, expected a section with keys"),
    yaml(
        "a card of an unknown model",
        CARD.replace("model: tiny", "model: tinny", 1),
        "c.yaml, line 2: card.model",
        "did you mean tiny?",
    ),
    yaml(
        "a card whose licences are a text",
        CARD.replace("{model: Apache-2.0, data: Apache-2.0}", "free"),
        "card.licences: got 'free', expected a section",
    ),
    yaml("a card with a status of no kind", CARD.replace("smoke", "done"), "card.status.kind", "executed, smoke"),
    yaml("an executed card without results", CARD.replace("smoke", "executed"), "card.status.results is missing"),
    yaml("a smoke card with results", CARD.replace("smoke", "smoke, results: {x: 1}"), "a smoke test measures nothing"),
    yaml(
        "a card with a date of text", CARD.replace("smoke", "smoke, date: yesterday"), "card.status.date", "2026-01-31"
    ),
    yaml("a card gated by a word", CARD.replace("gated: false", "gated: maybe"), "card.gated", "true or false"),
    yaml("a card with an alpha from nowhere", CARD.replace("default-untested", "guess"), "card.alpha_source.kind"),
    yaml(
        "a card with a date that there is not",
        CARD.replace("smoke", "smoke, date: 2026-13-45"),
        "c.yaml, line 6: '2026-13-45' cannot be read",
    ),
]

VALUES = [
    option("a class that there is not", "--trainer.callbacks+=no.such.Thing", "trainer.callbacks", "no.such.Thing"),
    option(
        "a class in a module that there is not",
        "--trainer.logger=lightning.nowhere.Logger",
        "trainer.logger",
        "lightning.nowhere.Logger",
    ),
    option("a class that is no callback", "--trainer.callbacks+=collections.Counter", "trainer.callbacks", "Counter"),
    option("a function for a class", "--trainer.callbacks+=os.system", "trainer.callbacks", "os.system"),
    option("a class path that is no path", "--trainer.callbacks+=..", "trainer.callbacks"),
    option("a logger that is a number", "--trainer.logger=5", "trainer.logger"),
    option(
        "an unknown key of a callback",
        "--trainer.callbacks+=LearningRateMonitor --trainer.callbacks.loging_interval=step",
        "trainer.callbacks",
        "logging_interval",
    ),
    option("a strategy that there is not", "--trainer.strategy=ddpp", "ddpp"),
    option("a precision that there is not", "--trainer.precision=8-wrong", "precision", "8-wrong"),
    option(
        "devices that are not here", "--trainer.accelerator=gpu --trainer.devices=3", "No supported gpu backend found"
    ),
    option("no epoch between validations", "--trainer.check_val_every_n_epoch=0", "must be 1 or more, got 0"),
    option(
        "no batch between validations", "--trainer.val_check_interval=0", "val_check_interval must be above 0, got 0"
    ),
    option("devices beyond any machine", "--trainer.devices=99999999", "trainer.devices must be", "got 99999999"),
    option(
        "a wrong mode of a callback",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss --trainer.callbacks.mode=low",
        "lightning_neft: EarlyStopping: `mode` can be min, max, got low",
    ),
    option(
        "a wrong number of a callback",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss --trainer.callbacks.patience=x",
        "trainer.callbacks: EarlyStopping.patience: got 'x', expected int",
    ),
    option("an accelerator that is not installed", "--trainer.accelerator=tpu", "torch_xla"),
    option("a precision that is not installed", "--trainer.precision=transformer-engine", "transformer_engine"),
    option(
        "logs at an address",
        "--trainer.logger=CSVLogger --trainer.logger.save_dir=http://host/x",
        "CSVLogger: save_dir http://host/x is an address",
    ),
    option("a cache at an address", "--data.cache_dir=s3://bucket/x", "data.cache_dir s3://bucket/x is an address"),
    option("a name of checkpoints that is no form", "--checkpoint.filename='{'", "checkpoint.filename '{'", "such as"),
    option("a name of checkpoints in no form", "--checkpoint.filename='{step:z}'", "checkpoint.filename '{step:z}'"),
    option("checkpoints elsewhere", "--checkpoint.filename=../../x", "checkpoint.filename '../../x' leads out"),
    option("checkpoints at the root", "--checkpoint.filename=/x", "checkpoint.filename '/x' leads out"),
    option("no nodes", "--trainer.num_nodes=0", "trainer.num_nodes must be 1 or more, got 0"),
    option("a batch beyond all memory", f"--data.batch_size=1{'0' * 22}", "data.batch_size must be 1000000 or less"),
    option("a global batch beyond all", f"--global_batch_size=1{'0' * 22}", "global_batch_size must be"),
    option("a rank beyond any layer", "--model.lora.r=9999999", "model.lora.r must be 65536 or less, got 9999999"),
    option("a million workers", "--data.num_workers=1000000", "data.num_workers must be", "or less, got 1000000"),
    *(
        option(f"runs at {address}", f"--{key}={address}", f"{key} {address} is an address", "mount it")
        for key in ("trainer.default_root_dir", "checkpoint.dirpath")
        for address in ("s3://bucket/x", "http://host/x", "memory://x")
    ),
    *(
        option(
            f"a {name} on a metric that is not logged",
            f"--trainer.callbacks+={name} --trainer.callbacks.monitor={monitor}",
            f"{name}: the run logs no metric monitor='{monitor}'; did you mean {near}?",
        )
        for name, monitor, near in (
            ("EarlyStopping", "val_loss", "val/loss"),
            ("EarlyStopping", "train_loss", "train/loss"),
            ("ModelCheckpoint", "val_perplexity", "val/perplexity"),
        )
    ),
    option(
        "checkpoints on a metric that is not logged",
        "--checkpoint.monitor=val_loss",
        "checkpoint: the run logs no",
        "did you mean val/loss?",
    ),
    option("a logger that is not installed", "--trainer.logger=CometLogger", "lightning_neft: CometLogger: ", "comet"),
    option(
        "data at an address",
        "--data.source='https://me:hunter2@host/d.json?token=hunter2'",
        "https://me:***@host/d.json?token=*** is an address, which is not read; download it",
    ),
    option("best of a new process", "--ckpt_path=best", "--ckpt_path best: no such file", "give a path, or last"),
    option("no devices", "--trainer.devices=0", "devices"),
    option("an optimiser as a key", "--optimizer=Adam", "unknown key optimizer"),
    option("negative steps", "--trainer.max_steps=-5", "max_steps", "-5"),
    option("max_time of a word", "--trainer.max_time=soon", "Timer(duration='soon')", "DD:HH:MM:SS"),
    option("a negative clip", "--trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must be 0 or more, got -1"),
    option(
        "accumulation of 0",
        "--trainer.accumulate_grad_batches=0",
        "trainer.accumulate_grad_batches must be 1 or more, got 0",
    ),
    option("limit of batches below 0", "--trainer.limit_train_batches=-1", "limit_train_batches"),
    option("a task that there is not", "--task=causal", "there is no task 'causal'", "did you mean causal_lm?"),
    option("a task without a value", "--task", "task"),
    option("a learning rate of NaN", "--model.learning_rate=.nan", "model.learning_rate", "0 or more"),
    option("a negative learning rate", "--model.learning_rate=-1", "model.learning_rate must be 0 or more, got -1"),
    option("an infinite learning rate", "--model.learning_rate=.inf", "model.learning_rate"),
    option("a negative weight decay", "--model.weight_decay=-1", "model.weight_decay must be 0 or more"),
    option("a warmup above the whole", "--model.warmup_ratio=2", "model.warmup_ratio must be between 0 and 1"),
    option("a rank of 0", "--model.lora.r=0", "r", "0"),
    option("a negative rank", "--model.lora.r=-4", "r", "-4"),
    option("a dropout above 1", "--model.lora.dropout=1.5", "dropout", "1.5"),
    option(
        "adapters on no module", "--model.lora.target_modules=nowhere", "model.lora: Target modules nowhere not found"
    ),
    option("adapters by a broken pattern", "--model.lora.target_modules='('", "model.lora", "unterminated subpattern"),
    option("4 bits without adapters", "--model.quantization=nf4", "model.quantization", "model.lora"),
    option("a dtype that there is not", "--model.dtype=float8", "model.dtype", "float8"),
    option("an attention that there is not", "--model.attn_implementation=fast", "attn_implementation", "fast"),
    option("layers to freeze that there are not", "--model.freeze=[nowhere]", "freeze", "nowhere"),
    option("all layers frozen", "--model.freeze=['.*']", "freeze"),
    option(
        "checkpointing without train mode",
        "--model.gradient_checkpointing=true --model.keep_eval=true",
        "leave model.keep_eval away",
    ),
    option("a global batch of 0", "--global_batch_size=0", "global_batch_size", "0"),
    option(
        "a global batch besides accumulation",
        "--global_batch_size=4 --trainer.accumulate_grad_batches=2",
        "global_batch_size",
        "accumulate_grad_batches",
    ),
    option("a negative clean_loss", "--clean_loss=-1", "clean_loss", "-1"),
    option("negative samples", "--samples=-1", "samples", "-1"),
    option("a seed that is negative", "--seed_everything=-1", "seed_everything must be 0 or more, got -1"),
    option("a seed of a word", "--seed_everything=x", "seed_everything", "'x'"),
    option("a monitor with a wrong mode", "--checkpoint.mode=low", "`mode` can be min, max but got low"),
    option("checkpoints by two clocks", "--checkpoint.every_n_train_steps=1 --checkpoint.every_n_epochs=1", "every_n"),
    option("a negative number of checkpoints", "--checkpoint.save_top_k=-2", "save_top_k"),
    option("a batch size of text", "--data.batch_size=big", "data.batch_size: got 'big', expected int"),
    option("a max_length of 1", "--data.max_length=1", "data.max_length must be 2 or more, got 1"),
    option("a batching that there is not", "--data.batching=padded", "data.batching", "packed"),
    option("a template that there is not", "--data.template=alpacca", "alpacca", "did you mean"),
    option("a format that there is not", "--data.format=sharegtp", "sharegtp", "sharegpt"),
    option("columns that are a text", "--data.columns=output", "data.columns"),
    option("a column of no format", "--data.columns.answer=output", "columns", "answer"),
    option(
        "a column that the data have not",
        "--data.columns.output=reply",
        "'reply'",
        "columns found: instruction, output",
    ),
    option("a held-out share of NaN", "--data.val_size=.nan", "data.val_size"),
    option("a held-out share below 0", "--data.val_size=-0.1", "data.val_size"),
    option("more held out than there is", "--data.val_size=6", "val_size", "6"),
    option("a split of a file", "--data.split=train", "data.json has no splits"),
    option("a revision of a file", "--data.revision=main", "data.json has no revision"),
    option("a cache that is a file", "--data.cache_dir=data.json", "data.json", "data.cache_dir"),
    option("workers below 0", "--data.num_workers=-1", "data.num_workers must be 0 or more"),
    option("streaming without an end", "--data.streaming=true", "max_steps"),
    option("a prompt loss above 1", "--data.prompt_loss=2", "data.prompt_loss"),
    option(
        "classes of data that answer",
        "--task=sequence_classification",
        "the task sequence_classification cannot be trained on conversations",
    ),
    option("a base that is a file", "--model.base=data.json", "model base 'data.json'"),
    option("a base that is an empty folder", "--model.base=.", "model base '.'"),
    option("a base that is no hub id", "--model.base=a/b/c/d", "a/b/c/d"),
    option("a base of an empty name", "--model.base=", "base"),
    option("a base on the hub without a network", "--model.base=nobody/nothing", "nobody/nothing"),
]
CASES = [*TEXTS, *KEYS, *CARDS, *VALUES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, refused: Callable[[Case], None]) -> None:
    refused(case)
