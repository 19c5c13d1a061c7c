"""A board that is unplugged and comes back: which port it is then, what became of its memory, and going on with it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apis import Api, BlockingApi
from serial.tools.list_ports_common import ListPortInfo

import microrpc
from firmware_sim.board.clock import VirtualClock
from firmware_sim.line.faults import Fault, Unplug
from firmware_sim.line.uart import UartLine
from firmware_sim.running.ports import HostPort
from firmware_sim.running.server import PtyServer, Server, TcpServer
from firmware_sim.running.simulate import SimBoard, simulate, uart_of
from microrpc import aio
from microrpc.boards.catalogue import profile
from microrpc.capture.trace import Trace
from microrpc.connecting.wrap import TappedChannel
from microrpc.errors import (
    BoardResetError,
    ClosedError,
    HandshakeTimeoutError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
    StaleHandleError,
)
from microrpc.ports.channel import Channel
from microrpc.ports.fd import FdChannel
from microrpc.ports.lost import LostPort, Reopening, SearchTools, UsbIdentity
from microrpc.serve.endpoint import ServerEndpoint
from microrpc.serve.local import LocalSession
from microrpc.wire.session import Timeouts

ROOT = Path(__file__).parent.parent.parent
FIRMWARES = ("robust", "stock")
# Boots faster than a boards does, so that a cable that is pulled for a moment is back in a moment.
PROFILE = dataclasses.replace(profile("loopback"), power_up_s=0.02)
TIMEOUTS = Timeouts(retry_s=0.1, start_s=2.0, call_s=1.0)
OUT_S = 0.1
GONE = (BoardResetError, StaleHandleError)


# --- which port it is -------------------------------------------------------------------------


def usb_port(device: str, serial_number: str | None = None, location: str | None = None, ids: str = "2341:003d") -> Any:
    info = ListPortInfo(device)
    info.vid, info.pid = (int(part, 16) for part in ids.split(":"))
    info.serial_number, info.location = serial_number, location
    return info


def plain_port(device: str) -> ListPortInfo:
    return ListPortInfo(device)


class Bus:
    """The ports of a computer whose cables are pulled and put back, in virtual time."""

    def __init__(self, *ports: ListPortInfo, links: dict[str, str] | None = None) -> None:
        self.there = list(ports)
        self.links = links or {}
        self.clock_s = 0.0
        self.changes: dict[float, list[ListPortInfo]] = {}
        self.opened: list[tuple[str, float]] = []
        self.refusals: list[PortError] = []
        self.tools = SearchTools(
            ports=lambda: self.there,
            resolve=lambda port: self.links.get(port, port),
            now=lambda: self.clock_s,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.clock_s += seconds
        for at in [at for at in self.changes if at <= self.clock_s]:
            self.there = self.changes.pop(at)

    def lost(self, port: str, wait_s: float = 10.0) -> LostPort:
        return LostPort(port, wait_s=wait_s, tools=self.tools)

    def open(self, name: str, timeout_s: float) -> Channel:
        self.opened.append((name, timeout_s))
        if self.refusals:
            raise self.refusals.pop(0)
        return FdChannel.__new__(FdChannel)


OURS = usb_port("/dev/ttyACM0", "A1", "1-2:1.0")
OTHER = usb_port("/dev/ttyACM1", "B2", "1-3:1.0")


@pytest.mark.parametrize(
    ("back", "found"),
    [
        ([OURS], "/dev/ttyACM0"),
        ([usb_port("/dev/ttyACM7", "A1", "1-2:1.0")], "/dev/ttyACM7"),
        ([usb_port("/dev/ttyACM7", "A1", "2-4:1.0"), OTHER], "/dev/ttyACM7"),  # in another socket
        ([usb_port("/dev/ttyACM0", "B2", "1-2:1.0")], None),  # another board in its place, by its name
        ([usb_port("/dev/ttyACM0", None, "1-2:1.0")], None),
        ([usb_port("/dev/ttyACM0", "A1", "1-2:1.0", ids="2341:8036")], None),  # its bootloader
        ([usb_port("/dev/ttyACM0", "A1", "1-2:1.2")], None),  # the other port of the same board
        ([usb_port("/dev/ttyACM0", "A1", "1-2:1.2"), usb_port("/dev/ttyACM1", "A1", "1-2:1.0")], "/dev/ttyACM1"),
        ([plain_port("/dev/ttyACM0"), OTHER], None),
        ([], None),
    ],
)
def test_a_board_with_a_serial_number_is_found_by_it_and_no_other_is_taken(
    back: list[ListPortInfo], found: str | None
) -> None:
    bus = Bus(OURS, OTHER)
    lost = bus.lost("/dev/ttyACM0")
    bus.there = back
    assert lost.find() == found


def test_of_two_ports_that_tell_the_same_of_themselves_none_is_found() -> None:
    alike = [usb_port(device, location="1-4:1.0") for device in ("/dev/cu.a", "/dev/tty.a")]
    identity = UsbIdentity.of(alike[0])
    assert identity is not None
    assert identity.find(alike[:1]) is alike[0]
    assert identity.find(alike) is None


@pytest.mark.parametrize(
    ("back", "found"),
    [
        ([usb_port("/dev/ttyUSB3", None, "1-2")], "/dev/ttyUSB3"),
        ([usb_port("/dev/ttyUSB0", None, "1-3")], None),
        ([usb_port("/dev/ttyUSB0", None, "1-3"), usb_port("/dev/ttyUSB1", None, "1-2")], "/dev/ttyUSB1"),
    ],
)
def test_a_board_without_a_serial_number_is_found_by_its_place(back: list[ListPortInfo], found: str | None) -> None:
    bus = Bus(usb_port("/dev/ttyUSB0", None, "1-2"))
    lost = bus.lost("/dev/ttyUSB0")
    bus.there = back
    assert lost.find() == found


def test_a_serial_number_that_two_adapters_have_tells_nothing() -> None:
    ours, twin = usb_port("/dev/ttyUSB0", "0001", "1-2"), usb_port("/dev/ttyUSB1", "0001", "1-3")
    bus = Bus(ours, twin)
    lost = bus.lost("/dev/ttyUSB0")
    bus.there = [twin]
    assert lost.find() is None
    bus.there = [twin, usb_port("/dev/ttyUSB5", "0001", "1-2")]
    assert lost.find() == "/dev/ttyUSB5"


def test_a_twin_that_is_plugged_in_later_is_not_taken_for_it() -> None:
    bus = Bus(usb_port("/dev/ttyUSB0", "0001", "1-2"))
    lost = bus.lost("/dev/ttyUSB0")
    bus.there = [usb_port("/dev/ttyUSB1", "0001", "1-3"), usb_port("/dev/ttyUSB2", "0001", "1-4")]
    assert lost.find() is None
    bus.there.append(usb_port("/dev/ttyUSB3", "0001", "1-2"))
    assert lost.find() == "/dev/ttyUSB3"


def test_where_neither_tells_only_the_same_name_is_taken() -> None:
    bus = Bus(usb_port("/dev/ttyUSB0"))
    lost = bus.lost("/dev/ttyUSB0")
    bus.there = [usb_port("/dev/ttyUSB1")]
    assert lost.find() is None
    bus.there = [usb_port("/dev/ttyUSB1"), usb_port("/dev/ttyUSB0")]
    assert lost.find() == "/dev/ttyUSB0"
    bus.there = [usb_port("/dev/ttyUSB0", ids="0483:374b")]
    assert lost.find() is None


def test_a_link_is_kept_to_where_it_leads_to_the_board_and_else_its_device_is_opened() -> None:
    link = "/dev/serial/by-id/usb-Arduino_Due_A1-if00"
    bus = Bus(OURS, OTHER, links={link: "/dev/ttyACM0"})
    lost = bus.lost(link)
    assert lost.identity == UsbIdentity.of(OURS)
    bus.there, bus.links = [usb_port("/dev/ttyACM4", "A1", "1-2:1.0")], {link: "/dev/ttyACM4"}
    assert lost.find() == link
    bus.links = {}  # udev has not made it yet
    assert lost.find() == "/dev/ttyACM4"
    bus.links = {link: "/dev/ttyACM1"}
    assert lost.find() == "/dev/ttyACM4"


@pytest.mark.parametrize("name", ["/dev/ttyS0", "/dev/pts/5", "socket://lab-pi:5000", "rfc2217://lab-pi:5000"])
def test_a_port_without_a_usb_device_is_looked_for_by_its_name(name: str) -> None:
    bus = Bus(plain_port("/dev/ttyS0"), OTHER)
    lost = bus.lost(name)
    assert lost.identity is None
    bus.there = []
    assert lost.find() == name


# --- waiting for it ---------------------------------------------------------------------------


def test_a_port_is_opened_as_soon_as_it_is_back() -> None:
    bus = Bus(OURS, OTHER)
    lost = bus.lost("/dev/ttyACM0")
    bus.there = [OTHER]
    bus.changes[3.0] = [OTHER, usb_port("/dev/ttyACM2", "A1", "1-2:1.0")]
    Reopening(lost, bus.open)()
    assert bus.clock_s == pytest.approx(3.0, abs=0.06)
    [(name, timeout_s)] = bus.opened
    assert name == "/dev/ttyACM2"
    assert timeout_s == pytest.approx(7.0, abs=0.06)


def test_a_port_that_is_there_but_not_ready_is_tried_again() -> None:
    bus = Bus(OURS)
    refused = PortBusyError("/dev/ttyACM0", "/dev/ttyACM0 is in use by ModemManager")
    bus.refusals = [refused] * 5
    Reopening(bus.lost("/dev/ttyACM0"), bus.open)()
    assert len(bus.opened) == 6
    bus.refusals = [refused] * 1000
    with pytest.raises(PortNotFoundError, match="not back within 2 s: /dev/ttyACM0 is in use by ModemManager"):
        Reopening(bus.lost("/dev/ttyACM0", wait_s=2.0), bus.open)()


def test_a_port_that_does_not_come_back_ends_in_what_was_looked_for_and_what_is_there() -> None:
    bus = Bus(OURS, OTHER)
    lost = bus.lost("/dev/ttyACM0")
    bus.there = [OTHER, plain_port("/dev/ttyS0")]
    with pytest.raises(PortNotFoundError) as caught:
        Reopening(lost, bus.open)()
    assert bus.clock_s == pytest.approx(10.0, abs=0.06)
    assert str(caught.value) == (
        "/dev/ttyACM0 (USB 2341:003d, serial number A1, at 1-2:1.0) went away and was not back within 10 s: the ports "
        "there are: /dev/ttyACM1 (USB 2341:003d, serial number B2, at 1-3:1.0), /dev/ttyS0 (no USB device). Check the "
        "cable and the power; the next request looks again"
    )
    bus.there = []
    with pytest.raises(PortNotFoundError, match="there is no serial port at all"):
        Reopening(lost, bus.open)()


# --- a simulated board in virtual time --------------------------------------------------------


class Desk:
    """A simulated board, a client that reconnects to it, and what the client was told."""

    def __init__(
        self,
        api: Api,
        *,
        firmware: str = "robust",
        wait_s: float = 0.0,
        power_up_s: float = PROFILE.power_up_s,
        **options: Any,
    ) -> None:
        board = dataclasses.replace(PROFILE, power_up_s=power_up_s)
        self.sim = SimBoard(board, firmware=firmware, seed=3)  # type: ignore[arg-type]
        self.told: list[bool] = []
        tools = SearchTools(ports=list, now=self.sim.now, sleep=self.sim.sleep)
        self.lost = LostPort(self.sim.name, wait_s=wait_s, tools=tools)
        options = {"reopen": self.reopen, "on_reconnect": self.told.append, "seed": 5, "baud": PROFILE.baud, **options}
        if not isinstance(api, BlockingApi):
            options["reopen"] = self.reopen_awaited
        self.board = api.open_board(self.sim.open_channel(), TIMEOUTS, **options)
        self.epoch = self.board.epoch

    def reopen(self) -> Channel:
        return Reopening(self.lost, lambda name, timeout_s: self.sim.open_channel())()

    async def reopen_awaited(self) -> aio.AsyncChannel:
        return aio.InMemoryChannel(self.reopen())

    def pull(self, *, keeps_power: bool = False) -> None:
        """Pull the cable and put it back."""
        self.sim.unplug(keeps_power=keeps_power)
        self.sim.sleep(OUT_S)
        self.sim.plug()


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_board_that_lost_its_memory_is_told_and_its_handles_are_refused(api: Api, firmware: str) -> None:
    desk = Desk(api, firmware=firmware)
    board = desk.board
    add, array = board.function("add"), board.array(np.arange(10))
    desk.pull()
    with pytest.raises(PortLostError, match="cable was pulled") as caught:
        add(1, 1)
    assert not caught.value.may_have_run  # it was away before anything was sent
    with pytest.raises(StaleHandleError, match="from before a reset"):
        add(1, 1)
    assert desk.told == [True]
    with pytest.raises(GONE, match=r"memory is gone|from before a reset"):
        array.numpy()
    assert not array.is_live
    assert board.epoch == desk.epoch + 1
    assert board.function("add")(2, 3) == 5
    assert np.array_equal(board.array(np.arange(10)).numpy(), np.arange(10))
    assert desk.told == [True]
    board.close()
    assert desk.sim.device.memory.blocks == {}


@pytest.mark.parametrize("firmware", FIRMWARES)
def test_a_board_that_kept_its_power_kept_its_memory(api: Api, firmware: str) -> None:
    desk = Desk(api, firmware=firmware)
    add, array = desk.board.function("add"), desk.board.array(np.arange(10))
    for times in (1, 2):
        desk.pull(keeps_power=True)
        with pytest.raises(PortLostError):
            add(1, 1)
        assert add(2, 3) == 5
        assert desk.told == [False] * times
    assert np.array_equal(array.numpy(), np.arange(10))
    assert desk.board.epoch == desk.epoch
    desk.board.close()
    assert desk.sim.device.memory.blocks == {}


def test_a_reset_while_the_cable_was_out_is_a_loss_of_memory(api: Api) -> None:
    desk = Desk(api)
    add = desk.board.function("add")
    desk.sim.unplug(keeps_power=True)
    desk.sim.reset()
    desk.sim.sleep(OUT_S)
    desk.sim.plug()
    with pytest.raises(PortLostError):
        add(1, 1)
    with pytest.raises(GONE):
        add(1, 1)
    assert desk.told == [True]


def test_a_library_that_was_looked_up_before_is_looked_up_again(api: Api) -> None:
    desk = Desk(api)
    assert desk.board.system_library() is not None
    desk.pull()
    with pytest.raises(PortLostError):
        desk.board.max_packet_bytes()
    assert len(desk.board.time_evaluator("add")(1, 2).results) == 1


def test_a_board_that_is_not_back_in_time_is_looked_for_again_by_the_next_request(api: Api) -> None:
    desk = Desk(api, wait_s=3.0)
    desk.sim.unplug()
    with pytest.raises(PortLostError):
        desk.board.function("add")
    for _ in range(2):
        before = desk.sim.now()
        with pytest.raises(PortNotFoundError, match="not back within 3 s"):
            desk.board.function("add")
        assert desk.sim.now() - before == pytest.approx(3.0, abs=0.06)
    desk.sim.plug()
    assert desk.board.function("add")(2, 3) == 5
    assert desk.told == [True]


def test_a_request_waits_for_the_cable(api: Api) -> None:
    desk = Desk(api, wait_s=10.0)
    desk.sim.inject(Unplug(at_s=0.0, for_s=4.0))
    with pytest.raises(PortLostError):
        desk.board.function("add")
    assert desk.board.function("add")(2, 3) == 5
    assert desk.sim.now() == pytest.approx(4.0, abs=0.3)


def test_what_a_callback_raises_is_logged_and_breaks_nothing(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    def raise_(memory_is_lost: bool) -> None:
        raise RuntimeError("mine")

    desk = Desk(api, on_reconnect=raise_)
    desk.pull()
    with caplog.at_level(logging.INFO, "microrpc.board"):
        with pytest.raises(PortLostError):
            desk.board.function("add")
        assert desk.board.function("add")(2, 3) == 5
    assert [record.getMessage() for record in caplog.records] == [
        "sim://loopback: it is back, its memory is lost",
        "on_reconnect raised",
    ]


@pytest.mark.parametrize("is_freed_by", ["free", "with", "garbage"])
def test_giving_back_what_was_on_a_board_that_is_away_waits_for_nothing(api: Api, is_freed_by: str) -> None:
    desk = Desk(api, wait_s=10.0)
    array = desk.board.array([1, 2, 3])
    desk.sim.unplug()
    if is_freed_by == "with":
        with pytest.raises(PortLostError), array:
            array.numpy()
    else:
        with pytest.raises(PortLostError):
            array.numpy()
        if is_freed_by == "free":
            array.free()
    del array
    assert desk.sim.now() < 1.0
    desk.sim.plug()
    assert desk.board.function("add")(2, 3) == 5
    desk.board.close()


def test_a_board_that_is_away_is_closed_at_once(api: Api) -> None:
    desk = Desk(api, wait_s=10.0)
    desk.board.array([1, 2, 3])
    desk.sim.unplug()
    with pytest.raises(PortLostError):
        desk.board.function("add")
    before = desk.sim.now()
    desk.board.close()
    assert desk.sim.now() == before
    desk.sim.plug()
    with pytest.raises(ClosedError):
        desk.board.function("add")
    desk.board.close()
    assert desk.told == []


def test_a_board_that_goes_away_while_it_is_closed_is_closed(api: Api) -> None:
    desk = Desk(api, wait_s=10.0)
    kept = desk.board.array([1, 2, 3])
    desk.sim.unplug()
    before = desk.sim.now()
    desk.board.close()
    assert desk.sim.now() == before
    assert not kept.is_live


def test_without_a_way_back_a_lost_port_is_the_end(api: Api) -> None:
    desk = Desk(api)
    board = api.open_board(desk.sim.open_channel(), TIMEOUTS)
    desk.pull()
    with pytest.raises(PortLostError):
        board.function("add")
    with pytest.raises(ClosedError, match="the port went away"):
        board.function("add")


def test_the_example_of_the_guide_runs() -> None:
    guide = (ROOT / "docs" / "reconnecting.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)[-1]
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert run.stderr == ""
    assert run.stdout.endswith("(the next request looks for it)\nlost: True\n5\n")


# --- the cable pulled at every moment ---------------------------------------------------------

DATA = np.arange(3000, dtype=np.uint8)


def conversation(board: Any) -> None:
    """Look up, call, allocate, copy both ways (pipelined where the board has a link), free."""
    assert board.function("add")(20, 22) == 42
    with board.array(DATA) as array:
        assert np.array_equal(array.numpy(), DATA)


def length_s(firmware: str) -> float:
    """How long that takes on the line, in virtual time."""
    desk = Desk(BlockingApi(), firmware=firmware)
    before = desk.sim.now()
    conversation(desk.board)
    return desk.sim.now() - before


def until_it_works(desk: Desk) -> tuple[int, bool]:
    """Have the conversation again until nothing comes in between; give how often the port was lost.

    And whether the board was deaf then: stock firmware that keeps its power takes half a frame for a whole one, and
    may never answer again. That is told, and a reset helps.
    """
    losses, was_deaf = 0, False
    for _ in range(12):
        try:
            conversation(desk.board)
        except PortLostError:
            losses += 1
        except HandshakeTimeoutError:
            assert desk.sim.device.is_dead
            was_deaf = True
            desk.sim.reset()
        else:
            return losses, was_deaf
    pytest.fail("it never worked again")


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("keeps_power", [False, True], ids=["power lost", "power kept"])
def test_a_cable_pulled_at_any_moment_costs_one_request(api: Api, firmware: str, keeps_power: bool) -> None:
    end_s, moments = length_s(firmware), 30
    deaf = 0
    for moment in range(moments):
        desk = Desk(api, firmware=firmware, wait_s=5.0)
        desk.sim.inject(Unplug(at_s=end_s * moment / moments, for_s=OUT_S, keeps_power=keeps_power))
        losses, was_deaf = until_it_works(desk)
        assert losses == 1, f"moment {moment}"
        memory_is_lost = not keeps_power or was_deaf
        assert desk.told == [memory_is_lost], f"moment {moment}"
        assert desk.board.epoch == desk.epoch + memory_is_lost
        conversation(desk.board)
        desk.board.close()
        deaf += was_deaf
    assert bool(deaf) == (firmware == "stock" and keeps_power)


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("keeps_power", [False, True], ids=["power lost", "power kept"])
def test_a_cable_pulled_again_during_the_handshake_is_waited_for_again(
    api: Api, firmware: str, keeps_power: bool
) -> None:
    losses_seen = set()
    for after_s in np.linspace(0.0, 0.06, 30):
        desk = Desk(api, firmware=firmware, wait_s=5.0)
        conversation(desk.board)
        desk.sim.inject(
            Unplug(at_s=0.0, for_s=OUT_S, keeps_power=keeps_power),
            Unplug(at_s=OUT_S + after_s, for_s=OUT_S, keeps_power=keeps_power),
        )
        losses, was_deaf = until_it_works(desk)
        losses_seen.add(losses)
        assert not was_deaf or (firmware == "stock" and keeps_power)
        # What was told in the first handshake, if that came to a session, and in the second.
        assert 1 <= len(desk.told) <= losses
        assert set(desk.told) <= {not keeps_power, not keeps_power or was_deaf}
        conversation(desk.board)
        desk.board.close()
    assert losses_seen == {1, 2}


def test_a_boot_that_was_heard_in_vain_is_told_in_the_next_session(api: Api) -> None:
    for after_s in np.linspace(0.19, 0.25, 60):
        desk = Desk(api, wait_s=5.0, power_up_s=0.2)
        array = desk.board.array(DATA)
        desk.sim.inject(Unplug(at_s=0.0, for_s=OUT_S), Unplug(at_s=OUT_S + after_s, for_s=OUT_S, keeps_power=True))
        assert until_it_works(desk)[0] in (1, 2)
        assert desk.told[0], "the first that is told of is the loss"
        assert not array.is_live
        desk.board.close()


def test_what_is_told_of_the_memory_is_what_holds_when_the_session_stays(api: Api) -> None:
    desk = Desk(api)
    board = desk.board
    array = board.array(DATA)
    desk.pull(keeps_power=True)
    open_channel = desk.sim.open_channel

    class ResetByTheProof(TappedChannel):
        def write(self, data: bytes, deadline: float) -> None:
            if b"microrpc.in-step" in data and not desk.sim.device.stats.resets:
                desk.sim.reset()  # the session that was open already is not the one that stays
            super().write(data, deadline)

    desk.sim.open_channel = lambda: ResetByTheProof(open_channel(), Trace())  # type: ignore[assignment,return-value]
    with pytest.raises(PortLostError):
        board.function("add")
    assert board.function("add")(2, 3) == 5
    assert desk.told == [True]
    assert not array.is_live


def test_a_cable_with_a_loose_contact_is_waited_for_each_time(api: Api) -> None:
    desk = Desk(api, wait_s=5.0)
    pulls: list[Fault] = [Unplug(at_s=0.01 + 0.25 * n, for_s=0.05) for n in range(5)]
    desk.sim.inject(*pulls)
    losses, _ = until_it_works(desk)
    assert 1 <= losses <= 5
    conversation(desk.board)
    assert all(desk.told)


# --- real ports ---------------------------------------------------------------------------------


def until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.002)


class Cable:
    """Pulls and plugs the cable of a served line."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port: HostPort = server.ports[0]
        assert isinstance(self.port.line, UartLine)
        self.line: UartLine = self.port.line

    def pull(self, *, keeps_power: bool = False) -> None:
        self.server.do(lambda now: self.line.unplug(now, keeps_power=keeps_power))
        until(lambda: not self.line.is_plugged)

    def plug(self) -> None:
        self.server.do(self.line.plug)


def make_line() -> UartLine:
    uart = dataclasses.replace(uart_of(PROFILE), power_up_s=0.01)
    return UartLine(simulate(PROFILE, clock=VirtualClock()), uart)


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    with PtyServer(make_line(), link=tmp_path / "board") as server:
        yield Cable(server)


def connect(api: Api, path: str, **options: Any) -> Any:
    return api.connect(path, timeouts=TIMEOUTS, reconnect=True, **options)


def test_a_pty_is_found_again_by_its_link(api: Api, cable: Cable) -> None:
    told: list[bool] = []
    with connect(api, cable.port.path, on_reconnect=told.append) as board:
        array = board.array([1, 2, 3])
        cable.pull()
        with pytest.raises(PortLostError, match="went away"):
            array.numpy()
        threading.Timer(0.1, cable.plug).start()
        with pytest.raises(GONE):
            array.numpy()
        assert told == [True]
        assert board.function("add")(2, 3) == 5
        cable.pull(keeps_power=True)
        add = None
        with pytest.raises(PortLostError):
            add = board.function("add")
        cable.plug()
        assert add is None
        assert board.function("add")(2, 3) == 5
        assert told == [True, False]


def test_a_call_that_is_running_when_the_cable_goes_may_have_run(api: Api, cable: Cable) -> None:
    with connect(api, cable.port.path) as board:
        sleep_ms = board.function("sleep_ms")
        threading.Timer(0.05, lambda: cable.server.do(lambda now: cable.line.unplug(now))).start()
        with pytest.raises(PortLostError) as caught:
            sleep_ms(500)
        assert caught.value.may_have_run
        cable.plug()
        assert board.function("add")(2, 3) == 5


def test_a_pty_that_stays_away_is_given_up_and_then_found(api: Api, cable: Cable) -> None:
    with connect(api, cable.port.path, reconnect_s=0.1) as board:
        cable.pull()
        with pytest.raises(PortLostError):
            board.function("add")
        with pytest.raises(
            PortNotFoundError, match=r"board went away and was not back within 0\.1 s: there is no port"
        ):
            board.function("add")
        cable.plug()
        until(lambda: Path(cable.port.path).exists())
        assert board.function("add")(2, 3) == 5


def test_a_board_that_has_another_name_now_is_found_by_its_usb_device(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = PtyServer(make_line()), PtyServer(make_line())
    with ours, other:
        there = [usb_port(ours.port, "A1", "1-2"), usb_port(other.port, "B2", "1-3")]
        monkeypatch.setattr("serial.tools.list_ports.comports", lambda: there)
        with connect(api, ours.path, reconnect_s=2.0) as board:
            cable = Cable(ours)
            cable.pull()
            there[0] = usb_port(other.port, "B2", "1-2")  # which is now where ours was
            del there[1]
            with pytest.raises(PortLostError):
                board.function("add")
            with PtyServer(make_line()) as elsewhere:
                there.append(usb_port(elsewhere.port, "A1", "2-1"))
                assert board.function("add")(2, 3) == 5
                assert board.name == elsewhere.port
                assert other.device.stats.frames_received == 0


def test_a_serial_line_over_tcp_is_connected_to_again(api: Api) -> None:
    told: list[bool] = []
    with TcpServer(make_line()) as server:
        cable = Cable(server)
        with connect(api, server.path, reconnect_s=0.1, on_reconnect=told.append) as board:
            add = board.function("add")
            cable.pull(keeps_power=True)
            with pytest.raises(PortLostError) as caught:
                add(1, 1)
            assert not caught.value.may_have_run  # it was gone before anything was sent
            with pytest.raises(PortLostError) as caught:  # the server is there, and hangs up each time
                add(1, 1)
            assert not caught.value.may_have_run
            cable.plug()
            assert add(2, 3) == 5
            assert told == [False]


def test_a_port_that_is_lost_is_released_so_that_its_name_is_free(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = FdChannel.close

    def close_and_note(self: FdChannel) -> None:
        closed.append(self.name)
        close(self)

    monkeypatch.setattr(FdChannel, "close", close_and_note)
    with microrpc.connect(cable.port.path, reconnect=True) as board:
        cable.pull()
        with pytest.raises(PortLostError):
            board.function("add")
        assert closed == [cable.port.path]


@pytest.fixture
def pty() -> Iterator[str]:
    master, slave = os.openpty()
    yield os.ttyname(slave)
    os.close(slave)
    os.close(master)


def make_another(pty: str) -> None:
    """Have a pty look as one that was made since."""
    before = os.stat(pty).st_ctime_ns

    def is_changed() -> bool:
        os.chmod(pty, 0o620)
        return os.stat(pty).st_ctime_ns != before

    until(is_changed)


def test_a_pty_that_got_the_number_of_a_lost_one_is_left_alone(pty: str) -> None:
    lost = LostPort(pty, wait_s=0.0)
    assert lost.find() == pty
    make_another(pty)
    assert lost.find() is None
    with pytest.raises(PortNotFoundError) as caught:
        Reopening(lost, open_port)()
    assert str(caught.value) == (
        f"{pty} went away and was not back within 0 s: another program's pty has its number now; a link "
        "(`microrpc sim --link`) leads to the next one. Check the cable and the power; the next request looks again"
    )


def test_a_pty_that_is_gone_is_not_opened_by_its_name_which_may_be_anothers_by_then() -> None:
    master, slave = os.openpty()
    pty = os.ttyname(slave)
    lost = LostPort(pty, wait_s=0.0)
    os.close(slave)
    os.close(master)
    assert lost.find() is None
    with pytest.raises(PortNotFoundError, match=f"^{pty} went away and was not back within 0 s: "):
        Reopening(lost, open_port)()


def test_a_link_that_leads_nowhere_is_not_opened_until_it_leads_to_a_pty_again(pty: str, tmp_path: Path) -> None:
    link, there = tmp_path / "board", tmp_path / "there"
    link.symlink_to(pty)
    lost = LostPort(str(link), wait_s=0.0)
    link.rename(there)
    assert lost.find() is None
    with pytest.raises(PortNotFoundError) as caught:
        Reopening(lost, open_port)()
    assert str(caught.value) == (
        f"{link} went away and was not back within 0 s: there is no port {link}. "
        "Check the cable and the power; the next request looks again"
    )
    there.rename(link)
    assert lost.find() == str(link)


def test_a_link_that_led_to_a_pty_may_lead_to_another_port_now(pty: str, tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.symlink_to(pty)
    lost = LostPort(str(link))
    link.unlink()
    link.symlink_to("/dev/null")
    assert lost.find() == str(link)


def test_a_link_that_leads_to_the_number_of_a_lost_pty_is_followed_if_it_was_made_since(
    pty: str, tmp_path: Path
) -> None:
    link = tmp_path / "board"
    link.symlink_to(pty)
    lost = LostPort(str(link))
    assert lost.find() == str(link)
    make_another(pty)
    assert lost.find() is None
    again = tmp_path / "again"
    again.symlink_to(pty)
    again.replace(link)
    assert lost.find() == str(link)


def open_port(name: str, timeout_s: float) -> Channel:
    raise AssertionError("it is another's")


def test_threads_that_ask_while_the_board_is_away_all_get_their_answers(cable: Cable) -> None:
    with microrpc.connect(cable.port.path, reconnect=True) as board:
        cable.pull()
        with pytest.raises(PortLostError):
            board.function("add")
        results: list[int] = []
        threads = [threading.Thread(target=lambda: results.append(board.function("add")(2, 3))) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        cable.plug()
        for thread in threads:
            thread.join(10)
        assert results == [5] * 4


class RpcServer:
    """An RPC server without frames: a session for each connection, one after the other."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                endpoint = ServerEndpoint(
                    constructors={"rpc.LocalSession": lambda: LocalSession({"add": lambda a, b: a + b})}
                )
                with connection, contextlib.suppress(OSError):
                    while data := connection.recv(65536):
                        endpoint.feed(data)
                        connection.sendall(endpoint.take_output())

    def hang_up(self) -> None:
        self.connections[-1].shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)
        self.listener.close()


def test_a_server_without_frames_gets_a_new_session_and_has_lost_everything(api: Api) -> None:
    told: list[bool] = []
    server = RpcServer()
    with connect(api, server.url, on_reconnect=told.append) as board:
        add = board.function("add")
        for _ in range(2):
            assert add(2, 3) == 5
            server.hang_up()
            with pytest.raises(PortLostError):
                add(2, 3)
            with pytest.raises(GONE):
                add(2, 3)
            add = board.function("add")
        assert add(2, 3) == 5
        assert told == [True, True]
        assert len(server.connections) == 3
    server.close()


# --- asyncio's own ------------------------------------------------------------------------------


def test_the_loop_goes_on_while_a_board_is_waited_for(cable: Cable) -> None:
    async def test() -> None:
        async with aio.connect(cable.port.path, timeouts=TIMEOUTS, reconnect=True) as board:
            cable.pull()
            with pytest.raises(PortLostError):
                await board.function("add")
            waiting = asyncio.create_task(board.function("add"))
            for _ in range(11):
                await asyncio.sleep(0.01)
            assert not waiting.done()
            cable.plug()
            assert await (await waiting)(2, 3) == 5

    asyncio.run(test())


def test_a_wait_that_is_cancelled_leaves_the_next_request_to_wait(cable: Cable) -> None:
    async def test() -> None:
        async with aio.connect(cable.port.path, timeouts=TIMEOUTS, reconnect=True) as board:
            cable.pull()
            with pytest.raises(PortLostError):
                await board.function("add")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await board.function("add")
            cable.plug()
            assert await (await board.function("add"))(2, 3) == 5

    asyncio.run(test())


async def conversation_until_cancelled(board: aio.AsyncBoard) -> None:
    for _ in range(20):
        await board.function("add")


class Stepped(aio.InMemoryChannel):
    """Cancels the read whose number is `cancel_at`."""

    def __init__(self, channel: Channel, *, cancel_at: int = -1) -> None:
        super().__init__(channel)
        self.to_go = cancel_at if cancel_at >= 0 else 10**9

    async def read(self, deadline: float) -> bytes:
        self.to_go -= 1
        if self.to_go == -1:
            raise asyncio.CancelledError
        return await super().read(deadline)


def test_a_handshake_that_is_cancelled_is_made_up_for_and_told_once() -> None:
    async def test() -> None:
        for steps in range(12):
            sim, told = SimBoard(PROFILE, seed=3), list[bool]()
            channel = Stepped(sim.open_channel())

            async def reopen(sim: SimBoard = sim, steps: int = steps) -> aio.AsyncChannel:
                return Stepped(sim.open_channel(), cancel_at=steps)

            board = await aio.open_board(channel, TIMEOUTS, reopen=reopen, on_reconnect=told.append)
            sim.unplug()
            sim.plug()
            with pytest.raises(PortLostError):
                await board.function("add")
            with pytest.raises(asyncio.CancelledError):
                await conversation_until_cancelled(board)
            assert await (await board.function("add"))(2, 3) == 5
            assert told == [True]

    asyncio.run(test())


def test_a_board_closed_by_one_task_while_another_waits_for_it_stays_closed(cable: Cable) -> None:
    async def test() -> None:
        board = await aio.connect(cable.port.path, timeouts=TIMEOUTS, reconnect=True)
        cable.pull()
        with pytest.raises(PortLostError):
            await board.function("add")
        waiting = asyncio.create_task(board.function("add"))
        await asyncio.sleep(0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await board.close()
        cable.plug()
        with pytest.raises(ClosedError):
            await waiting
        while not os.path.exists(cable.port.path):
            await asyncio.sleep(0.001)
        async with aio.connect(cable.port.path, timeouts=TIMEOUTS) as again:  # the port was released
            assert await (await again.function("add"))(2, 3) == 5

    asyncio.run(test())
