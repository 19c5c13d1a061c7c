"""Durations, sizes and baud rates that a caller may state: here, and wherever one is taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import microrpc
from firmware_sim.line.faults import Delay, Stuck
from firmware_sim.running.simulate import SimBoard
from microrpc.boards.resets import open_reset, wait_for_boot
from microrpc.boards.strategies import ResetStep
from microrpc.errors import ProfileError, RequestError
from microrpc.ports.lost import LostPort
from microrpc.ports.opening import open_serial
from microrpc.ports.sockets import open_tcp, open_unix
from microrpc.wire.checks import (
    check_baud,
    check_callable,
    check_flag,
    check_seconds,
    check_text,
    check_whole,
    did_you_mean,
    show,
)

NEVER: list[Any] = [math.nan, math.inf, -math.inf, -1, -1e-9, 10**400, 10**5000, True, None, "5", 1e300, [1.0]]
"""What no duration is."""


@pytest.mark.parametrize("value", [*NEVER, 0, np.float32("nan"), np.bool_(True), np.timedelta64(3, "s")], ids=show)
def test_what_is_no_duration_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match=r"timeout_s is a number of seconds, more than 0.*, not "):
        check_seconds(value, "timeout_s")


@pytest.mark.parametrize("value", [1, 2.5, 1e-9, np.float32(0.5), np.int64(3), Fraction(1, 4), 1e9])
def test_every_kind_of_number_is_a_duration(value: Any) -> None:
    assert check_seconds(value, "timeout_s") == float(value)
    assert type(check_seconds(value, "timeout_s")) is float


def test_a_duration_of_nothing_is_one_where_it_makes_sense() -> None:
    assert check_seconds(0, "wait_s", may_be_zero=True) == 0.0
    with pytest.raises(ProfileError, match=r"wait_s is a number of seconds, 0 or more and at most 1e.09, not -1"):
        check_seconds(-1, "wait_s", may_be_zero=True, error=ProfileError)


NO_BAUD: list[Any] = [0, -9600, 9600.0, 9600.5, True, np.bool_(True), "9600", math.nan, None, 2**31, 10**5000]


@pytest.mark.parametrize("value", NO_BAUD, ids=show)
def test_what_is_no_baud_rate_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="a baud rate is a whole number from 1 to 2147483647, not "):
        check_baud(value)


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    assert (check_baud(np.int32(9600)), type(check_baud(np.uint64(9600)))) == (9600, int)
    with pytest.raises(RequestError, match="count is a whole number of 3 or more, not 2"):
        check_whole(2, "count", 3)


def test_a_text_is_a_str() -> None:
    assert check_text("add", "the name") == "add"
    with pytest.raises(RequestError, match="the name is a str, not b'add'"):
        check_text(b"add", "the name")


def test_a_number_of_very_many_digits_is_not_written_out() -> None:
    assert (show(10**5000), show("x")) == ("a number of very many digits", "'x'")
    assert show(Fraction(10**5000, 3)) == "a number of very many digits"


def test_what_is_shown_is_bounded() -> None:
    assert show(b"x" * 10_000) == "b'" + "x" * 198 + "... (10003 characters)"
    assert show("y" * 198) == repr("y" * 198)

    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    assert show(Mute()) == "a Mute, which cannot be shown"


def test_a_flag_is_true_or_false() -> None:
    check_flag(True, "reset")
    check_flag(None, "dtr", may_be_none=True)
    for value in ("no", 0, 1.0, None):
        with pytest.raises(RequestError, match=f"^reset is True or False, not {value!r}$"):
            check_flag(value, "reset")
    with pytest.raises(RequestError, match=r"^dtr is True, False or None, not 'no'$"):
        check_flag("no", "dtr", may_be_none=True)


def test_what_is_called_is_a_function() -> None:
    check_callable(None, "on_log")
    check_callable(print, "on_log")
    with pytest.raises(RequestError, match="on_log is a function or None, not 'print'"):
        check_callable("print", "on_log")


# --- wherever one is taken ----------------------------------------------------------------------------

LOOPBACK = microrpc.profile("loopback")


class Talker:
    """A port whose board never stops talking, in virtual time."""

    name = "talker"

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def read(self, deadline: float) -> bytes:
        self.time += 0.01
        return b"all work and no play\r\n"


TAKERS: dict[str, Callable[[Any], object]] = {
    "Timeouts.retry_s": lambda value: microrpc.Timeouts(retry_s=value),
    "Timeouts.start_s": lambda value: microrpc.Timeouts(start_s=value),
    "Timeouts.call_s": lambda value: microrpc.Timeouts(call_s=value),
    "Timeouts.cancel_s": lambda value: microrpc.Timeouts(cancel_s=value),
    "connect(reconnect_s)": lambda value: microrpc.connect("/dev/tty-none", reconnect_s=value),
    "LostPort": lambda value: LostPort("/dev/tty-none", wait_s=value),
    "open_tcp": lambda value: open_tcp("127.0.0.1", 1, value),
    "open_serial": lambda value: open_serial("socket://127.0.0.1:1", baud=9600, timeout_s=value),
    "open_unix": lambda value: open_unix("/nowhere", value),
    "wait_for_boot": lambda value: wait_for_boot(Talker(), value),  # type: ignore[arg-type]
    "ResetStep": lambda value: ResetStep(dtr=True, wait_s=value),
    "SimBoard.sleep": lambda value: SimBoard(LOOPBACK).sleep(value),
    "BoardProfile.power_up_s": lambda value: dataclasses.replace(LOOPBACK, power_up_s=value),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_whoever_takes_a_duration_refuses_what_is_none_at_once(taker: str) -> None:
    for value in NEVER:
        with pytest.raises(RequestError, match="is a number of seconds"):
            TAKERS[taker](value)


BAUD_TAKERS: dict[str, Callable[[Any], object]] = {
    "connect": lambda baud: microrpc.connect("/dev/tty-none", baud=baud),
    "sim://": lambda baud: microrpc.connect("sim://", baud=baud),
    "open_board": lambda baud: microrpc.open_board(SimBoard(LOOPBACK).open_channel(), microrpc.Timeouts(), baud=baud),
    "open_serial": lambda baud: open_serial("/dev/tty-none", baud=baud),
    "open_reset": lambda baud: open_reset("/dev/tty-none", microrpc.profile("nucleo_f746zg"), baud=baud),
    "BoardProfile": lambda baud: dataclasses.replace(LOOPBACK, baud=baud),
}


@pytest.mark.parametrize("taker", BAUD_TAKERS)
def test_whoever_takes_a_baud_rate_refuses_what_is_none(taker: str) -> None:
    for baud in (0, -1, 9600.5, 9600.0, True, "9600", math.nan, 10**5000):
        with pytest.raises(RequestError, match=r"baud.* is a whole number from 1 to 2147483647"):
            BAUD_TAKERS[taker](baud)


def test_a_fault_has_times_that_can_be() -> None:
    for value in (math.nan, -1.0, 10**400, 10**5000):
        with pytest.raises(ValueError, match="by_s must "):
            Delay(by_s=value)
    assert Stuck(0.0).for_s == math.inf


def test_waiting_for_a_boot_ends_in_time_whatever_a_board_says_meanwhile() -> None:
    talker = Talker()
    assert wait_for_boot(talker, 0.5) is False  # type: ignore[arg-type]
    assert talker.time == pytest.approx(0.5, abs=0.011)


def test_a_name_that_is_like_none_is_not_guessed_at() -> None:
    assert did_you_mean("buad", ["baud", "name"]) == "; did you mean 'baud'?"
    assert did_you_mean("xyz", ["baud", "name"]) == did_you_mean("baud", []) == ""


def test_a_name_that_is_a_part_of_a_known_one_suggests_that() -> None:
    known = ["nano33ble", "arduino", "arduino_uno", "simavr_uno"]
    assert did_you_mean("Uno", known) == "; did you mean 'arduino_uno'?"
    assert did_you_mean("33b", known) == "; did you mean 'nano33ble'?"
    assert did_you_mean("no", known) == ""  # a part of too much
