"""A chat with a model, in a terminal or through a pipe."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from lightning_neft.common.escaping import is_utf8, visible
from lightning_neft.data.conversation import Conversation, Message
from lightning_neft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lightning_neft.generation.answering import Answerer

__all__ = ["chat"]

_COMMANDS = "/reset forgets what was said, /quit or Ctrl-D leaves, Ctrl-C stops an answer"


def chat(answerer: Answerer, max_new_tokens: int | None = None) -> None:
    """Ask for messages and show the answers, until the user leaves; what was said stays in the conversation.

    Args:
        answerer: Who answers.
        max_new_tokens: The most tokens of an answer; see `Answerer.answers`.

    Raises:
        ConfigError: The standard input cannot be read.
    """
    console = Console(highlight=False)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # What is not UTF-8 is one message that is not answered, and not the end of the chat.
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
    """Return the next message, or None at the end."""
    while True:
        try:
            is_terminal = sys.stdin.isatty()
            # From a pipe nobody sees what is typed.
            line = input("you> " if is_terminal else "").strip()
        except EOFError:
            console.print()
            return None
        except KeyboardInterrupt:
            console.print(Text(f"\n{_COMMANDS}", style="dim"))
            continue
        except OSError as error:
            raise ConfigError(
                f"generate: the standard input cannot be read: {error.strerror}; give --prompt, or --input with "
                "--output"
            ) from error
        if line and not is_terminal:
            console.print(Text(f"you> {visible(line)}"), soft_wrap=True)
        return line


def _answer(answerer: Answerer, console: Console, said: list[Message], max_new_tokens: int | None) -> list[Message]:
    """Show the answer to the last message; the conversation with it, or without both where there is none."""
    pieces: list[str] = []

    def show(piece: str) -> None:
        shown = visible(piece if pieces else piece.lstrip())
        pieces.append(piece)
        console.print(Text(shown, style="green"), end="", soft_wrap=True)

    try:
        answer = answerer.stream(Conversation(tuple(said)), show, max_new_tokens=max_new_tokens)
    except KeyboardInterrupt:
        # What was seen is what was said.
        answer = "".join(pieces)
        console.print(Text(" (stopped)", style="dim"), end="")
    except DataError as error:
        console.print(Text(f"{error}; /reset begins a new conversation", style="yellow"), soft_wrap=True)
        return said[:-1]
    if not answer.strip():
        console.print(Text("(an empty answer)", style="dim"), end="")
    console.print()
    return [*said, Message("assistant", answer)]
