"""Lay out the Arduino library: this directory's files, and the core's, in DIR/MicroRPC.

`python firmware/ports/arduino/layout.py ~/Arduino/libraries`
"""

from __future__ import annotations

import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
FIRMWARE = HERE.parent.parent


def lay_out(directory: pathlib.Path) -> pathlib.Path:
    """Make `directory`/MicroRPC anew; give its path."""
    library = directory / "MicroRPC"
    if library.exists():
        if not (library / "library.properties").is_file():
            raise FileExistsError(f"{library} exists and is no Arduino library")
        shutil.rmtree(library)
    source = library / "src"
    shutil.copytree(HERE / "src", source)
    shutil.copytree(HERE / "examples", library / "examples")
    for name in ("library.properties", "keywords.txt", "README.md"):
        shutil.copy(HERE / name, library)
    core = [*FIRMWARE.glob("src/*.[ch]"), *FIRMWARE.glob("include/*.h")]
    for path in sorted(core):
        shutil.copy(path, source)
    for license_file in (FIRMWARE.parent / "LICENSE", FIRMWARE / "LICENSE"):  # in a checkout, in an installed wheel
        if license_file.is_file():
            shutil.copy(license_file, library)
    return library


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python layout.py DIR")
    try:
        print(lay_out(pathlib.Path(sys.argv[1]).expanduser()))
    except OSError as error:
        sys.exit(f"error: {error}")
