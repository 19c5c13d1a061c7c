"""HOST:PORT on the command line, and who can reach it."""

from __future__ import annotations

import ipaddress

import typer

from microrpc.cli.streams import note

_LOOPBACK = "127.0.0.1"


def parse_address(text: str, option: str, example: str, *, needs_host: bool = False) -> tuple[str, int]:
    """Read HOST:PORT, or PORT alone, which is on this computer. Raises typer.BadParameter, which names `option`."""
    host, _, number = text.rpartition(":")
    host = host.strip("[]")
    if not (number.isascii() and number.isdigit()) or len(number) > 5 or (needs_host and not host):
        form = "HOST:PORT" if needs_host else "HOST:PORT, or PORT alone"
        raise typer.BadParameter(f"{option} {text}: write {form}, for example {example}")
    return host or _LOOPBACK, int(number)


def is_loopback(host: str) -> bool:
    """Whether only programs of this computer reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def warn_of_others(host: str, number: int, what: str) -> None:
    """Say on stderr where others than this computer's programs can use `what`."""
    if not is_loopback(host):
        note(f"warning: whoever reaches {host}:{number} over the network can use {what}; nothing is encrypted")
