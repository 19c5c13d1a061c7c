"""What clients of a shared board get beside replies: events, progress and cancelling (docs/link.md 11)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from unittest import mock

import numpy as np
import pytest
from apis import Api, AsyncioApi, by_name

import microrpc
from firmware_sim.board.device import Device
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc import aio
from microrpc.errors import (
    ArgumentError,
    CallCancelledError,
    ClosedError,
    FeatureMissingError,
    FunctionNotFoundError,
    RemoteError,
)
from microrpc.gateway import outbox, unix
from microrpc.gateway.client import SharedClient
from microrpc.host import subscriptions
from microrpc.wire.asides import Want
from microrpc.wire.datatypes import ModuleHandle
from microrpc.wire.events import Event
from microrpc.wire.packets import CallFunc, InitServer, Return, decode_packet, encode_packet

LOOPBACK = microrpc.profile("loopback")
LIMIT_S = 20.0  # of what must end at once: a failed test ends too

WANT_EVENTS = struct.pack("<QiB", 5, 0x4D520001, 1)
WANT_PROGRESS = struct.pack("<QiB", 5, 0x4D520001, 2)
WANT_BOTH = struct.pack("<QiB", 5, 0x4D520001, 3)
WANT_NOTHING = struct.pack("<QiB", 5, 0x4D520001, 0)
HOLD = struct.pack("<QiB", 5, 0x4D520001, 5)
CANCEL = struct.pack("<Qi", 4, 0x4D520002)


class Sharing:
    """A simulated board on a pty, in real time, and a thread that shares it on a socket."""

    def __init__(self, path: Path, device: Device | None = None, **options: Any) -> None:
        self.url = f"unix://{path}"
        self.path = path
        self.failures: list[dict[str, Any]] = []
        self.clients: list[SharedClient] = []
        self._options = options
        self.server = PtyServer(simulate(LOOPBACK) if device is None else device)
        self.device = self.server.device
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda loop, context: self.failures.append(context))
        try:
            opening = aio.connect(self.server.path)
            with mock.patch.object(unix, "SharedClient", self._make_client):
                async with opening as board, unix.Share(board, self.path, **self._options) as self.share:
                    self.board = board
                    self._is_up.set()
                    await self._stopped.wait()
        finally:
            self._is_up.set()

    def _make_client(self, *args: Any, **options: Any) -> SharedClient:
        self.clients.append(SharedClient(*args, **options))
        return self.clients[-1]

    def calls_under_way(self) -> int:
        return sum(client._session._running is not None for client in self.clients)

    def do(self, order: Callable[[], object]) -> None:
        """Have the board's thread do something, and wait until it is done."""
        done = threading.Event()
        self.server.do(lambda now: (order(), done.set()))  # type: ignore[arg-type, return-value]
        assert done.wait(LIMIT_S)

    def emit(self, *values: Any, name: str = "sample", reliable: bool = False) -> None:
        self.do(lambda: [self.device.event(name, value, reliable=reliable) for value in values])

    @property
    def has_credit(self) -> bool:
        return self.device._events._credit_bytes > 0

    def wait_until(self, is_so: Callable[[], object], api: Any = None) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < deadline, "it did not come true"
            if isinstance(api, AsyncioApi):
                api.loop.run_until_complete(asyncio.sleep(0.001))
            else:
                time.sleep(0.002)

    def wait_until_free(self) -> None:
        self.wait_until(lambda: self.share.clients == 0 and self.device.memory.used_bytes == 0)

    def __enter__(self) -> Self:
        self.server.start()
        self._thread.start()
        assert self._is_up.wait(LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(LIMIT_S)
        self.server.close()
        assert not self._thread.is_alive()
        assert self.failures == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.sock"


@pytest.fixture
def sharing(path: Path) -> Iterator[Sharing]:
    with Sharing(path) as sharing:
        yield sharing


class Raw:
    """A client whose bytes are written by hand."""

    def __init__(self, sharing: Sharing) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(str(sharing.path))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """Give the next packet, without its packet_nbytes; b"" at the end."""
        head = self._exactly(8)
        return self._exactly(struct.unpack("<Q", head)[0]) if head else b""

    def _exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            more = self.socket.recv(size_bytes - len(data))
            if not more:
                assert not data, "it ended within a packet"
                return b""
            data += more
        return data

    def look_up(self, name: str) -> int:
        text = name.encode()
        self.send(struct.pack("<QiiiQ", 20 + len(text), 9, 1, 11, len(text)) + text)
        code, count, kind, handle = struct.unpack("<iiiQ", self.receive())
        assert (code, count, kind) == (4, 1, 3)
        return int(handle)

    def find(self, name: str) -> int:
        """Give a function of the system library."""
        self.call(self.look_up("runtime.SystemLib"))
        module = self._handle()
        self.call(self.look_up("tvm.rpc.server.ModuleGetFunction"), ModuleHandle(module), name, 1)
        return self._handle()

    def _handle(self) -> int:
        reply = decode_packet(self.receive())
        assert isinstance(reply, Return)
        assert isinstance(reply.values[1], int)
        return reply.values[1]

    def call(self, handle: int, *args: Any) -> None:
        self.send(encode_packet(CallFunc(handle, args)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


# --- on the wire ----------------------------------------------------------------------------------


def test_the_look_up_tells_what_the_board_knows_and_those_of_the_line_tell_nothing(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        features = sharing.board.operations.connection.features
        known, described = int(features.known), features.description_hash
        assert known & 15 == 15
        assert client.look_up("microrpc.stream") == 1 | known << 8 | described << 32
        assert client.look_up("microrpc.features") == client.look_up("microrpc.link") == 0


def test_a_board_without_features_is_shared_without_any(path: Path) -> None:
    with Sharing(path, Device(firmware="stock")) as sharing, Raw(sharing) as client:
        assert client.look_up("microrpc.stream") == 0
        client.send(WANT_BOTH + CANCEL)
        assert client.look_up("microrpc.stream") == 0


def test_an_event_is_sent_to_the_byte(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        client.look_up("microrpc.stream")
        client.send(WANT_EVENTS)
        sharing.wait_until(lambda: sharing.has_credit)
        sharing.emit(-2)
        body = client.receive()
        number, flags, time_us = struct.unpack_from("<IBI", body, 16)
        assert body[:4] == struct.pack("<i", 0x4D520003)
        assert struct.unpack_from("<IIi", body, 4) == (sharing.device.boot_id, 0, 0)
        assert (number, flags, body[25:32], body[32:]) == (0, 0, b"\x06sample", b"\x00" + struct.pack("<q", -2))
        assert time_us > 0


def test_who_wants_no_events_gets_none_and_the_board_is_not_asked_for_any(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        client.look_up("microrpc.stream")
        assert not sharing.has_credit
        client.send(WANT_EVENTS)
        sharing.wait_until(lambda: sharing.has_credit)
        client.send(WANT_NOTHING)
        sharing.wait_until(lambda: not sharing.has_credit)
        sharing.emit(1)
        client.look_up("microrpc.stream")


def test_progress_comes_before_the_reply_and_only_to_who_wants_it(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        work = client.find("work")
        client.call(work, 3, 100)
        assert decode_packet(client.receive()) == Return((0, 3))
        client.send(WANT_PROGRESS)
        client.call(work, 3, 100)
        for done in (1, 2, 3):
            assert client.receive() == struct.pack("<iII", 0x4D520004, done, 3)
        assert decode_packet(client.receive()) == Return((0, 3))


def test_a_cancel_is_answered_by_the_reply_of_the_call_and_means_nothing_without_one(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        work, add = client.find("work"), client.find("add")
        client.send(CANCEL + WANT_PROGRESS)
        client.call(add, 2, 3)
        assert decode_packet(client.receive()) == Return((0, 5))
        client.call(work, 100_000, 1000)
        assert client.receive() == struct.pack("<iII", 0x4D520004, 1, 100_000)
        client.send(CANCEL)
        while (body := client.receive())[:4] == struct.pack("<i", 0x4D520004):
            pass
        assert b"CallFunc was cancelled while it ran, and ended with: " in body
        client.call(add, 2, 3)
        assert decode_packet(client.receive()) == Return((0, 5))


def test_a_call_that_is_cancelled_with_its_own_bytes_does_not_begin(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        work = client.find("work")
        client.send(encode_packet(CallFunc(work, (100_000, 1000))) + CANCEL)
        text = b"cancelled before it began"
        assert client.receive() == struct.pack("<iiiQ", 5, 1, 11, len(text)) + text


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack("<QiB", 5, 0x4D520001, 8),
        struct.pack("<Qi", 4, 0x4D520001),
        struct.pack("<QiH", 6, 0x4D520001, 1),
        struct.pack("<QiB", 5, 0x4D520002, 0),
    ],
    ids=["an unknown flag", "no flags", "a flag too many", "a CANCEL with more"],
)
def test_garbage_beside_requests_ends_the_connection_with_its_reason(sharing: Sharing, garbage: bytes) -> None:
    with Raw(sharing) as client, Raw(sharing) as other:
        client.send(garbage)
        assert b"ProtocolError: " in (body := client.receive())
        assert body.endswith(b"(docs/protocol.md, section 5); connect again")
        assert client.receive() == b""
        assert other.find("add")


def test_what_only_a_server_says_is_a_request_that_nobody_knows(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        client.send(struct.pack("<Qii", 8, 0x4D520003, 0))
        assert b"unknown packet code 1297219587" in client.receive()
        assert client.find("add")


def test_a_client_that_asks_on_and_on_and_reads_nothing_is_not_read_either(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        client.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.send(encode_packet(InitServer("0.8.0", ())) * 100_000)
        (served,) = sharing.clients
        assert served._endpoint.buffered_bytes < 200_000
        assert len(served._endpoint._output) < 1_000_000


# --- events, as users have them -------------------------------------------------------------------


def test_a_handler_and_an_iterator_get_what_the_board_says(api: Api, sharing: Sharing) -> None:
    got: list[Event] = []
    with api.connect(sharing.url) as board:
        board.on_event("sample", got.append)
        events = board.events(timeout_s=LIMIT_S)
        sharing.wait_until(lambda: sharing.has_credit, api)
        sharing.emit(1, 2)
        sharing.emit(3, name="other", reliable=True)
        assert [
            (event.name, event.number, event.value, event.missed) for event in (next(events) for _ in range(3))
        ] == [
            ("sample", 0, 1, 0),
            ("sample", 1, 2, 0),
            ("other", 0, 3, 0),
        ]
        assert [event.value for event in got] == [1, 2]
        assert got[0].boot == sharing.device.boot_id
        assert board.function("add")(2, 3) == 5
        sharing.emit(4)
        assert next(events).value == 4


def test_events_come_while_a_call_and_a_copy_are_under_way(api: Api, sharing: Sharing) -> None:
    got: list[Event] = []
    with api.connect(sharing.url) as board:
        board.on_event(None, got.append)
        sharing.wait_until(lambda: sharing.has_credit, api)
        assert board.function("emit")("burst", 3, 4, 0) == 3
        assert board.array(np.arange(5000)).numpy()[4999] == 4999
        sharing.wait_until(lambda: len(got) == 3, api)
    assert [event.values for event in got] == [(n, bytes(range(n, n + 4))) for n in range(3)]


def test_a_poll_handles_what_came(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        assert board.poll() == 0
        events = board.events()
        sharing.wait_until(lambda: sharing.has_credit, api)
        sharing.emit(1)
        board.poll(0.2)
        assert next(events).value == 1


def test_each_client_gets_its_own_events_and_the_board_is_asked_until_the_last_has_left(
    api: Api, sharing: Sharing
) -> None:
    with api.connect(sharing.url) as one, api.connect(sharing.url) as another, api.connect(sharing.url) as third:
        first, second = one.events(timeout_s=LIMIT_S), another.events(timeout_s=LIMIT_S)
        sharing.wait_until(lambda: len(sharing.share._hub._outboxes) == 2 and sharing.has_credit, api)
        sharing.emit(1, reliable=True)
        assert next(first).value == next(second).value == 1
        assert third.function("add")(2, 3) == 5
        first.close()
        sharing.wait_until(lambda: len(sharing.share._hub._outboxes) == 1, api)
        sharing.emit(2)
        assert next(second).value == 2
    sharing.wait_until(lambda: not sharing.has_credit)


def test_reliable_events_wait_on_the_board_until_a_client_wants_some(api: Api, sharing: Sharing) -> None:
    sharing.emit(1, 2, 3, reliable=True)
    with api.connect(sharing.url) as board:
        events = board.events(timeout_s=LIMIT_S)
        assert [next(events).value for _ in range(3)] == [1, 2, 3]


def test_a_board_without_events_says_so_to_who_wants_some(api: Api, path: Path) -> None:
    with Sharing(path, Device(firmware="stock")) as sharing, api.connect(sharing.url) as board:
        events = board.events(timeout_s=LIMIT_S)
        with pytest.raises(FeatureMissingError, match="over a stream they come from `microrpc share`, of a board with"):
            next(events)
        with pytest.raises(FunctionNotFoundError):
            board.function("nothing")


def test_a_slow_client_misses_plain_events_and_is_told_how_many(sharing: Sharing, monkeypatch: Any) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 4)
    with Raw(sharing) as slow, Raw(sharing) as quick:
        for client in (slow, quick):
            client.look_up("microrpc.stream")
        slow.send(HOLD)
        quick.send(WANT_EVENTS)
        sharing.wait_until(lambda: len(sharing.share._hub._outboxes) == 2 and sharing.has_credit)
        for value in range(10):
            sharing.emit(value)
            assert struct.unpack_from("<i", quick.receive()) == (0x4D520003,)
        slow.send(WANT_EVENTS)
        bodies = [slow.receive() for _ in range(5)]
        assert [struct.unpack_from("<I", body, 16)[0] for body in bodies] == [0, 1, 2, 3, 4]
        assert [struct.unpack_from("<I", body, 8)[0] for body in bodies] == [0, 0, 0, 0, 6]
        assert bodies[4][25:] == b"\x00", "a gap has no name and no values"
        sharing.emit(10)
        assert struct.unpack_from("<I", slow.receive(), 8) == (0,)


def test_a_client_whose_queue_cannot_take_a_reliable_event_is_dropped_with_a_reason(
    api: Api, sharing: Sharing, monkeypatch: Any
) -> None:
    monkeypatch.setattr(outbox, "MOST_EVENTS", 4)
    with api.connect(sharing.url) as board, Raw(sharing) as slow:
        events = board.events(timeout_s=LIMIT_S)
        slow.look_up("microrpc.stream")
        slow.send(HOLD)
        sharing.wait_until(lambda: len(sharing.share._hub._outboxes) == 2 and sharing.has_credit, api)
        for value in range(5):
            sharing.emit(value, reliable=True)
            assert next(events).value == value
        body = slow.receive()
        assert body[:4] == struct.pack("<i", 0x4D520005)
        assert body[4:].startswith(b"this client read its events too slowly: ")
        assert slow.receive() == b""
        assert board.function("add")(2, 3) == 5


def test_a_client_that_was_dropped_has_one_clear_error(api: Api, path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    with contextlib.closing(listening):
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(struct.pack("<Qiii", 12, 4, 1, 4))  # to InitServer: None
                peer.recv(4096)
                peer.sendall(struct.pack("<QiiiQ", 20, 4, 1, 3, 1 | 1 << 8))
                assert peer.recv(4096) == WANT_EVENTS
                peer.sendall(struct.pack("<Qi", 4 + 8, 0x4D520005) + b"too slow")

        thread = threading.Thread(target=serve)
        thread.start()
        with api.connect(f"unix://{path}") as board:
            events = board.events(timeout_s=LIMIT_S)
            with pytest.raises(ClosedError, match="too slow; connect again"):
                next(events)
        thread.join(LIMIT_S)


def test_a_program_that_does_not_read_its_events_has_the_share_keep_them(
    api: Api, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "QUEUE_EVENTS", 16)
    device = Device(event_ring_bytes=1 << 16, clock=simulate(LOOPBACK).clock)
    with Sharing(path, device) as sharing, api.connect(sharing.url) as board:
        events = board.events(timeout_s=LIMIT_S)
        sharing.wait_until(lambda: sharing.has_credit, api)
        (box,) = sharing.share._hub._outboxes
        for start in range(0, 40, 10):
            sharing.emit(*range(start, start + 10), reliable=True)
            sharing.wait_until(lambda: sharing.board.operations.connection.events.delivered == start + 10, api)  # noqa: B023
        sharing.wait_until(lambda: box.wants & Want.HOLD, api)
        sharing.emit(40, reliable=True)
        sharing.wait_until(lambda: box._events, api)
        assert [next(events).value for _ in range(41)] == list(range(41))
        sharing.wait_until(lambda: not box.wants & Want.HOLD, api)


def test_a_subscription_holds_over_a_reconnection_and_tells_what_was_missed_meanwhile(api: Api, path: Path) -> None:
    with PtyServer(simulate(LOOPBACK)) as server:
        with microrpc.connect(server.path) as keeper:  # a board that goes on while nobody shares it
            keeper.function("add")
        with Sharing(path) as sharing:
            board = api.connect(sharing.url, reconnect=True, reconnect_s=LIMIT_S)
            events = board.events(timeout_s=LIMIT_S)
            sharing.wait_until(lambda: sharing.has_credit, api)
            sharing.emit(0)
            assert next(events).value == 0
            box = next(iter(sharing.share._hub._outboxes))
            sharing._loop.call_soon_threadsafe(box._channel.close)
            sharing.wait_until(lambda: box not in sharing.share._hub._outboxes)
            sharing.emit(1)
            sharing.wait_until(lambda: sharing.share._hub._outboxes and sharing.has_credit, api)
            sharing.emit(2)
            event = next(events)
            assert (event.value, event.missed) == (2, 1)
            board.close()


# --- long calls -----------------------------------------------------------------------------------


def test_progress_is_told_and_puts_off_the_end_of_a_call(api: Api, sharing: Sharing) -> None:
    told: list[tuple[int, int]] = []
    with api.connect(sharing.url, timeouts=microrpc.Timeouts(call_s=0.5)) as board:
        work = board.function("work")
        assert work(10, 100_000, on_progress=lambda done, total: told.append((done, total))) == 10
        assert told == [(step, 10) for step in range(1, 11)]
        assert work(10, 100_000) == 10
        with pytest.raises(microrpc.CallTimeoutError):
            work(10, 100_000, timeout_s=0.3)


def test_a_call_that_is_cancelled_ends_early_and_the_stream_goes_on(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        call = board.function("work").start(100_000, 1000)
        sharing.wait_until(lambda: sharing.calls_under_way() == 1, api)
        call.cancel()
        with pytest.raises(CallCancelledError, match="cancelled"):
            call.result(LIMIT_S)
        assert board.function("add")(2, 3) == 5


def test_a_call_that_waits_for_another_clients_is_cancelled_without_a_word_to_the_board(
    api: Api, sharing: Sharing
) -> None:
    with api.connect(sharing.url) as board, Raw(sharing) as other:
        work = board.function("work")
        other.send(WANT_PROGRESS)
        other.call(other.find("work"), 100_000, 1000)
        other.receive()
        calls = sharing.device.stats.frames_received
        call = work.start(100_000, 1000)
        sharing.wait_until(lambda: sharing.calls_under_way() == 2, api)
        call.cancel()
        with pytest.raises(CallCancelledError, match="CallFunc was cancelled before it began") as caught:
            call.result(LIMIT_S)
        assert not caught.value.may_have_run
        other.send(CANCEL)
        assert sharing.device.stats.frames_received - calls < 100
        assert board.function("add")(2, 3) == 5


def test_ctrl_c_in_a_call_is_told_to_the_board_and_the_stream_goes_on(sharing: Sharing) -> None:
    with microrpc.connect(sharing.url) as board:
        work = board.function("work")
        begun = threading.Event()
        threading.Thread(target=lambda: (begun.wait(LIMIT_S), os.kill(os.getpid(), signal.SIGINT))).start()
        with pytest.raises(KeyboardInterrupt):
            work(100_000, 1000, on_progress=lambda done, total: begun.set())
        assert board.function("add")(2, 3) == 5


def test_a_task_that_is_cancelled_tells_the_board_and_the_stream_goes_on(sharing: Sharing) -> None:
    async def test() -> None:
        async with aio.connect(sharing.url) as board:
            work, begun = await board.function("work"), asyncio.Event()
            task = asyncio.create_task(work(100_000, 1000, on_progress=lambda done, total: begun.set()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await (await board.function("add"))(2, 3) == 5

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


def test_a_client_that_dies_in_a_call_has_it_cancelled(sharing: Sharing) -> None:
    with Raw(sharing) as client:
        client.send(WANT_PROGRESS)
        client.call(client.find("work"), 100_000, 1000)
        client.receive()
    with microrpc.connect(sharing.url) as board:
        assert board.function("add")(2, 3) == 5  # and not after 100 seconds


def test_sharing_that_ends_in_a_call_cancels_it(path: Path) -> None:
    with Sharing(path) as sharing, Raw(sharing) as client:
        client.send(WANT_PROGRESS)
        client.call(client.find("work"), 100_000, 1000)
        client.receive()


# --- what the board tells of itself ---------------------------------------------------------------


def test_a_shared_board_is_called_by_the_names_that_it_describes_itself(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        docs = {told.name: told.doc for told in board.functions()}
        assert docs["scale_f32"] == "Multiply x by a factor, in place."
        assert board.identity.hash == f"{sharing.device.description.hash:08x}"
        x = board.array(np.arange(3, dtype="float32"))
        by_name(board, "scale_f32")(x, factor=3)
        assert x.numpy().tolist() == [0, 3, 6]
        with pytest.raises(ArgumentError, match=r"scale_f32\(x: float32\[\.\.\.\], factor: float\) -> None"):
            by_name(board, "scale_f32")(board.array([1]), 2.0)
        told: list[int] = []
        assert by_name(board, "work")(3, step_us=1000, on_progress=lambda done, total: told.append(done)) == 3
        assert told == [1, 2, 3]
        memory = board.memory()
        assert memory.heap_bytes == LOOPBACK.heap_bytes
        assert memory.used_bytes >= 12


def test_what_the_board_tells_of_itself_is_passed_on_as_it_is(path: Path) -> None:
    device = Device(clock=simulate(LOOPBACK).clock)
    pages = {0: b"microrpc\t1\t" + bytes(range(100)), 110: b""}
    device.functions["microrpc.describe"] = pages.__getitem__
    device.functions["microrpc.memory"] = lambda: b"\x01\x02"
    with Sharing(path, device) as sharing, Raw(sharing) as client:
        describe, memory = client.look_up("microrpc.describe"), client.look_up("microrpc.memory")
        for handle, args, data in ((describe, (0,), pages[0]), (describe, (110,), b""), (memory, (), b"\x01\x02")):
            client.call(handle, *args)
            assert decode_packet(client.receive()) == Return((12, data))


def test_release_all_stays_refused(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board, pytest.raises(RemoteError, match=r"microrpc\.release_all is refused here"):
        board.release_all()


# --- a share that is shared -----------------------------------------------------------------------


def test_a_shared_board_can_be_shared_again_with_all_of_it(sharing: Sharing, tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "again.sock"
        async with (
            aio.connect(sharing.url) as board,
            unix.Share(board, path) as share,
            aio.connect(share.url) as client,
        ):
            told: list[tuple[int, int]] = []
            events = client.events(timeout_s=LIMIT_S)
            work = await client.function("work")
            assert await work(2, 1000, on_progress=lambda done, total: told.append((done, total))) == 2
            assert told == [(1, 2), (2, 2)]
            while not sharing.has_credit:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(sharing.emit, 7, reliable=True)
            assert (await anext(events)).value == 7
            call = work.start(100_000, 1000)
            while not sharing.calls_under_way():
                await asyncio.sleep(0.005)
            call.cancel()
            with pytest.raises(CallCancelledError):
                await call
            assert await (await client.function("add"))(2, 3) == 5

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))


def test_events_go_on_after_a_reset_of_the_board(api: Api, sharing: Sharing) -> None:
    with api.connect(sharing.url) as board:
        events = board.events(timeout_s=LIMIT_S)
        sharing.wait_until(lambda: sharing.has_credit, api)
        sharing.emit(1)
        first = next(events)
        sharing.do(sharing.device.reset)
        sharing.wait_until(lambda: sharing.has_credit, api)
        sharing.emit(2)
        second = next(events)
        assert (first.value, second.value, second.number) == (1, 2, 0)
        assert first.boot != second.boot
