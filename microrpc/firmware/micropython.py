"""Laying out a project for a board with MicroPython: the device, and a program with the first functions."""

from __future__ import annotations

import pathlib
import re
import shlex
import shutil
from importlib.metadata import version

from microrpc.firmware.project import FILE_NAME, firmware_directory

MICROPYTHON = "micropython"
"""The board whose project is files for MicroPython, which nothing compiles."""
LIBRARY = ("microrpc_device.py", "microrpc_parts.py")
"""What a board needs besides its program."""
_EMULATOR = "emulators/micropython.mjs"

_README = """\
# {name}

A board with MicroPython that Python calls functions of. Yours are in `main.py`.

    microrpc firmware run .               # runs it in MicroPython's WebAssembly build, and prints its port
    microrpc firmware flash micropython . --port /dev/ttyACM0    # copies it to a board, with mpremote

and with that port:

    microrpc functions /dev/ttyACM0
    microrpc call /dev/ttyACM0 add 2 3

* `main.py`: what the board can do. Start here.
* `microrpc_device.py`, `microrpc_parts.py`: the device, as it came with microrpc {version}.
* `emulators/`, `port.toml`: what runs it here; not for the board.
* `LICENSE`: that of the files that came with it.
"""


def lay_out_files(directory: pathlib.Path) -> list[str]:
    """Lay out a project in an empty directory; give what to tell the user."""
    library = firmware_directory()
    for name in LIBRARY:
        shutil.copyfile(library / "micropython" / name, directory / name)
    name = directory.resolve().name
    main = (library / "micropython" / "main.py").read_text(encoding="utf-8")
    main = main.replace("FIRMWARE_NAME", re.sub(r"[^\w .+-]", "_", name))
    (directory / "main.py").write_text(main, encoding="utf-8")
    (directory / _EMULATOR).parent.mkdir()
    shutil.copyfile(library / _EMULATOR, directory / _EMULATOR)
    port = (library / "ports" / MICROPYTHON / FILE_NAME).read_text(encoding="utf-8")
    (directory / FILE_NAME).write_text(port.replace("micropython/demo.py", "main.py"), encoding="utf-8")
    (directory / "README.md").write_text(_README.format(name=name, version=version("microrpc")), encoding="utf-8")
    where = shlex.quote(str(directory))
    return [
        f"{directory} has a project for MicroPython; your functions are in {directory / 'main.py'}.",
        f"Try: microrpc firmware run {where}",
        f"     microrpc firmware flash micropython {where} --port PORT",
    ]
