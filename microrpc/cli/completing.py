"""What the Tab key offers: ports, boards, functions. No port is opened for it, and nothing that goes wrong is told.

typer has the scripts of the shells, and completes commands, options and files; `in_bash` is what it lacks.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING

import typer

from microrpc.errors import MicroRpcError

if TYPE_CHECKING:
    from microrpc.wire.description import Description

Offer = list[tuple[str, str]]
"""Words that are offered, each with what zsh and fish say of it."""

_SIMULATOR = "sim://"
_EMULATED = ("qemu://", "emulated://")
_COMPLETE = "_MICRORPC_COMPLETE"


def _quietly(offer: Callable[..., Offer]) -> Callable[..., Offer]:
    """Offer nothing where that cannot be found out: who presses Tab is not to get an error into the line."""

    @functools.wraps(offer)
    def run(*args: str, **named: str) -> Offer:
        with contextlib.suppress(MicroRpcError, OSError):
            return offer(*args, **named)
        return []

    return run


@_quietly
def ports(incomplete: str) -> Offer:
    """Offer the serial ports that are plugged in, and boards that are simulated or emulated.

    Those are many, and named as soon as something is typed; a path of another kind is a file's.
    """
    from microrpc.ports.usb import serial_ports

    found = [(str(port.device), _words(port.description)) for port in serial_ports()]
    found.append((_SIMULATOR, "a simulated board"))
    if not incomplete:
        found += [(scheme, "boards in emulators") for scheme in _EMULATED]
    elif _SIMULATOR.startswith(incomplete[: len(_SIMULATOR)]):
        from microrpc.boards.catalogue import names

        found += [(_SIMULATOR + name, "simulated") for name in names()]
    elif any(scheme.startswith(incomplete[: len(scheme)]) for scheme in _EMULATED):
        from microrpc.connecting.address import port_of_emulated
        from microrpc.firmware.project import emulated_names

        found += [(port_of_emulated(name), "emulated") for name in emulated_names()]
    return [one for one in found if one[0].startswith(incomplete)]


@_quietly
def boards(incomplete: str) -> Offer:
    """Offer the names of profiles."""
    from microrpc.boards.catalogue import names

    return [(name, "") for name in names() if name.startswith(incomplete)]


@_quietly
def firmware(incomplete: str) -> Offer:
    """Offer the boards that there is firmware for."""
    from microrpc.firmware.project import port_names

    return [(name, "") for name in port_names() if name.startswith(incomplete)]


def ports_and_boards(incomplete: str) -> Offer:
    """Offer both."""
    return [*ports(incomplete), *boards(incomplete)]


@_quietly
def functions(ctx: typer.Context, incomplete: str) -> Offer:
    """Offer the functions of the board on the port, as it told of them last: it is not asked, but a simulated one."""
    told = _told(ctx.params.get("port") or "")
    if told is None:
        return []
    return [(one.name, _words(one.doc)) for one in told.functions if one.name.startswith(incomplete)]


def _told(port: str) -> Description | None:
    from microrpc.boards.descriptions import cache_for

    cache = cache_for(port) if port else None
    known = None if cache is None else cache.last()
    if known is not None or not port.startswith(_SIMULATOR):
        return known
    from firmware_sim.running.simulate import simulate
    from microrpc.boards.catalogue import profile
    from microrpc.connecting.address import DEFAULT_PROFILE, named_board
    from microrpc.wire.description import parse_description, parse_head

    told = bytes(simulate(profile(named_board(port) or DEFAULT_PROFILE)).description)
    head = parse_head(told)
    return None if head is None else parse_description(told, head)


def _words(text: str | None) -> str:
    """What the script for zsh can show: it takes colons and brackets for its own."""
    return "".join(char if char.isalnum() or char in " -.,/" else " " for char in text or "").strip()


# --- bash -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_bash(environ: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Let typer complete in bash what has a `:` or `=` in it, while the block runs; elsewhere it does nothing.

    Bash cuts the line there, too, which typer does not know: `sim://x` is three words. They are joined before typer
    sees them, and from what it offers is taken what bash has already: it replaces the last of its own words alone.
    """
    if environ.get(_COMPLETE) != "complete_bash" or not environ.get("COMP_CWORD", "").isdigit():
        yield
        return
    words, had = joined(_split(environ.get("COMP_WORDS", "")), int(environ["COMP_CWORD"]))
    environ["COMP_WORDS"] = " ".join(map(shlex.quote, words))
    environ["COMP_CWORD"] = str(len(words) - 1)
    stdout = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()) as offered:
        try:
            yield
        finally:
            for line in offered.getvalue().splitlines():
                print(line.removeprefix(had), file=stdout)


def joined(words: list[str], current: int) -> tuple[list[str], str]:
    """Give the words up to the one at `current`, as the user sees them, and what bash will leave of the last one."""
    found: list[str] = []
    had, is_open = "", False  # whether the next word goes on with the last one
    for word in (words + [""] * (current + 1))[: current + 1]:
        if found and set(word) == {":"}:
            found[-1] += word
            had, is_open = found[-1], True
        elif found and word == "=" and found[-1].startswith("--"):
            found.append("")  # typer wants an option and its value apart
            had, is_open = "", True
        elif is_open:
            found[-1] += word
            is_open = False
        else:
            found.append(word)
            had = ""
    return found, had


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    with contextlib.suppress(ValueError):
        words.extend(lexer)
        return words
    return [*words, lexer.token]  # a quote is still open
