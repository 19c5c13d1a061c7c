"""Laying out a sketch, which the Arduino tools build."""

from __future__ import annotations

import pathlib
import re
import shutil
from importlib.metadata import version

from microrpc.errors import FirmwareError
from microrpc.firmware.project import firmware_directory

ARDUINO = "arduino"
"""The board whose project is a sketch."""
_ANY_BOARD = "VENDOR:ARCHITECTURE:BOARD"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")

_README = """\
# {name}

A sketch that Python calls functions of. Yours are in `{name}.ino`; the device library is in `src/`, as it came with
microrpc {version}, and Arduino compiles it with the sketch.

    arduino-cli compile --fqbn {fqbn} .
    arduino-cli upload --fqbn {fqbn} --port /dev/ttyACM0 .
{more}    microrpc call /dev/ttyACM0 add 2 3

Nothing else may print to the port that it is on. `LICENSE` is that of the library.
"""
_OF_A_BOARD = """\

or, with Debian's packages `arduino-builder` and `arduino-core-avr` (`port.toml` says what is built and what runs it):

{steps}

"""


def lay_out_sketch(directory: pathlib.Path, fqbn: str = "", steps: str = "") -> list[str]:
    """Lay out a sketch in an empty directory; give what to tell the user. Raises FirmwareError.

    fqbn: the board that it is for, where microrpc builds it, too; steps: what its README.md has of that.

    Arduino compiles what lies in its `src`, and wants it called like its directory.
    """
    name = directory.resolve().name
    if not _NAME.fullmatch(name):
        raise FirmwareError(
            f"{directory}: a sketch is called like its directory, and Arduino takes no {name!r}: "
            "up to 63 letters, digits, _ . -, and at the beginning no . or -"
        )
    library = firmware_directory()
    arduino = library / "ports" / ARDUINO
    source = directory / "src"
    source.mkdir()
    for path in (*library.glob("include/*.h"), *library.glob("src/*.[ch]"), *arduino.glob("src/*.[ch]")):
        shutil.copyfile(path, source / path.name)
    example = (arduino / "examples" / "Add" / "Add.ino").read_text(encoding="utf-8")
    sketch = directory / f"{name}.ino"
    sketch.write_text(example.replace("<MicroRPCDevice.h>", '"src/MicroRPCDevice.h"'), encoding="utf-8")
    more = _OF_A_BOARD.format(steps=steps) if fqbn else ""
    readme = _README.format(name=sketch.stem, version=version("microrpc"), fqbn=fqbn or _ANY_BOARD, more=more)
    (directory / "README.md").write_text(readme, encoding="utf-8")
    return [
        f"{directory} has a sketch; your functions are in {sketch}.",
        f"Open it in the Arduino IDE, or: arduino-cli compile --fqbn {fqbn or _ANY_BOARD} {directory}",
    ]
