"""The verb generate: answers to one prompt, to a file of prompts, or in a chat."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.cli.answering_model import add_model_options, answerer_of
from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.keys import check_early
from lightning_neft.cli.process import Terminated
from lightning_neft.common.escaping import visible
from lightning_neft.common.paths import check_new, check_output
from lightning_neft.errors import ConfigError

if TYPE_CHECKING:
    from lightning_neft.cli.prompt_file import Prompt
    from lightning_neft.generation.answering import Answerer

__all__ = ["run"]


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: generate.
        args: The command line after it.

    Raises:
        KeyboardInterrupt, Terminated: A file was interrupted; the answers so far are kept.
        ConfigError: An option is wrong or missing.
        ModelError: The model cannot be loaded, or writes no text.
        DataError: The prompts cannot be read, or one leaves no room for an answer.
    """
    parser = VerbParser(verb)
    add_model_options(parser)
    parser.add_argument("--output", type=Path)
    for name in ("--prompt", "--input"):
        parser.add_argument(name)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--max_new_tokens", type=int)
    parser.add_argument("--overwrite", action="store_true")
    options, rest = parser.parse_known(args)
    _check(options, rest)
    if options.model is None:
        check_early(rest)
    from lightning_neft.cli.process import quiet
    from lightning_neft.cli.prompt_file import read_prompts

    # Before the model, which takes longer.
    prompts = None if options.input is None else read_prompts(options.input)
    with quiet():
        answerer = answerer_of(verb, options, rest)
        print(_settings(answerer, options.max_new_tokens), file=sys.stderr)
        if prompts is not None:
            _answer_file(answerer, prompts, options)
        elif options.prompt is not None:
            _answer_prompt(answerer, options)
        else:
            from lightning_neft.cli.chat import chat

            chat(answerer, options.max_new_tokens)


def _check(options: Namespace, rest: Sequence[str]) -> None:
    for name in ("batch_size", "max_new_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"generate: --{name} must be 1 or more, got {value}")
    if options.prompt is not None and options.input is not None:
        raise ConfigError("generate: --prompt and --input do not go together; give one of them, or neither for a chat")
    if options.prompt is not None and not options.prompt.strip():
        raise ConfigError("generate: --prompt is empty; omit it for a chat")
    if options.prompt is None and options.input is None and (sys.stdin is None or sys.stdin.closed):
        raise ConfigError(
            "generate: the standard input is closed, so nobody can chat; give --prompt, or --input with --output"
        )
    if (options.input is None) != (options.output is None):
        there, missing = ("--input", "--output") if options.output is None else ("--output", "--input")
        raise ConfigError(f"generate: {there} needs {missing} too: a file of prompts, and one for the answers")
    if options.output is not None:
        _check_output(options, rest)


def _check_output(options: Namespace, rest: Sequence[str]) -> None:
    from lightning_neft.cli.answer_journal import journal_path
    from lightning_neft.data.sources.source import local_files

    inputs = [*resolve_configs(rest)[1], *local_files(options.input)]
    options.output = check_new(options.output, "generate: --output", overwrite=options.overwrite, inputs=inputs)
    check_output(journal_path(options.output), "generate: the kept answers", inputs)


def _settings(answerer: Answerer, max_new_tokens: int | None) -> str:
    from lightning_neft.generation.answering import MOST_TOKENS

    found = answerer.settings
    together = min(MOST_TOKENS, answerer.positions or MOST_TOKENS)
    most = f"{together} tokens with the prompt" if max_new_tokens is None else f"{max_new_tokens} new tokens"
    return (
        f"{answerer.name}: template {found['template']}, {found['decoding']}, repetition penalty "
        f"{found['repetition_penalty']}, up to {most}, {found['dtype']} on {found['device']}"
    )


def _answer_prompt(answerer: Answerer, options: Namespace) -> None:
    from lightning_neft.data.conversation import Conversation, Message

    asked = Conversation((Message("user", options.prompt),))
    (answer,) = answerer.answers([asked], max_new_tokens=options.max_new_tokens)
    print(visible(answer.strip()) if sys.stdout.isatty() else answer.strip())


def _answer_file(answerer: Answerer, prompts: Sequence[Prompt], options: Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lightning_neft.cli.answer_journal import AnswerJournal, fingerprint
    from lightning_neft.common.files import write_text

    conversations = [prompt.conversation for prompt in prompts]
    prompt_ids = answerer.prompt_ids(conversations)
    # Before there is a file of answers.
    answerer.rooms(conversations, prompt_ids, options.max_new_tokens)
    decided = {name: value for name, value in answerer.settings.items() if name != "device"}
    identity = fingerprint(
        answerer.model,
        {**decided, "max_new_tokens": options.max_new_tokens, "generator": answerer.name},
        [prompt_ids, [prompt.to_json("", "") for prompt in prompts]],
    )
    journal = AnswerJournal(options.output, identity, start_anew=options.overwrite)
    missing = [index for index in range(len(prompts)) if index not in journal.answers]
    if journal.answers:
        print(f"{len(journal.answers)} of {len(prompts)} answers are there already", file=sys.stderr)
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    try:
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=len(prompts), completed=len(journal.answers), rate="")
            start = progress.get_time()

            def keep(number: int, answer: str) -> None:
                journal.add(missing[number], answer)
                made = len(journal.answers) - (len(prompts) - len(missing))
                rate = made / max(progress.get_time() - start, 1e-9)
                progress.update(task, advance=1, rate=f"{rate:.1f} answers/s")

            answerer.answers(
                [conversations[index] for index in missing],
                max_new_tokens=options.max_new_tokens,
                batch_size=options.batch_size,
                on_done=keep,
            )
    except (KeyboardInterrupt, Terminated) as stop:
        raise type(stop)(
            f"stopped; {len(journal.answers)} of {len(prompts)} answers are kept in {journal.path}, "
            "repeat the command to resume"
        ) from None
    finally:
        journal.close()
    rows = [prompt.to_json(journal.answers[index].strip(), answerer.name) for index, prompt in enumerate(prompts)]
    write_text(options.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    journal.remove()
    print(f"{len(rows)} answers: {options.output}", file=sys.stderr)
