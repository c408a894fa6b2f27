"""Configs: broken YAML, unknown keys at every level, wrong classes, and sections that contradict each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bad_input.refusals import FIT, Case, Content


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def yaml(what: str, text: Content, *names: str, command: str = "fit -c c.yaml") -> Case:
    """A config of this text, given to fit."""
    return Case(what, command, names, {"c.yaml": text})


def key(what: str, text: str, *names: str, command: str = "fit -c c.yaml") -> Case:
    """A config of a line, in which a key is wrong."""
    return yaml(what, text, "c.yaml, line 1", *names, command=command)


def option(what: str, options: str, *names: str, is_foreign: bool = False) -> Case:
    """Options after those of a short fit."""
    return Case(what, f"{FIT} {options}", names, is_foreign=is_foreign)


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
    yaml("a config that is empty", "", "c.yaml"),
    yaml("a config of white space", " \n\n", "c.yaml"),
    yaml("a config that is null", "null", "c.yaml"),
    yaml("a config that is a number", "5", "c.yaml"),
    yaml("a config that is a text", "fit it", "c.yaml"),
    yaml("a config of several documents", "data: {source: toy}\n---\nmodel: {base: tiny}", "c.yaml", "line 2"),
    yaml("a cyclic anchor", "data: &a\n  source: *a", "c.yaml, line 1"),
    yaml("a cyclic anchor at the top", "&a\ndata: *a", "c.yaml"),
    yaml("a cyclic list", "neftune:\n  target: &t [*t]", "c.yaml"),
    yaml("a cycle in options that are free", "trainer:\n  plugins: &t [*t]", "c.yaml"),
    yaml("an anchor that there is not", "data: *nowhere", "c.yaml, line 1"),
    yaml("a merge of what is no mapping", "data:\n  <<: 5", "c.yaml, line 2", "<<"),
    yaml("a key that is a list", "? [a, b]\n: 5", "c.yaml, line 1"),
    yaml("a key that is a mapping", "{{a: b}: 5}", "c.yaml, line 1"),
    yaml("a key that is a number", "5: 6", "c.yaml, line 1", "5"),
    yaml("a key that is empty", "'': 6", "c.yaml, line 1"),
    yaml("a key with a dot", "data.sorce: toy", "c.yaml, line 1", "data.sorce", "data.source"),
    yaml("a tag that would run code", "data: !!python/object/apply:os.system ['touch x']", "c.yaml"),
    yaml("a tag inside of a section", "data:\n  source: !!python/name:os.system", "c.yaml"),
    yaml("a tag that nobody knows", "data:\n  source: !secret x", "c.yaml"),
    yaml("a key given twice deep down", "model:\n  lora: {r: 1, r: 2}", "c.yaml, line 2", "model.lora.r"),
    yaml("tabs after a space", "data:\n \tsource: toy", "c.yaml, line 2"),
    yaml("a bracket that does not close", "data: {source: toy", "c.yaml"),
    yaml("a quotation mark that does not close", "data: {source: 'toy}", "c.yaml"),
    yaml("an indent that fits nothing", "data:\n    source: toy\n  seed: 1", "c.yaml, line 3"),
    yaml("a config in UTF-16", "data: {source: toy}".encode("utf-16"), "c.yaml"),
    yaml("a config in Latin-1", "data: {source: café}".encode("latin-1"), "c.yaml"),
    yaml("a config with a NUL byte", b"data: {source: 'a\0b'}", "c.yaml"),
    yaml("a config that is gzip", b"\x1f\x8b\x08\x00abc", "c.yaml"),
    yaml("a config nested a thousand deep", "data: " + "[" * 1000 + "]" * 1000, "c.yaml"),
    yaml("a config nested in mappings", "data: " + "{a: " * 1000 + "1" + "}" * 1000, "c.yaml"),
    yaml("aliases that grow beyond memory", _BOMB, "c.yaml, line 6"),
    yaml("a config that points at itself", _loop, "c.yaml"),
    yaml("a truth value that is none", "data: {streaming: !!bool maybe}", "c.yaml, line 1", "'maybe'", "!!bool"),
    yaml("a time that is none", "data: {source: !!timestamp x}", "c.yaml, line 1", "'x'", "!!timestamp"),
    yaml("a number that is empty", "trainer: {max_epochs: !!int ''}", "c.yaml, line 1", "''", "!!int"),
    yaml("a null that is something", "trainer: {max_epochs: !!null x}", "c.yaml, line 1", "'x'", "!!null"),
    yaml("bytes", "data: {source: !!binary dG95}", "c.yaml, line 1", "!!binary"),
    yaml("a set for a section", "data: !!set {source}", "c.yaml, line 1", "!!set"),
    yaml("an octal number", "data: {batch_size: 010}", "c.yaml, line 1", "010", "8"),
    yaml("a time for a number", "data: {batch_size: 1:30}", "c.yaml, line 1", "1:30", "90"),
    yaml("a time with a fraction", "neftune: {alpha: 1:30.5}", "c.yaml, line 1", "1:30.5", "90.5"),
    yaml("a NUL that is written out", 'name: "a\\0b"', "c.yaml, line 1", "'a\\x00b'"),
    yaml("half of a character", 'name: "\\ud800"', "c.yaml, line 1", "'\\ud800'"),
    yaml("a name of two lines", "name: |\n  a\n  b", "name", "'a\\nb'"),
    yaml("a config in a config", "config: data.json", "c.yaml, line 1", "--config"),
    yaml("a config in a config, written out", "config: {data: {source: toy}}", "c.yaml, line 1", "--config"),
    yaml("print_config in a config", "print_config: true", "c.yaml, line 1", "--print_config"),
    yaml("a file for a section in a config", "model: {lora: data.json}", "c.yaml, line 1", "model.lora"),
    *(
        Case(f"{what} for --{section}", f"{FIT} --{section} s.yaml", ("s.yaml", *names), {"s.yaml": content})
        for section in ("data", "model.lora", "neftune")
        for what, content, names in (
            ("aliases that grow beyond memory", _BOMB, ("line 6",)),
            ("a file of bytes", b"\0\xff", ()),
            ("a list", "[1]", (section,)),
            ("an unknown key", "a:\nzzz: 1", ("line 2", f"{section}.zzz")),
        )
    ),
    Case(
        "aliases that grow beyond memory, for a class",
        f"{FIT} --trainer.callbacks s.yaml",
        ("trainer.callbacks", "line 6"),
        {"s.yaml": _BOMB},
    ),
    Case(
        "aliases that grow beyond memory, on the command line",
        f"{FIT} --card '{{{', '.join(_BOMB.split(chr(10))[:-1])}}}'",
        ("card",),
    ),
    yaml("a config for preview that is a list", "[a]", "c.yaml", command="preview -c c.yaml"),
    yaml("a config for doctor that is empty", "", "c.yaml", command="doctor -c c.yaml"),
    yaml("a config for generate with tabs", "data:\n\tsource: x", "c.yaml, line 2", command="generate -c c.yaml"),
    yaml(
        "a config for export that is a text", "x", "c.yaml", command="export -c c.yaml --ckpt_path=data.json --output=o"
    ),
    yaml(
        "a config for evaluate with a cycle",
        "data: &a {source: *a}",
        "c.yaml",
        command="evaluate --clean-loss -c c.yaml",
    ),
    yaml("recipes show: a list", "[a]", "c.yaml", command="recipes show c.yaml"),
    yaml("recipes show: empty", "", "c.yaml", command="recipes show c.yaml"),
    yaml("recipes show: no card", "model: {base: tiny}", "c.yaml", "card", command="recipes show c.yaml"),
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
        "model.lora",
        "'8'",
        command="recipes show c.yaml",
    ),
    yaml(
        "recipes show: a tag that would run code",
        CARD + "trainer: !!python/object/apply:os.system ['touch x']",
        "c.yaml",
        command="recipes show c.yaml",
    ),
    Case("a config that is not there", "fit -c nix.yaml", ("'nix.yaml'",)),
    Case("a config that is a folder", "preview -c .", ("--config .",)),
    Case(
        "two configs, the second one broken",
        "fit -c c.yaml -c d.yaml",
        ("d.yaml, line 1", "data.sorce"),
        {"c.yaml": "data: {source: toy}", "d.yaml": "data: {sorce: x}"},
    ),
]

KEYS = [
    key("unknown section", "trianer: {max_epochs: 1}", "trianer", "trainer"),
    key("unknown key in data", "data: {sourc: x}", "data.sourc", "data.source"),
    key("unknown key in model", "model: {bse: x}", "model.bse", "model.base"),
    key("unknown key in lora", "model: {lora: {alhpa: 1}}", "model.lora.alhpa", "model.lora.alpha"),
    key("unknown key in checkpoint", "checkpoint: {moniter: x}", "checkpoint.moniter"),
    key("unknown key in trainer", "trainer: {max_step: 1}", "trainer.max_step", "trainer.max_steps"),
    yaml("a section for a value", "task: {a: 1}", "task", "causal_lm"),
    key("a list for a section", "model: [a]", "model"),
    key("data that is a text", "data: toy", "data", "'toy'"),
]
CARDS = [
    yaml(
        "an unknown key in the card",
        CARD.replace("\n  ", "\n  nots: x\n  ", 1),
        "c.yaml, line 2",
        "card.nots",
        "card.notes",
    ),
    yaml("a card that is a text", "card: 5", "c.yaml, line 1", "card"),
    yaml(
        "a card of an unknown model",
        CARD.replace("model: tiny", "model: tinny", 1),
        "c.yaml, line 2",
        "card.model",
        "tiny",
    ),
    yaml(
        "a card whose licences are a text",
        CARD.replace("{model: Apache-2.0, data: Apache-2.0}", "free"),
        "card.licences",
    ),
    yaml("a card with a status of no kind", CARD.replace("smoke", "done"), "card.status.kind", "executed", "smoke"),
    yaml("an executed card without results", CARD.replace("smoke", "executed"), "card.status.results"),
    yaml("a smoke card with results", CARD.replace("smoke", "smoke, results: {x: 1}"), "card.status.results"),
    yaml(
        "a card with a date of text", CARD.replace("smoke", "smoke, date: yesterday"), "card.status.date", "2026-01-31"
    ),
    yaml("a card gated by a word", CARD.replace("gated: false", "gated: maybe"), "card.gated", "'maybe'"),
    yaml("a card with an alpha from nowhere", CARD.replace("default-untested", "guess"), "card.alpha_source.kind"),
    yaml(
        "a card with a date that there is not",
        CARD.replace("smoke", "smoke, date: 2026-13-45"),
        "c.yaml, line 6",
        "'2026-13-45'",
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
    option("a strategy that there is not", "--trainer.strategy=ddpp", "ddpp", is_foreign=True),
    option("a precision that there is not", "--trainer.precision=8-wrong", "precision", "8-wrong"),
    option("devices that are not here", "--trainer.accelerator=gpu --trainer.devices=3", "gpu", is_foreign=True),
    option(
        "no epoch between validations",
        "--trainer.check_val_every_n_epoch=0",
        "trainer.check_val_every_n_epoch",
        "1",
        "0",
    ),
    option("no batch between validations", "--trainer.val_check_interval=0", "trainer.val_check_interval", "0"),
    option("devices beyond any machine", "--trainer.devices=99999999", "trainer.devices", "99999999"),
    option(
        "a wrong mode of a callback",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss --trainer.callbacks.mode=low",
        "EarlyStopping",
        "mode",
        "min",
        "max",
        "low",
    ),
    option(
        "a wrong number of a callback",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss --trainer.callbacks.patience=x",
        "trainer.callbacks",
        "EarlyStopping.patience",
        "'x'",
    ),
    option("an accelerator that is not installed", "--trainer.accelerator=tpu", "torch_xla", is_foreign=True),
    option(
        "a precision that is not installed",
        "--trainer.precision=transformer-engine",
        "transformer_engine",
        is_foreign=True,
    ),
    option(
        "logs at an address",
        "--trainer.logger=CSVLogger --trainer.logger.save_dir=http://host/x",
        "CSVLogger",
        "save_dir",
        "http://host/x",
    ),
    option("a cache at an address", "--data.cache_dir=s3://bucket/x", "data.cache_dir", "s3://bucket/x"),
    option("a name of checkpoints that is no form", "--checkpoint.filename='{'", "checkpoint.filename", "'{'"),
    option("a name of checkpoints in no form", "--checkpoint.filename='{step:z}'", "checkpoint.filename", "'{step:z}'"),
    option("checkpoints elsewhere", "--checkpoint.filename=../../x", "checkpoint.filename", "'../../x'"),
    option("checkpoints at the root", "--checkpoint.filename=/x", "checkpoint.filename", "'/x'"),
    option("no nodes", "--trainer.num_nodes=0", "trainer.num_nodes", "1", "0"),
    option("a batch beyond all memory", f"--data.batch_size=1{'0' * 22}", "data.batch_size", "1000000"),
    option("a global batch beyond all", f"--global_batch_size=1{'0' * 22}", "global_batch_size"),
    option("a rank beyond any layer", "--model.lora.r=9999999", "model.lora.r", "65536", "9999999"),
    option("a million workers", "--data.num_workers=1000000", "data.num_workers", "1000000"),
    *(
        option(f"runs at {address}", f"--{key}={address}", key, address)
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
    option("checkpoints on a metric that is not logged", "--checkpoint.monitor=val_loss", "val_loss", "val/loss"),
    option("a logger that is not installed", "--trainer.logger=CometLogger", "CometLogger", "comet", is_foreign=True),
    option(
        "data at an address",
        "--data.source='https://me:hunter2@host/d.json?token=hunter2'",
        "https://me:***@host/d.json?token=***",
    ),
    option("best of a new process", "--ckpt_path=best", "--ckpt_path", "best"),
    option("no devices", "--trainer.devices=0", "devices", is_foreign=True),
    option("an optimiser as a key", "--optimizer=Adam", "optimizer"),
    option("negative steps", "--trainer.max_steps=-5", "max_steps", "-5", is_foreign=True),
    option("max_time of a word", "--trainer.max_time=soon", "Timer(duration='soon')", "DD:HH:MM:SS", is_foreign=True),
    option("a negative clip", "--trainer.gradient_clip_val=-1", "trainer.gradient_clip_val", "0", "-1"),
    option("accumulation of 0", "--trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches", "1", "0"),
    option("limit of batches below 0", "--trainer.limit_train_batches=-1", "limit_train_batches", is_foreign=True),
    option("a task that there is not", "--task=causal", "'causal'", "causal_lm"),
    option("a task without a value", "--task", "task"),
    option("a learning rate of NaN", "--model.learning_rate=.nan", "model.learning_rate", "0"),
    option("a negative learning rate", "--model.learning_rate=-1", "model.learning_rate", "0", "-1"),
    option("an infinite learning rate", "--model.learning_rate=.inf", "model.learning_rate"),
    option("a negative weight decay", "--model.weight_decay=-1", "model.weight_decay", "0"),
    option("a warmup above the whole", "--model.warmup_ratio=2", "model.warmup_ratio", "0", "1"),
    option("a rank of 0", "--model.lora.r=0", "r", "0"),
    option("a negative rank", "--model.lora.r=-4", "r", "-4"),
    option("a dropout above 1", "--model.lora.dropout=1.5", "dropout", "1.5"),
    option("adapters on no module", "--model.lora.target_modules=nowhere", "model.lora", "nowhere"),
    option("adapters by a broken pattern", "--model.lora.target_modules='('", "model.lora"),
    option("4 bits without adapters", "--model.quantization=nf4", "model.quantization", "model.lora"),
    option("a dtype that there is not", "--model.dtype=float8", "model.dtype", "float8"),
    option("an attention that there is not", "--model.attn_implementation=fast", "attn_implementation", "fast"),
    option("layers to freeze that there are not", "--model.freeze=[nowhere]", "freeze", "nowhere"),
    option("all layers frozen", "--model.freeze=['.*']", "freeze"),
    option(
        "checkpointing without train mode",
        "--model.gradient_checkpointing=true --model.keep_eval=true",
        "model.keep_eval",
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
    option("a seed that is negative", "--seed_everything=-1", "seed_everything", "0", "-1"),
    option("a seed of a word", "--seed_everything=x", "seed_everything", "'x'"),
    option("a monitor with a wrong mode", "--checkpoint.mode=low", "mode", "min", "max", "low", is_foreign=True),
    option(
        "checkpoints by two clocks",
        "--checkpoint.every_n_train_steps=1 --checkpoint.every_n_epochs=1",
        "every_n_epochs",
        is_foreign=True,
    ),
    option("a negative number of checkpoints", "--checkpoint.save_top_k=-2", "save_top_k", is_foreign=True),
    option("a batch size of text", "--data.batch_size=big", "data.batch_size", "'big'"),
    option("a max_length of 1", "--data.max_length=1", "data.max_length", "2", "1"),
    option("a batching that there is not", "--data.batching=padded", "data.batching", "packed"),
    option("a template that there is not", "--data.template=alpacca", "alpacca", "alpaca"),
    option("a format that there is not", "--data.format=sharegtp", "sharegtp", "sharegpt"),
    option("columns that are a text", "--data.columns=output", "data.columns"),
    option("a column of no format", "--data.columns.answer=output", "columns"),
    option("a column that the data have not", "--data.columns.output=reply", "'reply'", "instruction", "output"),
    option("a held-out share of NaN", "--data.val_size=.nan", "data.val_size"),
    option("a held-out share below 0", "--data.val_size=-0.1", "data.val_size"),
    option("more held out than there is", "--data.val_size=6", "val_size", "6"),
    option("a split of a file", "--data.split=train", "data.json"),
    option("a revision of a file", "--data.revision=main", "data.json"),
    option("a cache that is a file", "--data.cache_dir=data.json", "data.json", "data.cache_dir"),
    option("workers below 0", "--data.num_workers=-1", "data.num_workers", "0"),
    option("streaming without an end", "--data.streaming=true", "max_steps"),
    option("a prompt loss above 1", "--data.prompt_loss=2", "data.prompt_loss"),
    option("classes of data that answer", "--task=sequence_classification", "sequence_classification", "causal_lm"),
    option("a base that is a file", "--model.base=data.json", "'data.json'"),
    option("a base that is an empty folder", "--model.base=.", "'.'"),
    option("a base that is no hub id", "--model.base=a/b/c/d", "a/b/c/d"),
    option("a base of an empty name", "--model.base=", "base"),
    option("a base on the hub without a network", "--model.base=nobody/nothing", "nobody/nothing"),
]
CASES = [*TEXTS, *KEYS, *CARDS, *VALUES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_refused_in_one_line(case: Case, assert_refused: Callable[[Case], None]) -> None:
    assert_refused(case)
