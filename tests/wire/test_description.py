"""The text in which a board tells of itself, made by hand (docs/description.md 2)."""

from __future__ import annotations

import contextlib
import zlib

import pytest
from describing import FUNCTIONS, describe
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError
from microrpc.wire.description import (
    MOST_BYTES,
    Description,
    FunctionDescription,
    Head,
    Identity,
    parse_description,
    parse_head,
)

WHOLE = (
    b"microrpc\t1\t2e579abb\t79\tlab board\tmeter\t1.2\n"
    b"scale\tx:float32[n],factor:float->None\tMultiply.\n"
    b"odd\twhat?\t\n"
)


def read(data: bytes) -> Description:
    head = parse_head(data)
    assert head is not None
    assert head.is_known
    assert head.fits(data)
    return parse_description(data, head)


def with_head(body: bytes) -> bytes:
    return b"microrpc\t1\t%08x\t%d\t" % (zlib.crc32(body), len(body)) + body


def test_a_description_is_read_byte_by_byte_as_it_is_specified() -> None:
    assert read(WHOLE) == Description(
        Identity("lab board", "meter", "1.2", "2e579abb"),
        (
            FunctionDescription("scale", "x: float32[n], factor: float -> None", "Multiply."),
            FunctionDescription("odd", "what?", ""),
        ),
        WHOLE,
    )


def test_the_helper_of_the_tests_makes_what_is_specified() -> None:
    odd = ("scale", "x:float32[n],factor:float->None", "Multiply."), ("odd", "what?", "")
    assert describe(odd) == WHOLE
    assert [function.name for function in read(describe()).functions] == [name for name, _, _ in FUNCTIONS]


def test_a_signature_that_cannot_be_read_is_kept_as_it_is_and_not_checked() -> None:
    scale, odd = read(WHOLE).functions
    assert (odd.signature, odd.parsed, str(odd)) == ("what?", None, "odd: what?")
    assert str(scale) == "scale(x: float32[n], factor: float) -> None"
    assert str(FunctionDescription("f", "", "")) == "f(...)"


def test_the_head_tells_where_the_end_is_and_more_is_asked_for_until_it_is_there() -> None:
    size = len(b"microrpc\t1\t2e579abb\t79\t")
    assert [parse_head(WHOLE[:count]) for count in range(size)] == [None] * size
    assert parse_head(WHOLE[:size]) == Head("2e579abb", size, size + 79)


@pytest.mark.parametrize("version", [b"2", b"0", b"10", b"", b"1.1"])
def test_another_format_is_a_board_that_tells_nothing(version: bytes) -> None:
    head = parse_head(b"microrpc\t" + version + b"\tanything")
    assert head is not None
    assert not head.is_known


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, this is another function of that name", "begins with b'hello, this is another"),
        (b"microrpc\t1\t2E579ABB\t79\t" + b"x" * 40, "which is no head"),
        (b"microrpc\t1\t2e579abb\t-6\t" + b"x" * 40, "which is no head"),
        (b"microrpc\t1\t2e579abb\t0000000000\t" + b"x" * 40, "which is no head"),
        (b"microrpc\t1\t2e579abb\t%d\t" % (MOST_BYTES + 1), f"tells of {MOST_BYTES + 1} bytes"),
    ],
)
def test_what_is_no_head_is_an_error(data: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_head(data)
    assert reason in str(caught.value)
    assert "docs/description.md 2" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "has '' for the names"),
        (b"board\tfirmware\t1", "no last line"),
        (b"board\tfirmware\n", "has 'board\\tfirmware' for the names"),
        (b"board\tfirmware\t1\t2\n", "for the names"),
        (b"a\tb\tc\nscale\t-> int\tdoc", "no last line"),
        (b"a\tb\tc\nscale\t-> int\n", "has 'scale\\t-> int' for a function"),
        (b"a\tb\tc\nscale\t-> int\tdoc\tmore\n", "for a function"),
        (b"a\tb\tc\n\t-> int\tdoc\n", "for a function"),
        (b"a\tb\tc\n\n", "for a function"),
        (b"a\tb\tc\n" + b"f\t\t\n" * 4097, "tells of 4097 functions"),
    ],
)
def test_lines_that_are_not_as_they_must_be_are_an_error(body: bytes, reason: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(with_head(body))
    assert reason in str(caught.value)


def test_as_many_functions_as_there_may_be_are_read() -> None:
    body = b"a\tb\tc\n" + b"".join(b"f%d\t\t\n" % index for index in range(4096))
    assert len(read(with_head(body)).functions) == 4096


def test_a_description_fits_its_head_with_every_byte_or_not_at_all() -> None:
    head = parse_head(WHOLE)
    assert head is not None
    assert not head.fits(WHOLE[:-1])
    assert not head.fits(WHOLE + b"\n")
    for at in range(head.start, len(WHOLE)):
        assert not head.fits(WHOLE[:at] + bytes([WHOLE[at] ^ 1]) + WHOLE[at + 1 :])


def test_a_name_that_stands_twice_is_the_later_one_which_hides_the_other() -> None:
    twice = (("f", "-> int", "of the library"), ("g", "", ""), ("f", "-> str", "global"))
    assert read(describe(twice)).functions == (
        FunctionDescription("f", "-> str", "global"),
        FunctionDescription("g", "", ""),
    )


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("b", "f", "1"), "f 1 on b"),
        (("", "f", ""), "f"),
        (("b", "", ""), "b"),
        (("", "", "1"), "1"),
        (("", "", ""), "without a name"),
    ],
)
def test_an_identity_is_shown_as_far_as_it_is_told(names: tuple[str, str, str], shown: str) -> None:
    identity = read(describe((), names)).identity
    assert str(identity) == shown


def test_bytes_that_are_no_utf_8_do_no_harm() -> None:
    (function,) = read(with_head(b"\xff\t\t\nf\xfe\t\t\n")).functions
    assert function.name.encode("utf-8", "surrogateescape") == b"f\xfe"


@given(st.binary(max_size=200))
def test_any_body_is_read_or_one_error(body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read(with_head(body))
