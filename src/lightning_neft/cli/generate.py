"""The verb generate: answers to one prompt, to a file of prompts, or in a chat."""

from __future__ import annotations

import io
import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_neft.cli.arguments import VerbParser
from lightning_neft.cli.config_files import resolve_configs
from lightning_neft.cli.keys import check_early
from lightning_neft.cli.model_options import add_model_options, answerer_of
from lightning_neft.cli.process import Terminated
from lightning_neft.common.escaping import is_utf8, visible
from lightning_neft.common.paths import check_new, check_output
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console

    from lightning_neft.cli.prompt_file import Prompt
    from lightning_neft.data.conversation import Message
    from lightning_neft.generation.answering import Answerer

__all__ = ["run"]

_COMMANDS = "/reset starts a new conversation, /quit or Ctrl-D leaves, Ctrl-C stops an answer"


def run(verb: str, args: Sequence[str]) -> None:
    """Run the verb.

    Args:
        verb: generate.
        args: The command line after it.

    Raises:
        KeyboardInterrupt, Terminated: A file was interrupted; the answers so far are stored.
        ConfigError: An option is wrong or missing.
        ModelError: The model cannot be loaded, or generates no text.
        DataError: The prompts cannot be read, or one leaves no room for an answer.
    """
    parser = VerbParser(verb)
    add_model_options(parser)
    parser.add_argument("--output", type=Path)
    for name in ("--prompt", "--input"):
        parser.add_argument(name)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int)
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
            _chat(answerer, options.max_new_tokens)


def _check(options: Namespace, rest: Sequence[str]) -> None:
    for name in ("batch_size", "max_new_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"generate: --{name.replace('_', '-')} must be 1 or more, got {value}")
    if options.prompt is not None and options.input is not None:
        raise ConfigError("generate: --prompt and --input exclude each other; give one of them, or neither for a chat")
    if options.prompt is not None and not options.prompt.strip():
        raise ConfigError("generate: --prompt is empty; omit it for a chat")
    if options.prompt is None and options.input is None and (sys.stdin is None or sys.stdin.closed):
        raise ConfigError(
            "generate: the standard input is closed, so a chat is not possible; give --prompt, or --input with --output"
        )
    if (options.input is None) != (options.output is None):
        given, missing = ("--input", "--output") if options.output is None else ("--output", "--input")
        raise ConfigError(f"generate: {given} needs {missing}: --input reads the prompts, --output gets the answers")
    if options.output is None:
        return
    from lightning_neft.cli.prompt_file import journal_path
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

    from lightning_neft.cli.prompt_file import AnswerJournal, fingerprint
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
        print(f"resuming: {len(journal.answers)} of {len(prompts)} answers are in {journal.path}", file=sys.stderr)
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
            f"stopped; {len(journal.answers)} of {len(prompts)} answers are in {journal.path}, repeat the command to "
            "resume"
        ) from None
    finally:
        journal.close()
    rows = [prompt.to_json(journal.answers[index].strip(), answerer.name) for index, prompt in enumerate(prompts)]
    write_text(options.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    journal.remove()
    print(f"{len(rows)} answers: {options.output}", file=sys.stderr)


def _chat(answerer: Answerer, max_new_tokens: int | None) -> None:
    """Answer the messages of the standard input, a terminal or a pipe, each with the conversation so far."""
    from rich.console import Console
    from rich.text import Text

    from lightning_neft.data.conversation import Message

    console = Console(highlight=False)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A message that is not UTF-8 is refused, without ending the chat.
        sys.stdin.reconfigure(errors="surrogateescape")
    console.print(Text(_COMMANDS, style="dim"))
    said: list[Message] = []
    while (line := _read(console)) is not None:
        if line in ("/quit", "/exit"):
            return
        if line == "/reset":
            said = []
            console.print(Text("a new conversation", style="dim"))
        elif not is_utf8(line):
            console.print(Text("this message is not UTF-8; send it in UTF-8", style="yellow"), soft_wrap=True)
        elif line.startswith("/"):
            console.print(Text(f"there is no {line.split()[0]}; {_COMMANDS}", style="dim"), soft_wrap=True)
        elif line:
            said = _answer(answerer, console, [*said, Message("user", line)], max_new_tokens)


def _read(console: Console) -> str | None:
    """Return the next message; None at the end of the input."""
    while True:
        try:
            is_terminal = sys.stdin.isatty()
            line = input("you> " if is_terminal else "").strip()
        except EOFError:
            console.print()
            return None
        except KeyboardInterrupt:
            console.print(f"\n{_COMMANDS}", style="dim")
            continue
        except OSError as error:
            raise ConfigError(
                f"generate: the standard input cannot be read: {error.strerror}; give --prompt, or --input with "
                "--output"
            ) from error
        if line and not is_terminal:
            # A terminal has echoed it.
            console.print(f"you> {visible(line)}", markup=False, soft_wrap=True)
        return line


def _answer(answerer: Answerer, console: Console, said: list[Message], max_new_tokens: int | None) -> list[Message]:
    """Print the answer to the last message; return the conversation with both, or without both if there is none."""
    from rich.text import Text

    from lightning_neft.data.conversation import Conversation, Message

    pieces: list[str] = []

    def show(piece: str) -> None:
        shown = visible(piece if pieces else piece.lstrip())
        pieces.append(piece)
        console.print(Text(shown, style="green"), end="", soft_wrap=True)

    try:
        answer = answerer.stream(Conversation(tuple(said)), show, max_new_tokens=max_new_tokens)
    except KeyboardInterrupt:
        # The conversation continues with the part that was printed.
        answer = "".join(pieces)
        console.print(Text(" (stopped)", style="dim"), end="")
    except DataError as error:
        console.print(Text(f"{error}; /reset starts a new conversation", style="yellow"), soft_wrap=True)
        return said[:-1]
    if not answer.strip():
        console.print(Text("(an empty answer)", style="dim"), end="")
    console.print()
    return [*said, Message("assistant", answer)]
