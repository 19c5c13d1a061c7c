"""Programs that an interpreter on the board runs: nothing is compiled, the files are copied to its file system."""

from __future__ import annotations

import pathlib

from microrpc.boards.flashers import PORT_PLACE, CommandFlasher
from microrpc.errors import FirmwareError

SCRIPT = "py"
"""The form of such a program; as a text, the ending of the file."""

COPIER = "mpremote"
"""What copies it to the board."""

_STARTED = "main.py"  # what MicroPython runs when it boots
_ANY_PORT = "auto"  # mpremote's word for the first board that it finds


def copying(script: pathlib.Path, port: str | None) -> CommandFlasher:
    """Give the command that copies a script, and what lies beside it, to a board with MicroPython, and restarts that.

    Without a port it is the only one that mpremote finds. Raises FirmwareError where there is no such script.
    """
    if not script.is_file():
        raise FirmwareError(f"{script}: there is no such script")
    others = sorted(path for path in script.parent.glob(f"*.{SCRIPT}") if path.name not in (script.name, _STARTED))
    words = [COPIER, "connect", PORT_PLACE if port is not None else _ANY_PORT]
    if others:
        words += ["fs", "cp", *map(str, others), ":", "+"]
    words += ["fs", "cp", str(script), f":{_STARTED}", "+", "reset"]
    return CommandFlasher(COPIER, tuple(words), (COPIER,), f"pip install {COPIER}")
