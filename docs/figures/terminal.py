"""Draw docs/figures/terminal.svg: what a terminal of 80 columns shows of commands, run when the figure is drawn.

    python docs/figures/terminal.py

The commands take about two minutes on a CPU. Of a long output the last lines are kept.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, LINES, KEPT = 80, 200, 25
FIT = "lightning_neft fit --config quickstart"
FIGURE = Path(__file__).with_name("terminal.svg")
# The font that the figure would fetch from the network, and the class that names it.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def shown(command: str, folder: Path) -> list[Text]:
    """Return the lines that a command leaves on the screen, in their colours."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    outside, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    program = [sys.executable, "-m", *command.split()]
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(program, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    while True:
        try:
            read = os.read(outside, 65536)
        except OSError:  # the program has ended
            break
        stream.feed(read)
    os.close(outside)
    if process.wait():
        sys.exit(f"{command} ended with exit code {process.returncode}")
    lines = [_line(screen, row) for row in range(LINES)]
    while lines and not lines[-1].plain:
        lines.pop()
    return lines


def _line(screen: pyte.Screen, row: int) -> Text:
    text = Text()
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        colour = cell.fg if cell.fg == "default" or len(cell.fg) != 6 else f"#{cell.fg}"
        style = f"{'bold ' if cell.bold else ''}{colour.replace('brown', 'yellow')}"
        text.append(cell.data, style)
    text.rstrip()
    return text


def main() -> None:
    """Run the commands and write the figure."""
    with tempfile.TemporaryDirectory() as folder:
        lines = shown(FIT, Path(folder))
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {FIT}", "bold"), Text("...", "dim"), *lines[-KEPT:], "", sep="\n", highlight=False)
    drawn = console.export_svg(title="lightning_neft", unique_id="terminal")
    FIGURE.write_text(_FONT.sub("", drawn), encoding="utf-8")


if __name__ == "__main__":
    main()
