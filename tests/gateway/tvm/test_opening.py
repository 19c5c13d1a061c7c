"""How the gateway opens a board: an emulated one with other firmware, and one that was flashed and boots."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardKind, BoardProfile
from microrpc.errors import HandshakeTimeoutError, MicroRpcError, PortError, RequestError
from microrpc.firmware.build import Firmware
from microrpc.gateway.tvm import opening
from microrpc.gateway.tvm.opening import BoardOpener

IMAGE = cast("Firmware", SimpleNamespace(elf=Path("firmware.elf")))
BOARD = cast("Any", "a board")


def open_with(opener: BoardOpener, image: Firmware | None) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(opener(image), 20.0)

    return asyncio.run(main())


def test_an_emulator_whose_port_cannot_be_opened_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    emulator = SimpleNamespace(close=lambda: ended.append("emulator"))
    monkeypatch.setattr(opening, "start_firmware", lambda image: emulator)

    def refuse(*args: object) -> None:
        raise PortError("posix", "no such port")

    monkeypatch.setattr(opening, "open_running", refuse)
    with pytest.raises(PortError, match="no such port"):
        open_with(BoardOpener("emulated://posix"), IMAGE)
    assert ended == ["emulator"]


class Flashed(BoardOpener):
    """A board that a command flashes; connecting to it gives what `answers` has, one after the other."""

    def __init__(self, *answers: MicroRpcError | Any, power_up_s: float = 1.0) -> None:
        words = {"flash": ("flasher", "{elf}"), "power_up_s": power_up_s}
        board = dataclasses.replace(profile("posix"), name="mine", kind=BoardKind.HARDWARE, **words)  # type: ignore[arg-type]
        super().__init__("/dev/ttyACM0", board=board)
        self.flashed: list[tuple[str, str, Path]] = []
        self.answers = list(answers)
        self._connect = self._answer  # type: ignore[assignment]

    async def _answer(self) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, MicroRpcError):
            raise answer
        return answer

    async def flash(self, board: BoardProfile, port: str, elf: Path) -> None:
        self.flashed.append((board.name, port, elf))


AWAY = PortError("/dev/ttyACM0", "there is no such port")
BOOTING = HandshakeTimeoutError("no answer")


def test_a_board_that_was_flashed_is_connected_to_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "POLL_S", 0.0)
    opener = Flashed(AWAY, BOOTING, AWAY, BOARD)
    monkeypatch.setattr(opening, "flash_aside", opener.flash)
    assert open_with(opener, IMAGE) is BOARD
    assert opener.flashed == [("mine", "/dev/ttyACM0", Path("firmware.elf"))]


def test_its_own_firmware_is_not_flashed(monkeypatch: pytest.MonkeyPatch) -> None:
    opener = Flashed(BOARD)
    monkeypatch.setattr(opening, "flash_aside", opener.flash)
    assert open_with(opener, None) is BOARD
    assert opener.flashed == []


def test_a_board_that_does_not_come_back_after_it_was_flashed_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "BACK_S", 0.01)
    monkeypatch.setattr(opening, "POLL_S", 0.0)
    opener = Flashed(AWAY, power_up_s=0.01)
    monkeypatch.setattr(opening, "flash_aside", opener.flash)
    with pytest.raises(PortError, match="there is no such port"):
        open_with(opener, IMAGE)


def test_what_no_waiting_mends_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opener = Flashed(RequestError("that is no number of bauds"), BOARD)
    monkeypatch.setattr(opening, "flash_aside", opener.flash)
    with pytest.raises(RequestError, match="bauds"):
        open_with(opener, IMAGE)
    assert opener.answers == [BOARD]
