"""`microrpc capture`: between any program and a board, as a shell runs it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run as run_here
from processes import COMMAND, run

import microrpc
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.capture.pcapng import Packet, read_blocks
from microrpc.connecting.wrap import tapped
from microrpc.wire.frames import FrameDecoder, encode_frame


class Tape:
    """A tap that keeps all of it."""

    def __init__(self) -> None:
        self.said = {True: b"", False: b""}

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        self.said[to_board] += data


@contextlib.contextmanager
def capturing(*args: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run it until its pty is there."""
    process = subprocess.Popen([*COMMAND, "capture", *map(str, args)], stderr=subprocess.PIPE, **options)
    assert process.stderr is not None
    try:
        assert b" until Ctrl-C; what crosses goes to " in process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> list[str]:
    """End it; give what it says."""
    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.read().decode().splitlines()
    assert process.wait(10) == 0
    return said


def packets_of(path: Path) -> list[Packet]:
    with path.open("rb") as file:
        return list(read_blocks(file))


def test_what_a_program_says_through_it_is_in_the_file_to_the_byte(tmp_path: Path) -> None:
    data = np.random.default_rng(2).integers(0, 256, 1 << 17, np.uint8)
    tape, path, link = Tape(), tmp_path / "x.pcapng", tmp_path / "board"
    with (
        PtyServer(simulate(microrpc.profile("loopback"))) as server,
        capturing(server.path, "-w", path, "--through", link) as process,
    ):
        with microrpc.connect(link, wrap=tapped(tape)) as board:
            for _ in range(2):  # 256 KiB each way
                with board.array(data) as array:
                    assert np.array_equal(array.numpy(), data)
        called = run("call", link, "add", 2, 3)
        assert (called.returncode, called.stdout) == (0, "5\n")
        [told] = end(process)
    assert told.endswith(f"; `microrpc decode {path}` shows them")
    packets = packets_of(path)
    for to_board in (True, False):
        said = b"".join(packet.data for packet in packets if packet.to_board is to_board)
        assert said.startswith(tape.said[to_board])
        if to_board:
            assert said.endswith(encode_frame(b"\0\0\x02")), "how the last program closed its session"
        frames = [FrameDecoder().feed(packet.data) for packet in packets if packet.to_board is to_board]
        assert frames == [[payload] for payload in FrameDecoder().feed(said)]
    assert {packet.interface for packet in packets} == {server.path}
    assert not link.is_symlink()
    decoded = run_here("decode", path, "--name", "add", "--kind", "CALL")
    assert "add(2, 3)" in decoded.out


def test_a_pipe_has_each_frame_at_once_and_the_board_is_served_on_when_its_reader_goes(tmp_path: Path) -> None:
    link = tmp_path / "board"
    with capturing("sim://", "-w", "-", "--through", link, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with microrpc.connect(link) as board:
            packets = read_blocks(process.stdout)
            while next(packets).to_board is False:
                pass
            process.stdout.close()
            for _ in range(3):
                assert board.function("add")(2, 3) == 5
        [told] = end(process, signal.SIGINT)
    assert told.endswith("from it")


def test_it_shows_frames_and_what_it_does_where_that_is_asked(tmp_path: Path) -> None:
    path, trace, link = tmp_path / "x.pcapng", tmp_path / "trace", tmp_path / "board"
    command = [*COMMAND, "capture", "sim://", "-v", f"--trace={trace}", "-w", str(path), "--through", str(link)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        while "until Ctrl-C" not in said:
            said += process.stderr.readline()
        with microrpc.connect(link) as board:
            assert board.function("add")(2, 3) == 5
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert "sim://: open; board profile loopback" in said
    assert "add(2, 3)" in trace.read_text()


def test_a_port_that_is_lost_is_a_comment_in_the_file_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    server = PtyServer(simulate(microrpc.profile("loopback")))
    with server, capturing(server.path, "-w", path) as process:
        server.close()
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait(10) == 3
    assert f"{server.path}: port lost" in said
    assert f"error: {server.path} went away" in said
    assert "port lost" in [comment for packet in packets_of(path) for comment in packet.comments]


def test_a_disk_that_is_full_ends_the_capture_and_the_board_is_served_on(tmp_path: Path) -> None:
    path, link = tmp_path / "x y.pcapng", tmp_path / "board"
    limited = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))}
    with capturing("sim://", "-w", path, "--through", link, **limited) as process:
        with microrpc.connect(link) as board:
            data = np.arange(50_000, dtype=np.uint8)
            assert np.array_equal(board.array(data).numpy(), data)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()
        assert process.wait(10) == 6
    assert "the capture ends here, and what is in it is whole" in said[0]
    assert said[-1].endswith(f"from it; {path} has not all of it")
    assert packets_of(path)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["unix:///nowhere"], 5, "carries no frames: capture where the board's line is opened"),
        (["/dev/nothing-there"], 3, "/dev/nothing-there"),
        (["sim://", "-w", "/"], 6, "it is a directory"),
        ([], 2, "name a PORT"),
    ],
)
def test_what_cannot_be_is_one_error(tmp_path: Path, args: list[str], code: int, message: str) -> None:
    if "-w" not in args:
        args = [*args, "-w", str(tmp_path / "x.pcapng")]
    result = run_here("capture", *args)
    assert result.code == code
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert os.listdir(tmp_path) in ([], ["x.pcapng"])
