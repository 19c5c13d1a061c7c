"""From what `connect` is told to a board: which target that is, and a reset before the session."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator

import pytest
from serial.tools.list_ports_common import ListPortInfo

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardProfile
from microrpc.connecting.address import Target, find_target
from microrpc.errors import HandshakeTimeoutError, PortError, PortNotFoundError, ProfileError
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


def target(
    port: str | None = None,
    *,
    board: str | BoardProfile | None = None,
    baud: int | None = None,
    timeouts: Timeouts | None = None,
) -> Target:
    return find_target(port, board=board, baud=baud, timeouts=timeouts)


# --- which target -----------------------------------------------------------------------------


def test_without_a_port_the_boards_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, ("/dev/ttyACM3", 0x2341, 0x003D), ("/dev/ttyACM4", 0x0483, 0x374B))
    found = target(board="arduino_due", baud=9600)
    assert (found.port, found.profile, found.baud) == ("/dev/ttyACM3", DUE, 9600)
    assert target(board=profile("nucleo_f746zg")).port == "/dev/ttyACM4"


def test_without_a_port_a_board_must_be_plugged_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    with pytest.raises(PortNotFoundError, match="no arduino_due is plugged in"):
        microrpc.connect(board="arduino_due")
    plug_in(monkeypatch, ("/dev/ttyACM3", 0x2341, 0x003D), ("/dev/ttyACM4", 0x2A03, 0x003D))
    with pytest.raises(PortError, match="2 ports may be arduino_due"):
        microrpc.connect(board="arduino_due")


def test_a_simulated_board_needs_no_port() -> None:
    assert target(board="loopback").is_simulated
    own = dataclasses.replace(profile("loopback"), name="own", packet_size_bytes=512, receive_ring_bytes=612)
    with microrpc.connect(board=own) as board:
        assert board.max_packet_bytes() == 512 - 11


def test_an_emulated_board_needs_no_port_where_there_is_firmware_for_it() -> None:
    found = target(board="qemu_mps2_an385")
    assert (found.port, found.is_emulated, found.board_name) == ("qemu://mps2_an385", True, "qemu_mps2_an385")
    found = target(board="posix")
    assert (found.port, found.is_emulated, found.board_name) == ("emulated://posix", True, "posix")
    for url in ("qemu://mps2_an385", "emulated://qemu_mps2_an385"):
        assert target(url).profile is profile("qemu_mps2_an385")
    own = dataclasses.replace(profile("qemu_mps2_an385"), baud=9600)
    found = target("qemu://mps2_an385", board=own)
    assert (found.profile, found.board_name) == (own, "qemu_mps2_an385")


def test_another_emulated_board_must_be_started_by_somebody_else() -> None:
    own = dataclasses.replace(profile("qemu_mps2_an385"), name="own")
    with pytest.raises(PortError, match="own is emulated: start the emulator"):
        microrpc.connect(board=own)
    assert target("/dev/pts/7", board=own).port == "/dev/pts/7"
    found = target("/dev/pts/7", board="qemu_mps2_an385")
    assert (found.port, found.is_emulated) == ("/dev/pts/7", False)


def test_neither_port_nor_board_is_one_clear_error() -> None:
    with pytest.raises(PortError, match="no port and no board is given"):
        microrpc.connect()


def test_a_port_is_taken_as_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, ("/dev/ttyACM3", 0x2341, 0x003D))
    found = target("/dev/ttyACM9", board="arduino_due", timeouts=Timeouts(1, 2, 3))
    assert (found.port, found.timeouts) == ("/dev/ttyACM9", Timeouts(1, 2, 3))
    for board in (None, "nucleo_f746zg"):
        assert target("sim://nucleo_f746zg", board=board).profile.name == "nucleo_f746zg"
    assert target("/dev/ttyACM9").profile.name == "loopback"


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
