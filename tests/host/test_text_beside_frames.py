"""Firmware that prints on the port that carries its frames: no call fails of it, and nobody misses what it says."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from apis import Api

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.client.board import Board
from microrpc.connecting.blocking import open_board
from microrpc.errors import BoardResetError, CallTimeoutError, DamagedReplyError, MicroRpcError
from microrpc.wire.session import Timeouts
from microrpc.wire.text import SILENCE_S

TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
KINDS = ("stock", "robust", "linked")
CHATTER = b"[00:00:01.234] sensor=42.0 \xc2\xb0C\r\n"


class PrintingBoard:
    """A board in memory that prints; `to_host` changes what comes from it."""

    def __init__(self, kind: str = "linked") -> None:
        self.device = Device(firmware="stock" if kind == "stock" else "robust", seed=7, link=kind == "linked")
        install(self.device)
        self.device.function(self.count)
        self.executions = 0
        self.to_host: Callable[[bytes], bytes] = lambda data: data
        self.lines: list[str] = []
        self.channel = LoopbackChannel(self.device, to_host=lambda data: self.to_host(data))

    def count(self) -> int:
        self.executions += 1
        return self.executions

    def print(self, text: bytes) -> None:
        self.device._output += text

    def open(self, api: Api | None = None) -> Board:
        opener = open_board if api is None else api.open_board
        board: Board = opener(self.channel, TIMEOUTS, on_log=self.lines.append, seed=1)
        return board


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["before", "behind", "a read of its own", "cut"])
def test_text_around_every_frame_changes_nothing(kind: str, place: str) -> None:
    line = PrintingBoard(kind)
    held: list[bytes] = []

    def chatter(data: bytes) -> bytes:
        if place == "before":
            return CHATTER + data
        if place == "behind":
            return data + CHATTER
        if place == "cut":
            return CHATTER[:-8] + data + CHATTER[-8:]
        if held:
            return held.pop()
        held.append(data)
        line.print(b"...")  # so that there is something to read, in place of which comes what is held
        return CHATTER

    line.to_host = chatter
    board = line.open()
    count = board.function("count")
    assert [count() for _ in range(20)] == list(range(1, 21))
    data = np.random.default_rng(1).integers(0, 256, 5000, dtype=np.uint8)
    assert np.array_equal(board.array(data).numpy(), data)
    stats = board.stats
    assert (stats.frames_damaged, stats.retransmissions, stats.repeats, stats.sessions) == (0, 0, 0, 1)
    assert stats.bytes_skipped >= 22 * len(CHATTER)
    board.close()
    cut = {"[00:00:01.234] sensor=42", ".0 °C"} if place == "cut" else set()  # by the TERMINATE of the boot
    assert set(line.lines) == {"[00:00:01.234] sensor=42.0 °C"} | cut


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_in_a_call_is_in_the_log_before_its_reply(
    kind: str, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    line = PrintingBoard(kind)
    board = line.open(api)
    count = board.function("count")
    caplog.set_level(logging.INFO, "microrpc")
    line.print(b"T = 21.5 C\r\n")
    line.device.log("a log")
    assert count() == 1
    assert line.lines == ["T = 21.5 C", "a log"]
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("microrpc.text", "loopback: T = 21.5 C"),
        ("microrpc.board", "loopback: a log"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_words_of_a_board_are_in_the_error_of_the_call(kind: str) -> None:
    line = PrintingBoard(kind)
    board = line.open()
    count = board.function("count")
    line.print(b"all is well\n")
    assert count() == 1
    words = iter([b"HardFault at 0x08001234"])  # and no newline
    line.to_host = lambda data: next(words, b"")
    with pytest.raises(CallTimeoutError, match=r"session\. The board printed 'HardFault at 0x08001234'\.$"):
        count()
    assert line.lines == ["all is well", "HardFault at 0x08001234"]
    line.to_host = lambda data: data
    assert count() == line.executions


def test_what_a_board_prints_when_it_resets_is_in_the_error() -> None:
    line = PrintingBoard("stock")
    board = line.open()

    @line.device.function
    def crash() -> None:
        line.print(b"panic: stack overflow\r\n")
        line.device.reset()

    with pytest.raises(BoardResetError, match=r"The board printed 'panic: stack overflow\\r\\n'\.$"):
        board.function("crash")()


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_words_before_a_reset_that_nothing_waited_for_are_in_the_error_that_tells_it(
    kind: str, api: Api
) -> None:
    line = PrintingBoard(kind)
    board = line.open(api)
    count = board.function("count")
    assert count() == 1
    for is_call in (False, True):
        line.print(b"HardFault at 0x08001234")
        line.device.reset()
        line.print(b"booting\r\n")
        with pytest.raises(
            BoardResetError, match=r"this request was sent\. The board printed 'HardFault at 0x08001234'\.$"
        ):
            count() if is_call else board.function("count")
        count = board.function("count")
    assert count() == line.executions


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_told_while_the_function_that_printed_it_waits(kind: str, api: Api) -> None:
    line = PrintingBoard(kind)
    told_at: list[float] = []
    board = api.open_board(line.channel, TIMEOUTS, on_log=lambda text: told_at.append(line.channel.now()), seed=1)
    count = board.function("count")
    said = iter([b"Press the button: "])
    line.to_host = lambda data: next(said, b"")
    before = line.channel.now()
    with pytest.raises(CallTimeoutError, match="The board printed 'Press the button: '"):
        count(timeout_s=1.0)
    assert told_at == [pytest.approx(before + SILENCE_S)]
    assert line.channel.now() == pytest.approx(before + 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_without_a_newline_is_told_by_the_next_request_whatever_comes_with_it(kind: str, api: Api) -> None:
    line = PrintingBoard(kind)
    board = line.open(api)
    count = board.function("count")
    line.to_host = lambda data: b"T = 21.5 C" + data if data else data
    assert count() == 1
    assert line.lines == []
    line.device.clock.sleep(SILENCE_S)
    line.to_host = lambda data: data
    assert count() == 2
    assert line.lines == ["T = 21.5 C"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_printed_last_is_told_when_the_board_is_closed(kind: str, api: Api) -> None:
    line = PrintingBoard(kind)
    board = line.open(api)
    assert board.function("count")() == 1
    line.print(b"going to sleep\r\nbye")
    line.device.log("a log")
    board.close()
    assert line.lines == ["going to sleep", "bye", "a log"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_without_a_newline_comes_before_the_log_and_the_boot_that_follow_it(kind: str) -> None:
    line = PrintingBoard(kind)
    board = line.open()
    count = board.function("count")
    line.print(b"measuring...")
    line.device.log("a log")
    line.print(b"done\n")
    assert count() == 1
    line.print(b"panic")
    line.device.reset()
    line.print(b"booting\n")
    with pytest.raises(BoardResetError):
        count()
    assert line.lines == ["measuring...", "a log", "done", "panic", "booting"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stray_byte_in_each_of_many_requests_is_no_lost_frame(kind: str) -> None:
    """As where the NUL at the end of a text is printed, too."""
    line = PrintingBoard(kind)
    board = line.open()
    count = board.function("count")
    held: list[bytes] = []

    def to_host(data: bytes) -> bytes:
        if held:
            return held.pop()
        if data:
            held.append(data)
            line.print(b"...")  # so that there is something to read, in place of which comes what is held
        return b"T = 21.5 C\r\n\0" if data else b""

    line.to_host = to_host
    assert [count() for _ in range(30)] == list(range(1, 31))
    assert board.stats.sessions == 1


def test_a_line_that_is_no_utf_8_is_shown_in_the_error_that_it_makes() -> None:
    line = PrintingBoard("stock")
    board = line.open()
    count = board.function("count")
    words = iter([b"T = 21.5 \xb0C\r\n"])  # as Latin-1 has it
    line.to_host = lambda data: next(words, data)
    told = r"^damage on the line \(13 bytes outside any frame, which begin with b'T = 21\.5 \\xb0C\\r\\n'\) while"
    with pytest.raises(DamagedReplyError, match=told):
        count()
    assert line.lines == []


def test_a_flood_of_text_does_not_move_a_deadline() -> None:
    line = PrintingBoard("robust")
    board = line.open()
    count = board.function("count")

    def flood(data: bytes) -> bytes:
        line.device.clock.sleep(0.01)
        line.device._output += CHATTER
        return CHATTER * 100

    line.to_host = flood
    before = line.channel.now()
    with pytest.raises(CallTimeoutError):
        count(timeout_s=0.5)
    assert line.channel.now() - before < 0.52


# --- a wrong verdict costs time, and no more ------------------------------------------------------------

TEXT = np.frombuffer(b"The quick brown fox\n jumps over the lazy dog. " * 12, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lost_bytes", [1, 21, 24, 40])
def test_losing_bytes_of_frames_that_are_full_of_text_gives_no_wrong_answer(kind: str, lost_bytes: int) -> None:
    """Where the whole head is lost, what is left is text: it is waited for, and asked again."""
    line = PrintingBoard(kind)
    board = line.open()
    array = board.array(TEXT)
    count = board.function("count")
    array.numpy()
    whole_bytes = board.stats.bytes_received
    array.numpy()
    size_bytes = board.stats.bytes_received - whole_bytes
    taken: list[float] = []
    for at in range(0, size_bytes, 3 if lost_bytes > 20 and kind == "robust" else 17):
        position = 0

        def lose(data: bytes, at: int = at) -> bytes:
            nonlocal position
            begin, position = position, position + len(data)
            return data[: max(at - begin, 0)] + data[max(at - begin + lost_bytes, 0) :]

        line.to_host = lose
        before = line.channel.now()
        assert np.array_equal(array.numpy(), TEXT)
        taken.append(line.channel.now() - before)
        line.to_host = lambda data: data
        assert count() == line.executions
    assert max(taken) <= 2 * TIMEOUTS.call_s


@pytest.mark.parametrize("kind", KINDS)
def test_flipping_bits_of_frames_that_are_full_of_text_gives_no_wrong_answer(kind: str) -> None:
    line = PrintingBoard(kind)
    board = line.open()
    array = board.array(TEXT)
    for at in range(0, 500, 7):
        done: list[bool] = []

        def flip(data: bytes, at: int = at, done: list[bool] = done) -> bytes:
            if done or len(data) <= at:
                return data
            done.append(True)
            return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]

        line.to_host = flip
        try:
            assert np.array_equal(array.numpy(), TEXT)
        except MicroRpcError as error:
            pytest.fail(f"{at}: {error!r}")
