"""`microrpc monitor` on a terminal, while 10,000 frames a second cross: are all shown, and how soon is a key answered?

`python -m benchmarks.monitor pty` is a board that says so many, and `... FIFO` a capture of both sides of them; both
begin when somebody reads.
"""

from __future__ import annotations

import os
import re
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.processes import ROOT, child, exit_with_stdin
from benchmarks.rows import Row
from microrpc.capture.pcapng import Packet, interface_block, packet_block, section_header
from microrpc.capture.watching import LEFT_OUT, RowReader
from microrpc.connecting.blocking import connect
from microrpc.connecting.wrap import RecordingChannel
from microrpc.ports.channel import Channel
from microrpc.wire.frames import encode_frame

FRAMES_PER_S = 10_000
_STEP_S = 0.01
_CALLS = 200
_COLUMNS, _LINES = 120, 40
_KEY_S, _KEY_PATIENCE_S = 0.1, 10.0
_START_S = 20.0
_ROWS = rb"([\d,]+) rows"


def conversation(copy_bytes: int = 0) -> list[tuple[bool, bytes]]:
    """Calls over the link, and a copy there and back: which way each frame goes, and its bytes."""
    recorded: list[RecordingChannel] = []

    def wrap(channel: Channel) -> RecordingChannel:
        recorded.append(RecordingChannel(channel))
        return recorded[0]

    with connect("sim://", wrap=wrap) as board:
        add = board.function("add")
        for number in range(_CALLS):
            add(number, 3)
        if copy_bytes:
            board.array(np.arange(copy_bytes, dtype=np.uint8)).numpy()
    return [(frame.to_board, encode_frame(frame.payload)) for frame in recorded[0].frames if frame.payload]


def measure(*, quick: bool) -> Iterator[Row]:
    """Decode, then look at a terminal."""
    yield _decoding(2 if quick else 20)
    lasts_s = 1.0 if quick else 10.0
    with tempfile.TemporaryDirectory() as folder:
        fifo = Path(folder) / "capture"
        os.mkfifo(fifo)
        with child("benchmarks.monitor", str(fifo), str(lasts_s)):
            yield from _at_a_terminal("a capture of both sides", [str(fifo)], lasts_s)
    with child("benchmarks.monitor", "pty", str(lasts_s)) as path:
        yield from _at_a_terminal("a board that speaks", [path], lasts_s)


def _decoding(repeats: int) -> Row:
    frames = conversation() * 5
    packets = [Packet(number, number * 10**5, *frame, (), "sim://") for number, frame in enumerate(frames, 1)]
    rates = []
    for _ in range(repeats):
        reader = RowReader()
        start = time.perf_counter()
        for packet in packets:
            for _row in reader.read(packet):
                pass
        rates.append(len(packets) / (time.perf_counter() - start))
    spread = f"least {min(rates):,.0f}, most {max(rates):,.0f}"
    return Row("monitor: frames put in words", f"{statistics.median(rates):,.0f}", "frames/s", spread, "one core")


# --- a person's terminal ------------------------------------------------------------------------------


def _at_a_terminal(what: str, args: Sequence[str], lasts_s: float) -> Iterator[Row]:
    """Run the monitor on a terminal of 120 by 40, press a key again and again, and look at what it says."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    screen, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (_LINES, _COLUMNS))
    command = [sys.executable, "-m", "microrpc.cli", "monitor", *args, "--keep", "1000000"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(_COLUMNS), "LINES": str(_LINES)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as ran:
        os.close(terminal)
        try:
            said = _until(screen, _ROWS, _START_S)
            times, work = [], []
            end = time.monotonic() + lasts_s
            while time.monotonic() < end:
                said += _until(screen, None, _KEY_S)
                # The key opens the help, and closes it: its last line comes with all that is above it.
                start, worked_s = time.perf_counter(), _worked_s(ran.pid)
                os.write(screen, b"?")
                said += _until(screen, rb"Any key closes this", _KEY_PATIENCE_S)
                times.append(1e3 * (time.perf_counter() - start))
                work.append(1e3 * (_worked_s(ran.pid) - worked_s))
                os.write(screen, b"?")
            said += _until_it_is_all(screen, 1.0 if lasts_s < 2 else 3.0)
            os.write(screen, b"q")
            _until(screen, None, 1.0)
            ran.wait(timeout=10)
        finally:
            ran.kill()
            os.close(screen)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = int(re.findall(_ROWS, said)[-1].replace(b",", b""))
    left_out = [int(each.replace(b",", b"")) for each in re.findall(rb"([\d,]+) " + LEFT_OUT.encode(), said)]
    total = round(FRAMES_PER_S * lasts_s)
    share = 100 * rows / total
    remark = (
        f"{rows:,} of {total:,}, {FRAMES_PER_S:,} a second; said to be left out: {left_out[-1] if left_out else 0:,}"
    )
    yield Row(f"monitor, {what}: frames shown", f"{share:.1f}", "%", "", remark)
    each_us = f"{1e6 * busy_s / rows:.0f}"
    yield Row(f"monitor, {what}: CPU", each_us, "us/frame", "", "of the whole program, its start too")
    for did, each, remark in (
        ("a key is answered", times, f"{len(times)} keys"),
        ("work until a key is answered", work, "CPU of the monitor meanwhile: what it takes on a core of its own"),
    ):
        spread = f"p90 {sorted(each)[len(each) * 9 // 10]:,.0f}, worst {max(each):,.0f}"
        yield Row(f"monitor, {what}: {did}", f"{statistics.median(each):,.0f}", "ms", spread, remark)


def _worked_s(pid: int) -> float:
    """Give how long the threads of a process were at work, in seconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _until_it_is_all(fd: int, quiet_s: float) -> bytes:
    """Read until no more rows come for so long."""
    said, before = b"", [b""]
    while (rows := re.findall(_ROWS, said)[-1:]) != before:
        before = rows
        said += _until(fd, None, quiet_s)
    return said


def _until(fd: int, wanted: bytes | None, within_s: float) -> bytes:
    """Read until something is said, or the time is over."""
    said = b""
    end = time.monotonic() + within_s
    while (left_s := end - time.monotonic()) > 0 and not (wanted and re.search(wanted, said)):
        if select.select([fd], [], [], left_s)[0]:
            try:
                said += os.read(fd, 65536)
            except OSError:  # it has ended, and its terminal with it
                break
    if wanted and not re.search(wanted, said):
        raise RuntimeError(f"the monitor did not say {wanted!r} within {within_s:g} s, but {said[-1000:]!r}")
    return said


# --- what is watched ----------------------------------------------------------------------------------


def _pace(fd: int, frames: Sequence[bytes], lasts_s: float) -> None:
    """Write frames at their rate; who reads slowly holds it up, and is then given what is due."""
    written, start = 0, time.monotonic()
    total = round(FRAMES_PER_S * lasts_s)
    while written < total:
        due = min(total, int((time.monotonic() - start) * FRAMES_PER_S))
        data = b"".join(frames[index % len(frames)] for index in range(written, due))
        while data:
            data = data[os.write(fd, data) :]
        written = due
        time.sleep(_STEP_S)


def _serve_pty(lasts_s: float) -> None:
    board_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    path = os.ttyname(host_fd)
    os.close(host_fd)
    print(path, flush=True)
    poll = select.poll()
    poll.register(board_fd, 0)
    while poll.poll(0):  # hung up: nobody has it open
        time.sleep(_STEP_S)
    time.sleep(0.5)
    _pace(board_fd, [data for to_board, data in conversation() if not to_board], lasts_s)
    time.sleep(60)


def _serve_fifo(path: str, lasts_s: float) -> None:
    print(path, flush=True)
    blocks = [packet_block(time.time_ns(), data, to_board=to_board) for to_board, data in conversation()]
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, section_header() + interface_block("sim://"))
    _pace(fd, blocks, lasts_s)
    time.sleep(60)


def main() -> None:
    what, lasts_s = sys.argv[1], float(sys.argv[2])
    exit_with_stdin()
    if what == "pty":
        _serve_pty(lasts_s)
    else:
        _serve_fifo(what, lasts_s)


if __name__ == "__main__":
    main()
