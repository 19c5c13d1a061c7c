"""`microrpc sigrok`: the decoder for sigrok and PulseView, which show what a logic analyser saw."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from microrpc.boards.places import home
from microrpc.cli.common import reporting
from microrpc.cli.installing import PLUGINS, RemovalOption, check_wishes, install, state, uninstall
from microrpc.cli.streams import say

_DECODER = PLUGINS / "sigrok" / "microrpc"


def decoders_folder() -> Path:
    """Give the user's folder of decoders: where libsigrokdecode looks, by the rules of GLib."""
    named = os.environ.get("XDG_DATA_HOME")
    if not named and sys.platform == "win32":
        named = os.environ.get("LOCALAPPDATA")
    data = Path(named) if named else home() / ".local" / "share"
    return data / "libsigrokdecode" / "decoders"


def sigrok(
    wants_install: Annotated[
        bool, typer.Option("--install", help="Put the decoder where sigrok and PulseView look for it.")
    ] = False,
    wants_removal: RemovalOption = False,
) -> None:
    """Install the decoder for sigrok and PulseView, or find it.

    They then show what a logic analyser saw of a UART as calls, copies, logs and damage: docs/sigrok.md.
    """
    with reporting():
        check_wishes(wants_install=wants_install, wants_removal=wants_removal)
        folder = decoders_folder() / _DECODER.name
        if wants_removal:
            say(uninstall(_DECODER, folder))
        elif wants_install:
            say(install(_DECODER, folder))
            say("try: sigrok-cli -P microrpc --show")
        else:
            say(f"the decoder: {_DECODER}")
            say(state(_DECODER, folder, "microrpc sigrok --install"))
