"""The simulated board on a pty."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from forks import in_fork
from hand_made_host import BOOT, U8, Host
from hand_made_link import CANCEL, EVENT, EVENT_STATE, INIT, KEEP_ALIVE, PROGRESS, REPLY, SESSION_REPLY, LinkHand

from firmware_sim.board import demo as demo
from firmware_sim.board.clock import RealClock, VirtualClock
from firmware_sim.board.device import Device
from firmware_sim.line.settings import Rate, Uart
from firmware_sim.line.uart import UartLine
from firmware_sim.running.ports import DirectLine, PtyPort
from firmware_sim.running.server import PtyServer, Server
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import PortError, PortLostError, RequestError
from microrpc.ports.channel import Channel, monotonic
from microrpc.ports.opening import open_serial
from microrpc.wire.datatypes import CPU, Tensor
from microrpc.wire.features import Feature
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.packets import CallFunc, CopyAck, CopyFromRemote, Return, encode_packet
from microrpc.wire.session import MessageType, encode_message

LONG_S = 10.0  # a deadline that is not meant to pass
SHORT_S = 0.1  # one that is meant to pass


class Line:
    """A channel as a `Device` that `Host` can speak to."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def receive(self, data: bytes) -> None:
        self.channel.write(data, monotonic() + LONG_S)

    def take_output(self) -> bytes:
        """What comes until the line is quiet between two frames."""
        decoder, output = FrameDecoder(1 << 24), b""
        while not output or decoder.in_packet:
            data = self.channel.read(monotonic() + LONG_S)
            assert data, "no answer came"
            decoder.feed(data)
            output += data
        return output


class PtyHost(Host):
    """`Host` on a pty."""

    def __init__(self, server: PtyServer) -> None:
        self.line = Line(open_serial(server.path, baud=115200))
        super().__init__(self.line)  # type: ignore[arg-type]

    def open(self, nonce: int = 0x26) -> int:
        self.send(MessageType.TERMINATE_SESSION)
        self.send(MessageType.START_SESSION_INIT, b"\x01", nonce)
        while True:
            for session_id, message_type, _ in self.messages():
                if message_type == MessageType.START_SESSION_REPLY:
                    self.session_id = session_id
                    return session_id

    def close(self) -> None:
        self.line.channel.close()


@pytest.fixture
def device() -> Device:
    device = Device(heap_bytes=1 << 21)
    demo.install(device)
    return device


@pytest.fixture
def server(device: Device) -> Iterator[PtyServer]:
    with PtyServer(device) as server:
        yield server


@pytest.fixture
def host(server: PtyServer) -> Iterator[PtyHost]:
    host = PtyHost(server)
    host.open()
    yield host
    host.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + LONG_S
    while not condition():
        assert monotonic() < deadline
        time.sleep(0.001)


def test_the_boot_message_waits_for_the_first_host(server: PtyServer) -> None:
    channel = open_serial(server.path, baud=115200)
    data = b""
    while len(data) < len(BOOT):
        data += channel.read(monotonic() + LONG_S)
    assert data == BOOT
    channel.close()


def test_every_byte_passes_both_ways_as_it_is(host: PtyHost) -> None:
    data = bytes(range(256)) * 2 + b"\x03\x04\r\n\x11\x13\xff" * 50
    assert host.call("echo_bytes", data) == data


def test_hosts_may_come_and_go(server: PtyServer, device: Device) -> None:
    addresses = []
    for nonce in (1, 2, 3):
        host = PtyHost(server)
        host.open(nonce)
        addresses.append(int(host.alloc(16)))
        host.close()
    assert sorted(device.memory.blocks) == addresses


def test_a_host_that_left_in_mid_packet_does_not_disturb_the_next(server: PtyServer) -> None:
    first = PtyHost(server)
    first.open()
    first.line.receive(b"\xff\xfd\x20\x00\x00\x00half")
    first.close()
    second = PtyHost(server)
    second.open()
    assert second.call("add", 1, 2) == 3
    second.close()


def test_a_reset_from_another_thread_boots_the_board(server: PtyServer, host: PtyHost, device: Device) -> None:
    host.alloc(16)
    server.reset()
    assert host.line.take_output() == BOOT
    assert device.memory.used_bytes == 0
    host.open()
    assert host.call("add", 1, 2) == 3


# --- a host that does not read ----------------------------------------------------------------


def ask_for_a_large_reply(host: PtyHost, device: Device) -> bytes:
    """Ask for a megabyte and read none of it; give what it must be."""
    address = host.alloc(1 << 20)
    contents = os.urandom(1 << 20)
    device.memory.view(address, 1 << 20)[:] = contents
    served = device.stats.frames_received
    host.send_normal(encode_packet(CopyFromRemote(Tensor(address, CPU, U8, (1 << 20,)), 1 << 20)))
    wait_until(lambda: device.stats.frames_received > served)
    return contents


def test_what_the_host_reads_late_is_not_lost(host: PtyHost, device: Device) -> None:
    add = host.function("add")
    contents = ask_for_a_large_reply(host, device)
    served = device.stats.frames_received
    host.send_normal(encode_packet(CallFunc(add, (1, 2))))
    time.sleep(SHORT_S)
    assert device.stats.frames_received == served  # the board is held up, and takes no more
    replies = host.replies()
    if len(replies) == 1:  # the second may come in the same piece, or not
        replies += host.replies()
    assert replies == [CopyAck(contents), Return((0, 3))]


def test_a_reset_loses_what_the_host_has_not_read(server: PtyServer, host: PtyHost, device: Device) -> None:
    contents = ask_for_a_large_reply(host, device)
    server.reset()
    wait_until(lambda: device.stats.resets == 1)
    received = b""
    while not received.endswith(BOOT):
        received += host.line.channel.read(monotonic() + LONG_S)
    assert len(received) < len(contents)


def test_a_server_can_be_closed_while_a_host_does_not_read(device: Device) -> None:
    server = PtyServer(device)
    server.start()
    host = PtyHost(server)
    host.open()
    ask_for_a_large_reply(host, device)
    server.close()
    host.close()


# --- start and end ----------------------------------------------------------------------------


def test_closing_hangs_up_and_may_be_done_twice(device: Device) -> None:
    server = PtyServer(device)
    server.start()
    channel = open_serial(server.path, baud=115200)
    assert channel.read(monotonic() + LONG_S)
    server.close()
    server.close()
    server.reset()  # which nobody hears
    with pytest.raises(PortLostError):
        channel.read(monotonic() + LONG_S)
    channel.close()


def test_run_serves_from_the_calling_thread_until_it_is_closed(device: Device) -> None:
    server = PtyServer(device)
    results: list[object] = []

    def use() -> None:
        host = PtyHost(server)
        host.open()
        results.append(host.call("add", 40, 2))
        host.close()
        server.close()

    user = threading.Thread(target=use)
    user.start()
    server.run()
    user.join()
    assert results == [42]


def test_a_server_that_never_served_can_be_closed(device: Device, tmp_path: Path) -> None:
    server = PtyServer(device, link=tmp_path / "board")
    server.close()
    server.run()  # and returns at once
    assert list(tmp_path.iterdir()) == []


def test_a_server_can_be_closed_from_its_own_thread(device: Device, tmp_path: Path) -> None:
    server = PtyServer(device, link=tmp_path / "board")
    server.start()
    server.do(lambda now: server.close())  # as when its last owner is collected there
    assert server._thread is not None
    server._thread.join(LONG_S)
    assert not server._thread.is_alive()
    assert list(tmp_path.iterdir()) == []


def test_a_fork_that_closes_its_copy_of_a_server_ends_nothing(device: Device, tmp_path: Path) -> None:
    with PtyServer(device, link=tmp_path / "board") as server:
        assert in_fork(server.close) == "None"
        assert server.path == str(tmp_path / "board")
        host = PtyHost(server)
        host.open()
        assert host.call("add", 40, 2) == 42
        host.close()


def test_an_idle_server_sleeps(server: PtyServer, host: PtyHost) -> None:
    before = time.process_time()
    time.sleep(SHORT_S)
    assert time.process_time() - before < SHORT_S / 2


def test_what_comes_within_a_tick_is_done_in_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    init = encode_frame(encode_message(0x26, MessageType.START_SESSION_INIT, b"\x01"))
    slept: list[float] = []

    class SecondLookError(Exception):
        pass

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 1:
            raise SecondLookError
        for channel in channels:
            channel.write(init, monotonic() + LONG_S)

    monkeypatch.setattr("firmware_sim.running.server.time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    server = Server(PtyPort(Device()), PtyPort(Device()), tick_s=0.25)
    channels = [open_serial(port.path, baud=115200) for port in server.ports]
    with pytest.raises(SecondLookError):
        server.run()
    assert slept == [0.25, 0.25]
    for channel in channels:
        decoder, types = FrameDecoder(), list[int]()
        while len(types) < 2:
            data = channel.read(monotonic() + LONG_S)
            assert data, "the board was not looked at"
            types += [item[2] for item in decoder.feed(data) if isinstance(item, bytes)]
        assert types == [MessageType.TERMINATE_SESSION, MessageType.START_SESSION_REPLY]
        channel.close()
    server.close()


@pytest.mark.parametrize("tick_s", [-0.001, float("nan"), True])
def test_a_tick_that_cannot_be_is_refused(tick_s: float) -> None:
    port = PtyPort(Device())
    with pytest.raises(RequestError, match=r"^tick_s is a number of seconds, 0 or more"):
        Server(port, tick_s=tick_s)
    port.close()


# --- the link ---------------------------------------------------------------------------------


def test_the_link_is_the_path_and_is_removed_at_the_end(device: Device, tmp_path: Path) -> None:
    link = tmp_path / "board"
    with PtyServer(device, link=link) as server:
        assert server.path == str(link)
        assert os.readlink(link) == server.port
        host = PtyHost(server)
        host.open()
        assert host.call("add", 1, 1) == 2
        host.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["/dev/null", "nowhere"])
def test_an_older_link_is_replaced(device: Device, tmp_path: Path, target: str) -> None:
    link = tmp_path / "board"
    link.symlink_to(target)
    with PtyServer(device, link=str(link)) as server:
        assert os.readlink(link) == server.port


def test_a_link_that_another_server_took_over_is_left_to_it(tmp_path: Path) -> None:
    link = tmp_path / "board"
    first = PtyServer(Device(), link=link)
    with PtyServer(Device(), link=link) as second:
        first.close()
        assert os.readlink(link) == second.port


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_is_no_link_is_not_overwritten(device: Device, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "board"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(PortError) as caught:
        PtyServer(device, link=path)
    assert str(caught.value) == f"{path} exists and is no link: choose another path"
    assert caught.value.port == str(path)
    assert path.is_dir() or path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_cannot_be_made_is_one_clear_error(device: Device, tmp_path: Path) -> None:
    open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with pytest.raises(PortError, match=r"cannot make the link .*/missing/board: No such file or directory"):
        PtyServer(device, link=tmp_path / "missing" / "board")
    if open_before is not None:
        assert len(os.listdir("/proc/self/fd")) == open_before


# --- profiles ---------------------------------------------------------------------------------


def test_a_board_is_simulated_as_its_profile_says() -> None:
    chosen = profile("nucleo_f746zg")
    device = simulate(chosen)
    assert device.packet_size_bytes == chosen.packet_size_bytes
    assert device.memory.size_bytes == chosen.heap_bytes
    assert "add" in device.system_library
    start = monotonic()
    device.clock.sleep(0.001)
    assert monotonic() - start >= 0.001


def test_the_pty_can_be_polled(server: PtyServer) -> None:
    fd = os.open(server.path, os.O_RDWR | os.O_NOCTTY)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    assert poller.poll(LONG_S * 1000) == [(fd, select.POLLIN)]
    os.close(fd)


# --- long functions in real time ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["direct", "line"])
def test_a_long_function_is_heard_of_while_it_runs_and_is_cancelled(kind: str) -> None:
    device = simulate(profile("loopback"), clock=RealClock() if kind == "direct" else VirtualClock())
    board = device if kind == "direct" else UartLine(device, Uart(to_board=Rate(921600), to_host=Rate(921600)))
    with PtyServer(board) as server:
        channel = open_serial(server.path, baud=115200)
        hand = LinkHand(device)

        def hear(until: int) -> list[int]:
            heard: list[int] = []
            while until not in heard:
                data = channel.read(monotonic() + LONG_S)
                assert data, f"only {heard} came"
                heard += [kind for kind, _ in hand.read(data)]
            return heard

        channel.write(hand.plain(INIT, b"\x01", 0x26), monotonic() + LONG_S)
        hear(SESSION_REPLY)
        channel.write(hand.call(0, "work", 3600, 20_000), monotonic() + LONG_S)
        hear(PROGRESS)  # and not only when an hour is over
        channel.write(hand.about(CANCEL, 0), monotonic() + LONG_S)
        assert set(hear(REPLY)) <= {PROGRESS, REPLY}
        channel.write(hand.about(KEEP_ALIVE, 0), monotonic() + LONG_S)
        assert hear(KEEP_ALIVE) == [KEEP_ALIVE]
        channel.close()


def test_a_board_without_cancel_takes_nothing_from_its_port_while_a_function_runs() -> None:
    device = Device(features=Feature.PROGRESS, clock=RealClock())
    line = DirectLine(device)
    hand = LinkHand(device)
    demo.install(device)
    hand.open()
    wire = hand.call(0, "work", 1, 0)
    assert line.write(wire, 1.0) == len(wire)
    assert line.write(hand.about(KEEP_ALIVE, 0), 1.0) == 0
    assert [kind for kind, _ in hand.read(line.read(1.0))] == [PROGRESS]
    assert line.next_event() == 1.0
    assert [kind for kind, _ in hand.read(line.read(1.5))] == [REPLY]
    assert line.next_event() is None
    assert line.write(hand.about(KEEP_ALIVE, 0), 1.5) > 0


def test_a_host_that_is_silent_is_gone_in_real_time_too() -> None:
    told: list[bool] = []
    gone = threading.Event()

    def on_session(begins: bool) -> None:
        told.append(begins)
        if not begins:
            gone.set()

    device = Device(clock=RealClock(), host_timeout_ms=50, on_session=on_session)
    with PtyServer(device) as server:
        channel = open_serial(server.path, baud=115200)
        channel.write(LinkHand(device).plain(INIT, b"\x01", 0x26), monotonic() + LONG_S)
        assert gone.wait(LONG_S)
        channel.close()
    assert told == [True, False]


@pytest.mark.parametrize("kind", ["direct", "line"])
def test_a_served_board_sends_an_event_when_it_is_asked_to(kind: str) -> None:
    device = simulate(profile("loopback"), clock=RealClock() if kind == "direct" else VirtualClock())
    line = UartLine(device) if kind == "line" else None
    with PtyServer(line or device) as server:
        channel = open_serial(server.path, baud=115200)
        hand = LinkHand(device)
        heard: list[int] = []
        for wire, answer in ((hand.plain(INIT, b"\x01", 0x26), SESSION_REPLY), (None, EVENT_STATE)):
            channel.write(wire or hand.ack(0, 1000), monotonic() + LONG_S)
            while answer not in heard:
                heard += [kind for kind, _ in hand.read(channel.read(monotonic() + LONG_S))]
        server.do(lambda now: None if (line.event(now, "a") if line else device.event("a")) else server.close())
        told: list[int] = []
        while not told:  # a frame may come in pieces
            told += [kind for kind, _ in hand.read(channel.read(monotonic() + LONG_S))]
        assert told == [EVENT]
        channel.close()
