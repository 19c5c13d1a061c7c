"""Draws the picture of the README from a session that it runs: `python -m dev.pictures`, which `make pictures` does.

The commands are run as anybody would, on `examples/noisy_board.py`; nothing of what is drawn is written here.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = pathlib.Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "pictures" / "session.svg"
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

# As rich's own, without fonts from the network: what the computer has is as good, and a README loads nothing.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


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
    return console.export_svg(title="microrpc", theme=MONOKAI, code_format=_FORMAT, unique_id="session")


def text_of(svg: str) -> str:
    """Give the text that an SVG of `draw` shows, its lines in order; what wrapped is on two lines."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in re.findall(r'<text class="session-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\N{NO-BREAK SPACE}", " ")))
    return "\n".join("".join(text for _, text in sorted(parts)).rstrip() for _, parts in sorted(rows.items()))


def masked(text: str) -> str:
    """Give a session's text without what differs from run to run: times, rates, and how much was damaged."""
    text = " ".join(text.split())
    return re.sub(
        r"in [\d.]+ m?s: [\d.]+ kB/s(, \d+% of \d+ baud)?; (\d+ frames damaged, )?\d+ retransmitted(, \d+ repeated)?",
        "in TIME: RATE; DAMAGE",
        text,
    )


def main() -> None:
    """Write the picture."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(draw(run_session()), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
