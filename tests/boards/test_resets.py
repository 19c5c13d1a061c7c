"""Resets in virtual time, and on a real port without modem lines."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
import tty
from collections.abc import Callable, Iterator, Sequence

import pytest
from serial.tools.list_ports_common import ListPortInfo

from microrpc.boards.catalogue import load_profile, profile
from microrpc.boards.resets import TOOLS, check_can_be_reset, open_reset, wait_for_boot
from microrpc.boards.schema import BoardProfile, Reset
from microrpc.boards.strategies import (
    RETURN_S,
    STRATEGIES,
    VANISH_S,
    ResetStep,
    ResetStrategy,
    ResetTools,
    drive_lines,
    touch,
)
from microrpc.errors import PortError, PortLostError, PortNotFoundError, PortPermissionError, ProfileError
from microrpc.ports.channel import SerialChannel
from microrpc.ports.opening import open_serial
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions
from microrpc.wire.frames import FrameEncoder
from microrpc.wire.session import MessageType
from microrpc.wire.uart import FlowControl

PORT = "/dev/ttyACM0"
DUE = profile("arduino_due")
TOUCHED = dataclasses.replace(DUE, name="touched", reset=Reset(ResetStrategy.TOUCH_1200))


def frame(kind: MessageType, body: bytes = b"") -> bytes:
    return FrameEncoder().encode(b"\0\0" + bytes([kind]) + body)


BOOTED = frame(MessageType.TERMINATE_SESSION)


class World:
    """A port in virtual time, and a diary of what was done to it.

    `arrivals`: what the board sends, and when. `absences`: from when until when the port is away. `has_lines`: whether
    it has modem lines. `refusal`: until when opening it fails, and with which error.
    """

    def __init__(self) -> None:
        self.time_s = 0.0
        self.arrivals: list[tuple[float, bytes]] = []
        self.absences: list[tuple[float, float]] = []
        self.refusal: tuple[float, PortError] | None = None
        self.has_lines = True
        self.diary: list[tuple[float, str]] = []
        self.options: list[PortOptions] = []
        self.tools = ResetTools(self.now, self.sleep, self.open_port, self.is_there)

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time_s += seconds

    def is_there(self, port: str) -> bool:
        assert port == PORT
        return not any(start <= self.time_s < end for start, end in self.absences)

    def open_port(
        self,
        port: str,
        *,
        baud: int,
        flow_control: FlowControl = FlowControl.NONE,
        options: PortOptions = AS_THE_SYSTEM_DOES,
    ) -> Port:
        assert port == PORT
        self.options.append(options)
        if not self.is_there(port):
            raise PortNotFoundError(port, "away")
        if self.refusal is not None and self.time_s < self.refusal[0]:
            raise self.refusal[1]
        self.note(f"open {baud} {flow_control}")
        return Port(self)

    def note(self, text: str) -> None:
        self.diary.append((round(self.time_s, 6), text))


class Port:
    """What is open: it notes its lines, and gives what has arrived."""

    def __init__(self, world: World) -> None:
        self.name = PORT
        self.world = world

    def now(self) -> float:
        return self.world.time_s

    def read(self, deadline: float) -> bytes:
        world = self.world
        if world.arrivals and world.arrivals[0][0] <= max(deadline, world.time_s):
            at, data = world.arrivals.pop(0)
            world.time_s = max(world.time_s, at)
            if not data:
                raise PortLostError(PORT, "gone")
            return data
        world.time_s = max(world.time_s, deadline)
        return b""

    def write(self, data: bytes, deadline: float) -> None:
        raise AssertionError("a reset writes nothing")

    def close(self) -> None:
        self.world.note("close")

    def set_modem_lines(self, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
        if not self.world.has_lines:
            return False
        self.world.note(f"dtr={dtr} rts={rts}")
        return True


@pytest.fixture
def world() -> World:
    return World()


# --- DTR and RTS ------------------------------------------------------------------------------


def test_a_sequence_is_gone_through_step_by_step(world: World) -> None:
    steps = (ResetStep(dtr=False, rts=True, wait_s=0.1), ResetStep(rts=False), ResetStep(dtr=True, wait_s=0.25))
    drive_lines(Port(world), steps, world.tools)
    assert world.diary == [(0.0, "dtr=False rts=True"), (0.1, "dtr=None rts=False"), (0.1, "dtr=True rts=None")]
    assert world.time_s == 0.35


def test_a_board_is_reset_and_waited_for_until_it_has_booted(world: World) -> None:
    world.arrivals = [(0.0, b"rest of a reply" + BOOTED), (0.6, BOOTED), (5.0, b"next")]
    channel, boot_s = open_reset(PORT, DUE, tools=world.tools)
    assert boot_s == pytest.approx(0.6), "the TERMINATE from before the reset does not count"
    assert world.diary == [(0.0, "open 115200 none"), (0.0, "dtr=False rts=None"), (0.1, "dtr=True rts=None")]
    assert channel.read(10.0) == b"next"


def test_baud_and_flow_control_are_those_of_the_connection(world: World) -> None:
    board = dataclasses.replace(DUE, flow_control=FlowControl.RTS_CTS)
    open_reset(PORT, board, baud=9600, tools=world.tools)
    assert world.diary[0] == (0.0, "open 9600 rts-cts")


def test_the_options_of_the_port_are_those_of_the_connection_and_else_of_the_profile(world: World) -> None:
    board = dataclasses.replace(DUE, hang_up=False, low_latency=True)
    open_reset(PORT, board, tools=world.tools)
    open_reset(PORT, board, options=PortOptions(dtr=False), tools=world.tools)
    assert world.options == [PortOptions(hang_up=False, low_latency=True), PortOptions(dtr=False)]


def test_a_touch_leaves_the_options_to_the_opening_after_it(world: World) -> None:
    board = dataclasses.replace(DUE, reset=Reset(ResetStrategy.TOUCH_1200), hang_up=False)
    open_reset(PORT, board, tools=world.tools)
    assert world.options == [AS_THE_SYSTEM_DOES, PortOptions(hang_up=False)]


def test_a_board_that_says_nothing_is_waited_for_no_longer_than_its_power_up_time(world: World) -> None:
    channel, boot_s = open_reset(PORT, DUE, tools=world.tools)
    assert boot_s is None
    line_s = 16 * 10 / DUE.baud  # a TERMINATE, and escapes in it
    assert world.time_s == pytest.approx(0.35 + DUE.power_up_s + line_s)
    assert channel.name == PORT, "it may be up for all that, so the port stays open"
    assert "close" not in [what for _, what in world.diary]


def test_a_board_that_never_stops_talking_is_reset_too(world: World) -> None:
    world.arrivals = [(n / 1000, b"x" * 100) for n in range(100_000)]
    _, boot_s = open_reset(PORT, DUE, tools=world.tools)
    assert boot_s is None
    assert world.time_s < 10


def test_a_port_that_goes_away_during_the_reset_is_closed(world: World) -> None:
    world.arrivals = [(0.5, b"")]
    with pytest.raises(PortLostError):
        open_reset(PORT, DUE, tools=world.tools)
    assert world.diary[-1] == (0.5, "close")


@pytest.mark.parametrize("board", [DUE, TOUCHED], ids=["dtr-rts", "touch-1200"])
def test_a_port_without_modem_lines_is_said_to_have_none_and_closed(world: World, board: BoardProfile) -> None:
    world.has_lines = False
    with pytest.raises(PortError, match=r"/dev/ttyACM0 has no modem lines.*reset it by hand") as caught:
        open_reset(PORT, board, tools=world.tools)
    assert type(caught.value) is PortError
    assert [what for _, what in world.diary][1:] == ["close"]
    assert world.time_s == 0


def test_a_board_that_cannot_be_reset_is_refused_before_its_port_is_opened(world: World) -> None:
    with pytest.raises(ProfileError, match=r"nucleo_f746zg cannot be reset over its port.*press its reset button"):
        open_reset(PORT, profile("nucleo_f746zg"), tools=world.tools)
    assert world.diary == []


# --- the 1200-baud touch ----------------------------------------------------------------------


def test_a_touch_opens_at_1200_baud_drops_dtr_and_waits_for_the_port_to_come_back(world: World) -> None:
    world.absences = [(0.3, 2.0)]
    world.arrivals = [(2.5, BOOTED)]
    _, boot_s = open_reset(PORT, TOUCHED, tools=world.tools)
    assert world.diary[:3] == [(0.0, "open 1200 none"), (0.0, "dtr=False rts=None"), (0.1, "close")]
    ((opened_at, opened),) = world.diary[3:]
    assert opened == "open 115200 none"
    assert 2.0 <= opened_at < 2.1
    assert boot_s == pytest.approx(2.5)


def test_a_port_that_stays_there_during_a_touch_is_opened_after_a_moment(world: World) -> None:
    open_reset(PORT, TOUCHED, tools=world.tools)
    assert world.diary[-1][0] == pytest.approx(0.1 + VANISH_S, abs=0.1)


def test_a_port_that_does_not_come_back_is_not_waited_for_for_ever(world: World) -> None:
    world.absences = [(0.5, 1e9)]
    with pytest.raises(
        PortNotFoundError, match=r"went away after the 1200-baud touch and did not come back within 10 s"
    ):
        touch(PORT, world.tools)
    assert world.time_s == pytest.approx(0.5 + RETURN_S, abs=0.2)


def test_a_port_that_may_not_be_opened_at_once_is_tried_again(world: World) -> None:
    world.absences = [(0.3, 1.0)]

    def is_there(port: str) -> bool:  # the system makes the name first, and sets its permissions then
        world.refusal = (1.4, PortPermissionError(PORT, "not yet"))
        return world.is_there(port)

    open_reset(PORT, TOUCHED, tools=dataclasses.replace(world.tools, is_there=is_there))
    assert world.diary[-1][1] == "open 115200 none"
    assert 1.4 <= world.diary[-1][0] < 1.5


def test_a_port_that_may_never_be_opened_again_says_so_in_the_end(world: World) -> None:
    def is_there(port: str) -> bool:
        world.refusal = (1e9, PortPermissionError(PORT, "never"))
        return world.is_there(port)

    with pytest.raises(PortPermissionError, match="never"):
        open_reset(PORT, TOUCHED, tools=dataclasses.replace(world.tools, is_there=is_there))
    assert world.time_s == pytest.approx(0.1 + VANISH_S + RETURN_S, abs=0.2)


def test_whether_a_port_is_there_is_asked_as_the_platform_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    is_there = TOOLS.is_there
    (tmp_path / "link").symlink_to("/dev/null")
    assert is_there(str(tmp_path / "link"))
    assert not is_there(str(tmp_path / "other"))
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [ListPortInfo("COM3")])
    monkeypatch.setattr("os.name", "nt")
    found = (is_there("com3"), is_there("COM4"))
    monkeypatch.undo()
    assert found == (True, False)


# --- the table of strategies ------------------------------------------------------------------


def test_every_named_strategy_is_a_row_of_the_table_and_every_row_has_a_name() -> None:
    assert [*STRATEGIES] == [*ResetStrategy]
    assert {name for name, strategy in STRATEGIES.items() if strategy is None} == {ResetStrategy.NONE}


class Bootloader:
    """A strategy of the test's own: it opens the port at 300 baud, and waits as its steps say."""

    def __init__(self, *, has_sequence: bool) -> None:
        self.has_sequence = has_sequence

    def open_reset(
        self, port: str, sequence: Sequence[ResetStep], open_port: Callable[[], SerialChannel], tools: ResetTools
    ) -> SerialChannel:
        tools.open_port(port, baud=300).close()
        tools.sleep(sum(step.wait_s for step in sequence) or 1.0)
        return open_port()


PROFILE = """
name = "mine"
description = "My board"
baud = 9600
packet_size_bytes = 2048
heap_bytes = 65536
[reset]
strategy = "bootloader"
"""


def read_profile(directory: pathlib.Path, text: str) -> BoardProfile:
    path = directory / "mine.toml"
    path.write_text(text)
    return load_profile(path)


def test_a_new_strategy_is_one_class_and_one_row(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ProfileError, match=r"reset\.strategy: must be one of .*'touch-1200', not 'bootloader'"):
        read_profile(tmp_path, PROFILE)
    monkeypatch.setitem(STRATEGIES, "bootloader", Bootloader(has_sequence=False))
    board = read_profile(tmp_path, PROFILE)
    assert board.reset == Reset("bootloader")
    check_can_be_reset(board)
    world.arrivals = [(2.5, BOOTED)]
    _, boot_s = open_reset(PORT, dataclasses.replace(board, power_up_s=5.0), tools=world.tools)
    assert boot_s == 2.5
    assert world.diary == [(0.0, "open 300 none"), (0.0, "close"), (1.0, "open 9600 none")]
    reason = r"reset\.sequence: belongs to the strategy 'dtr-rts', not to 'bootloader'"
    with pytest.raises(ProfileError, match=reason):
        read_profile(tmp_path, f"{PROFILE}sequence = [{{ dtr = true }}]\n")
    with pytest.raises(ProfileError, match=r"must be one of 'none', 'dtr-rts', 'touch-1200', 'bootloader', not 'boot'"):
        read_profile(tmp_path, PROFILE.replace("bootloader", "boot"))


def test_a_new_strategy_may_have_a_sequence(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setitem(STRATEGIES, "bootloader", Bootloader(has_sequence=True))
    with pytest.raises(ProfileError, match=r"reset\.sequence: must have steps for 'bootloader', for example"):
        read_profile(tmp_path, PROFILE)
    with pytest.raises(ProfileError, match="belongs to the strategy 'dtr-rts' or 'bootloader', not to 'touch-1200'"):
        read_profile(tmp_path, f"{PROFILE.replace('bootloader', 'touch-1200')}sequence = []\n")
    board = read_profile(tmp_path, f"{PROFILE}sequence = [{{ dtr = true, wait_s = 2.0 }}]\n")
    assert board.reset == Reset("bootloader", (ResetStep(dtr=True, wait_s=2.0),))
    open_reset(PORT, board, tools=world.tools)
    assert world.diary[-1] == (2.0, "open 9600 none")


def test_a_board_whose_strategy_nobody_knows_cannot_be_reset(world: World) -> None:
    board = dataclasses.replace(DUE, reset=Reset("bootloader"))
    with pytest.raises(ProfileError, match=r"cannot be reset .*\(the reset strategy in its profile is 'bootloader'\)"):
        open_reset(PORT, board, tools=world.tools)
    assert world.diary == []


# --- waiting for the boot ---------------------------------------------------------------------


def test_the_boot_is_noticed_however_its_bytes_are_cut(world: World) -> None:
    world.arrivals = [(n / 10, bytes([byte])) for n, byte in enumerate(b"\xffnoise\xff" + BOOTED)]
    assert wait_for_boot(Port(world), 10.0)
    assert world.arrivals == []


def test_what_the_board_logs_before_and_with_its_boot_is_passed_on(world: World) -> None:
    log = frame(MessageType.LOG, "über".encode())
    world.arrivals = [(0.1, log + BOOTED + frame(MessageType.LOG, b"running\xff")), (0.2, log)]
    lines: list[str] = []
    assert wait_for_boot(Port(world), 1.0, lines.append)
    assert lines == ["über", "running\\xff"]


def test_what_the_board_prints_beside_its_frames_is_passed_on_too(world: World) -> None:
    world.arrivals = [(0.1, b"\x00\xf8\nROM boot v1\r\nload"), (0.15, b"ing\r\n"), (0.5, BOOTED)]
    logs: list[str] = []
    texts: list[str] = []
    _, boot_s = open_reset(PORT, DUE, on_log=logs.append, on_text=texts.append, tools=world.tools)
    assert boot_s is not None
    assert (logs, texts) == ([], ["ROM boot v1", "loading"])


def test_what_is_printed_before_a_log_is_passed_on_before_it(world: World) -> None:
    world.arrivals = [(0.1, b"checking flash..." + frame(MessageType.LOG, b"flash is fine") + b"done"), (0.2, BOOTED)]
    lines: list[str] = []
    assert wait_for_boot(Port(world), 1.0, lines.append, lines.append)
    assert lines == ["checking flash...", "flash is fine", "done"]


def test_other_messages_are_no_boot(world: World) -> None:
    world.arrivals = [
        (0.1, frame(MessageType.NORMAL, b"x") + frame(MessageType.START_SESSION_REPLY)),
        (0.1, frame(MessageType.TERMINATE_SESSION, b"x") + FrameEncoder().encode(b"\x01\0\x02")),
        (0.2, b"\xff\xfd"),
    ]
    assert not wait_for_boot(Port(world), 1.0)
    assert world.time_s == 1.0


# --- a real port without modem lines ----------------------------------------------------------


@pytest.fixture
def pty() -> Iterator[str]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("board", [DUE, TOUCHED], ids=["dtr-rts", "touch-1200"])
def test_a_pty_has_no_modem_lines_and_can_be_opened_again(pty: str, board: BoardProfile) -> None:
    start = time.monotonic()
    with pytest.raises(PortError, match=f"{pty} has no modem lines"):
        open_reset(pty, board)
    assert time.monotonic() - start < 2
    open_serial(pty, baud=115200).close()
