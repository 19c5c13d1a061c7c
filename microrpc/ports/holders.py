"""Who has a port open, as far as this user may see."""

from __future__ import annotations

import contextlib
import os


def holders(port: str) -> str:
    """Tell who has the port open, as far as this user may see, and the remedy: the end of a sentence."""
    target = os.path.realpath(port)
    found = []
    with contextlib.suppress(OSError):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                fds = f"/proc/{pid}/fd"
                if any(os.path.realpath(f"{fds}/{fd}") == target for fd in os.listdir(fds)):
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as comm:
                        name = "this program" if int(pid) == os.getpid() else comm.read().strip()
                        found.append(f"{name} (process {pid})")
    return (
        f"{', '.join(found) or 'another program'}: close it (`fuser {port}` names it). "
        "If it is ModemManager, which probes new ports, wait some seconds, or stop it."
    )
