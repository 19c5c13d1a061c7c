"""Between a board and any program: bytes go through, taps see them, and programs come and go."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import serial

import microrpc
from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.capture.reading import read_packets
from microrpc.connecting.wrap import tapped
from microrpc.errors import PortError, PortLostError, PortNotFoundError, RequestError
from microrpc.gateway.through import Through
from microrpc.ports.channel import MOST_KEPT_BYTES


class Tape:
    """A tap that keeps all of it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.said = {True: bytearray(), False: bytearray()}

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        self.times.append(time_s)
        self.said[to_board] += data


@contextlib.contextmanager
def running(through: Through) -> Iterator[list[BaseException]]:
    """Have it pass bytes on; give what ended it."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            through.run()
        except PortError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        through.stop()
        thread.join(10)
        assert not thread.is_alive()
        through.close()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextlib.contextmanager
def bare_pty() -> Iterator[tuple[int, str]]:
    """A pty with nothing behind it: its other end, and what is opened."""
    fd, held = os.openpty()
    tty.setraw(held)
    try:
        yield fd, os.ttyname(held)
    finally:
        os.close(held)
        with contextlib.suppress(OSError):
            os.close(fd)


def test_calls_and_copies_go_through_and_the_taps_see_every_byte(tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 256, 1 << 17, np.uint8)
    between, outside = Tape(), Tape()
    with PtyServer(simulate(profile("loopback"))) as server:
        through = Through(server.path, [between], link=tmp_path / "board")
        with running(through) as ended:
            assert through.path == str(tmp_path / "board")
            with microrpc.connect(through.path, wrap=tapped(outside)) as board:
                assert board.function("add")(2, 3) == 5
                for _ in range(2):  # 256 KiB, in a heap that has no room for them at once
                    with board.array(data) as array:
                        assert np.array_equal(array.numpy(), data)
            with microrpc.connect(through.path, wrap=tapped(outside)) as board:
                assert board.function("add")(20, 3) == 23
            until(lambda: between.said[True] == outside.said[True])
        assert ended == []
    assert between.said[False] == outside.said[False]
    assert between.times == sorted(between.times)
    assert (through.bytes_to_board, through.bytes_from_board) == tuple(len(between.said[way]) for way in (True, False))
    assert through.bytes_left_out == 0
    assert not os.path.lexists(tmp_path / "board")


def test_what_a_program_wrote_before_the_end_still_goes_to_the_board() -> None:
    tape = Tape()
    with bare_pty() as (board, name), Through(name, [tape]) as through:
        program = os.open(through.path, os.O_RDWR | os.O_NOCTTY)
        assert os.write(program, b"goodbye") == 7
        os.close(program)
        through.stop()
        through.run()
        assert os.read(board, 100) == tape.said[True] == b"goodbye"


def test_a_board_that_takes_nothing_does_not_hold_up_the_end() -> None:
    with bare_pty() as (_, name), Through(name, []) as through:
        program = os.open(through.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        with running(through) as ended:
            while select.select([], [program], [], 0.3)[1]:
                with contextlib.suppress(BlockingIOError):
                    os.write(program, bytes(4096))
        os.close(program)
        assert ended == []


@pytest.mark.parametrize("kind", ["socket", "sim"])
def test_other_ports_have_a_pty_in_front_of_them_too(kind: str) -> None:
    with contextlib.ExitStack() as stack:
        port = "sim://"
        if kind == "socket":
            port = stack.enter_context(TcpServer(simulate(profile("loopback")))).path
        through = Through(port)
        stack.enter_context(running(through))
        with microrpc.connect(through.path) as board:
            assert board.function("add")(2, 3) == 5


def test_what_no_descriptor_tells_of_has_threads_at_it() -> None:
    # pyserial's loop:// gives back what is written to it.
    tape = Tape()
    through = Through("loop://", [tape])
    with running(through), serial.Serial(through.path, timeout=10) as port:
        port.write(b"there and back")
        assert port.read(14) == b"there and back"
    assert tape.said[True] == tape.said[False] == b"there and back"


def test_a_port_that_is_lost_ends_it_and_is_told() -> None:
    news: list[str] = []
    with bare_pty() as (fd, path):
        through = Through(path, on_news=news.append)
        with running(through) as ended:
            with serial.Serial(through.path, 115200) as port:
                port.write(b"x")
                until(lambda: through.bytes_to_board == 1)
            # The board's end goes; the test holds only the other one.
            os.close(fd)
            until(lambda: ended)
    assert [type(error) for error in ended] == [PortLostError]
    assert news == ["port lost"]


def test_a_port_that_is_lost_is_waited_for_where_that_is_wanted(tmp_path: Path) -> None:
    news: list[str] = []
    link = tmp_path / "cable"
    first = PtyServer(simulate(profile("loopback")), link=link)
    with first:
        through = Through(str(link), reconnect=True, on_news=news.append)
        thread = running(through)
        ended = thread.__enter__()
        with microrpc.connect(through.path) as board:
            assert board.function("add")(2, 3) == 5
    until(lambda: news == ["port lost"])
    with PtyServer(simulate(profile("loopback")), link=link):
        until(lambda: news == ["port lost", "port opened again"])
        with microrpc.connect(through.path) as board:
            assert board.function("add")(2, 3) == 5
        thread.__exit__(None, None, None)
    assert ended == []


def test_a_port_that_does_not_come_back_in_time_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microrpc.gateway.through._BACK_S", 0.0)
    news: list[str] = []
    link = tmp_path / "cable"
    with bare_pty() as (fd, path):
        link.symlink_to(path)
        with running(Through(str(link), reconnect=True, on_news=news.append)) as ended:
            link.unlink()
            os.close(fd)
            until(lambda: ended)
    [error] = ended
    assert isinstance(error, PortNotFoundError)
    assert "not back within 0 s" in str(error)
    assert str(error).endswith("Check the cable and the power; then start this again")


def test_what_a_lost_port_did_not_take_does_not_go_to_the_next_one(tmp_path: Path) -> None:
    news: list[str] = []
    link = tmp_path / "cable"
    said = b"".join(number.to_bytes(4, "big") for number in range(100_000))
    with bare_pty() as (_, path):
        link.symlink_to(path)
        through = Through(str(link), reconnect=True, on_news=news.append)
        thread = running(through)
        thread.__enter__()
        program = os.open(through.path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        sent = 0
        while select.select([], [program], [], 0.2)[1]:  # until it is held up
            sent += os.write(program, said[sent : sent + 1000])
    until(lambda: news == ["port lost"])
    taken = through.bytes_to_board
    assert 0 < taken < sent
    with bare_pty() as (fd, path):
        link.unlink()
        link.symlink_to(path)
        until(lambda: news == ["port lost", "port opened again"])
        assert select.select([fd], [], [], 20)[0]
        assert said.find(os.read(fd, 100)) == taken
        thread.__exit__(None, None, None)
    os.close(program)


def test_what_nobody_reads_is_left_out_and_told_once() -> None:
    news: list[str] = []
    tape = Tape()
    with bare_pty() as (fd, path):
        through = Through(path, [tape], on_news=news.append)
        with running(through):
            chunk = b"x" * 1024
            sent = 0
            while sent < MOST_KEPT_BYTES + 400_000:
                sent += os.write(fd, chunk)
            until(lambda: len(tape.said[False]) == sent)
            assert through.bytes_left_out > 0
            busy = time.process_time()
            time.sleep(0.3)
            assert time.process_time() - busy < 0.15, "it spins while nobody reads"
            with serial.Serial(through.path, timeout=10) as port:
                assert port.read(1024) == chunk
    assert news == [f"nobody reads {through.path}: what the board says is left out there until somebody does"]


def test_a_baud_rate_that_the_port_does_not_have_is_told() -> None:
    news: list[str] = []
    with bare_pty() as (fd, path):
        through = Through(path, baud=115200, on_news=news.append)
        with running(through):
            for baud in (115200, 9600, 9600):
                with serial.Serial(through.path, baud) as port:
                    port.write(b"x")
                    assert os.read(fd, 1) == b"x"
            until(lambda: news)
    assert news == ["the program asks for 9600 baud, and the port has 115200: give --baud 9600"]


def test_a_program_is_held_up_by_a_board_that_takes_nothing() -> None:
    with bare_pty() as (fd, path):
        through = Through(path)
        data = os.urandom(1 << 18)
        with running(through), serial.Serial(through.path, write_timeout=10) as port:
            writer = threading.Thread(target=port.write, args=(data,))
            writer.start()
            got = b""
            while len(got) < len(data):
                got += os.read(fd, 4096)
            writer.join(10)
    assert got == data


def test_it_writes_a_capture_and_the_logger_of_frames_is_told_as_of_every_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.pcapng"
    with caplog.at_level("DEBUG", "microrpc.wire"), bare_pty() as (fd, port):
        through = Through(port, capture=path)
        with running(through):
            os.write(fd, b"hello\n")
            until(lambda: through.bytes_from_board == 6)
    assert any(record.getMessage().endswith('text            "hello"') for record in caplog.records)
    with path.open("rb") as file:
        assert [packet.data for packet in read_packets(file, "x")] == [b"hello\n"]


def test_a_server_without_frames_is_refused() -> None:
    with pytest.raises(RequestError, match="carries no frames: capture where the board's line is opened"):
        Through("unix:///nowhere")


def test_what_fails_after_the_port_was_opened_leaves_it_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(channel: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with bare_pty() as (_, path):
        with monkeypatch.context() as patched:
            patched.setattr("microrpc.gateway.through.line_of", fail)
            with pytest.raises(OSError, match="Too many open files") as caught:
                Through(path)
        Through(path).close()
        assert caught.tb  # what was half made lives on in it


def test_a_file_in_the_place_of_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("mine")
    with bare_pty() as (_, path), pytest.raises(PortError, match="exists and is no link"):
        Through(path, link=tmp_path / "board")
    assert (tmp_path / "board").read_text() == "mine"
