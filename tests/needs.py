"""What a test needs of the computer: it skips without, or fails where CI says that it must be there.

needs.emulated("qemu_mps2_an385")  # at the beginning of a test or a fixture
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from microrpc.errors import FirmwareError, PortNotFoundError
from microrpc.firmware.emulation import npm_directory
from microrpc.firmware.emulator import check_runnable
from microrpc.firmware.project import has_port, load_port
from microrpc.firmware.tvm.versions import check_versions

REQUIRE = "MICRORPC_REQUIRE_ALL"
"""Set to anything, what is missing is a failure."""


_PACKAGES = {"clang++": "clang"}


def package_of(name: str) -> str:
    """Give the package of Debian that brings a program where it is not named like it."""
    return _PACKAGES.get(name, name)


def _missing(what: str) -> NoReturn:
    if os.environ.get(REQUIRE):
        pytest.fail(f"{what}, and {REQUIRE} is set", pytrace=False)
    pytest.skip(f"{what} (with {REQUIRE} set this is a failure)")


def zig() -> None:
    """Need the compiler that is a Python package."""
    if importlib.util.find_spec("ziglang") is None:
        _missing("needs a compiler: pip install 'microrpc[firmware]'")


def tools() -> str:
    """Need the environment with other people's tools; give its interpreter."""
    python = Path(__file__).parent.parent / "build" / "tools" / "bin" / "python"
    if not python.exists():
        _missing("needs build/tools: make test-tools")
    return str(python)


def tvm(release: str | None = None) -> str:
    """Need TVM where the tests run, or a client of another release of it ("0.25"); give its interpreter."""
    if release is None:
        try:
            check_versions()
        except FirmwareError as error:
            _missing(f"needs TVM: make test-tvm ({error})")
        return sys.executable
    python = Path(__file__).parent.parent / "build" / f"tvm-{release}" / "bin" / "python"
    if not python.exists():
        _missing(f"needs build/tvm-{release}: make test-tvm-versions")
    return str(python)


def program(name: str, package: str | None = None) -> None:
    """Need a program."""
    if shutil.which(name) is None:
        _missing(f"needs {name}: apt-get install --no-install-recommends {package or package_of(name)}")


def file(pattern: str, package: str) -> None:
    """Need a file that a package brings; the name may have `*` in it."""
    if not glob.glob(pattern):
        _missing(f"needs {pattern}: apt-get install --no-install-recommends {package}")


def npm(package: str) -> Path:
    """Need a package of npm ("name@version"), where those of emulators are; give its folder."""
    name, _, version = package.rpartition("@")
    folder = npm_directory() / "node_modules" / name
    try:
        found = json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError):
        found = None
    if found != version:
        _missing(f"needs {package} of npm: npm install --prefix {npm_directory()} {package}")
    return folder


def gcc(prefix: str = "") -> None:
    """Need the GCC with this in front of its name."""
    program(f"{prefix}gcc", f"gcc-{prefix}".rstrip("-"))


def emulated(board: str) -> None:
    """Need all that building and running this board takes."""
    if not has_port(board):
        _missing(f"needs firmware/ports/{board}")
    try:
        check_runnable(load_port(board))
    except (FirmwareError, PortNotFoundError) as error:
        _missing(str(error))
