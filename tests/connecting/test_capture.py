"""Connections that are captured: whichever client, whatever the port, and what happens to it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from apis import Api, AsyncioApi

import microrpc
from firmware_sim.line.faults import Direction, Faults, Flip
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc.boards.catalogue import profile
from microrpc.capture.pcapng import Packet, read_blocks
from microrpc.capture.trace import Trace
from microrpc.connecting.wrap import tapped
from microrpc.errors import BoardResetError, CaptureError, PortLostError, PortNotFoundError
from microrpc.ports.fd import FdChannel
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import Timeouts

BOARD = profile("loopback")
TIMEOUTS = Timeouts(retry_s=4.0, start_s=20.0, call_s=20.0)


class Notes:
    """A tap that keeps the bytes of both directions."""

    def __init__(self) -> None:
        self.bytes = {True: b"", False: b""}

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        self.bytes[to_board] += data


def read(file: Path | io.BytesIO) -> list[Packet]:
    return list(read_blocks(io.BytesIO(file.read_bytes() if isinstance(file, Path) else file.getvalue())))


def kinds(packets: list[Packet]) -> list[str]:
    trace = Trace()
    for one in packets:
        trace.note(one.time_ns / 1e9, one.data, to_board=bool(one.to_board))
    return [frame.kind for frame in trace.frames]


def talk(board: Any) -> None:
    assert board.function("add")(2, 3) == 5
    with board.array(np.arange(3000).astype(np.uint8)) as array:
        assert array.numpy().sum() == np.arange(3000).astype(np.uint8).sum()


def test_a_channel_is_closed_where_its_capture_cannot_be_written(api: Api, tmp_path: Path) -> None:
    channel, closed = LoopbackChannel(simulate(BOARD)), []
    with pytest.raises(CaptureError):
        api.open_board(channel, TIMEOUTS, capture=tmp_path, on_close=lambda: closed.append(True))
    assert closed == [True]


@pytest.mark.parametrize("link", [True, False])
def test_all_that_crosses_a_port_is_in_the_file_each_frame_a_packet(api: Api, tmp_path: Path, link: bool) -> None:
    file, notes = tmp_path / "x.pcapng", Notes()
    with (
        PtyServer(simulate(BOARD)) as server,
        api.connect(server.path, timeouts=TIMEOUTS, link=link, capture=file, wrap=tapped(notes)) as board,
    ):
        talk(board)
    packets = read(file)
    for to_board in (True, False):
        assert b"".join(one.data for one in packets if one.to_board is to_board) == notes.bytes[to_board]
    assert {one.interface for one in packets} == {server.path}
    for one in packets:
        assert len(FrameDecoder().feed(one.data)) == 1
    assert ("CALL" if link else "CallFunc") in kinds(packets)


@pytest.mark.parametrize("port", ["sim://", "socket://"])
def test_boards_of_other_addresses_are_captured_too(api: Api, port: str) -> None:
    file = io.BytesIO()
    with TcpServer(simulate(BOARD)) as server:
        address = port if port == "sim://" else server.path
        with api.connect(address, timeouts=TIMEOUTS, capture=file) as board:
            talk(board)
    assert {one.interface for one in read(file)} == {address}
    assert "Return" in kinds(read(file))


@pytest.mark.boards
def test_an_emulated_board_is_captured_too(tmp_path: Path) -> None:
    needs.emulated("qemu_mps2_an385")
    file = tmp_path / "x.pcapng"
    with microrpc.connect("qemu://mps2_an385", capture=str(file)) as board:
        talk(board)
    assert "Return" in kinds(read(file))


@pytest.mark.parametrize("port", ["tcp://127.0.0.1:9", "unix:///tmp/none.sock", "tvm://127.0.0.1:9?key=x"])
def test_what_has_no_frames_is_refused_before_it_is_opened(api: Api, tmp_path: Path, port: str) -> None:
    file = tmp_path / "x.pcapng"
    with pytest.raises(CaptureError, match=r"has no frames, which a capture is of: capture where the board is"):
        api.connect(port, capture=file)
    assert not file.exists()


def test_a_capture_that_cannot_be_written_is_told_before_the_port_is_opened(api: Api, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="it is a directory"):
        api.connect("/dev/there-is-no-such-port", capture=tmp_path)


def test_a_port_that_cannot_be_opened_leaves_an_empty_capture_that_is_closed(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    for _ in range(2):
        with pytest.raises(PortNotFoundError):
            api.connect("/dev/there-is-no-such-port", capture=file)
        assert read(file) == []


def test_times_are_those_of_the_line_also_where_they_are_virtual() -> None:
    file = io.BytesIO()
    board = SimBoard(BOARD)
    with microrpc.open_board(board.open_channel(), TIMEOUTS, capture=file) as opened:
        board.sleep(3600)
        talk(opened)
    times = [one.time_ns for one in read(file)]
    assert times == sorted(times)
    assert 3600e9 < times[-1] - times[0] < 3700e9


def test_a_fault_of_the_simulator_is_told_at_its_packet(api: Api) -> None:
    fault = Flip(at=(60,), direction=Direction.TO_HOST)
    board = SimBoard(BOARD, faults=Faults((fault,)))
    file = io.BytesIO()
    with api.open_board(board.open_channel(), TIMEOUTS, capture=file) as opened:
        talk(opened)
    [packet] = [one for one in read(file) if any(text.startswith("fault") for text in one.comments)]
    assert packet.comments == ("fault: flip at byte 60 to the host",)
    assert not packet.to_board
    assert not any(isinstance(item, bytes) for item in FrameDecoder().feed(packet.data))
    assert "sent again by the link" in {text for one in read(file) for text in one.comments}


def test_a_port_that_is_lost_and_comes_back_goes_on_in_the_same_file(api: Api, tmp_path: Path) -> None:
    file, link = tmp_path / "x.pcapng", tmp_path / "board"
    with PtyServer(simulate(BOARD), link=link):
        board = api.connect(str(link), timeouts=TIMEOUTS, reconnect=True, capture=file)
        talk(board)
    with PtyServer(simulate(BOARD), link=link):
        with contextlib.suppress(PortLostError, BoardResetError):
            board.function("add")(2, 3)
        with contextlib.suppress(BoardResetError):
            board.function("add")(2, 3)
        assert board.function("add")(2, 3) == 5
        board.close()
    comments = [text for one in read(file) for text in one.comments]
    assert comments[0] == "port lost"
    assert "port opened again" in comments
    times = [one.time_ns for one in read(file)]
    assert times == sorted(times)


def test_what_the_board_says_while_it_is_reset_is_in_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FdChannel, "set_modem_lines", lambda self, *, dtr=None, rts=None: True)
    due = dataclasses.replace(profile("arduino_due"), power_up_s=0.01)
    file, notes = io.BytesIO(), Notes()
    with (
        PtyServer(simulate(due)) as server,
        api.connect(server.path, board=due, reset=True, capture=file, wrap=tapped(notes)) as board,
    ):
        talk(board)
    packets = read(file)
    assert "the board is reset" in packets[0].comments
    assert b"".join(one.data for one in packets if not one.to_board) == notes.bytes[False]


def test_a_wrap_of_the_programs_own_is_beyond_the_capture(api: Api) -> None:
    seen: list[str] = []

    def wrap(channel: Any) -> Any:
        seen.append(type(channel).__name__)
        return channel

    file = io.BytesIO()
    with api.open_board(LoopbackChannel(simulate(BOARD)), TIMEOUTS, capture=file, wrap=wrap) as board:
        talk(board)
    assert seen == ["TappedAsyncChannel" if isinstance(api, AsyncioApi) else "TappedChannel"]
    assert read(file)


def test_a_program_that_ends_without_closing_has_all_of_it_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.pcapng"
    program = f"import microrpc; board = microrpc.connect('sim://', capture={str(file)!r}); board.function('add')(2, 3)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
    assert kinds(read(file))[-2:] == ["Return", "TERMINATE"]


# --- what is logged ---------------------------------------------------------------------------


def test_frames_are_logged_in_words_where_somebody_listens(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.DEBUG, "microrpc.wire"),
        api.open_board(LoopbackChannel(simulate(BOARD)), TIMEOUTS, link=False) as board,
    ):
        talk(board)
    records = [record for record in caplog.records if record.name == "microrpc.wire"]
    call = next(record for record in records if "CallFunc" in record.getMessage())
    assert call.getMessage().startswith("loopback ")
    assert call.getMessage().endswith("CallFunc        add(2, 3)")
    assert call.__dict__["frame"].kind == "CallFunc"


def test_nothing_sits_on_a_line_that_nobody_watches() -> None:
    channel = LoopbackChannel(simulate(BOARD))
    with microrpc.open_board(channel, TIMEOUTS) as board:
        assert board.pump._channel is channel


def test_how_a_connection_went_is_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "microrpc.connection"), api.connect("sim://", timeouts=TIMEOUTS) as board:
        talk(board)
        session_id = board.session_id
    first, second, last = [one.getMessage() for one in caplog.records if one.name == "microrpc.connection"]
    assert first.startswith("sim://: open; board profile loopback")
    assert second == f"sim://: session 0x{session_id:04x} is open"
    assert last.startswith("sim://: closed; link of ")
    assert last.endswith("sent again by the link: 0, in a new session: 0, damaged: 0, resets: 0")
