"""Sketches, built by Arduino's own tools as Debian has them: arduino-builder, and the core of the board.

A port's sketch is built with the library as users get it (firmware/ports/arduino/layout.py); a sketch that
`microrpc firmware new` made has the library in its own `src`.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import sys
from collections.abc import Sequence

from microrpc.errors import FirmwareError
from microrpc.firmware.project import Project
from microrpc.firmware.running import run

BUILDER = "arduino-builder"
"""The program that builds a sketch."""
_PLATFORMS = (pathlib.Path("/usr/share/arduino-builder"), pathlib.Path("/usr/share/arduino/hardware"))
_CORE_VERSION = "10819"  # what ARDUINO is, as in the last of Arduino's older IDEs
# Debian's gcc-avr has no DECIMAL_DIG in C++, which Debian's core uses.
_FLAGS = ("-DDECIMAL_DIG=9",)
ALWAYS = (_CORE_VERSION, *_FLAGS)
"""What every sketch is built with, besides what its project says."""
_SUFFIXES = (".ino", ".pde", ".h", ".hh", ".hpp", ".ipp", ".tpp", ".c", ".cpp", ".S")  # those that Arduino takes
_ASK_S = 60.0


def find_builder(project: Project) -> tuple[str, str]:
    """Find what builds the sketch of `project`; give its path, and its version. Raises FirmwareError."""
    vendor, architecture, _ = project.fqbn.split(":", 2)
    platform = _PLATFORMS[-1] / vendor / architecture / "platform.txt"
    found = shutil.which(BUILDER)
    missing = [BUILDER] if found is None else []
    if not platform.is_file():
        missing.append(f"arduino-core-{architecture}")
    if found is None or missing:
        what = " and ".join(missing)
        raise FirmwareError(
            f"{project.name} is a sketch, which is built with {what}: "
            f"apt-get install --no-install-recommends {' '.join(missing)}"
        )
    said = run([found, "-version"], None, _ASK_S)
    first_line = (said.stdout or said.stderr).partition("\n")[0].strip()
    version = re.search(r"^version=(.+)$", platform.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found, f"{first_line}, {vendor}:{architecture} {version[1].strip() if version else 'of no version'}"


def prepare_sketch(
    project: Project, builder: str, defines: Sequence[str], directory: pathlib.Path
) -> tuple[list[str], pathlib.Path]:
    """Lay out in an empty directory what is built; give the command that does it, and the ELF file that it makes.

    Raises FirmwareError, and OSError where the directory cannot be written.
    """
    file = project.root / project.sketch
    if not file.is_file():
        raise FirmwareError(f"{project.file}: build.sketch: there is no {file}")
    sketch, libraries, result = (directory / name for name in (file.stem, "libraries", "build"))
    for path in (sketch, libraries, result):
        path.mkdir()
    for path in _files_of(project, file):
        shutil.copyfile(path, sketch / path.name)
    if (file.parent / "src").is_dir():
        shutil.copytree(file.parent / "src", sketch / "src")
    _lay_out_library(project, libraries)
    flags = " ".join((*_FLAGS, *project.flags, *(f"-D{define}" for define in defines)))
    command = [builder, "-compile", "-core-api-version", _CORE_VERSION, "-fqbn", project.fqbn]
    for platform in _PLATFORMS:
        command += ["-hardware", str(platform)]
    command += ["-tools", "/usr/bin", "-libraries", str(libraries), "-build-path", str(result), "-warnings", "default"]
    command += ["-prefs", "runtime.tools.avr-gcc.path=/usr"]
    for language in ("c", "cpp"):
        command += ["-prefs", f"compiler.{language}.extra_flags={flags}"]
    return [*command, str(sketch / file.name)], result / f"{file.name}.elf"


def _files_of(project: Project, sketch: pathlib.Path) -> list[pathlib.Path]:
    """Give all that lies flat in the sketch's directory: what is beside it, the sources, the headers they include."""
    beside = [path for path in sketch.parent.iterdir() if path.suffix in _SUFFIXES]
    sources = [project.root / path for path in project.source_files()]
    headers = [path for folder in project.includes for path in (project.root / folder).glob("*.h")]
    return sorted({*beside, *sources, *headers})


def _lay_out_library(project: Project, libraries: pathlib.Path) -> None:
    script = project.root / "ports" / "arduino" / "layout.py"
    if not script.is_file():
        return
    done = run([sys.executable, str(script), str(libraries)], None, _ASK_S)
    if done.code:
        raise FirmwareError(f"{project.name}: the library cannot be laid out: {done.stderr.strip()}")
