"""Draws the picture of docs/monitor.md: `microrpc monitor`, run on a terminal, on what a simulated board said.

`python -m dev.monitor_picture`, which `make pictures` does. The line is simulated, in virtual time, so that each run is
the same.
"""

from __future__ import annotations

import os
import pathlib
import re
import select
import subprocess
import sys
import tempfile
import termios
import time

from dev.svg import PICTURES, ROOT, main, without_network

PICTURE = PICTURES / "monitor.svg"
COLUMNS, LINES = 104, 34
_KEYS = (*["up"] * 6, "enter", *["up"] * 8)
_SEED = "8"  # of the noise
_WAIT_S = 60.0

_SESSION = """
import logging
import sys

import microrpc
from firmware_sim.faults import Faults, Flip
from firmware_sim.simulate import SimBoard

sim = SimBoard(microrpc.profile("loopback"), faults=Faults([Flip(rate=6e-5)], seed=int(sys.argv[2])))


@sim.function
def read_celsius(channel: int) -> float:
    if channel == 3:
        sim.device.log("channel 3 is near its limit", logging.WARNING)
        sim.device.event("alarm", channel, 79.5, reliable=True)
    return 21.5 + channel


with microrpc.open_board(sim.open_channel(), sim.profile.timeouts, seed=3, capture=sys.argv[1]) as board:
    board.array([0.5] * 500).numpy()
    read = board.function("read_celsius")
    with board.events("alarm") as alarms:
        for channel in (1, 2, 3):
            read(channel)
        next(alarms)
"""


def draw() -> str:
    """Give the SVG of the monitor, as its own terminal has it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        script = [sys.executable, "-c", _SESSION, "weather.pcapng", _SEED]
        subprocess.run(script, cwd=folder, env=environment, check=True, timeout=_WAIT_S)
        environment |= {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "COLUMNS": str(COLUMNS),
            "LINES": str(LINES),
            "TEXTUAL_PRESS": ",".join(_KEYS),
            "TEXTUAL_SCREENSHOT": "8",
            "TEXTUAL_SCREENSHOT_LOCATION": folder,
            "TEXTUAL_SCREENSHOT_FILENAME": "monitor.svg",
        }
        command = [sys.executable, "-m", "microrpc.cli", "monitor", "weather.pcapng", "--baud", "115200"]
        _run_on_a_terminal(command, folder, environment)
        svg = without_network((pathlib.Path(folder) / "monitor.svg").read_text(encoding="utf-8"))
        return re.sub(r"\bterminal-\d+", "monitor", svg)


def _run_on_a_terminal(command: list[str], folder: str, environment: dict[str, str]) -> None:
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (LINES, COLUMNS))
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    ) as ran:
        os.close(terminal)
        end = time.monotonic() + _WAIT_S
        said = b""
        try:
            while time.monotonic() < end and ran.poll() is None:
                if select.select([screen], [], [], 0.1)[0]:
                    said = (said + os.read(screen, 65536))[-2000:]
        except OSError:  # it has ended, and its terminal with it
            pass
        finally:
            if ran.poll() is None and time.monotonic() >= end:
                ran.kill()
            code = ran.wait(timeout=10)
            os.close(screen)
    if code:
        raise SystemExit(f"the monitor ended with {code}: {said.decode(errors='replace')}")


def masked(text: str) -> str:
    """Give the words of a picture without what differs from run to run: times of the day."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}", "TIME", text)


if __name__ == "__main__":
    main(PICTURE, draw, __doc__)
