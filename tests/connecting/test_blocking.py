"""From what `connect` is told to a board: a port that is found, and a reset before the session."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import describing
import pytest
from apis import Api
from serial.tools.list_ports_common import ListPortInfo

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import HandshakeTimeoutError, PortError, ProfileError
from microrpc.ports.fd import FdChannel
from microrpc.wire.session import Timeouts

DUE = profile("arduino_due")


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(DUE)) as served:
        yield served


def plug_in(monkeypatch: pytest.MonkeyPatch, *ports: tuple[str, int, int]) -> None:
    """Let the system have these ports: device, vendor and product id."""
    infos = []
    for device, vendor_id, product_id in ports:
        info = ListPortInfo(device)
        info.vid, info.pid = vendor_id, product_id
        infos.append(info)
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: infos)


# --- what it told of itself --------------------------------------------------------------------


@pytest.mark.parametrize("is_off", [False, True])
def test_what_a_board_told_one_connection_the_next_one_reads_from_the_cache(
    api: Api, is_off: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if not is_off:
        monkeypatch.delenv("MICRORPC_CACHE")
    device = simulate(DUE)
    telling = describing.install(device, page_bytes=100)
    pages = -(-len(telling.data) // 100)
    with PtyServer(device) as served:
        for count in (pages, 2 * pages if is_off else pages):  # the link tells the hash
            with api.connect(served.path, board=DUE) as board:
                assert len(board.functions()) == len(describing.FUNCTIONS)
            assert len(telling.offsets) == count
    assert any(tmp_path.rglob("descriptions/*")) == (not is_off)


# --- a board that is named alone -------------------------------------------------------------


def test_a_board_without_a_port_is_spoken_to(monkeypatch: pytest.MonkeyPatch, server: PtyServer) -> None:
    plug_in(monkeypatch, (server.path, 0x2341, 0x003D))
    with microrpc.connect(board="arduino_due") as board:
        assert board.name == server.path
        assert board.function("add")(2, 3) == 5


# --- a reset first ----------------------------------------------------------------------------


def wire_dtr_to_reset(monkeypatch: pytest.MonkeyPatch, server: PtyServer) -> list[bool | None]:
    """Reset the board when DTR becomes asserted, as the Arduino Due's USB controller does it."""
    states: list[bool | None] = []

    def set_modem_lines(self: FdChannel, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        if dtr and states[-1:] == [False]:
            server.reset()
        states.append(dtr)
        return True

    monkeypatch.setattr(FdChannel, "set_modem_lines", set_modem_lines)
    return states


def test_a_board_is_reset_before_the_session(monkeypatch: pytest.MonkeyPatch, server: PtyServer) -> None:
    with microrpc.connect(server.path, board=DUE) as board:
        left_there = board.empty((4,), "float32").detach()
    states = wire_dtr_to_reset(monkeypatch, server)
    with microrpc.connect(server.path, board=DUE, reset=True) as board:
        assert states == [False, True]
        assert board.function("add")(2, 3) == 5
        assert board.empty((4,), "float32").detach() == left_there, "its memory is as after power-up"


def test_asyncio_resets_a_board_before_the_session_too(monkeypatch: pytest.MonkeyPatch, server: PtyServer) -> None:
    states = wire_dtr_to_reset(monkeypatch, server)

    async def use() -> object:
        async with microrpc.aio.connect(server.path, board=DUE, reset=True) as board:
            return await (await board.function("add"))(2, 3)

    assert asyncio.run(use()) == 5
    assert states
    assert server.device.stats.resets == 1


def test_what_cannot_be_reset_says_so(server: PtyServer) -> None:
    with pytest.raises(PortError, match=f"{server.path} has no modem lines"):
        microrpc.connect(server.path, board=DUE, reset=True)
    with pytest.raises(ProfileError, match="nucleo_f746zg cannot be reset over its port"):
        microrpc.connect(server.path, board="nucleo_f746zg", reset=True)
    with pytest.raises(PortError, match="tcp://localhost:1 is a server without frames, which cannot be reset"):
        microrpc.connect("tcp://localhost:1", board=DUE, reset=True)
    with microrpc.connect(server.path, board=DUE) as board:
        assert board.function("add")(2, 3) == 5, "the port was released"


def test_a_simulated_board_begins_anew_with_or_without_a_reset() -> None:
    with microrpc.connect("sim://", reset=True) as board:
        assert board.function("add")(2, 3) == 5


def test_a_board_that_stays_silent_after_its_reset_ends_in_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    monkeypatch.setattr(FdChannel, "set_modem_lines", lambda self, *, dtr=None, rts=None: True)
    silent = dataclasses.replace(DUE, power_up_s=0.05, timeouts=Timeouts(0.05, 0.1, 0.1))
    with pytest.raises(HandshakeTimeoutError):
        microrpc.connect(os.ttyname(slave), board=silent, reset=True)
    os.close(slave)
    os.close(master)
