"""The one checker of TOML: each failure is one error that says where, which key, and why."""

from __future__ import annotations

import datetime
import enum
from pathlib import Path

import pytest

from microrpc.boards.catalogue import load_profile
from microrpc.boards.tables import Checker, Key, parse_toml, show_kind
from microrpc.errors import ProfileError, RequestError


class Colour(enum.StrEnum):
    RED = "red"
    DARK_BLUE = "dark-blue"


def read_even(value: int) -> str:
    if value % 2:
        raise ValueError(f"must be even, not {value}")
    return f"<{value}>"


def read_badly(value: object) -> object:
    raise ProfileError(f"there is no {value!r}")


KEYS = {
    "name": Key(str, required=True),
    "list": Key(list),
    "texts": Key(list, of=str, wanted="a list of texts", read=tuple),
    "one_or_more": Key(int | list, of=int, wanted="numbers"),
    "count": Key(int, bounds=(1, 5)),
    "time_s": Key(float, bounds=(0, 60)),
    "at_all": Key(float),
    "flag": Key(bool),
    "colour": Key(str, choices=Colour, read=Colour),
    "table": Key(dict),
    "even": Key(int, read=read_even),
    "bad": Key(str, read=read_badly),
    "anything": Key(object),
    "seed": Key(int, bounds=(0, float("inf")), wanted="a number from 0 on"),
}
CHECKER = Checker(RequestError)


def refusal(table: dict[str, object], checker: Checker = CHECKER) -> str:
    with pytest.raises(RequestError) as caught:
        checker.check("file: part.", table, KEYS)
    message = str(caught.value)
    assert message.startswith("file: part.")
    return message.removeprefix("file: part.")


def value_refusal(**values: object) -> str:
    return refusal({"name": "x"} | values)


# --- files --------------------------------------------------------------------------------------


def test_a_file_is_read_as_the_table_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('a = 1\n[b]\nc = "über"\n', encoding="utf-8")
    assert CHECKER.load(path) == {"a": 1, "b": {"c": "über"}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'name = "\xe9"', "is not UTF-8 text, at byte 8"),
        (b"x = 1\ny 2\n", "not valid TOML: Expected '=' after a key in a key/value pair (at line 2, column 3)"),
        (b"x = " + b"[" * 10_000 + b"]" * 10_000, "not valid TOML: it is nested too deeply"),
        (b"x = " + b"9" * 5_000, "not valid TOML: Exceeds the limit (4300 digits) for integer string conversion"),
    ],
    ids=["latin", "syntax", "depth", "digits"],
)
def test_a_file_that_is_no_toml_is_refused_by_name_and_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        CHECKER.load(path)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_a_file_that_cannot_be_read_is_refused_by_name_and_reason(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        CHECKER.load(tmp_path / "absent.toml")
    assert str(caught.value) == f"{tmp_path / 'absent.toml'}: cannot be read: No such file or directory"
    with pytest.raises(RequestError) as caught:
        CHECKER.load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


# --- keys ---------------------------------------------------------------------------------------


def test_a_good_table_is_read_key_by_key_in_its_own_order() -> None:
    table = {"texts": ["a", "b"], "name": " x ", "colour": "red", "time_s": 2, "even": 4, "anything": None}
    values = CHECKER.check("", table, KEYS)
    assert list(values.items()) == [
        *(("texts", ("a", "b")), ("name", " x "), ("colour", Colour.RED)),
        *(("time_s", 2.0), ("even", "<4>"), ("anything", None)),
    ]
    assert type(values["time_s"]) is float
    assert type(values["colour"]) is Colour


def test_an_unknown_key_is_named_with_the_one_that_may_be_meant() -> None:
    assert refusal({"name": "x", "colours": "red"}) == "colours: unknown key; did you mean 'colour'?"
    assert refusal({"zzz": 1}) == "zzz: unknown key", "and before what is missing"


def test_what_must_be_there_and_is_not_is_named() -> None:
    assert refusal({"count": 99}) == "name: is missing", "and before what is wrong"
    nothing: list[object] = [[], {}]
    for empty in nothing:
        with pytest.raises(RequestError, match=r"^x: is missing$"):
            CHECKER.check("", {"x": empty}, {"x": Key(object, required=True)})
    assert CHECKER.check("", {"x": ""}, {"x": Key(str, required=True)}) == {"x": ""}, "whoever reads a text judges it"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": 3}, "name: must be a text, not 3"),
        ({"count": "3"}, "count: must be a whole number, not '3'"),
        ({"count": True}, "count: must be a whole number, not True"),
        ({"count": 3.0}, "count: must be a whole number, not 3.0"),
        ({"time_s": False}, "time_s: must be a number, not False"),
        ({"flag": 1}, "flag: must be true or false, not 1"),
        ({"list": {}}, "list: must be a list, not {}"),
        ({"texts": ["a", 1]}, "texts: must be a list of texts, not ['a', 1]"),
        ({"texts": "a"}, "texts: must be a list of texts, not 'a'"),
        ({"one_or_more": [1, True]}, "one_or_more: must be numbers, not [1, True]"),
        ({"one_or_more": True}, "one_or_more: must be numbers, not True"),
        ({"table": 1}, "table: must be a table, not 1: write [part.table] on a line of its own"),
        ({"count": 0}, "count: must be from 1 to 5, not 0"),
        ({"count": 6}, "count: must be from 1 to 5, not 6"),
        ({"time_s": 0}, "time_s: must be more than 0 and at most 60, not 0"),
        ({"time_s": 60.5}, "time_s: must be more than 0 and at most 60, not 60.5"),
        ({"time_s": float("nan")}, "time_s: must be more than 0 and at most 60, not nan"),
        ({"time_s": 10**400}, "time_s: must be more than 0 and at most 60, not inf"),
        ({"time_s": -(10**400)}, "time_s: must be more than 0 and at most 60, not -inf"),
        ({"count": 1 << 20_000}, "count: must be from 1 to 5, not a number of very many digits"),
        ({"name": [1 << 20_000]}, "name: must be a text, not a number of very many digits"),
        ({"seed": -1}, "seed: must be a number from 0 on, not -1"),
        ({"colour": "green"}, "colour: must be one of 'red', 'dark-blue', not 'green'"),
        ({"colour": "blue"}, "colour: must be one of 'red', 'dark-blue', not 'blue'; did you mean 'dark-blue'?"),
        ({"even": 3}, "even: must be even, not 3"),
        ({"bad": "x"}, "bad: there is no 'x'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_the_reason(values: dict[str, object], reason: str) -> None:
    assert value_refusal(**values) == reason


@pytest.mark.parametrize(
    "values",
    [{"count": 1}, {"count": 5}, {"time_s": 60.0}, {"at_all": -1.5}, {"one_or_more": 1}, {"one_or_more": [1, 2]}],
)
def test_the_bounds_themselves_are_allowed(values: dict[str, object]) -> None:
    assert CHECKER.check("", {"name": "x"} | values, KEYS) == {"name": "x"} | values


def test_choices_are_looked_at_when_a_value_is_checked() -> None:
    choices = {"a": 1}
    key = Key(str, choices=choices)
    with pytest.raises(RequestError, match=r"^x: must be one of 'a', not 'b'$"):
        CHECKER.value("x", "b", key)
    choices["b"] = 2
    assert CHECKER.value("x", "b", key) == "b"


# --- what the caller says -----------------------------------------------------------------------


def test_the_error_and_the_words_for_an_unknown_key_are_the_callers() -> None:
    def unknown(name: str, known: object) -> str:
        return f"has no {name}"

    checker = Checker(ProfileError, unknown=unknown)
    assert refusal({"colours": 1}, checker) == "has no colours"
    with pytest.raises(ProfileError):
        checker.check("", {}, KEYS)


def test_the_kind_of_a_wrong_value_is_shown_where_the_caller_wants_it() -> None:
    checker = Checker(RequestError, show=show_kind)
    assert refusal({"name": 3}, checker) == "name: must be a text, not a whole number (3)"
    day = datetime.date(2024, 5, 1)
    assert refusal({"name": day}, checker) == f"name: must be a text, not a date ({day!r})"


def test_text_that_is_no_toml_is_a_value_error_with_its_place() -> None:
    assert parse_toml("a = 1") == {"a": 1}
    with pytest.raises(ValueError, match="line 1, column 3"):
        parse_toml("a 1")


@pytest.mark.parametrize("text", ["x = " + "[" * 3000, "x = " + "{a = " * 3000], ids=["lists", "tables"])
def test_toml_that_is_nested_too_deeply_is_an_error_of_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=r"deep\.toml: not valid TOML: it is nested too deeply"):
        load_profile(path)


def test_a_value_that_is_nested_too_deeply_to_be_shown_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    rest = 'description = "x"\nbaud = 9600\npacket_size_bytes = 128\nheap_bytes = 1\n'
    path.write_text("name" + ".a" * 3000 + f" = 1\n{rest}")
    with pytest.raises(ProfileError, match=r"name: must be a text, not a table .something that is nested very deeply"):
        load_profile(path)


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_of_very_many_digits_is_an_error_of_its_key(tmp_path: Path, digits: int) -> None:
    path = tmp_path / "mine.toml"
    number = hex(10**digits)  # Python reads no more than 4300 decimal digits
    good = 'name = "mine"\ndescription = "x"\npacket_size_bytes = 128\nheap_bytes = 1\n'
    for key, line in {
        "baud": f"baud = {number}",
        "power_up_s": f"baud = 9600\npower_up_s = {number}",
        "timeouts.call_s": f"baud = 9600\n[timeouts]\ncall_s = {number}",
        "reset.sequence": f'baud = 9600\n[reset]\nstrategy = "dtr-rts"\nsequence = [{number}]',
        "usb": f"baud = 9600\nusb = [{number}]",
    }.items():
        path.write_text(good + line)
        with pytest.raises(ProfileError, match=f"mine.toml: {key}.*must "):
            load_profile(path)
