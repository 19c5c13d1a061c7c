"""How the gateway opens a board: as it was named, or an emulated one with other firmware (docs/tvm_serve.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from microrpc.boards.booting import BACK_S
from microrpc.boards.schema import BoardProfile
from microrpc.client.aio.board import AsyncBoard
from microrpc.connecting import aio
from microrpc.connecting.address import find_target
from microrpc.connecting.openers.emulated import open_running
from microrpc.connecting.watching import CaptureTarget
from microrpc.errors import HandshakeTimeoutError, PortError
from microrpc.firmware.build import Firmware
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.flashing import flash_aside
from microrpc.ports.aio import adopt
from microrpc.ports.lost import POLL_S
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions
from microrpc.wire.session import Timeouts


class BoardOpener:
    """Opens one board, as often as that is needed.

    port, board, baud, timeouts, options: as `microrpc.connect` has them. on_log: told what the board logs.
    capture: what all that crosses its line is written to; a `CaptureFile` goes on where the board is opened again.
    """

    def __init__(
        self,
        port: str,
        *,
        board: BoardProfile | None = None,
        baud: int | None = None,
        timeouts: Timeouts | None = None,
        on_log: Callable[[str], None] | None = None,
        options: PortOptions = AS_THE_SYSTEM_DOES,
        capture: CaptureTarget | None = None,
    ) -> None:
        self.target = find_target(port, board=board, baud=baud, timeouts=timeouts, options=options)
        """What is behind the port, as far as it is known."""
        self.call_s = self.target.timeouts.call_s
        """How long one call may take, in seconds."""
        self._connect = partial(
            aio.connect,
            port,
            board=board,
            baud=baud,
            timeouts=timeouts,
            on_log=on_log,
            dtr=options.dtr,
            rts=options.rts,
            hang_up=options.hang_up,
            low_latency=options.low_latency,
            reconnect=True,
            capture=capture,
        )
        self._on_log = on_log
        self._capture = capture

    async def __call__(self, image: Firmware | None) -> AsyncBoard:
        """Open it: with the firmware that it has, or with `image`, which an emulated board is started with, and another
        is given in a way that its profile has (docs/boards.md).

        Raises what `microrpc.connect` raises, and FirmwareError for a board that cannot be given other firmware.
        """
        if image is None:
            return await self._connect()
        if not self.target.is_emulated:
            await flash_aside(self.target.profile, self.target.port, image.elf)
            return await self._connect_when_back()
        emulator = await asyncio.to_thread(start_firmware, image)
        try:
            opened = await asyncio.to_thread(open_running, emulator, self.target)
            channel = adopt(opened.channel)
        except BaseException:
            emulator.close()
            raise
        return await aio.open_board(
            channel,
            self.target.timeouts,
            self._on_log,
            ring_bytes=opened.ring_bytes,
            on_close=emulator.close,
            capture=self._capture,
        )

    async def _connect_when_back(self) -> AsyncBoard:
        """Connect to a board that was flashed: it boots, and its port may be away meanwhile."""
        now = asyncio.get_running_loop().time
        deadline = now() + BACK_S + self.target.profile.power_up_s
        while True:
            try:
                return await self._connect()
            except (PortError, HandshakeTimeoutError):
                if now() >= deadline:
                    raise
            await asyncio.sleep(POLL_S)
