"""`microrpc wireshark`: the dissector for Wireshark, which shows captures as calls, copies, logs and damage."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from microrpc.boards.places import home
from microrpc.cli.common import reporting
from microrpc.cli.installing import PLUGINS, RemovalOption, check_wishes, install, state, uninstall
from microrpc.cli.streams import note, say

DISSECTOR = PLUGINS / "wireshark" / "microrpc.lua"
"""What is installed: one file, for every version from 4.0 on."""
_PROGRAMS = ("wireshark", "tshark")
_ANSWER_S = 20.0  # longer than the first start of a tshark takes


def plugins_folder() -> Path:
    """Give the user's folder of Lua plugins, as Wireshark has it where nothing else was built in."""
    if sys.platform == "win32":
        named = os.environ.get("APPDATA")
        return (Path(named) if named else home() / "AppData" / "Roaming") / "Wireshark" / "plugins"
    return home() / ".local" / "lib" / "wireshark" / "plugins"


def _told_folders() -> dict[str, Path]:
    """Give the folders that tshark tells of, by their names; none where there is no tshark that answers."""
    program = shutil.which("tshark")
    if program is None:
        return {}
    try:
        told = subprocess.run([program, "-G", "folders"], capture_output=True, timeout=_ANSWER_S, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = (line.partition(":") for line in told.decode(errors="replace").splitlines())
    return {name.strip(): Path(path.strip()) for name, colon, path in lines if colon}


def _other_copies(folders: dict[str, Path], folder: Path) -> list[Path]:
    """Give the other places where a copy would be loaded too: two of them are an error of Wireshark's."""
    beside = [folders.get("Global Lua Plugins")]
    if personal := folders.get("Personal configuration"):
        beside.append(personal / "plugins")  # which 4.0 loads, too
    places = [place / DISSECTOR.name for place in beside if place is not None and place != folder]
    return [place for place in places if place.is_file()]


def wireshark(
    wants_install: Annotated[
        bool, typer.Option("--install", help="Put the dissector where Wireshark looks for it.")
    ] = False,
    wants_removal: RemovalOption = False,
) -> None:
    """Install the dissector for Wireshark, or find it.

    Wireshark then shows captures (--capture) as calls, copies, logs and damage: docs/wireshark.md.
    """
    with reporting():
        check_wishes(wants_install=wants_install, wants_removal=wants_removal)
        folders = _told_folders()
        folder = folders.get("Personal Lua Plugins") or plugins_folder()
        if wants_removal:
            say(uninstall(DISSECTOR, folder))
            return
        found = [program for program in _PROGRAMS if shutil.which(program)]
        if wants_install:
            say(install(DISSECTOR, folder))
            say(_next_step(found))
        else:
            say(f"the dissector: {DISSECTOR}")
            say(state(DISSECTOR, folder, "microrpc wireshark --install"))
            say(f"found here: {', '.join(found)}" if found else "neither wireshark nor tshark is found here")
        for copy in _other_copies(folders, folder):
            note(f"warning: {copy} is loaded too, and two copies are an error of Wireshark's: remove one")


def _next_step(found: list[str]) -> str:
    if not found:
        return "neither wireshark nor tshark is found here; from 4.0 on they load it when they start"
    return f"try: microrpc info sim:// --capture x.pcapng && {found[0]} {'-r ' if found[0] == 'tshark' else ''}x.pcapng"
