"""Code that a client uploads, made into firmware that the board is started with (docs/tvm_tune.md)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from microrpc.boards.schema import BoardKind
from microrpc.connecting.address import Target
from microrpc.errors import FirmwareError, MicroRpcError
from microrpc.firmware.build import Firmware
from microrpc.firmware.project import Project, has_port, load_port, load_project
from microrpc.firmware.tvm.linking import Linker
from microrpc.firmware.tvm.objects import read_upload
from microrpc.gateway.shared import RefusedError

BUILD_S = 120.0
"""How long the compiler may take for one upload; it takes a fifth of a second for one kernel on an idle computer."""

_MOST_WORKSPACE_BYTES = 1 << 20
_LEAST_WORKSPACE_BYTES = 1024
_WORKSPACE_SHARE = 4  # one part of so many of the board's heap

_VECTOR_BYTES = 64  # what TVM's LLVM counts on, where a processor has vectors: none of 32 bits here has

Restart = Callable[[Firmware | None], Awaitable[None]]
"""Starts the board anew with other firmware. Raises MicroRpcError."""


class UploadLoader:
    """Makes firmware of what clients upload, and starts the board with it: a `Loader` of a session.

    linker: of that board. restart: starts it, as `Station.restart_with`. build_s: how long the compiler may take.
    """

    def __init__(self, linker: Linker, restart: Restart, *, build_s: float = BUILD_S) -> None:
        self._linker = linker
        self._restart = restart
        self._build_s = build_s

    async def load(self, name: str, data: bytes) -> int:
        """Build `data`, the file `name`, and start the board anew with it; give what tensors must be aligned to.

        Raises RefusedError, which says why not.
        """
        stop = threading.Event()
        try:
            firmware = await asyncio.to_thread(self._link, name, data, stop)
        except FirmwareError as error:
            raise RefusedError(f"load_module: {error}") from error
        finally:
            stop.set()  # where this is cancelled nobody waits for the compiler
        try:
            await self._restart(firmware)
        except MicroRpcError as error:
            raise RefusedError(f"load_module: the board does not run {name}: {error}") from error
        return _VECTOR_BYTES if self._linker.machine.bits == 64 else 0

    def _link(self, name: str, data: bytes, stop: threading.Event) -> Firmware:
        return self._linker.link(read_upload(name, data), timeout_s=self._build_s, stop=stop)


def make_linker(target: Target, firmware: str | None = None) -> Linker:
    """Give what links uploads for the board behind `target`; it blocks for some seconds when that was not done before.

    firmware: what brings the board's start and UART: a project's directory, or the name of a port; where it is None,
    the port to the board. Raises FirmwareError: for a board that cannot be given a program, or for which there is no
    firmware, and where no compiler is installed.
    """
    check_loadable(target)
    heap_bytes = target.profile.heap_bytes
    workspace_bytes = max(min(heap_bytes // _WORKSPACE_SHARE, _MOST_WORKSPACE_BYTES), _LEAST_WORKSPACE_BYTES)
    return Linker(_project(target, firmware), workspace_bytes=workspace_bytes & ~15)


def check_loadable(target: Target) -> None:
    """Raise FirmwareError where the board behind `target` cannot be given another program."""
    if target.is_emulated:
        return
    if target.profile.kind is BoardKind.SIMULATED:
        raise FirmwareError(f"{target.port}: --allow-load: a simulated board runs no compiled code")
    if not target.profile.ways_to_flash:
        raise FirmwareError(
            f"{target.port}: --allow-load: microrpc does not start this board's program, and its profile, "
            f"{target.profile.name}, has no `flash` and no `flashers` that would put one into it (docs/boards.md)"
        )


def _project(target: Target, firmware: str | None) -> Project:
    if firmware is not None:
        return load_project(firmware)
    if not has_port(target.board_name):
        raise FirmwareError(
            f"{target.port}: --allow-load: microrpc has no firmware for {target.board_name}: "
            "name a project for it with --firmware (`microrpc firmware new` makes one)"
        )
    return load_port(target.board_name)
