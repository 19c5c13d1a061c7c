from __future__ import annotations

import contextlib
import errno
import math
import os
import pathlib
import re
import select
import socket
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import serial
from serial.tools import list_ports

import microrpc
from microrpc.errors import (
    CallTimeoutError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
    PortPermissionError,
    RequestError,
)
from microrpc.ports import opening as channel_module
from microrpc.ports.bell import Bell
from microrpc.ports.channel import MOST_KEPT_BYTES, Channel, monotonic, waiting
from microrpc.ports.fd import FdChannel
from microrpc.ports.opening import open_serial, open_tcp
from microrpc.ports.pyserial import PyserialChannel
from microrpc.ports.selected import SocketChannel
from microrpc.wire.uart import FlowControl

SHORT_S = 0.05  # a deadline that is meant to pass
LATE_S = 2.0  # how late a loaded machine may be; a hang is far longer
LONG_S = 10.0  # a deadline that is not meant to pass


class Pair(NamedTuple):
    """A channel, and the file descriptor of its peer."""

    channel: Channel
    peer: int
    hang_up: Callable[[], None]


def open_pty() -> tuple[int, str]:
    """A pty as a board has it: the descriptor of the board's end, and the name of the host's."""
    master, slave = os.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    os.close(slave)
    return master, name


@pytest.fixture(params=["pty", "socketpair", "tcp", "tcp without poll", "pyserial"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    channel: Channel
    if request.param == "tcp without poll":
        monkeypatch.delattr(select, "poll")
    if request.param in ("pty", "pyserial"):
        peer, name = open_pty()
        if request.param == "pty":
            channel = open_serial(name, baud=115200)
        else:
            channel = PyserialChannel(name, serial.Serial(name, 115200))
    elif request.param == "socketpair":
        ours, theirs = socket.socketpair()
        channel, peer = FdChannel("pair", ours.detach()), theirs.detach()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            channel = open_tcp("127.0.0.1", server.getsockname()[1], LONG_S)
            peer = server.accept()[0].detach()
    is_open = True

    def hang_up() -> None:
        nonlocal is_open
        if is_open:
            is_open = False
            os.close(peer)

    yield Pair(channel, peer, hang_up)
    channel.close()
    hang_up()


def read_peer(pair: Pair, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(pair.peer, 65536)
    return data


def read_channel(channel: Channel, size: int) -> bytes:
    """Read exactly so much, fail when it does not come, and give back a little more if there is more."""
    deadline = monotonic() + LONG_S
    data = b""
    while len(data) < size:
        got = channel.read(deadline)
        assert got, f"only {len(data)} of {size} bytes came"
        data += got
    return data


# --- waiting beside the thread that reads -----------------------------------------------------------


def test_waiting_ends_at_its_time_and_takes_nothing_of_what_comes(pair: Pair) -> None:
    channel, bell = waiting(pair.channel), Bell()
    assert channel is not None
    assert not channel.wait_readable(0.0, bell)
    assert not channel.wait_readable(-1.0, bell)
    assert not channel.wait_readable(SHORT_S, bell)
    os.write(pair.peer, b"here")
    assert channel.wait_readable(LONG_S, bell)
    assert channel.wait_readable(LONG_S, bell)
    assert read_channel(channel, 4) == b"here"
    assert not channel.wait_readable(0.0, bell)
    bell.close()


def test_a_bell_ends_the_waiting_until_it_is_cleared(pair: Pair) -> None:
    channel, bell = waiting(pair.channel), Bell()
    assert channel is not None
    started, ended = threading.Event(), list[bool]()

    def wait() -> None:
        started.set()
        ended.append(channel.wait_readable(LONG_S, bell))

    thread = threading.Thread(target=wait)
    thread.start()
    assert started.wait(LONG_S)
    bell.ring()
    thread.join(LONG_S)
    assert ended == [False]
    assert bell.wait(LONG_S), "it goes on ringing"
    bell.clear()
    assert not bell.wait(0.0)
    bell.close()
    bell.ring()
    assert bell.wait(LONG_S), "nobody waits for one that is closed"


def test_waiting_ends_when_the_port_goes_away_or_is_closed(pair: Pair) -> None:
    channel, bell = waiting(pair.channel), Bell()
    assert channel is not None
    pair.hang_up()
    assert channel.wait_readable(LONG_S, bell)
    channel.close()
    assert channel.wait_readable(LONG_S, bell)
    bell.close()


def test_a_bell_that_rings_without_end_holds_nobody_up() -> None:
    bell = Bell()
    for _ in range(100_000):
        bell.ring()
    bell.clear()
    assert not bell.wait(0.0)
    bell.close()


# --- reading and writing --------------------------------------------------------------------------


def test_every_byte_value_passes_both_ways_unchanged(pair: Pair) -> None:
    every = bytes(range(256))
    pair.channel.write(every, monotonic() + LONG_S)
    assert read_peer(pair, 256) == every
    os.write(pair.peer, every)
    assert read_channel(pair.channel, 256) == every


def test_read_returns_empty_at_its_deadline(pair: Pair) -> None:
    for _ in range(3):  # the first spins, the others sleep at once
        start = monotonic()
        assert pair.channel.read(start + SHORT_S) == b""
        assert SHORT_S <= monotonic() - start < SHORT_S + LATE_S


def test_read_with_a_passed_deadline_does_not_block_and_takes_what_is_there(pair: Pair) -> None:
    start = monotonic()
    assert pair.channel.read(start - 1) == b""
    assert pair.channel.read(0) == b""
    assert monotonic() - start < LATE_S
    os.write(pair.peer, b"here")
    select.select([], [], [], 0.05)
    assert pair.channel.read(0) == b"here"


def test_read_wakes_when_bytes_come(pair: Pair) -> None:
    timer = threading.Timer(SHORT_S, os.write, (pair.peer, b"late"))
    timer.start()
    start = monotonic()
    assert read_channel(pair.channel, 4) == b"late"
    assert monotonic() - start < SHORT_S + LATE_S
    timer.join()


@pytest.fixture
def hurried(pair: Pair) -> FdChannel:
    """The channel, which can be asked without waiting."""
    if not isinstance(pair.channel, FdChannel):
        pytest.skip("no event loop can watch it")
    return pair.channel


def arrive(pair: Pair, channel: FdChannel, data: bytes) -> None:
    os.write(pair.peer, data)
    assert select.select([channel.fileno()], [], [], LONG_S)[0]


def test_a_read_in_a_hurry_takes_what_is_there_and_waits_for_no_more_than_a_moment(
    pair: Pair, hurried: FdChannel
) -> None:
    arrive(pair, hurried, b"here")
    assert hurried.read_soon(math.inf, LONG_S) == b"here"
    start = monotonic()
    assert hurried.read_soon(math.inf, SHORT_S) == b""
    assert SHORT_S <= monotonic() - start < SHORT_S + LATE_S


def test_a_read_in_a_hurry_ends_at_its_deadline(pair: Pair, hurried: FdChannel) -> None:
    start = monotonic()
    assert hurried.read_soon(start + SHORT_S, LONG_S) == b""
    assert SHORT_S <= monotonic() - start < SHORT_S + LATE_S


def test_reads_in_a_hurry_that_are_in_vain_become_rarer_until_one_is_not(pair: Pair, hurried: FdChannel) -> None:
    for left_out in (1, 3, 7):
        assert hurried.read_soon(math.inf, 0.0) == b""  # in vain
        arrive(pair, hurried, b"x")
        asked = [hurried.read_soon(math.inf, 0.0) for _ in range(left_out)]
        assert asked == [b""] * left_out
        hurried.read(0)  # which is no hurry, and changes nothing
    arrive(pair, hurried, b"y")
    assert hurried.read_soon(math.inf, 0.0) == b"y"
    assert hurried.read_soon(math.inf, 0.0) == b""
    arrive(pair, hurried, b"z")
    assert [hurried.read_soon(math.inf, 0.0) for _ in range(2)] == [b"", b"z"]


def test_a_read_in_a_hurry_tells_that_the_port_is_gone(pair: Pair, hurried: FdChannel) -> None:
    pair.hang_up()
    with pytest.raises(PortLostError):
        hurried.read_soon(math.inf, LONG_S)


def test_an_endless_deadline_is_allowed(pair: Pair) -> None:
    timer = threading.Timer(SHORT_S, os.write, (pair.peer, b"late"))
    timer.start()
    assert pair.channel.read(float("inf"))
    pair.channel.write(b"x", float("inf"))
    timer.join()


def test_nothing_is_lost_in_bursts(pair: Pair) -> None:
    data = os.urandom(1 << 18)

    def send() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(pair.peer, view[:1500]) :]

    sender = threading.Thread(target=send)
    sender.start()
    assert read_channel(pair.channel, len(data)) == data
    sender.join()
    assert pair.channel.read(0) == b""


def test_a_write_larger_than_any_buffer_arrives_whole(pair: Pair) -> None:
    data = os.urandom(1 << 20)
    received = []
    receiver = threading.Thread(target=lambda: received.append(read_peer(pair, len(data))))
    receiver.start()
    pair.channel.write(data, monotonic() + LONG_S)
    receiver.join()
    assert received == [data]


def test_a_write_that_the_peer_does_not_take_meets_its_deadline(pair: Pair) -> None:
    start = monotonic()
    with pytest.raises(CallTimeoutError, match=f"of {1 << 24} bytes before the deadline") as caught:
        pair.channel.write(bytes(1 << 24), start + SHORT_S)
    assert SHORT_S <= monotonic() - start < SHORT_S + LATE_S
    assert caught.value.may_have_run is False
    start = monotonic()
    pair.channel.close()  # must not wait for the output
    assert monotonic() - start < LATE_S


def test_a_peer_that_is_stopped_in_its_answer_is_read_while_a_write_waits(pair: Pair) -> None:
    question, answer = os.urandom(1 << 18), os.urandom(1 << 17)
    received = []

    def answer_and_then_listen() -> None:
        view = memoryview(answer)
        while view:
            view = view[os.write(pair.peer, view) :]
        received.append(read_peer(pair, len(question)))

    peer = threading.Thread(target=answer_and_then_listen)
    peer.start()
    pair.channel.write(question, monotonic() + LONG_S)
    assert read_channel(pair.channel, len(answer)) == answer  # in its order, and nothing twice
    peer.join()
    assert received == [question]


def test_what_arrives_while_a_write_waits_is_kept_up_to_a_bound(pair: Pair) -> None:
    is_over = False

    def flood() -> None:
        while not is_over:
            with contextlib.suppress(BlockingIOError):
                os.write(pair.peer, bytes(65536))

    os.set_blocking(pair.peer, False)
    peer = threading.Thread(target=flood)
    peer.start()
    with pytest.raises(CallTimeoutError):
        pair.channel.write(bytes(1 << 24), monotonic() + SHORT_S)
    assert len(pair.channel._kept) < MOST_KEPT_BYTES + 65536  # type: ignore[attr-defined]
    is_over = True
    peer.join()


@pytest.mark.parametrize(("size_bytes", "flushed"), [(1, []), (1 << 20, [termios.TCOFLUSH])])
def test_only_where_a_tty_takes_no_more_its_output_is_thrown_away_at_the_end(
    size_bytes: int, flushed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    queues: list[int] = []
    monkeypatch.setattr(termios, "tcflush", lambda fd, queue: queues.append(queue))
    board_fd, fd = os.openpty()
    try:
        tty.setraw(fd)
        channel = FdChannel("pty", fd)
        queues.clear()
        with contextlib.suppress(CallTimeoutError):
            channel.write(bytes(size_bytes), monotonic() + SHORT_S)
        channel.close()
    finally:
        os.close(board_fd)
    assert queues == flushed  # else a real one would wait up to 30 s for what nobody takes


def test_a_small_write_with_a_passed_deadline_is_still_tried(pair: Pair) -> None:
    pair.channel.write(b"now", 0)
    assert read_peer(pair, 3) == b"now"


@pytest.mark.parametrize("pair", ["pyserial"], indirect=True)
def test_a_write_needs_no_thread_where_the_program_ends_and_none_can_begin(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pair.channel.write(b"goodbye", monotonic() + LONG_S)
    assert read_peer(pair, 7) == b"goodbye"


def test_an_empty_write_writes_nothing(pair: Pair) -> None:
    pair.channel.write(b"", 0)
    pair.channel.write(b"x", 0)
    assert read_peer(pair, 1) == b"x"


# --- the port goes away ---------------------------------------------------------------------------


def test_read_from_a_port_that_went_away(pair: Pair) -> None:
    pair.hang_up()
    with pytest.raises(PortLostError, match="went away: unplugged, or the other end closed it") as caught:
        pair.channel.read(monotonic() + LONG_S)
    assert caught.value.port == pair.channel.name
    assert caught.value.may_have_run is False


def test_a_port_that_goes_away_wakes_the_reader(pair: Pair) -> None:
    timer = threading.Timer(SHORT_S, pair.hang_up)
    timer.start()
    start = monotonic()
    with pytest.raises(PortLostError):
        pair.channel.read(start + LONG_S)
    assert monotonic() - start < SHORT_S + LATE_S
    timer.join()


def test_write_to_a_port_that_went_away(pair: Pair) -> None:
    pair.hang_up()

    def write_often() -> None:  # TCP notices at the second write
        for _ in range(100):
            pair.channel.write(b"x", monotonic() + LONG_S)

    with pytest.raises(PortLostError, match="went away"):
        write_often()


def test_bytes_sent_before_a_socket_was_closed_still_come() -> None:
    ours, theirs = socket.socketpair()
    channel = FdChannel("pair", ours.detach())
    theirs.sendall(b"last words")
    theirs.close()
    assert channel.read(0) == b"last words"
    with pytest.raises(PortLostError):
        channel.read(0)
    channel.close()


def test_a_closed_channel_says_who_closed_it(pair: Pair) -> None:
    pair.channel.close()
    pair.channel.close()
    start = monotonic()
    with pytest.raises(PortLostError, match="closed by this program"):
        pair.channel.read(start + LONG_S)
    with pytest.raises(PortLostError, match="closed by this program"):
        pair.channel.write(b"x", start + LONG_S)
    assert monotonic() - start < LATE_S
    assert "closed" in repr(pair.channel)


def test_close_while_another_thread_reads_does_not_hang(pair: Pair) -> None:
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.append(pair.channel.read(monotonic() + 0.3))
        except PortLostError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    select.select([], [], [], SHORT_S)
    pair.channel.close()
    reader.join(LATE_S)
    assert not reader.is_alive()
    assert isinstance(outcome[0], PortLostError)


def test_a_closed_channel_never_touches_the_next_owner_of_its_descriptor() -> None:
    ours, theirs = socket.socketpair()
    fd = ours.detach()
    channel = FdChannel("pair", fd)
    channel.close()
    other, far = socket.socketpair()
    with other, far, theirs:
        assert fd in (other.fileno(), far.fileno())
        other.sendall(b"x")
        far.sendall(b"x")
        for use in (lambda: channel.read(0), lambda: channel.write(b"x", 0)):
            with pytest.raises(PortLostError):
                use()
        channel.close()
        assert other.recv(10) == far.recv(10) == b"x"


# --- opening a serial port ------------------------------------------------------------------------


def test_the_port_is_opened_raw_and_at_its_rate() -> None:
    master, slave = os.openpty()  # in line mode, with echo
    name = os.ttyname(slave)
    channel = open_serial(name, baud=921600)
    try:
        iflag, oflag, cflag, lflag, ispeed, ospeed, control = termios.tcgetattr(slave)
        assert ispeed == ospeed == termios.B921600
        assert cflag & termios.CSIZE == termios.CS8
        assert not cflag & (termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
        assert not iflag & (termios.IXON | termios.IXOFF | termios.ICRNL | termios.ISTRIP)
        assert not oflag & termios.OPOST
        assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert (control[termios.VMIN], control[termios.VTIME]) in ((1, 0), (b"\x01", b"\x00"))
        os.write(master, bytes(range(256)))
        assert read_channel(channel, 256) == bytes(range(256))
    finally:
        channel.close()
        os.close(slave)
        os.close(master)


def test_what_arrived_before_the_port_was_opened_is_kept() -> None:
    terminate = bytes.fromhex("FE FF FD 03 00 00 00 00 00 02 66 77")
    master, slave = os.openpty()
    tty.setraw(slave)
    os.write(master, terminate)
    channel = open_serial(os.ttyname(slave), baud=115200)
    assert read_channel(channel, len(terminate)) == terminate
    channel.close()
    os.close(slave)
    os.close(master)


def test_a_second_opener_in_one_program_is_told_to_close_the_first(tmp_path: pathlib.Path) -> None:
    master, name = open_pty()
    link = tmp_path / "board"
    link.symlink_to(name)
    first = open_serial(name, baud=115200)
    for other in (name, str(link)):
        text = f"{other} is in use by this very program, in which a Board has it open: call that one's close() first"
        with pytest.raises(PortBusyError, match=re.escape(text)):
            open_serial(other, baud=115200)
    first.close()
    open_serial(name, baud=115200).close()
    os.close(master)


def test_a_second_opener_is_told_who_has_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    master, name = open_pty()
    first = open_serial(name, baud=115200)
    monkeypatch.setattr("microrpc.ports.refusal.is_open_here", lambda port: False)  # as where it is no port of microrpc
    with pytest.raises(PortBusyError, match=f"in use by this program .process {os.getpid()}.: close it") as caught:
        open_serial(name, baud=115200)
    assert caught.value.port == name
    first.close()
    open_serial(name, baud=115200).close()  # and is free again
    os.close(master)


def test_no_descriptor_leaks() -> None:
    master, name = open_pty()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        first = open_serial(name, baud=115200)
        with pytest.raises(PortBusyError):
            open_serial(name, baud=115200)
        first.close()
        with pytest.raises(PortError):
            open_serial("/dev/null", baud=115200)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(master)


class _Info(NamedTuple):
    device: str


def test_an_absent_port_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [_Info("/dev/ttyUSB1"), _Info("/dev/ttyACM0")])
    with pytest.raises(PortNotFoundError, match=r"no port /dev/tty-none.*: /dev/ttyACM0, /dev/ttyUSB1 \(run `microrpc"):
        open_serial("/dev/tty-none", baud=115200)
    monkeypatch.setattr(list_ports, "comports", list)
    with pytest.raises(PortNotFoundError, match=r"no serial port is there at all.*`microrpc ports`"):
        open_serial("/dev/tty-none", baud=115200)


@pytest.mark.parametrize("port", ["", "/dev/null/x"])
def test_other_absent_ports(port: str) -> None:
    with pytest.raises(PortNotFoundError, match="there is no port"):
        open_serial(port, baud=115200)


def test_what_is_not_a_serial_port(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("text")
    for port in (str(tmp_path / "file"), str(tmp_path), "/dev/null"):
        with pytest.raises(PortError, match="is not a serial port") as caught:
            open_serial(port, baud=115200)
        assert type(caught.value) is PortError


@pytest.mark.parametrize("baud", [0, -1, 2**40, 9600.5, 9600.0, True, "9600", math.nan])
def test_a_baud_rate_that_cannot_be(baud: int) -> None:
    master, name = open_pty()
    with pytest.raises(RequestError, match="a baud rate is a whole number from 1 to 2147483647, not"):
        open_serial(name, baud=baud)
    os.close(master)


def test_a_port_name_with_a_nul_is_refused() -> None:
    with pytest.raises(RequestError, match=r"the name of a port has no NUL, and 'a\\x00b' has"):
        open_serial("a\0b", baud=115200)


def fail_open_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_args: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("serial.serialposix.os.open", refuse)


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOENT, PortNotFoundError, "there is no port"),
        (errno.ENODEV, PortNotFoundError, "there is no port"),
        (errno.ENXIO, PortNotFoundError, "there is no port"),
        (errno.EIO, PortNotFoundError, "no hardware behind it"),
        (errno.EBUSY, PortBusyError, "close it"),
        (errno.EACCES, PortPermissionError, "may not be opened by this user"),
        (errno.EPERM, PortPermissionError, "may not be opened by this user"),
        (errno.EMFILE, PortError, "cannot be opened: .*Too many open files"),
    ],
)
def test_the_class_of_each_error_number(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PortError], text: str
) -> None:
    fail_open_with(monkeypatch, number)
    with pytest.raises(PortError, match=text) as caught:
        open_serial("/dev/null", baud=115200)
    assert type(caught.value) is kind
    assert caught.value.__cause__ is not None


def test_nobody_is_told_to_join_the_group_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_open_with(monkeypatch, errno.EACCES)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    with pytest.raises(PortPermissionError, match=r"group root does not help, so a udev rule must allow it") as caught:
        open_serial("/dev/null", baud=115200)  # which everybody in that group may read and write
    assert "usermod" not in str(caught.value)


def test_the_remedy_for_a_permission_names_the_group(
    monkeypatch: pytest.MonkeyPatch, others_port: pathlib.Path
) -> None:
    port, group = others_port, others_port.group()
    fail_open_with(monkeypatch, errno.EACCES)

    def message() -> str:
        with pytest.raises(PortPermissionError) as caught:
            open_serial(str(port), baud=115200)
        return str(caught.value)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    assert f"`sudo usermod -aG {group} $USER`, then log in again" in message()
    monkeypatch.setattr(os, "getgroups", lambda: [port.stat().st_gid])
    assert "udev rule" in message()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "container" in message()
    port.unlink()
    assert f"ls -l {port}" in message()


def test_urls_of_pyserial_are_served_through_it() -> None:
    channel = open_serial("loop://", baud=115200)
    assert isinstance(channel, PyserialChannel)
    channel.write(b"there and back", monotonic() + LONG_S)
    assert read_channel(channel, 14) == b"there and back"
    channel.close()
    with pytest.raises(PortError, match=r"cannot be opened: .*nonsense"):
        open_serial("nonsense://x", baud=115200)


def test_systems_without_poll_use_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_CAN_POLL", False)
    master, name = open_pty()
    channel = open_serial(name, baud=115200)
    assert isinstance(channel, PyserialChannel)
    os.write(master, b"abc")
    assert read_channel(channel, 3) == b"abc"
    with pytest.raises(PortBusyError):
        open_serial(name, baud=115200)
    channel.close()
    os.close(master)


def test_flow_control_is_configured() -> None:
    master, name = open_pty()
    for flow_control, hard, soft in (
        (FlowControl.NONE, False, False),
        (FlowControl.RTS_CTS, True, False),
        (FlowControl.XON_XOFF, False, True),
    ):
        channel = open_serial(name, baud=115200, flow_control=flow_control)
        iflag, _, cflag, *_ = termios.tcgetattr(master)
        assert (bool(cflag & termios.CRTSCTS), bool(iflag & (termios.IXON | termios.IXOFF))) == (hard, soft)
        channel.close()
    os.close(master)


# --- modem lines ----------------------------------------------------------------------------------


def test_modem_lines_are_set_and_cleared_each_at_once() -> None:
    calls: list[tuple[int, int]] = []
    master, name = open_pty()
    channel = open_serial(name, baud=115200)
    patch = pytest.MonkeyPatch()
    patch.setattr("fcntl.ioctl", lambda fd, request, arg: calls.append((request, struct.unpack("I", arg)[0])))
    assert channel.set_modem_lines(dtr=True, rts=True)
    assert calls == [(termios.TIOCMBIS, termios.TIOCM_DTR | termios.TIOCM_RTS)]
    calls.clear()
    assert channel.set_modem_lines(dtr=False, rts=True)
    assert calls == [(termios.TIOCMBIS, termios.TIOCM_RTS), (termios.TIOCMBIC, termios.TIOCM_DTR)]
    calls.clear()
    assert channel.set_modem_lines(rts=False)
    assert calls == [(termios.TIOCMBIC, termios.TIOCM_RTS)]
    patch.undo()
    channel.close()
    os.close(master)


def test_a_pty_and_a_connection_have_no_modem_lines(pair: Pair) -> None:
    assert isinstance(pair.channel, FdChannel | PyserialChannel | SocketChannel)
    assert not pair.channel.set_modem_lines(dtr=True)
    assert not pair.channel.set_modem_lines(rts=False)


def test_modem_lines_of_a_port_that_is_closed_or_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def go_away(*_args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    master, name = open_pty()
    for channel in (open_serial(name, baud=115200), PyserialChannel(name, serial.Serial(name, 115200))):
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.ioctl", go_away)
            with pytest.raises(PortLostError, match="went away"):
                channel.set_modem_lines(dtr=True)
        channel.close()
        with pytest.raises(PortLostError, match="closed by this program"):
            channel.set_modem_lines(dtr=True)
    os.close(master)


def test_pyserial_drives_the_modem_lines_where_it_has_the_port() -> None:
    port = serial.serial_for_url("loop://")  # its DTR is its own DSR, its RTS its own CTS
    channel = PyserialChannel("loop://", port)
    assert channel.set_modem_lines(dtr=False, rts=True)
    assert (port.dsr, port.cts) == (False, True)
    assert channel.set_modem_lines(dtr=True)
    assert (port.dsr, port.cts) == (True, True)
    channel.close()


def test_the_other_end_of_rfc2217_may_have_no_modem_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object) -> None:
        raise ValueError("remote rejected value for option 'control'")

    channel = open_serial("loop://", baud=115200)
    monkeypatch.setattr("serial.urlhandler.protocol_loop.Serial._update_dtr_state", refuse)
    assert not channel.set_modem_lines(dtr=False)
    channel.close()


# --- opening a TCP connection ---------------------------------------------------------------------


def test_a_socket_url_is_a_tcp_connection_without_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        channel = open_serial(url, baud=115200)
        peer = server.accept()[0]
    assert isinstance(channel, FdChannel)
    assert channel.name == url
    with socket.socket(fileno=os.dup(channel._fd)) as ours:
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with peer:
        peer.sendall(b"abc")
        assert read_channel(channel, 3) == b"abc"
        channel.close()
        assert peer.recv(1) == b""


def test_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PortNotFoundError, match=f"socket://127.0.0.1:{port}: nothing listens there"):
        open_tcp("127.0.0.1", port, LONG_S)


def test_a_server_is_named_as_the_user_knows_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PortNotFoundError, match=f"^tcp://127.0.0.1:{port}: nothing listens there"):
        open_tcp("127.0.0.1", port, LONG_S, scheme="tcp")
    with pytest.raises(PortNotFoundError, match=f"^tcp://127.0.0.1:{port}: nothing listens there"):
        microrpc.connect(f"tcp://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (socket.gaierror(-2, "Name or service not known"), PortNotFoundError, "host 'board.test' is not known"),
        (TimeoutError("timed out"), PortNotFoundError, "no answer within 0.5 s"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), PortError, "cannot be opened: Network is unreachable$"),
        (OverflowError("port must be 0-65535."), PortError, "0-65535"),
    ],
)
def test_other_failures_to_connect(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, kind: type[PortError], text: str
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> socket.socket:
        raise failure

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(PortError, match=text) as caught:
        open_tcp("board.test", 9190, 0.5)
    assert type(caught.value) is kind
    assert caught.value.port == "socket://board.test:9190"


MALFORMED = ["socket://", "socket://board", "socket://board:", "socket://board:x", "rfc2217://", "rfc2217://board"]


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_shows_the_form(url: str) -> None:
    scheme = url.partition(":")[0]
    with pytest.raises(PortError, match=f"^{url}: write {scheme}://HOST:PORT, for example {scheme}://localhost:9190$"):
        open_serial(url, baud=115200)


@pytest.mark.parametrize("number", [0, 65536, 99999])
def test_a_number_that_no_tcp_port_has_is_refused_and_never_taken_modulo_65536(number: int) -> None:
    with pytest.raises(PortError, match=f"^socket://localhost:{number}: a TCP port is a number from 1 to 65535$"):
        open_serial(f"socket://localhost:{number}", baud=115200)


# --- the cost of waiting --------------------------------------------------------------------------


def test_a_slow_line_is_not_spun_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    channel = FdChannel("pair", ours.detach())
    polls: list[float] = []
    real = channel._poll_readable

    def poll(timeout_ms: float) -> list[tuple[int, int]]:
        polls.append(timeout_ms)
        return real(timeout_ms)

    channel._poll_readable = poll
    assert channel.read(monotonic() + 0.01) == b""  # finds out
    polls.clear()
    assert channel.read(monotonic() + SHORT_S) == b""
    assert len(polls) <= 3, "it sleeps for the whole time, in one call"
    theirs.sendall(b"x")
    assert channel.read(0) == b"x"
    channel.close()
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs ptys that count processor time alike")
def test_waiting_costs_no_processor_time() -> None:
    import time

    master, name = open_pty()
    channel = open_serial(name, baud=115200)
    start = time.thread_time()
    assert channel.read(monotonic() + 0.3) == b""
    assert time.thread_time() - start < 0.1
    channel.close()
    os.close(master)
