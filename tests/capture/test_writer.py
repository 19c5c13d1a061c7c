"""A capture as it is written: one packet a frame, the times, the comments, and what cannot be written."""

from __future__ import annotations

import errno
import io
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import golden
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrpc.capture import files
from microrpc.capture.file import CaptureFile
from microrpc.capture.files import open_sink
from microrpc.capture.pcapng import Packet, interface_block, packet_block, read_blocks, section_header
from microrpc.capture.writer import CaptureWriter
from microrpc.errors import CaptureError
from microrpc.wire.frames import encode_frame
from microrpc.wire.link import encode_link_message
from microrpc.wire.session import MessageType

A, B = encode_frame(b"\x01\xff\xfd"), encode_frame(b"b")
START_NS = 1_700_000_000_000_000_000


def read(file: Path | io.BytesIO) -> list[Packet]:
    return list(read_blocks(io.BytesIO(file.read_bytes() if isinstance(file, Path) else file.getvalue())))


def brief(packets: list[Packet]) -> list[tuple[str, bytes, tuple[str, ...]]]:
    return [(">" if one.to_board else "<", one.data, one.comments) for one in packets]


def writer_to(target: Path | io.BytesIO, *, live: bool | None = None) -> CaptureWriter:
    return CaptureWriter(target, "sim://", live=live, start_ns=START_NS)


def await_packets(file: Path, count: int) -> list[Packet]:
    """Wait until a file has so many packets, as long as a busy computer may take."""
    deadline = time.monotonic() + 20
    while len(packets := read(file)) < count and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    return packets


# --- packets ----------------------------------------------------------------------------------


def test_each_frame_is_a_packet_with_its_time_and_direction() -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        writer.note(5.0, A[:3], to_board=True)
        writer.note(5.25, A[3:] + B, to_board=True)
        writer.note(5.5, b"hello\r\n" + B, to_board=False)
        writer.note(5.5000000015, B[:4], to_board=False)
    assert [(one.time_ns - START_NS, one.to_board, one.data) for one in read(file)] == [
        (0, True, A),
        (0, True, B),
        (250_000_000, False, b"hello\r\n"),
        (250_000_000, False, B),
        (250_000_002, False, B[:4]),
    ]
    assert {one.interface for one in read(file)} == {"sim://"}


def test_what_is_between_frames_ends_with_its_line_the_other_direction_or_silence() -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        writer.note(0.00, b"> ", to_board=False)
        writer.note(0.01, b"$ ", to_board=False)
        writer.note(0.02, A, to_board=True)
        writer.note(0.03, b"one", to_board=False)
        writer.note(0.20, b"two\n", to_board=False)
        writer.note(0.21, b"three", to_board=False)
    assert brief(read(file)) == [
        ("<", b"> $ ", ()),
        (">", A, ()),
        ("<", b"one", ()),
        ("<", b"two\n", ()),
        ("<", b"three", ()),
    ]


@pytest.mark.parametrize("name", golden.NAMES)
def test_no_byte_of_a_recording_is_lost(name: str) -> None:
    file, rng = io.BytesIO(), random.Random(name)
    with writer_to(file) as writer:
        for number, burst in enumerate(golden.load(name)):
            at = 0
            while at < len(burst.data):
                size = rng.choice((3, 64, 4096))
                writer.note(number / 100, burst.data[at : at + size], to_board=burst.dir == "host")
                at += size
    packets = read(file)
    for direction, to_board in (("host", True), ("device", False)):
        assert b"".join(one.data for one in packets if one.to_board is to_board) == golden.stream(name, direction)
    times = [one.time_ns for one in packets]
    assert times == sorted(times)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from([A, B, A[:5], b"\xff", b"\xfe", b"text\n", b"x"]))))
def test_no_byte_is_lost_however_the_directions_take_turns(parts: list[tuple[bool, bytes]]) -> None:
    file = io.BytesIO()
    writer = writer_to(file)
    for to_board, data in parts:
        writer.note(0.0, data, to_board=to_board)
    writer.close()
    for way in (True, False):
        sent = b"".join(data for to_board, data in parts if to_board is way)
        assert b"".join(one.data for one in read(file) if one.to_board is way) == sent


def test_memory_is_bounded_however_much_passes_and_no_thread_is_there_to_write() -> None:
    file = io.BytesIO()
    writer = writer_to(file)
    writer._thread = threading.current_thread()  # as if it never came to its turn
    most = 0
    for _ in range(3000):
        writer.note(0.0, bytes(1000), to_board=False)
        most = max(most, sum(len(one[2]) for one in writer._pending))
    assert most <= 1 << 20
    writer.close()
    assert sum(len(one.data) for one in read(file)) == 3_000_000


def test_what_waits_is_written_with_few_writes() -> None:
    class Counting(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            return super().write(data)

    file = Counting()
    with writer_to(file) as writer:
        before = file.writes
        for number in range(400):
            writer.note(0.0, A * 10, to_board=number % 2 == 0)
        writer.flush()
        assert file.writes - before < 40
    assert [one.data for one in read(file)] == [A] * 4000


def test_an_interrupt_takes_nothing_away_that_is_written_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        monkeypatch.setattr(writer, "_start", lambda: None)  # no thread: it is written here
        for _ in range(5):
            writer.note(0.0, A, to_board=True)
        cut, cutter = writer._cutters[False].cut, writer._cutters[False]
        monkeypatch.setattr(cutter, "cut", _interrupted)
        writer.note(0.0, B, to_board=False)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
        monkeypatch.setattr(cutter, "cut", cut)
        assert [one.data for one in read(file)] == [A] * 5
        writer.note(0.0, A, to_board=True)
    assert [one.data for one in read(file)] == [A] * 6


def _interrupted(data: bytes) -> list[bytes]:
    raise KeyboardInterrupt


def test_several_lines_have_one_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    with CaptureFile(path) as file:
        first, second = (CaptureWriter(file, name) for name in ("/dev/ttyACM0", "/dev/ttyACM1"))
        first.note(0.0, A, to_board=True)
        first.close()
        second.note(0.0, B, to_board=True)
        second.close()
        again = CaptureWriter(file, "/dev/ttyACM0")
        again.note(0.0, B, to_board=False)
        again.close()
    assert [(one.interface, one.data) for one in read(path)] == [
        ("/dev/ttyACM0", A),
        ("/dev/ttyACM1", B),
        ("/dev/ttyACM0", B),
    ]
    assert path.read_bytes().count(b"/dev/ttyACM0") == 1, "each line is introduced once"


def test_lines_of_one_name_that_are_open_at_once_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    with CaptureFile(path) as file:
        first, second = CaptureWriter(file, "sim://"), CaptureWriter(file, "sim://")
        for writer in (first, second):
            writer.note(0.0, A, to_board=True)
        first.close()
        second.close()
        first.close()  # again, which lets go of nothing
        again, more = CaptureWriter(file, "sim://"), CaptureWriter(file, "sim://")
        first.close()
        third = CaptureWriter(file, "sim://")
        for writer in (again, more, third):
            writer.note(0.0, B, to_board=True)
            writer.close()
    assert [(one.interface, one.data) for one in read(path)] == [
        ("sim://", A),
        ("sim:// (2)", A),
        ("sim://", B),
        ("sim:// (2)", B),
        ("sim:// (3)", B),
    ]


# --- comments ---------------------------------------------------------------------------------


def test_a_comment_stands_on_the_next_packet_and_by_itself_where_none_follows() -> None:
    file = io.BytesIO()
    writer = writer_to(file)
    writer.comment("fault: flip at byte 17")
    writer.comment("fault: drop at byte 18")
    writer.note(0.0, A, to_board=False)
    writer.comment("over")
    writer.close()
    assert brief(read(file)) == [
        ("<", A, ("fault: flip at byte 17", "fault: drop at byte 18")),
        ("<", b"", ("over",)),
    ]


def test_of_very_many_comments_the_last_are_kept() -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        for number in range(1000):
            writer.comment(str(number))
    [packet] = read(file)
    assert packet.comments == tuple(map(str, range(936, 1000)))


def test_a_lost_port_ends_what_was_begun() -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        writer.port_opened(0.0)
        writer.note(0.0, A[:4], to_board=False)
        writer.port_lost(1.0)
        writer.port_opened(2.0)
        writer.note(2.0, B, to_board=True)
    assert brief(read(file)) == [
        ("<", A[:4], ("port lost",)),
        ("<", b"", ("port opened again",)),
        (">", B, ()),
    ]


def test_what_the_link_sends_again_is_told_in_both_directions() -> None:
    def message(kind: MessageType, seq: int, session_id: int = 0x1234) -> bytes:
        return encode_frame(encode_link_message(session_id, kind, seq, b"\0body"))

    request, reply = MessageType.LINK_REQUEST, MessageType.LINK_REPLY
    told = []
    file = io.BytesIO()
    with writer_to(file) as writer:
        for to_board, frame, is_told in [
            (True, message(request, 1), False),
            (True, message(request, 2), False),
            (True, message(request, 1), True),
            (False, message(reply, 1), False),
            (False, message(reply, 1), True),
            (False, message(MessageType.LINK_NAK, 2), False),
            (False, message(MessageType.LINK_NAK, 2), False),
            (True, message(request, 1, 0x1235), False),
            (True, A, False),
            (True, A, False),
        ]:
            writer.note(0.0, frame, to_board=to_board)
            told.append(("sent again by the link",) if is_told else ())
    assert [one.comments for one in read(file)] == told


# --- when it is written -----------------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
def test_what_came_is_in_the_file_soon_though_nobody_closes_it(tmp_path: Path, live: bool) -> None:
    file = tmp_path / "x.pcapng"
    writer = writer_to(file, live=live)
    for count in (1, 2):
        writer.note(0.0, A, to_board=True)
        assert len(await_packets(file, count)) == count
    writer.close()


def test_whoever_reads_along_sees_what_no_frame_has_ended(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    with writer_to(file, live=True) as writer:
        writer.note(0.0, b"> ", to_board=False)
        assert brief(await_packets(file, 1)) == [("<", b"> ", ())]


def test_a_program_that_is_killed_leaves_whole_packets(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    program = f"""
import sys
from microrpc.capture.writer import CaptureWriter
writer = CaptureWriter({str(file)!r}, "x")
writer.note(0.0, {A!r}, to_board=True)
sys.stdin.read(1)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 20
        while not (file.exists() and file.stat().st_size > 150) and time.monotonic() < deadline:
            threading.Event().wait(0.005)
        child.send_signal(signal.SIGKILL)
    assert brief(read(file)) == [(">", A, ())]


def test_a_fork_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    program = f"""
import os
from microrpc.capture.writer import CaptureWriter
writer = CaptureWriter({str(file)!r}, "x")
writer.note(0.0, {A!r}, to_board=True)
if not (child := os.fork()):
    writer.flush()
    writer.close()
    os._exit(0)
os.waitpid(child, 0)
writer.note(0.1, {B!r}, to_board=True)
writer.close()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert brief(read(file)) == [(">", A, ()), (">", B, ())]


def test_a_fork_cannot_capture_another_line_to_the_file_either(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    program = f"""
import os
from microrpc.capture.file import CaptureFile
from microrpc.capture.writer import CaptureWriter
from microrpc.errors import CaptureError
file = CaptureFile({str(file)!r})
if not (child := os.fork()):
    file.write(b"not from here")
    try:
        CaptureWriter(file, "y")
    except CaptureError as error:
        print(error, flush=True)
    file.close()
    os._exit(0)
os.waitpid(child, 0)
with CaptureWriter(file, "x") as writer:
    writer.note(0.0, {A!r}, to_board=True)
"""
    ran = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    told = "was opened by another process, of which this is a fork: give it a capture of its own"
    assert ran.stdout == f"{file} {told}\n"
    assert brief(read(file)) == [(">", A, ())]


def test_closing_waits_for_what_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pcapng"
    file = CaptureFile(path)
    closer = threading.Thread(target=file.close)
    write = os.write

    def write_while_it_is_closed(fd: int, data: bytes) -> int:
        closer.start()
        closer.join(0.05)  # where it does not wait, the descriptor is closed by then
        return write(fd, data)

    monkeypatch.setattr(files.os, "write", write_while_it_is_closed)
    file.write(interface_block("x"))
    closer.join()
    assert path.read_bytes() == section_header() + interface_block("x")


# --- where it is written ----------------------------------------------------------------------


def test_a_file_is_replaced_if_it_is_a_capture_or_empty(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    file.touch()
    for frame in (A + A, B):
        with writer_to(file) as writer:
            writer.note(0.0, frame, to_board=True)
    assert brief(read(file)) == [(">", B, ())]


def test_any_other_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "firmware.elf"
    file.write_bytes(b"\x7fELF")
    with pytest.raises(
        CaptureError, match=r"firmware.elf: there is a file already, and it is no capture: give another"
    ):
        writer_to(file)
    assert file.read_bytes() == b"\x7fELF"


def test_what_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=f"cannot write the capture {tmp_path}: it is a directory"):
        writer_to(tmp_path)
    with pytest.raises(CaptureError, match=r"cannot write the capture .*: No such file or directory"):
        writer_to(tmp_path / "none" / "x")
    with pytest.raises(CaptureError, match="cannot write to /dev/full: No space left on device"):
        writer_to(Path("/dev/full"))
    with pytest.raises(CaptureError, match="goes to a path or to a stream of bytes, not to int"):
        CaptureWriter(5, "x")  # type: ignore[arg-type]
    with pytest.raises(CaptureError, match="cannot write to the capture: string argument expected, got"):
        CaptureWriter(io.StringIO(), "x")  # type: ignore[arg-type]


def test_two_captures_are_not_written_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    with writer_to(file), pytest.raises(CaptureError, match="another capture is written to it"):
        writer_to(file)
    writer_to(file).close()


@pytest.mark.parametrize("at_once", [1, 20])
def test_a_full_disk_ends_the_capture_with_one_warning_and_the_packets_for_which_there_was_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at_once: int
) -> None:
    file = tmp_path / "x.pcapng"
    left = 400
    write = os.write

    def write_some(fd: int, data: bytes) -> int:
        nonlocal left
        taken = min(left, len(data))
        left -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:taken])

    monkeypatch.setattr(files.os, "write", write_some)
    with caplog.at_level(logging.INFO), writer_to(file) as writer:
        for number in range(1, 21):
            writer.note(0.0, A, to_board=True)
            if number % at_once == 0:
                writer.flush()
    packets = read(file)
    size = len(packet_block(0, A, to_board=True))
    assert len(packets) == (400 - len(section_header() + interface_block("sim://"))) // size > 1
    assert {one.data for one in packets} == {A}
    [record] = caplog.records
    assert (record.name, record.levelname) == ("microrpc.capture", "WARNING")
    assert record.getMessage() == f"{file}: the capture ends here, and what is in it is whole: No space left on device"


def test_a_file_that_is_removed_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.pcapng"
    with CaptureWriter(path, "x") as writer:
        writer.note(0.0, A, to_board=True)
        path.unlink()
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: it was removed while it was written, and nothing is left of it"
    ]


@pytest.mark.parametrize("start_ns", [-1, 1 << 63])
def test_a_time_that_no_file_has_is_refused(start_ns: int, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=f"not {start_ns} ns after 1970"):
        CaptureWriter(tmp_path / "x.pcapng", "x", start_ns=start_ns)
    assert not (tmp_path / "x.pcapng").exists()


def test_a_clock_that_goes_back_is_written_as_it_is() -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        for time_s in (5.0, 4.0, -1e9):
            writer.note(time_s, A, to_board=True)
    assert [one.time_ns for one in read(file)] == [START_NS, START_NS - 10**9, START_NS - (10**9 + 5) * 10**9]


def test_a_stream_of_the_program_stays_open(caplog: pytest.LogCaptureFixture) -> None:
    file = io.BytesIO()
    with writer_to(file) as writer:
        writer.note(0.0, A, to_board=True)
    assert not file.closed
    writer.note(0.0, A, to_board=True)
    writer.close()
    assert len(read(file)) == 1
    file = io.BytesIO()
    writer = writer_to(file)
    writer.note(0.0, A, to_board=True)
    file.close()
    writer.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_stream_may_take_a_part_at_a_time() -> None:
    class Narrow(io.BytesIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            return super().write(data[:7])

    file = Narrow()
    with writer_to(file) as writer:
        writer.note(0.0, A, to_board=True)
    assert [one.data for one in read(file)] == [A]


@pytest.mark.parametrize("given", [0, -1, 1000, "7"])
def test_a_stream_that_says_it_took_what_cannot_be_is_one_error_and_no_endless_loop(given: object) -> None:
    class Odd(io.BytesIO):
        def write(self, data: memoryview) -> Any:  # type: ignore[override]
            return given

    with pytest.raises(CaptureError, match=rf"^cannot write to the capture: the stream's write gave {given!r} for "):
        writer_to(Odd())


def test_a_raw_stream_that_is_full_for_now_ends_the_capture_since_it_took_nothing() -> None:
    class Full(io.RawIOBase):
        def write(self, data: object) -> None:
            return None

    with pytest.raises(CaptureError, match="the stream's write gave None for "):
        CaptureFile(Full())


def test_whatever_a_stream_raises_ends_the_capture_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(io.BytesIO):
        def write(self, data: memoryview) -> int:  # type: ignore[override]
            if self.tell():
                raise LookupError
            return super().write(data)

    with writer_to(Broken(), live=True) as writer:
        writer.note(0.0, A, to_board=True)
    [record] = caplog.records
    assert (
        record.getMessage() == "the capture: the capture ends here, and its last packet may be cut short: LookupError"
    )


# --- pipes ------------------------------------------------------------------------------------


def test_a_named_pipe_is_read_along(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    first = threading.Event()

    def read_along() -> None:
        with open(pipe, "rb", buffering=0) as file:
            for packet in read_blocks(file):
                got.append(packet.data)
                first.set()

    reader = threading.Thread(target=read_along)
    reader.start()
    with writer_to(pipe) as writer:
        writer.note(0.0, A, to_board=True)
        assert first.wait(20)
        writer.note(0.0, bytes(300_000), to_board=True)
    reader.join(20)
    assert got[0] == A
    assert sum(map(len, got)) == len(A) + 300_000


def test_a_reader_that_never_comes_is_waited_for_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "READER_S", 0.05)
    with pytest.raises(CaptureError, match=r"nobody has read this pipe for 0.05 s: start its reader first"):
        open_sink(tmp_path / "pipe")


def piped(tmp_path: Path) -> tuple[CaptureWriter, int]:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    return writer_to(pipe), reader


def test_a_reader_that_goes_ends_it_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer, reader = piped(tmp_path)
    os.close(reader)
    with caplog.at_level(logging.WARNING):
        writer.note(0.0, A, to_board=True)
        writer.close()
    assert caplog.records == []


def test_a_reader_that_takes_nothing_ends_it_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    writer, reader = piped(tmp_path)
    writer.note(0.0, bytes(900_000), to_board=True)
    writer.close()
    os.close(reader)
    [record] = caplog.records
    assert record.getMessage() == (
        f"{tmp_path}/pipe: the capture ends here, and its last packet may be cut short: "
        "whoever reads it took nothing for 0.05 s"
    )


def test_stdout_is_written_to_unless_it_is_a_terminal() -> None:
    program = "from microrpc.capture.writer import CaptureWriter; CaptureWriter('-', 'x').close()"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert ran.stdout.startswith(section_header())
    ours, theirs = os.openpty()
    ran = subprocess.run(
        [sys.executable, "-c", program], stdout=theirs, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert b"a capture is no text for a terminal: send stdout to a file or a program" in ran.stderr
