"""The device library where int and size_t have 16 bits: an ATmega2560 in QEMU (firmware/tests/avr), and compilers."""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import pathlib
import select
import struct
import subprocess
import sys
from collections.abc import Iterator

import needs
import numpy as np
import pytest
from c_board import INCLUDES, SOURCES, STRICT, SWITCHED_ON

import microrpc
from microrpc.errors import RemoteError
from microrpc.firmware.build import Compiler
from microrpc.firmware.emulator import Emulator, build_to_run
from microrpc.firmware.project import firmware_directory, read_project
from microrpc.wire.datatypes import CPU, OpaqueHandle
from microrpc.wire.events import EventAck, EventMessage, EventState, decode_event_news, encode_event_ack
from microrpc.wire.frames import FrameDecoder, FrameEncoder
from microrpc.wire.link import (
    LINK_REQUEST,
    PROGRESS,
    RequestKind,
    decode_link_message,
    encode_link_message,
    encode_with_kind,
)
from microrpc.wire.packets import PacketCode, RemoteException, decode_packet
from microrpc.wire.session import MessageType, Timeouts, encode_message

ZIG = (sys.executable, "-m", "ziglang", "cc")
PACKET_BYTES = 512
MOST = 0xFFFF  # of a size_t
TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)  # an emulator on a busy computer
AVR = ("avr-freestanding-none", "-mcpu=atmega2560", "-mdouble=64", "-Wno-avr-rtlib-linking-quirks")


@pytest.mark.parametrize("flags", [(), SWITCHED_ON], ids=["as it is", "all switched on"])
@pytest.mark.parametrize("target", [AVR, ("msp430-freestanding-none",)], ids=["avr", "msp430"])
def test_every_narrowing_is_written_down(
    tmp_path: pathlib.Path, target: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    needs.zig()
    command = [*ZIG, "-target", *target, "-ffreestanding", *STRICT, *flags, "-O1", *INCLUDES, "-c", *map(str, SOURCES)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """The board's port."""
    needs.program("avr-gcc", "gcc-avr")
    needs.program("qemu-system-avr", "qemu-system-misc")
    root = firmware_directory()
    firmware = build_to_run(read_project(root / "tests/avr/port.toml", root, "avr"), compiler=Compiler.GCC)
    emulation = firmware.project.emulation
    assert emulation is not None
    # This QEMU loads what -bios names.
    emulation = dataclasses.replace(emulation, args=("-bios", str(firmware.elf)))
    with Emulator("avr", firmware.elf, emulation) as emulator:
        yield emulator.port


@pytest.fixture
def board(port: str) -> Iterator[microrpc.Board]:
    with microrpc.connect(port, timeouts=TIMEOUTS) as board:
        yield board


def test_it_converses(board: microrpc.Board) -> None:
    every_byte = bytes(range(256))
    assert board.function("sum")(2**40, -3) == 2**40 - 3
    assert board.function("echo")(every_byte) == every_byte
    data = np.arange(300, dtype="uint16") * 217
    array = board.array(data)
    assert np.array_equal(array.numpy(), data)
    assert board.function("measure")(array) == 600 | 300 << 16 | 300 << 32


def test_the_crc_of_what_comes_and_every_nonce_keep_their_upper_byte(port: str) -> None:
    high = 0
    for number in range(12):
        with microrpc.connect(port, timeouts=TIMEOUTS) as board:
            assert board.function("sum")(number, 1) == number + 1
            high += board.session_id >> 15
    assert 0 < high < 12


@pytest.mark.parametrize("repeat", [8192, 8193, 1 << 20, (1 << 31) - 1])
def test_times_of_more_than_64_kib_are_too_long(board: microrpc.Board, repeat: int) -> None:
    with pytest.raises(RemoteError, match="the result is too long"):
        board.time_evaluator("sum", number=1, repeat=repeat)(1, 2)
    assert board.time_evaluator("sum", number=2, repeat=3)(1, 2).results == pytest.approx([5e-4] * 3)


@pytest.mark.parametrize("size_bytes", [17, 0x10000, 0x10001, 0x10010, 0xFFFF_FFFF])
def test_a_read_of_more_than_is_there_is_refused(port: str, size_bytes: int) -> None:
    with microrpc.connect(port, timeouts=TIMEOUTS) as board:
        address = board.empty(16, "uint8").detach()
    with _Line(port) as line:
        session_id = line.open()
        body = address.to_bytes(8, "little") + size_bytes.to_bytes(4, "little")
        line.say(encode_with_kind(session_id, LINK_REQUEST, 0, RequestKind.READ, body))
        message = decode_link_message(line.hear(MessageType.LINK_REPLY))
    assert message is not None
    reply = decode_packet(message[2][1:])
    assert reply == RemoteException(f"{size_bytes} bytes at 0x{address:x} are not inside an allocated block")
    with microrpc.connect(port, timeouts=TIMEOUTS) as board:
        board.syscall(PacketCode.DEV_FREE_DATA, CPU, OpaqueHandle(address))


@pytest.mark.parametrize("packet_bytes", [0xFFF0, 0xFFFF, 0x10000, 0x10080, 0xFFFFFF])
def test_a_receive_buffer_that_no_address_reaches_is_refused(board: microrpc.Board, packet_bytes: int) -> None:
    assert board.function("plan")(packet_bytes) == MOST
    assert PACKET_BYTES < board.function("plan")(PACKET_BYTES) < 2 * PACKET_BYTES


def test_an_extent_that_a_size_cannot_hold_is_the_largest_one(board: microrpc.Board) -> None:
    measure, array = board.function("measure"), board.empty(4, "uint8")
    for extent in (0x10005, 1 << 40):
        assert measure(board.array_at(array.tensor.data, (extent, 0), "uint8")) == MOST << 32
    with pytest.raises(RemoteError, match="65541 bytes at"):
        measure(board.array_at(array.tensor.data, 0x10005, "uint8"))


EDGES = [
    *(0.0, -0.0, 1.0, 0.1, -2.5, math.pi, 1e300, -1e300, 5e-324, math.inf, -math.inf),
    *(2.0**-149, 2.0**-150, -(2.0**-150) * 1.0000001, 3 * 2.0**-150, 2.0**-126, 2.0**-126 - 2.0**-150, 2.0**-151),
    *(1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-24 + 2.0**-52, 2 - 2.0**-24, 2 - 2.0**-25),
    *(float(np.finfo("float32").max), (2 - 2.0**-24) * 2.0**127, math.nextafter((2 - 2.0**-24) * 2.0**127, 0)),
]
"""Where a float of 4 bytes has a tie, a subnormal, an infinity, or no room."""


def test_a_float_becomes_the_nearest_one_of_4_bytes_and_comes_back_as_it_is(board: microrpc.Board) -> None:
    real, random = board.function("real"), np.random.default_rng(14)
    drawn = random.integers(0, 1 << 64, 300, dtype="uint64").view("float64")
    near = np.float64(2) ** random.integers(-160, 130, 300) * random.uniform(-2, 2, 300)
    numbers = [*EDGES, *(float(number) for number in (*drawn, *near) if not np.isnan(number))]
    with np.errstate(over="ignore", under="ignore"):
        wanted = np.array(numbers).astype("float32").astype("float64")
    got = np.array([real(number) for number in numbers])
    assert got.tobytes() == wanted.tobytes()
    for nan in (math.nan, struct.unpack("<d", (0x7FF0_0000_0000_0001).to_bytes(8, "little"))[0]):
        assert math.isnan(real(nan))
    for whole in (-3, (1 << 24) + 1, (1 << 62) + (1 << 38), (1 << 62) + (1 << 38) + 1, -(1 << 63), (1 << 63) - 1):
        assert real(whole) == float(np.int64(whole).astype("float32"))


def test_events_and_long_functions(port: str, board: microrpc.Board) -> None:
    handles = [1 << 63 | 1 << 32 | index for index in (4, 5)]
    board.close()
    with _Line(port) as line:
        session_id = line.open()
        tell, wait = (b"\3\0\0\0" + handle.to_bytes(8, "little") for handle in handles)
        tell += bytes((1, 0, 0, 0, 0, 0, 0, 0)) + (-2).to_bytes(8, "little", signed=True)
        line.say(encode_event_ack(session_id, EventAck(0, 40000, False)))
        state = decode_event_news(line.hear(MessageType.LINK_EVENT_STATE))
        assert isinstance(state, EventState)
        assert (state.boot, state.next_reliable) == (0x33, 0)
        line.say(encode_with_kind(session_id, LINK_REQUEST, 0, RequestKind.CALL, tell))
        for name in ("plain", "kept"):
            event = decode_event_news(line.hear(MessageType.LINK_EVENT))
            assert isinstance(event, EventMessage)
            assert (event.number, event.name, event.values) == (0, name, (-2, -0.25))
        line.hear(MessageType.LINK_REPLY)
        line.say(encode_event_ack(session_id, EventAck(0, 40000, True)))
        line.hear(MessageType.LINK_EVENT_STATE)
        assert decode_event_news(line.hear(MessageType.LINK_EVENT)) == event
        line.say(encode_event_ack(session_id, EventAck(1, 40000, False)))
        assert decode_event_news(line.hear(MessageType.LINK_EVENT_STATE)) == EventState(0x33, 1, 1)
        line.say(encode_with_kind(session_id, LINK_REQUEST, 1, RequestKind.CALL, wait + bytes(4)))
        assert line.hear(MessageType.LINK_PROGRESS)[5:-4] == PROGRESS.pack(0x12345678, 0x9ABCDEF0)
        line.say(encode_link_message(session_id, MessageType.LINK_CANCEL, 1))
        message = decode_link_message(line.hear(MessageType.LINK_REPLY))
        assert message is not None
        assert decode_packet(message[2][1:]) == RemoteException("cancelled")


class _Line:
    """Single frames to and from a port."""

    def __init__(self, port: str) -> None:
        self._fd = os.open(port, os.O_RDWR | os.O_NOCTTY)
        self._encoder, self._decoder = FrameEncoder(), FrameDecoder(1 << 16)
        self._heard: collections.deque[object] = collections.deque()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def say(self, payload: bytes) -> None:
        os.write(self._fd, self._encoder.encode(payload))

    def hear(self, message_type: MessageType) -> bytes:
        """Wait for the next message of a type, and drop what an earlier session has left."""
        while True:
            while self._heard:
                frame = self._heard.popleft()
                if isinstance(frame, bytes) and frame[2] == message_type:
                    return frame
            if not select.select([self._fd], [], [], 20)[0]:
                break
            self._heard.extend(self._decoder.feed(os.read(self._fd, 4096)))
        raise AssertionError("the board says nothing")

    def open(self) -> int:
        """Begin a session; give its id."""
        self.say(encode_message(0, MessageType.TERMINATE_SESSION))
        self.say(encode_message(0x11, MessageType.START_SESSION_INIT, b"\x01"))
        return int.from_bytes(self.hear(MessageType.START_SESSION_REPLY)[:2], "little")
