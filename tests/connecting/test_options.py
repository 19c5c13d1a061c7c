"""What a caller may state of a connection: a slip in it is one error, before any port is opened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from apis import Api, AsyncioApi

import microrpc
from firmware_sim.faults import Reset
from firmware_sim.line.settings import Uart
from firmware_sim.running.simulate import SimBoard
from microrpc.errors import FaultsError, ProfileError, RequestError
from microrpc.ports.options import PortOptions

LOOPBACK = microrpc.profile("loopback")
NOWHERE = "/dev/tty-none"
A_FUNCTION = " is a function or None, not 'print'"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeouts": 2.0}, r"timeouts are several, `microrpc.Timeouts\(call_s=...\)`, not 2.0"),
        ({"timeouts": 0}, "timeouts are several, .*, not 0$"),
        ({"board": 5}, "the name of a board is a str, not 5"),
        ({"port": "a\0b"}, r"the name of a port has no NUL, and 'a\\x00b' has"),
        ({"port": 10**5000}, "a port is a text or a path, .*, not a number of very many digits"),
        ({"dtr": "false"}, "dtr is True, False or None, not 'false'"),
        ({"rts": 0}, "rts is True, False or None, not 0"),
        ({"hang_up": 1.0}, "hang_up is True, False or None, not 1.0"),
        ({"low_latency": "on"}, "low_latency is True, False or None, not 'on'"),
        *[({name: "print"}, name + A_FUNCTION) for name in ("on_log", "on_reconnect", "on_reset", "wrap")],
        *[
            ({name: value}, f"{name} is True or False, not {value!r}")
            for name in ("reset", "release", "link", "reconnect")
            for value in ("no", 0.5, None)
        ],
    ],
)
def test_a_slip_in_what_connect_is_told_is_one_error(api: Api, options: dict[str, Any], text: str) -> None:
    with pytest.raises(RequestError, match=text):
        api.connect(**{"port": NOWHERE, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeouts": 2.0}, "timeouts are several, .*, not 2.0"),
        ({"timeouts": None}, "timeouts are several, .*, not None"),
        ({"seed": 1.5}, "seed is a whole number of 0 or more, not 1.5"),
        *[
            ({name: "print"}, name + A_FUNCTION)
            for name in ("on_log", "on_close", "reopen", "on_reconnect", "on_reset")
        ],
        ({"wrap": "print"}, "wrap" + A_FUNCTION),
        ({"link": "no"}, "link is True or False, not 'no'"),
        ({"wrap": lambda channel: None}, "wrap gives a channel, the one that it is given or its own, not None"),
        ({"wrap": lambda channel: channel.read}, "wrap gives a channel, the one that it is given or its own, not <"),
    ],
)
def test_a_slip_in_what_open_board_is_told_is_one_error(api: Api, options: dict[str, Any], text: str) -> None:
    channel = SimBoard(LOOPBACK).open_channel()
    with pytest.raises(RequestError, match=text):
        api.open_board(channel, **{"timeouts": microrpc.Timeouts(), **options})


def test_a_seed_may_be_numpys(api: Api) -> None:
    with api.open_board(
        SimBoard(LOOPBACK, seed=np.int64(3)).open_channel(), microrpc.Timeouts(), seed=np.int64(3)
    ) as board:
        assert board.function("add")(2, 3) == 5


def test_a_slip_in_what_a_board_is_told_is_one_error(api: Api) -> None:
    with api.open_board(SimBoard(LOOPBACK).open_channel(), microrpc.Timeouts()) as board:
        add, x, frames_before = board.function("add"), board.empty(4, "uint8"), board.stats.frames_sent
        function = add.target if isinstance(api, AsyncioApi) else add
        for args in (5, None, 10**5000):
            with pytest.raises(RequestError, match="the arguments of a call are a list of values, not "):
                board.call(function, args)
        for number in (10**5000, "add"):
            for ask in (
                lambda number: board.call(number, ()),
                lambda number: board.find_in_module(number, "add"),
                lambda number: board.copy(number, number),
                lambda number: board.request(number),
                lambda number: board.attribute(1, microrpc.Device(number)),
                lambda number: board.attribute(1, microrpc.Device(1, number)),
            ):
                with pytest.raises(RequestError):
                    ask(number)
        for copy in (
            lambda: board.array([1], on_progress="print"),
            lambda: x.numpy(on_progress="print"),
            lambda: x.write(np.zeros(4, "uint8"), on_progress="print"),
        ):
            with pytest.raises(RequestError, match="on_progress" + A_FUNCTION):
                copy()
        for kind in (None, [], 1j, np.array([1, 2])):
            for device in (microrpc.Device(kind), microrpc.Device(1, kind)):  # type: ignore[arg-type]
                with pytest.raises(RequestError):
                    board.attribute(1, device)
        assert board.stats.frames_sent == frames_before


def test_a_slip_in_what_a_simulated_board_is_told_is_one_error() -> None:
    with pytest.raises(
        RequestError, match=r"a board is made of a profile, such as microrpc.profile\('loopback'\), not of 'uno'"
    ):
        SimBoard("uno")  # type: ignore[arg-type]
    with pytest.raises(FaultsError, match=r"^faults are told as Faults\(\[Flip\(rate=1e-5\)\], seed=7\), not as \["):
        SimBoard(LOOPBACK, faults=[Reset(at_byte=3)])  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"^a line is told as Uart\(receive_ring_bytes=128\), not as 5$"):
        SimBoard(LOOPBACK, uart=5)  # type: ignore[arg-type]
    for fault in (Reset, [Reset(at_byte=3)], "reset", None):
        with pytest.raises(
            FaultsError, match=r"a fault is one of `firmware_sim.faults`, such as Reset\(at_byte=20\), not "
        ):
            SimBoard(LOOPBACK).inject(fault)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="seed is a whole number of 0 or more, not nan"):
        SimBoard(LOOPBACK, seed=float("nan"))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"flow_control is one of none, .*, not 'rtscts'"):
        Uart(flow_control="rtscts")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="transmit_ring_bytes is a whole number from 0 to 2147483647, not a number"):
        Uart(transmit_ring_bytes=10**5000)


def test_port_options_are_checked_wherever_they_are_made() -> None:
    with pytest.raises(RequestError, match="dtr is True, False or None, not 'no'"):
        PortOptions(dtr="no")  # type: ignore[arg-type]
    with pytest.raises(ProfileError):
        microrpc.profile("no such board")
