"""`microrpc monitor` without a screen: lines of a file, of one that grows, and of a line with a program at it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import run
from processes import COMMAND, first_line
from textual.binding import Binding
from watched import START_NS, golden_packets, made

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.capture.pcapng import Packet, interface_block, packet_block, section_header
from microrpc.capture.trace import Trace
from microrpc.cli.monitor.feed import BlockPipe, Feed, count_unshown, packets_of
from microrpc.cli.monitor.saving import save
from microrpc.cli.monitor.source import is_file, open_line
from microrpc.connecting.blocking import connect
from microrpc.gateway.through import Through
from microrpc.wire.frames import encode_frame

LOG = encode_frame(b"\x00\x00\x03careful\n")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ptys and named pipes")


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "x.pcapng"
    save(golden_packets(), path)
    return path


# --- files ----------------------------------------------------------------------------------------


def test_a_file_gives_a_line_for_each_frame_as_a_trace_does(capture: Path) -> None:
    trace = Trace()
    for packet in golden_packets():
        trace.note((packet.time_ns - START_NS - 10**6) / 1e9, packet.data, to_board=bool(packet.to_board))
    result = run("monitor", capture)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [frame.line(0.0) for frame in trace.frames]


def test_comments_stand_in_front_of_their_frame(tmp_path: Path) -> None:
    save(made((False, LOG), comments=("port opened again",)), tmp_path / "x.pcapng")
    lines = run("monitor", tmp_path / "x.pcapng").out.splitlines()
    assert [line.strip() for line in lines] == [
        "0.0 ms  -- port opened again",
        '0.0 ms  <- board    11 B  LOG             "careful\\n"',
    ]


def test_a_capture_may_be_piped_in(capture: Path) -> None:
    with capture.open("rb") as file:
        ran = subprocess.run([*COMMAND, "monitor", "-"], stdin=file, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(ran.stdout.splitlines()) == 1008


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "error: {path}: it is empty"),
        (b"no capture at all", "error: {path}: it begins with 6e 6f 20 63"),
        (section_header()[:-3], "error: {path}: this is no whole pcapng file: at byte 0"),
    ],
)
def test_a_file_that_is_no_capture_is_one_error(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.pcapng").write_bytes(content)
    result = run("monitor", tmp_path / "x.pcapng")
    assert result.out == ""
    assert result.err.startswith(told.format(path=tmp_path / "x.pcapng"))
    assert len(result.err.splitlines()) == 1
    assert result.code == 5


def test_what_is_not_there_is_one_error(tmp_path: Path) -> None:
    result = run("monitor", tmp_path / "none.pcapng")
    assert (result.code, result.err) == (6, f"error: {tmp_path}/none.pcapng: No such file or directory\n")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("x.pcapng", "--through", "/tmp/board"), "--through is of ports, and x.pcapng is a file"),
        (("x.pcapng", "--reconnect"), "--reconnect is of ports, and x.pcapng is a file"),
        (("x.pcapng", "--board", "loopback"), "--board is of ports, and x.pcapng is a file"),
        (("x.pcapng", "--no-hang-up"), "--hang-up is of ports, and x.pcapng is a file"),
        (("sim://", "--follow"), "--follow is of files, and sim:// is a port: it is live anyway"),
    ],
)
def test_options_that_have_no_meaning_are_refused(args: tuple[str, ...], told: str) -> None:
    result = run("monitor", *args)
    assert result.code == 2
    assert told in result.err.replace("\n", " ")


def test_files_and_ports_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "capture").touch()
    board_fd, host_fd = os.openpty()
    try:
        assert [is_file(name) for name in ("-", str(tmp_path / "fifo"), str(tmp_path / "capture"), "none.pcapng")] == [
            True
        ] * 4
        assert [is_file(name) for name in (os.ttyname(host_fd), "sim://", "/dev/ttyNONE", "COM3")] == [False] * 4
    finally:
        os.close(board_fd)
        os.close(host_fd)


def blocks_of(packets: list[Packet]) -> bytes:
    blocks = [packet_block(each.time_ns, each.data, to_board=bool(each.to_board)) for each in packets]
    return section_header() + interface_block("line") + b"".join(blocks)


def test_a_file_that_grows_is_followed_until_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    blocks = blocks_of(made((False, LOG), (False, b"text\n"), (True, encode_frame(b"\x07\x00\x00\x01"))))
    path.write_bytes(blocks[:-70])  # in the middle of a block
    command = [*COMMAND, "monitor", str(path), "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert "careful" in first_line(process)
            assert "text" in first_line(process)
            with path.open("ab") as file:
                file.write(blocks[-70:])
            assert "INIT" in first_line(process)
            path.write_bytes(blocks_of(made((False, b"anew\n"))))
            assert "anew" in first_line(process)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10) == ("", "")
        assert process.returncode == 0


def test_a_named_pipe_is_shown_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with subprocess.Popen([*COMMAND, "monitor", str(path)], stdout=subprocess.PIPE, text=True) as process:
        with path.open("wb", buffering=0) as file:
            blocks = blocks_of(made((False, LOG), (False, b"text\n")))
            file.write(blocks[:-60])
            assert "careful" in first_line(process)
            file.write(blocks[-60:])
            assert "text" in first_line(process)
        assert process.wait(timeout=10) == 0


# --- ports ----------------------------------------------------------------------------------------


def test_what_crosses_between_a_board_and_a_program_is_printed_as_it_happens(tmp_path: Path) -> None:
    link = tmp_path / "board"
    with PtyServer(simulate(profile("loopback"))) as server:
        command = [*COMMAND, "monitor", server.path, "--through", str(link)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                assert process.stderr.readline() == f"{server.path} is at {link} until Ctrl-C\n"
                with connect(str(link)) as board:
                    assert board.function("add")(2, 3) == 5
                line = ""
                while "add(2, 3)" not in line:
                    line = first_line(process)
                assert "CALL" in line
                assert "Return          5" in first_line(process)
            finally:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=10)
            assert process.returncode == 0
    assert not link.exists()


def test_what_a_reader_did_not_take_before_the_end_is_counted(tmp_path: Path) -> None:
    link = tmp_path / "board"
    with PtyServer(simulate(profile("loopback"))) as server:
        command = [*COMMAND, "monitor", server.path, "--through", str(link)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                process.stderr.readline()
                with connect(str(link)) as board:
                    add = board.function("add")
                    for number in range(1500):  # their lines are more than a pipe takes
                        assert add(number, 1) == number + 1
            finally:
                process.send_signal(signal.SIGINT)
            told = process.stderr.read()
            printed = process.stdout.read().splitlines()
            assert process.wait(timeout=10) == 0
    found = re.fullmatch(r"(\d+) packets came that were not printed any more\n", told)
    assert found is not None
    assert int(found[1]) > 1000
    assert 3000 < len(printed) + int(found[1]) < 3100


def test_a_port_that_cannot_be_opened_is_one_error() -> None:
    result = run("monitor", "/dev/ttyNONE")
    assert result.code == 3
    assert result.err.startswith("error: ")


def test_a_line_that_cannot_be_watched_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with PtyServer(simulate(profile("loopback"))) as server:
        with monkeypatch.context() as patched:
            patched.setattr("microrpc.cli.monitor.source.Source", fail)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                open_line(lambda taps, on_news: Through(server.path, taps, on_news=on_news))
        connect(server.path).close()


def test_a_port_that_goes_away_ends_it(tmp_path: Path) -> None:
    server = PtyServer(simulate(profile("loopback")))
    with server:
        command = [*COMMAND, "monitor", server.path]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert process.stderr.readline().endswith("until Ctrl-C\n")
    _, told = process.communicate(timeout=10)
    assert process.returncode == 3
    assert "error: " in told


# --- a terminal -----------------------------------------------------------------------------------


@pytest.mark.boards  # three starts of the whole program
@pytest.mark.parametrize("end", [b"q", b"\x03", signal.SIGTERM])
def test_a_terminal_has_the_screen_until_a_key_or_a_signal(capture: Path, end: bytes | signal.Signals) -> None:
    screen, terminal = os.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    command = [*COMMAND, "monitor", str(capture)]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        said = b""
        try:
            while b"1,008 rows" not in said:
                said += os.read(screen, 65536)
            if isinstance(end, bytes):
                os.write(screen, end)
            else:
                process.send_signal(end)
            while piece := os.read(screen, 65536):
                said += piece
        except OSError:  # it has ended, and its terminal with it
            pass
        assert process.wait(timeout=10) == 0
    os.close(screen)
    assert b"\x1b[?1049h" in said
    assert said.rindex(b"\x1b[?1049l") > said.rindex(b"1,008 rows"), "the terminal is given back"


# --- queues ---------------------------------------------------------------------------------------


def in_thread(do: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


def test_who_reads_a_file_waits_until_there_is_room() -> None:
    feed = Feed(most_packets=2)
    packets = golden_packets()[:5]
    done: list[bool] = []
    thread = in_thread(lambda: done.extend(feed.put(packet) for packet in packets))
    taken: list[Packet] = []
    while len(taken) < 5:
        assert feed.wait(10)
        taken += feed.take(1)
        assert len(done) <= len(taken) + 2
    thread.join(10)
    assert (taken, done) == (packets, [True] * 5)


def test_a_large_packet_fills_it_too_and_the_end_comes_after_all_packets() -> None:
    feed = Feed(most_bytes=10)
    [packet] = made((False, b"x" * 20))
    feed.put(packet)
    feed.finish("over")
    assert feed.end is None
    assert list(packets_of(feed)) == [packet]
    assert feed.end == "over"


def test_an_error_is_raised_where_the_packets_end() -> None:
    feed = Feed()
    feed.finish(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        list(packets_of(feed))


def test_what_was_taken_and_not_given_is_counted_with_what_waits() -> None:
    feed = Feed()
    for packet in made(*((False, bytes([number])) for number in range(5))):
        feed.put(packet)
    shown = packets_of(feed)
    assert (next(shown).data, next(shown).data) == (b"\0", b"\1")
    shown.close()
    feed.put(made((False, b"late"))[0])
    feed.finish("over")
    assert count_unshown(feed) == 4


def test_who_wants_no_more_lets_the_reader_go() -> None:
    feed = Feed(most_packets=1)
    [first, second] = made((False, b"1"), (False, b"2"))
    feed.put(first)
    ended: list[bool] = []
    thread = in_thread(lambda: ended.append(feed.put(second)))
    feed.close()
    thread.join(10)
    assert ended == [False]


def test_a_pipe_of_blocks_leaves_out_whole_packets_and_never_waits() -> None:
    pipe = BlockPipe(most_bytes=100)
    block = packet_block(0, b"x", to_board=True)
    assert pipe.write(block) == len(block)
    assert pipe.write(block * 3) == 3 * len(block)
    assert (pipe.take_left_out(), pipe.take_left_out()) == (3, 0)
    assert pipe.read(10) + pipe.read(1000) == block
    pipe.write(block)
    pipe.close()
    assert (pipe.read(1000), pipe.read(1000)) == (block, b"")


# --- the guide ------------------------------------------------------------------------------------

GUIDE = (Path(__file__).parent.parent.parent.parent / "docs" / "monitor.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", re.findall(r"^    (microrpc .*)$", GUIDE, flags=re.MULTILINE))
def test_the_commands_of_the_guide_run(capture: Path, command: str) -> None:
    line = command.replace("microrpc", f"{sys.executable} -m microrpc.cli", 1)
    ran = subprocess.run(line, shell=True, cwd=capture.parent, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout


def test_the_guide_has_every_key_of_the_screen_and_of_its_help() -> None:
    from microrpc.cli.monitor.help import HELP
    from microrpc.cli.monitor.list import FrameList
    from microrpc.cli.monitor.view import MonitorApp

    spelled = {"question_mark": "?", "slash": "/", "pageup": "page up", "pagedown": "page down", "ctrl+c": "q"}
    rows = " ".join(re.findall(r"^\| (.*?) \|", GUIDE.partition("## Keys")[2], flags=re.MULTILINE)).lower()
    for binding in (*MonitorApp.BINDINGS, *FrameList.BINDINGS):
        assert isinstance(binding, Binding)
        key = binding.key.split(",")[0]
        name = "1 to 7" if key in tuple("1234567") else spelled.get(key, key)
        assert name in rows, key
        assert name in HELP.lower(), key


def test_json_is_what_decode_says(capture: Path) -> None:
    result = run("monitor", capture, "--json")
    assert (result.code, result.err) == (0, "")
    assert result.out == run("decode", capture, "--json").out


def test_bytes_of_a_line_alone_are_read_where_it_is_said_which_way_they_went(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LOG)
    assert "<- board    11 B  LOG" in run("monitor", tmp_path / "x", "--raw", "from-board").out
