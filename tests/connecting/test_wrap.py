"""What sits between a port and its connection: a tap sees all bytes, whichever client, whatever the port."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apis import Api, AsyncioApi, BlockingApi

import microrpc
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import SimBoard, simulate
from microrpc.boards.catalogue import profile
from microrpc.capture.trace import Trace
from microrpc.connecting.wrap import RecordingChannel, TappedAsyncChannel, TappedChannel, tap_of, tapped
from microrpc.errors import PortLostError
from microrpc.ports.channel import Channel
from microrpc.ports.fd import FdChannel
from microrpc.wire.session import Timeouts

ROOT = Path(__file__).parent.parent.parent
BOARD = profile("loopback")
DATA = np.arange(3000).astype(np.uint8)
TIMEOUTS = Timeouts(retry_s=4.0, start_s=20.0, call_s=20.0)  # nothing is repeated, however busy the computer


class Notes:
    """A tap that keeps the bytes of both directions."""

    def __init__(self) -> None:
        self.to_board = self.to_host = b""
        self.times_s: list[float] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        self.times_s.append(time_s)
        if to_board:
            self.to_board += data
        else:
            self.to_host += data


class Witness:
    """Knows on the board's side what passed."""

    def __init__(self) -> None:
        self.received = self.sent = b""

    def watch(self, device: Device) -> Device:
        device.take_output()  # its boot, which a host that comes later does not hear
        receive, take_output = device.receive, device.take_output

        def receive_seen(data: bytes) -> None:
            self.received += data
            receive(data)

        def take_output_seen() -> bytes:
            data = take_output()
            self.sent += data
            return data

        device.receive, device.take_output = receive_seen, take_output_seen  # type: ignore[method-assign]
        return device


@contextlib.contextmanager
def in_memory(device: Device, api: Api, notes: Notes) -> Iterator[Any]:
    with api.open_board(LoopbackChannel(device), TIMEOUTS, wrap=tapped(notes)) as board:
        yield board


@contextlib.contextmanager
def over_a_pty(device: Device, api: Api, notes: Notes) -> Iterator[Any]:
    with PtyServer(device) as server, api.connect(server.path, timeouts=TIMEOUTS, wrap=tapped(notes)) as board:
        yield board


@contextlib.contextmanager
def over_tcp(device: Device, api: Api, notes: Notes) -> Iterator[Any]:
    with TcpServer(device) as server, api.connect(server.path, timeouts=TIMEOUTS, wrap=tapped(notes)) as board:
        yield board


@pytest.mark.parametrize("opening", [in_memory, over_a_pty, over_tcp])
def test_a_tap_sees_what_the_board_sent_and_got(api: Api, opening: Callable[..., Any]) -> None:
    notes, witness = Notes(), Witness()
    device = witness.watch(simulate(BOARD))
    with opening(device, api, notes) as board:
        assert board.function("add")(2, 3) == 5
        with board.array(DATA) as array:
            assert np.array_equal(array.numpy(), DATA)
        said_s = list(notes.times_s)
        asked_bytes = len(notes.to_board)
        assert board.function("add")(2, 3) == 5
        assert notes.to_host == witness.sent
        assert len(witness.received) > asked_bytes
    assert notes.to_board.startswith(witness.received)  # its last words may not have been read
    assert said_s == sorted(said_s)


def test_both_clients_send_and_see_the_same() -> None:
    seen = []
    for made in (BlockingApi(), AsyncioApi()):
        notes = Notes()
        with made.open_board(LoopbackChannel(simulate(BOARD)), TIMEOUTS, seed=1, wrap=tapped(notes)) as board:
            assert board.function("add")(2, 3) == 5
        made.close()
        seen.append((notes.to_board, notes.to_host))
    assert seen[0] == seen[1]
    assert all(seen[0])


def test_what_could_not_be_sent_is_seen_too(api: Api) -> None:
    notes, channel = Notes(), LoopbackChannel(simulate(BOARD))
    board = api.open_board(channel, TIMEOUTS, link=False, wrap=tapped(notes))
    before = len(notes.to_board)
    write = channel.write

    def lose(data: bytes, deadline: float) -> None:
        channel.close()
        write(data, deadline)

    channel.write = lose  # type: ignore[method-assign]
    with pytest.raises(PortLostError):
        board.function("add")
    assert b"add" in notes.to_board[before:]
    board.close()


class Losses(Notes):
    """One that is told of ports that go away, too."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_s: list[float] = []

    def port_lost(self, time_s: float) -> None:
        self.lost_s.append(time_s)


@pytest.mark.parametrize("end", ["close", "interrupt"])
def test_a_port_that_this_program_closes_is_not_told_to_be_lost(end: str) -> None:
    def use(*, ends_it: bool) -> list[float]:
        losses, channel = Losses(), LoopbackChannel(simulate(BOARD))
        wrapped = tapped(losses)(channel)
        getattr(wrapped, end)() if ends_it else channel.close()
        with pytest.raises(PortLostError):
            wrapped.read(0.0)
        with pytest.raises(PortLostError):
            wrapped.write(b"x", 0.0)
        return losses.lost_s

    assert len(use(ends_it=False)) == 2
    assert not use(ends_it=True)


def test_neither_is_it_to_one_of_asyncio() -> None:
    async def use(*, ends_it: bool) -> list[float]:
        losses, channel = Losses(), LoopbackChannel(simulate(BOARD))
        wrapped = tapped(losses)(microrpc.aio.InMemoryChannel(channel))
        (wrapped if ends_it else channel).close()
        with pytest.raises(PortLostError):
            await wrapped.read(0.0)
        with pytest.raises(PortLostError):
            await wrapped.write(b"x", 0.0)
        return losses.lost_s

    assert len(asyncio.run(use(ends_it=False))) == 2
    assert not asyncio.run(use(ends_it=True))


# --- whatever else is a wrap ------------------------------------------------------------------


def test_any_function_that_gives_a_channel_is_a_wrap(api: Api) -> None:
    given: list[Any] = []

    def wrap(channel: Any) -> Any:
        given.append(channel)
        return tapped(Notes())(channel)

    with api.connect("sim://", wrap=wrap) as board:
        assert board.function("add")(2, 3) == 5
    with api.open_board(LoopbackChannel(simulate(BOARD)), TIMEOUTS, wrap=wrap) as board:
        assert board.function("add")(2, 3) == 5
    assert len(given) == 2


def test_without_a_wrap_nothing_lies_between(api: Api) -> None:
    with api.connect("sim://") as board:
        assert type(board.pump._channel).__name__ in ("FdChannel", "AsyncFdChannel")


def test_a_port_that_is_tapped_is_listened_to_and_one_in_virtual_time_is_not(api: Api) -> None:
    with api.connect("sim://", wrap=tapped(Notes())) as board:
        board.on_event(None, print)
        assert board.pump.is_listening
    with api.open_board(LoopbackChannel(simulate(BOARD)), TIMEOUTS, wrap=tapped(Notes())) as board:
        board.on_event(None, print)
        assert not board.pump.is_listening


def test_tapped_tells_the_channels_of_the_two_clients_apart() -> None:
    notes, channel = Notes(), LoopbackChannel(simulate(BOARD))
    wrap = tapped(notes)
    assert type(wrap(channel)) is TappedChannel
    assert type(wrap(microrpc.aio.InMemoryChannel(channel))) is TappedAsyncChannel
    assert tap_of(wrap) is notes
    assert tap_of(lambda channel: channel) is tap_of(None) is None


def test_a_recording_channel_keeps_the_frames_of_its_own_trace_or_of_one_that_is_given() -> None:
    channel = RecordingChannel(LoopbackChannel(simulate(BOARD)))
    with microrpc.open_board(channel, TIMEOUTS, link=False) as board:
        board.function("add")
    assert any(frame.meaning == '"add"' for frame in channel.frames)
    trace = Trace()
    assert RecordingChannel(LoopbackChannel(simulate(BOARD)), trace).trace is trace


# --- opened again -----------------------------------------------------------------------------


def test_a_port_that_came_back_is_wrapped_again(api: Api) -> None:
    notes, sim, wrapped = Notes(), SimBoard(BOARD, seed=3), list[str]()

    def reopen() -> Channel:
        return sim.open_channel()

    async def reopen_awaited() -> microrpc.aio.AsyncChannel:
        return microrpc.aio.InMemoryChannel(reopen())

    def wrap(channel: Any) -> Any:
        wrapped.append(channel.name)
        return tapped(notes)(channel)

    options: dict[str, Any] = {"reopen": reopen if isinstance(api, BlockingApi) else reopen_awaited, "wrap": wrap}
    with api.open_board(sim.open_channel(), BOARD.timeouts, **options) as board:
        sim.unplug(keeps_power=True)
        with pytest.raises(PortLostError):
            board.function("add")
        sim.plug()
        before = len(notes.to_host)
        assert board.function("add")(2, 3) == 5
        assert len(notes.to_host) > before
    assert wrapped == [sim.name] * 2


def test_a_connection_that_came_back_is_wrapped_again(api: Api) -> None:
    notes, wrapped = Notes(), list[str]()

    def wrap(channel: Any) -> Any:
        wrapped.append(channel.name)
        return tapped(notes)(channel)

    with TcpServer(simulate(BOARD)) as server:
        with api.connect(server.path, timeouts=TIMEOUTS, reconnect=True, wrap=wrap) as board:
            board.pump._channel.close()
            with pytest.raises(PortLostError):
                board.function("add")
            before = len(notes.to_host)
            assert board.function("add")(2, 3) == 5
            assert len(notes.to_host) > before
        assert wrapped == [server.path] * 2


# --- a reset ----------------------------------------------------------------------------------


def test_what_the_board_says_after_a_reset_is_seen_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    due = dataclasses.replace(profile("arduino_due"), timeouts=TIMEOUTS)
    notes, witness = Notes(), Witness()
    with PtyServer(witness.watch(simulate(due))) as server:
        is_low = threading.Event()

        def set_modem_lines(self: FdChannel, *, dtr: bool | None = None, rts: bool | None = None) -> bool:
            if dtr is False:
                is_low.set()
            elif dtr and is_low.is_set():
                is_low.clear()
                server.reset()
            return True

        monkeypatch.setattr(FdChannel, "set_modem_lines", set_modem_lines)
        with api.connect(server.path, board=due, reset=True, wrap=tapped(notes)) as board:
            assert board.function("add")(2, 3) == 5
            assert notes.to_host == witness.sent
    trace = Trace()
    trace.note(0.0, notes.to_host, to_board=False)
    assert "I have booted" in [frame.meaning for frame in trace.frames]
    assert server.device.stats.resets == 1


def test_a_wrap_that_is_no_tap_knows_nothing_of_the_reset(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def wrap(channel: Any) -> Any:
        given.append(channel)
        return channel

    monkeypatch.setattr(FdChannel, "set_modem_lines", lambda self, *, dtr=None, rts=None: True)
    due = dataclasses.replace(profile("arduino_due"), power_up_s=0.01)
    with PtyServer(simulate(due)) as server, api.connect(server.path, board=due, reset=True, wrap=wrap) as board:
        assert board.function("add")(2, 3) == 5
    assert len(given) == 1


# --- the guide --------------------------------------------------------------------------------


def test_the_example_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    section = guide[guide.index("## Listening to a connection") :]
    (example,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    exec(compile(example, "docs/testing.md", "exec"), {})
    told = re.findall(r"# prints (.*)", example)
    assert capsys.readouterr().out.splitlines() == told
