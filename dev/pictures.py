"""Draws the picture of the README from a session that it runs: `python -m dev.pictures`, which `make pictures` does.

The commands are run as anybody would, on `examples/noisy_board.py`; nothing of what is drawn is written here.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from dev.svg import PICTURES, ROOT, main, without_network

PICTURE = PICTURES / "session.svg"
COLUMNS = 88
COMMANDS = (
    ("microrpc functions ./board", ""),
    ("microrpc call ./board read_celsius 3", ""),
    ("microrpc call ./board read_celsius 9", ""),
    ("microrpc put --verify ./board weights.npy", "# 1 bit in 10,000 flips on this line"),
)
_BOARD = ROOT / "examples" / "noisy_board.py"
_MAKE_FILE = "import numpy; numpy.save('weights.npy', numpy.linspace(-1, 1, 16384, dtype='float32'))"
_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Step:
    """A command as it was typed, with a remark behind it, and what it printed on the terminal."""

    command: str
    remark: str
    output: str


def run_session() -> list[Step]:
    """Run the commands on a noisy board, in a directory of their own; raise where one does not come to its end."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", _MAKE_FILE], cwd=folder, check=True, timeout=_WAIT_S)
        command = [sys.executable, str(_BOARD), "board"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as board:
            try:
                assert board.stdout is not None
                if board.stdout.readline() != "board\n":
                    raise SystemExit("the board did not start")
                return [Step(command, remark, _run(command, folder)) for command, remark in COMMANDS]
            finally:
                board.terminate()


def _run(command: str, folder: str) -> str:
    """Give what a command prints, on stdout and stderr as a terminal mixes them, but for lines of the board's log."""
    program, *words = command.split()
    assert program == "microrpc"
    ran = subprocess.run(
        [sys.executable, "-m", "microrpc.cli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_WAIT_S,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(COLUMNS)},
    )
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("board: ")]
    return "\n".join(lines)


def draw(steps: Sequence[Step]) -> str:
    """Give the SVG of a session."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    for number, step in enumerate(steps):
        if number:
            console.print()
        console.print(
            Text.assemble(("$ ", "green"), (step.command, "bold"), (f"  {step.remark}" * bool(step.remark), "dim"))
        )
        for line in step.output.splitlines():
            console.print(Text(line, "red" if line.startswith("error: ") else ""))
    return without_network(console.export_svg(title="microrpc", theme=MONOKAI, unique_id="session"))


def masked(text: str) -> str:
    """Give a session's text without what differs from run to run: times, rates, and how much was damaged."""
    text = " ".join(text.split())
    trouble = r"; sent again: \d+(, sent again after doubt: \d+)?(, frames that came damaged: \d+)?"
    return re.sub(rf"in [\d.]+ m?s: [\d.]+ kB/s(, \d+% of \d+ baud)?{trouble}", "in TIME: RATE; TROUBLE", text)


if __name__ == "__main__":
    main(PICTURE, lambda: draw(run_session()), __doc__)
