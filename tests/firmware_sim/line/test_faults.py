"""Faults as they are described: in Python, in TOML and in a line of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.line.fault_files import load_faults, parse_fault
from firmware_sim.line.faults import (
    BrownOut,
    Burst,
    Delay,
    DelayEvents,
    Direction,
    Double,
    Drop,
    Fault,
    Faults,
    Flip,
    Garbage,
    HoldEvents,
    Insert,
    LoseEvents,
    Reset,
    Stuck,
    Unplug,
    Wedge,
)
from microrpc.errors import FaultsError

NUMBERS = st.integers(0, 10**9)
TIMES = st.floats(0, allow_nan=False, allow_infinity=False)
TIMES_OR_NEVER = st.floats(0, allow_nan=False)
DIRECTIONS = st.sampled_from(Direction)
RATES = st.floats(0, 1, exclude_min=True)
POSITIONS = st.lists(NUMBERS, min_size=1, max_size=4).map(tuple)


def byte_faults(kind: type[Fault], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Fault]:
    return st.one_of(
        st.builds(kind, rate=RATES, direction=DIRECTIONS, **fields),
        st.builds(kind, at=POSITIONS, direction=DIRECTIONS, **fields),
    )


def board_faults(kind: type[Fault]) -> st.SearchStrategy[Fault]:
    one_way = st.sampled_from([Direction.TO_BOARD, Direction.TO_HOST])
    return st.one_of(
        st.builds(kind, at_byte=NUMBERS, direction=one_way),
        st.builds(kind, function=st.text(), call=st.integers(1, 99)),
    )


EVERY_KIND: list[st.SearchStrategy[Fault]] = [
    *map(byte_faults, (Flip, Drop, Double, Insert)),
    byte_faults(Burst, size_bytes=st.integers(1, 99)),
    st.builds(Stuck, at_s=TIMES, for_s=TIMES_OR_NEVER, direction=DIRECTIONS),
    st.builds(Garbage, st.integers(0, 2**20)),
    *map(board_faults, (Reset, Wedge)),
    st.builds(BrownOut, every_s=st.floats(1e-5, 1e9), times=st.none() | NUMBERS),
    st.builds(Delay, by_s=TIMES, reply=st.none() | st.integers(1, 99)),
    st.builds(Unplug, at_s=TIMES, for_s=TIMES_OR_NEVER, keeps_power=st.booleans()),
    st.one_of(st.builds(LoseEvents, rate=RATES), st.builds(LoseEvents, every=st.integers(1, 99))),
    st.builds(DelayEvents, by_s=TIMES, event=st.none() | st.integers(1, 99)),
    st.builds(HoldEvents, at_s=TIMES, for_s=TIMES),
]


@pytest.mark.parametrize("kind", range(len(EVERY_KIND)))
def test_a_fault_is_read_as_it_was_written(kind: int) -> None:
    @settings(max_examples=40, deadline=None)
    @given(fault=EVERY_KIND[kind])
    def check(fault: Fault) -> None:
        assert parse_fault(str(fault)) == fault

    check()


@settings(max_examples=40, deadline=None)
@given(faults=st.lists(st.one_of(EVERY_KIND), max_size=5), seed=st.integers(-99, 99))
def test_a_file_of_faults_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, faults: list[Fault], seed: int
) -> None:
    path = tmp_path_factory.mktemp("faults") / "faults.toml"
    entries = ", ".join(f"{{{fault}}}" for fault in faults)
    text = f"seed = {seed}\nfault = [{entries}]\n"
    path.write_text(text, encoding="utf-8")
    assert load_faults(path) == Faults(faults, seed)
    assert load_faults(path, seed=5) == Faults(faults, 5)


def test_what_is_as_usual_is_not_written() -> None:
    assert str(Flip(rate=1e-5)) == 'kind = "flip", rate = 1e-05'
    assert str(Unplug(1.5, keeps_power=True)) == 'kind = "unplug", at_s = 1.5, keeps_power = true'
    assert str(BrownOut(0.5)) == 'kind = "brown-out", every_s = 0.5'
    assert str(Stuck(math.inf, 1)) == 'kind = "stuck", at_s = inf, for_s = 1'


def test_a_file_has_faults_in_tables(tmp_path: Path) -> None:
    path = tmp_path / "bad day.toml"
    path.write_text("""
        seed = 7
        [[fault]]
        kind = "drop"
        at = 12
        direction = "to-host"
        [[fault]]
        kind = "brown-out"
        every_s = 2
    """)
    assert load_faults(path) == Faults([Drop(at=(12,), direction=Direction.TO_HOST), BrownOut(2.0)], 7)
    path.write_text("")
    assert load_faults(str(path)) == Faults([], 0)


WRONG_FAULTS = [
    (
        "",
        "kind: must be one of flip, drop, double, insert, burst, stuck, garbage, reset, wedge, brown-out, delay",
    ),
    ('kind = "flipp"', r"kind: must be one of .*, not 'flipp'; did you mean 'flip'\?"),
    ("kind = 3", "kind: must be one of .*, not 3"),
    ('kind = "flip", rat = 1', r"\(flip\): rat: unknown key; it has rate, at, direction; did you mean 'rate'\?"),
    ('kind = "flip", zzz = 1', r"\(flip\): zzz: unknown key; it has rate, at, direction$"),
    ('kind = "flip", rate = "x"', r"\(flip\): rate: must be a number, not 'x'"),
    ('kind = "flip", rate = true', r"\(flip\): rate: must be a number, not True"),
    ('kind = "flip", rate = 1.5', r"\(flip\): rate must be from 0 to 1, not 1.5"),
    ('kind = "flip", rate = nan', r"\(flip\): rate must not be negative, and is nan"),
    ('kind = "flip", rate = -1', r"\(flip\): rate must not be negative, and is -1"),
    ('kind = "flip"', r"\(flip\): give it either a rate or at"),
    ('kind = "flip", rate = 1, at = 1', r"\(flip\): give it either a rate or at"),
    ('kind = "flip", at = [1, -2]', r"\(flip\): at counts bytes from 0, not -2"),
    ('kind = "flip", at = [1, 2.0]', r"\(flip\): at: must be positions of bytes, not \[1, 2.0\]"),
    ('kind = "flip", at = true', r"\(flip\): at: must be positions of bytes, not True"),
    ('kind = "flip", rate = 1, direction = "up"', r"\(flip\): direction: must be to-board, to-host or both, not 'up'"),
    ('kind = "burst", rate = 1, size_bytes = 0', r"\(burst\): size_bytes must be 1 or more, not 0"),
    ('kind = "burst", rate = 1, size_bytes = 1.5', r"\(burst\): size_bytes: must be a whole number, not 1.5"),
    ('kind = "stuck"', r"\(stuck\): at_s: is missing"),
    ('kind = "stuck", at_s = -1', r"\(stuck\): at_s must not be negative"),
    ('kind = "garbage"', r"\(garbage\): size_bytes: is missing"),
    ('kind = "reset"', r"\(reset\): give it either at_byte or function"),
    ('kind = "reset", at_byte = 1, function = "f"', r"\(reset\): give it either at_byte or function"),
    ('kind = "reset", at_byte = 1, direction = "both"', r"\(reset\): direction must be to-board or to-host"),
    ('kind = "wedge", function = 5', r"\(wedge\): function: must be a text, not 5"),
    ('kind = "wedge", function = "f", call = 0', r"\(wedge\): call counts from 1, not 0"),
    ('kind = "wedge", at_byte = true', r"\(wedge\): at_byte: must be a whole number, not True"),
    ('kind = "brown-out", every_s = 0', r"\(brown-out\): every_s must be 1e-05 or more, not 0"),
    ('kind = "brown-out", every_s = 1, times = -1', r"\(brown-out\): times must not be negative"),
    ('kind = "garbage", size_bytes = 1048577', r"\(garbage\): size_bytes must be at most 1048576, not 1048577"),
    ('kind = "flip", at = [1, 0x8000_0000_0000_0000]', r"\(flip\): at must be at most 9223372036854775807, not 9223"),
    (f'kind = "reset", at_byte = 0x{"f" * 5000}', r"\(reset\): at_byte must be at most 9223372036854775807, not a num"),
    ('kind = "delay", by_s = inf', r"\(delay\): by_s must be finite"),
    ('kind = "delay", by_s = 1, reply = 0', r"\(delay\): reply counts from 1, not 0"),
    ('kind = "lose-events"', r"\(lose-events\): give it either a rate or every"),
    ('kind = "lose-events", rate = 1, every = 2', r"\(lose-events\): give it either a rate or every"),
    ('kind = "lose-events", rate = 2', r"\(lose-events\): rate must be from 0 to 1, not 2"),
    ('kind = "delay-events", by_s = inf', r"\(delay-events\): by_s must be finite"),
    ('kind = "delay-events", by_s = 1, event = 0', r"\(delay-events\): event counts from 1, not 0"),
    ('kind = "hold-events", at_s = 1', r"\(hold-events\): for_s: is missing"),
    ('kind = "hold-events", at_s = 1, for_s = inf', r"\(hold-events\): for_s must be finite"),
    ('kind = "unplug", at_s = 1, keeps_power = 1', r"\(unplug\): keeps_power: must be true or false, not 1"),
]


@pytest.mark.parametrize(("line", "text"), WRONG_FAULTS)
def test_a_wrong_fault_is_refused_with_the_key_and_the_reason(line: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match=text) as caught:
        parse_fault(line)
    assert str(caught.value).startswith(repr(line))
    path = tmp_path / "faults.toml"
    path.write_text(f'fault = [{{ kind = "delay", by_s = 1 }}, {{ {line} }}]')
    with pytest.raises(FaultsError, match=text) as caught:
        load_faults(path)
    assert str(caught.value).startswith(f"{path}: fault 2")


@pytest.mark.parametrize(
    "line",
    ["flip", "kind = flip", 'kind = "flip", rate = 1 }\na = {', 'kind = "drop"\n', 'kind = "flip", kind = "flip"'],
)
def test_a_line_that_is_no_toml_is_refused_with_an_example(line: str) -> None:
    with pytest.raises(FaultsError, match=r'does not describe a fault .* write it as in: kind = "flip", rate = 1e-5'):
        parse_fault(line)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"fault", "not valid TOML: "),
        (b"\xff", "is not UTF-8 text, at byte 0"),
        (
            b"faults = []",
            r"faults: unknown key; a file of faults has seed and \[\[fault\]\] tables; did you mean 'fault'\?",
        ),
        (b"seed = 1.5", "seed: must be a whole number, not 1.5"),
        (b"seed = true", "seed: must be a whole number, not True"),
        (b"[fault]", "fault: write each fault as a table of its own"),
        (b"fault = [1]", "fault: write each fault as a table of its own"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_reason(content: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_bytes(content)
    with pytest.raises(FaultsError, match=text) as caught:
        load_faults(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match="cannot be read: No such file"):
        load_faults(tmp_path / "none.toml")


@pytest.mark.parametrize("seed", [f"0x{'f' * 5000}", "-9223372036854775809", "1.5", "true"])
def test_a_seed_is_a_whole_number_of_64_bits(seed: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(f"seed = {seed}")
    with pytest.raises(FaultsError, match="seed: must be "):
        load_faults(path)
    with pytest.raises(FaultsError, match="seed is a whole number from -9223372036854775808 to 9223372036854775807"):
        Faults([], 2**63)


def test_a_number_beyond_floats_is_an_error_of_ours() -> None:
    with pytest.raises(FaultsError, match="rate must be from 0 to 1, not inf"):
        parse_fault(f'kind = "flip", rate = {10**400}')


@pytest.mark.parametrize(
    "fault",
    [
        lambda direction: Flip(rate=0.1, direction=direction),
        lambda direction: Stuck(at_s=1, direction=direction),
        lambda direction: Reset(at_byte=3, direction=direction),
    ],
)
def test_a_direction_may_be_its_name_and_one_that_there_is_not_is_refused(fault: Callable[[Any], Any]) -> None:
    assert fault("to-host").direction is Direction.TO_HOST
    with pytest.raises(ValueError, match=r"^direction must be to-board, to-host or both, not 'up'$"):
        fault("up")
