"""How a port is set up, kept from others, and set again; on ptys, and with the calls that a pty does not take noted."""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apis import Api

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.capture.trace import Trace
from microrpc.connecting.wrap import tapped
from microrpc.errors import CallTimeoutError, PortBusyError, RequestError
from microrpc.ports import opening, tty
from microrpc.ports.opening import open_serial
from microrpc.ports.options import PortOptions
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import FlowControl

TIOCGEXCL = 0x80045440  # on most of Linux's processors; Python does not name it
INPUT_FLAGS = ["BRKINT", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IXON", "IXOFF", "IXANY"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a pty tells of its settings is Linux's")


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    """A pty as another program left it: cooked. The host's end, which this test lends, and its name."""
    master, slave = os.openpty()
    name = os.ttyname(slave)
    settings = termios.tcgetattr(slave)
    for flag in INPUT_FLAGS:
        settings[0] |= getattr(termios, flag)
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    yield slave, name
    os.close(slave)
    os.close(master)


def is_exclusive(fd: int) -> bool:
    return bool(struct.unpack("i", fcntl.ioctl(fd, TIOCGEXCL, bytes(4)))[0])


def left_on(fd: int) -> list[str]:
    return [name for name in INPUT_FLAGS if termios.tcgetattr(fd)[0] & getattr(termios, name)]


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("can_poll", [True, False])
def test_every_input_flag_of_the_cooked_mode_is_off(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch, can_poll: bool
) -> None:
    monkeypatch.setattr(opening, "_CAN_POLL", can_poll)
    slave, name = pty
    assert left_on(slave) == INPUT_FLAGS
    open_serial(name, baud=115200).close()
    assert left_on(slave) == []


def test_xon_xoff_is_on_only_where_it_is_asked_for(pty: tuple[int, str]) -> None:
    slave, name = pty
    open_serial(name, baud=115200, flow_control=FlowControl.XON_XOFF).close()
    assert left_on(slave) == ["IXON", "IXOFF"]


@pytest.mark.parametrize("can_poll", [True, False])
def test_settings_that_another_program_changed_are_set_again_and_told(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, can_poll: bool
) -> None:
    monkeypatch.setattr(opening, "_CAN_POLL", can_poll)
    slave, name = pty
    channel = open_serial(name, baud=460800)
    before = termios.tcgetattr(slave)
    channel.renew()  # type: ignore[attr-defined]
    assert caplog.messages == []
    subprocess.run(["stty", "-F", name, "9600", "icanon", "icrnl", "echo", "brkint", "iutf8"], check=True)
    assert termios.tcgetattr(slave) != before
    channel.renew()  # type: ignore[attr-defined]
    assert termios.tcgetattr(slave) == before
    assert caplog.messages == [f"{name}: another program changed the settings of this port; they are set again"]
    channel.close()
    channel.renew()  # type: ignore[attr-defined]


def test_a_baud_rate_that_termios_has_no_name_for_is_set_again_where_nothing_else_was_changed(
    pty: tuple[int, str],
) -> None:
    slave, name = pty

    def rate(new: int = 0) -> int:
        settings = bytearray(44)  # struct termios2; its last two numbers are the rates
        fcntl.ioctl(slave, 0x802C542A, settings)  # TCGETS2
        if new:
            struct.pack_into("II", settings, 36, new, new)
            fcntl.ioctl(slave, 0x402C542B, settings)  # TCSETS2
        return int(struct.unpack_from("I", settings, 40)[0])

    channel = open_serial(name, baud=250_000)
    assert rate() == 250_000
    rate(123_457)
    channel.renew()  # type: ignore[attr-defined]
    assert rate() == 250_000
    channel.close()


@pytest.mark.parametrize("is_tapped", [False, True])
def test_a_session_after_doubt_begins_with_the_settings_of_the_first(api: Api, is_tapped: bool) -> None:
    timeouts = Timeouts(retry_s=0.1, start_s=2, call_s=0.2)
    options = {"wrap": tapped(Trace())} if is_tapped else {}
    with (
        PtyServer(simulate(profile("loopback"))) as server,
        api.connect(server.path, timeouts=timeouts, link=False, **options) as board,
    ):
        add = board.function("add")
        subprocess.run(["stty", "-F", server.path, "9600", "icanon", "icrnl", "echo"], check=True)
        with pytest.raises(CallTimeoutError):
            add(1, 2)
        assert add(1, 2) == 3


def test_a_port_that_went_away_is_not_renewed() -> None:
    master, slave = os.openpty()
    channel = open_serial(os.ttyname(slave), baud=115200)
    os.close(slave)
    os.close(master)
    channel.renew()  # type: ignore[attr-defined]
    channel.close()


# --- others -----------------------------------------------------------------------------------------


def test_a_port_is_exclusive_while_it_is_open(pty: tuple[int, str]) -> None:
    slave, name = pty
    channel = open_serial(name, baud=115200)
    assert is_exclusive(slave)
    with pytest.raises(PortBusyError):
        open_serial(name, baud=115200)
    channel.close()
    assert not is_exclusive(slave)
    open_serial(name, baud=115200).close()


def test_a_pty_that_outlives_this_program_is_not_locked_beyond_it(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slave, name = pty
    monkeypatch.setattr(tty, "is_our_pty", lambda port: False)
    channel = open_serial(name, baud=115200)
    assert not is_exclusive(slave)
    with pytest.raises(PortBusyError):  # by its lock
        open_serial(name, baud=115200)
    channel.close()


def test_a_port_that_others_have_is_refused_before_it_is_changed(pty: tuple[int, str]) -> None:
    slave, name = pty
    fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(PortBusyError):
        open_serial(name, baud=115200)
    assert left_on(slave) == INPUT_FLAGS
    os.close(fd)


# --- options ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("hang_up", "after"), [(False, False), (True, True), (None, None)])
def test_hang_up_is_set_cleared_or_left_and_stays(
    pty: tuple[int, str], before: bool, hang_up: bool | None, after: bool | None
) -> None:
    slave, name = pty
    subprocess.run(["stty", "-F", name, "hupcl" if before else "-hupcl"], check=True)
    open_serial(name, baud=115200, options=PortOptions(hang_up=hang_up)).close()
    assert bool(termios.tcgetattr(slave)[2] & termios.HUPCL) is (before if after is None else after)


class Lines:
    """Notes what is asked of a port's driver; it has modem lines, and is an FTDI adapter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, has_latency: bool = True) -> None:
        self.state = {"dtr": False, "rts": False}
        self.latency: list[int] = []
        self.has_latency = has_latency
        self._ioctl = fcntl.ioctl
        monkeypatch.setattr("fcntl.ioctl", self.ioctl)

    def ioctl(self, fd: int, request: int, arg: object = 0, mutate: bool = True) -> object:
        if request in (termios.TIOCMBIS, termios.TIOCMBIC):
            assert isinstance(arg, bytes)
            (bits,) = struct.unpack("I", arg)
            for name, bit in (("dtr", termios.TIOCM_DTR), ("rts", termios.TIOCM_RTS)):
                if bits & bit:
                    self.state[name] = request == termios.TIOCMBIS
            return 0
        if request in (termios.TIOCGSERIAL, termios.TIOCSSERIAL):
            if not self.has_latency:
                raise OSError(25, "Inappropriate ioctl for device")
            if request == termios.TIOCSSERIAL:
                self.latency.append(arg[4] & 0x2000)  # type: ignore[index]
            return 0
        return self._ioctl(fd, request, arg, mutate)  # type: ignore[call-overload]


@pytest.mark.parametrize("can_poll", [True, False])
@pytest.mark.parametrize(
    ("options", "dtr", "rts"),
    [
        (PortOptions(), True, True),
        (PortOptions(dtr=False), False, True),
        (PortOptions(rts=False), True, False),
        (PortOptions(dtr=False, rts=True), False, True),
    ],
)
def test_modem_lines_are_as_the_options_say(
    pty: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
    can_poll: bool,
    options: PortOptions,
    dtr: bool,
    rts: bool,
) -> None:
    monkeypatch.setattr(opening, "_CAN_POLL", can_poll)
    lines = Lines(monkeypatch)
    open_serial(pty[1], baud=115200, options=options).close()
    assert lines.state == {"dtr": dtr, "rts": rts}


@pytest.mark.parametrize(("wish", "flags"), [(True, [0x2000]), (False, [0]), (None, [])])
def test_low_latency_is_the_flag_of_the_driver(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch, wish: bool | None, flags: list[int]
) -> None:
    lines = Lines(monkeypatch)
    open_serial(pty[1], baud=115200, options=PortOptions(low_latency=wish)).close()
    assert lines.latency == flags


def test_a_driver_without_latency_is_a_warning_and_no_failure(
    pty: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    open_serial(pty[1], baud=115200, options=PortOptions(low_latency=True)).close()
    assert [(record.name, record.levelno) for record in caplog.records] == [("microrpc.ports", logging.WARNING)]
    assert caplog.messages[0].startswith(f"{pty[1]}: low_latency cannot be set")


def test_a_url_has_modem_lines_but_no_other_options(caplog: pytest.LogCaptureFixture) -> None:
    channel = open_serial("loop://", baud=115200, options=PortOptions(dtr=False, rts=True, hang_up=False))
    port = channel._port  # type: ignore[attr-defined]
    assert (port.dsr, port.cts) == (False, True)  # its DTR is its own DSR
    channel.close()
    assert caplog.messages == [
        "loop://: hang_up and low_latency are those of ports of this computer; they have no effect here"
    ]


@pytest.mark.parametrize("option", ["dtr", "rts", "hang_up", "low_latency"])
@pytest.mark.parametrize("value", ["no", 0, 1.0, []])
def test_an_option_that_is_neither_true_nor_false_is_refused(api: Api, option: str, value: object) -> None:
    with pytest.raises(RequestError, match=rf"^{option} is True, False or None, not {re.escape(repr(value))}$"):
        api.connect("/dev/tty-none", **{option: value})


@pytest.mark.parametrize("port", [b"/dev/ttyACM0", 5, None])
def test_what_is_no_name_of_a_port_is_refused_by_who_opens_one(port: Any) -> None:
    with pytest.raises(RequestError, match=r"^a port is a text or a path, such as "):
        open_serial(port, baud=115200)


def test_keywords_of_connect_overrule_the_profile(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[PortOptions] = []

    def note(port: str, **settings: object) -> object:
        seen.append(settings["options"])  # type: ignore[arg-type]
        return open_serial(port, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("microrpc.connecting.openers.serial.open_serial", note)
    board = profile("loopback")
    with PtyServer(simulate(board), link=tmp_path / "board") as server:
        api.connect(Path(server.path), dtr=False, hang_up=False).close()  # a Path, too
        cautious = dataclasses.replace(board, hang_up=False, rts=False)
        api.connect(server.path, board=cautious, rts=True).close()
    assert seen == [PortOptions(dtr=False, hang_up=False), PortOptions(rts=True, hang_up=False)]
