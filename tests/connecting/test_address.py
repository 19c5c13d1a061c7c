"""What an address means: which port, which board, and what is taken from its profile."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from serial.tools.list_ports_common import ListPortInfo

import microrpc
from microrpc.boards.catalogue import profile
from microrpc.boards.schema import BoardProfile
from microrpc.connecting.address import Target, find_target, named_board, scheme_of
from microrpc.errors import PortError, PortNotFoundError
from microrpc.wire.session import Timeouts

DUE = profile("arduino_due")


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
    assert target(board="loopback").scheme == "sim"
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


# --- what a URL says ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "scheme", "board"),
    [
        ("/dev/ttyACM0", "", ""),
        ("COM3", "", ""),
        ("sim://", "sim", ""),
        ("sim://nucleo_f746zg", "sim", "nucleo_f746zg"),
        ("qemu://mps2_an385", "qemu", "qemu_mps2_an385"),
        ("emulated://posix", "emulated", "posix"),
        ("tcp://host:1", "tcp", ""),
        ("unix:///run/board", "unix", ""),
    ],
)
def test_a_url_says_how_it_is_opened_and_may_name_a_board(port: str, scheme: str, board: str) -> None:
    assert (scheme_of(port), named_board(port)) == (scheme, board)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("SIM://", "sim://"), ("Tcp://Lab-Pi:1", "tcp://Lab-Pi:1"), ("RFC2217://h:1", "rfc2217://h:1"), ("COM3", "COM3")],
)
def test_a_scheme_may_be_in_any_case_and_nothing_else_is_changed(typed: str, meant: str) -> None:
    assert target(typed).port == meant


def test_a_server_has_host_and_port_and_a_shared_board_a_path() -> None:
    assert target("tcp://lab-pi:9190").server_address == ("lab-pi", 9190)
    assert target("tcp://[::1]:9190").server_address == ("::1", 9190)
    assert target("unix:///run/user/1000/board").socket_path == "/run/user/1000/board"
    for malformed in ("tcp://", "tcp://lab-pi", "tcp://:9190", "tcp://lab-pi:x"):
        with pytest.raises(PortError, match=f"{malformed}: write tcp://HOST:PORT, for example tcp://localhost:9190"):
            microrpc.connect(malformed)


def test_telling_what_an_address_means_loads_neither_serial_nor_sockets() -> None:
    source = (
        "import sys\nfrom microrpc.connecting.address import find_target\n"
        "find_target('sim://nucleo_f746zg', board=None, baud=None, timeouts=None)\n"
        "print([name for name in ('serial', 'socket', 'select', 'asyncio', 'firmware_sim') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
