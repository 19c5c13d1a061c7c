"""Laying out an application for Zephyr, which west builds: its sample, with functions of the user's, and the module."""

from __future__ import annotations

import pathlib
import shlex
import shutil
from importlib.metadata import version

from microrpc.firmware.first_functions import FIRST_FUNCTIONS, with_name
from microrpc.firmware.project import firmware_directory

ZEPHYR = "zephyr"
"""The board whose project is an application for Zephyr, which west builds for a board of Zephyr's."""
MODULE_FILE = "zephyr/module.yml"
"""What makes a directory a module of Zephyr; paths in it are relative to that directory."""
MODULE = "microrpc"
"""The directory of an application that is the module: as the repository, with what Zephyr builds of it."""

_README = """\
# {name}

An application for Zephyr that Python calls functions of. Yours are in `src/functions.c`.

    west build -b nucleo_f746zg .
    west flash
    microrpc call /dev/ttyACM0 add 2 3

Without a board:

    west build -b native_sim . && build/zephyr/zephyr.exe     # prints its port, for `microrpc call`

* `src/functions.c`: what the board can do. Start here.
* `src/main.c`, `src/clock.h`: the UART, the clock, and the main loop.
* `prj.conf`: what the library has, and settings of Zephyr; `Kconfig`: the sizes of buffers; `boards/`: for some boards.
* `microrpc/`: the device library as a module of Zephyr, as it came with microrpc {version}.

The UART is that of the console, unless the devicetree chooses another one, as an overlay `boards/BOARD.overlay` can:

    / {{ chosen {{ microrpc,uart = &usart3; }}; }};

Nothing else may print to it. `LICENSE` is that of the library.
"""


def module_file() -> pathlib.Path:
    """Give the library's own MODULE_FILE: in an installed wheel in its directory, in a source checkout beside it."""
    installed = firmware_directory() / MODULE_FILE
    return installed if installed.is_file() else firmware_directory().parent / MODULE_FILE


def lay_out_application(directory: pathlib.Path) -> list[str]:
    """Lay out an application for Zephyr in an empty directory; give what to tell the user. Raises OSError."""
    library, module = firmware_directory(), directory / MODULE
    shutil.copytree(library / "ports/zephyr/samples/microrpc", directory, dirs_exist_ok=True)
    for folder in ("include", "src"):
        shutil.copytree(library / folder, module / "firmware" / folder)
    files = ("ports/zephyr/CMakeLists.txt", "ports/zephyr/Kconfig", "ports/common/ring.h", "demo/functions.h")
    for path in (library / file for file in files):
        copy = module / "firmware" / path.relative_to(library)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (module / MODULE_FILE).parent.mkdir()
    shutil.copyfile(module_file(), module / MODULE_FILE)
    (directory / "src" / "functions.c").write_text(with_name(FIRST_FUNCTIONS, directory), encoding="utf-8")
    readme = _README.format(name=directory.resolve().name, version=version("microrpc"))
    (directory / "README.md").write_text(readme, encoding="utf-8")
    return [
        f"{directory} has an application for Zephyr; your functions are in {directory / 'src' / 'functions.c'}.",
        f"Try, where Zephyr is set up: west build -b BOARD {shlex.quote(str(directory))}",
    ]
