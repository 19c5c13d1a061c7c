"""The command line: one file per command family, `common.py` for what they share; `commands.py` lists them."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main"]

_INTERRUPTED = 130


def main() -> None:
    """Run the command line. It is loaded here, which takes a while, and Ctrl-C may come at any moment of that."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not one that is to be ignored
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(_INTERRUPTED))
    from microrpc.cli.commands import run

    sys.exit(run())
