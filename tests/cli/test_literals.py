"""Values on the command line: what is written, what is passed, what is shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from microrpc.cli.literals import (
    OnBoard,
    check_size,
    format_value,
    parse_literal,
    parse_type,
    read_array,
    summarize,
    to_json,
)
from microrpc.wire.datatypes import DataType, Device, OpaqueHandle

FLOAT32 = DataType.parse("float32")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2", -2),
        ("+7", 7),
        ("007", 7),
        ("0xff", 255),
        ("-0x10", -16),
        ("2.5", 2.5),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("1e3", 1000.0),
        ("-1E-3", -0.001),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("true", True),
        ("false", False),
        ("none", None),
        ("hello", "hello"),
        ("True", "True"),
        ("two words", "two words"),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
        ("-", "-"),
        ("", ""),
        ("http://x", "http://x"),
        ('"3"', "3"),
        ('"a\\nb"', "a\nb"),
        ("str:123", "123"),
        ("str:", ""),
        ("str:--x", "--x"),
        ("str:bytes:00", "bytes:00"),
        ("bytes:0a0bff", b"\x0a\x0b\xff"),
        ("bytes:0A 0b", b"\x0a\x0b"),
        ("bytes:", b""),
        ("addr:0x2000:float32[4,4]", OnBoard(0x2000, FLOAT32, (4, 4))),
        ("addr:8192:float32x4[2]", OnBoard(0x2000, DataType.parse("float32x4"), (2,))),
    ],
)
def test_a_literal_has_the_type_that_it_is_written_as(text: str, value: Any) -> None:
    parsed = parse_literal(text)
    assert (type(parsed), parsed) == (type(value), value)


def test_nan_is_a_float() -> None:
    parsed = parse_literal("nan")
    assert isinstance(parsed, float)
    assert math.isnan(parsed)


@pytest.mark.parametrize(
    ("text", "dtype", "shape"),
    [
        ("tensor:float32[16]", "float32", (16,)),
        ("tensor:int8[2, 3]", "int8", (2, 3)),
        ("tensor:uint16[]", "uint16", ()),
        ("tensor:bool[4]", "bool", (4,)),
        ("tensor:float32[0]", "float32", (0,)),
    ],
)
def test_a_tensor_literal_is_zeros_of_that_type_and_shape(text: str, dtype: str, shape: tuple[int, ...]) -> None:
    array = parse_literal(text)
    assert isinstance(array, np.ndarray)
    assert (array.dtype, array.shape, array.any()) == (np.dtype(dtype), shape, False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bytes:0", "two hex digits"),
        ("bytes:xy", "two hex digits"),
        ('"open', "ends in a quote"),
        ('"a"b"', "ends in a quote"),
        ("tensor:float32", "for example float32[4,4]"),
        ("tensor:float32[a]", "for example float32[4,4]"),
        ("tensor:float32[2,]", "not a shape"),
        ("tensor:float[2]", "is not a data type"),
        ("tensor:int4[2]", "numpy has no dtype for int4; write for example float32 or int8"),
        ("addr:0x2000", "for example float32[4,4]"),
        ("addr:there:float32[2]", "is not an address"),
        ("addr:-1:float32[2]", "is not an address"),
        ("@/no/such/file.npy", "No such file"),
        ("--jsn", "there is no option --jsn"),
    ],
)
def test_a_literal_that_is_wrong_says_why(text: str, reason: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_literal(text)
    assert reason in caught.value.message


def test_a_file_is_a_tensor_of_its_own_type_or_of_bytes(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    (tmp_path / "x.bin").write_bytes(array.tobytes())
    loaded, raw = parse_literal(f"@{tmp_path / 'x.npy'}"), parse_literal(f"@{tmp_path / 'x.bin'}")
    assert isinstance(loaded, np.ndarray)
    assert isinstance(raw, np.ndarray)
    assert (loaded.dtype, loaded.tolist()) == (array.dtype, array.tolist())
    assert (raw.dtype, raw.tobytes()) == (np.dtype(np.uint8), array.tobytes())
    typed = read_array(tmp_path / "x.bin", DataType.parse("int16"), (3, 2))
    assert typed.tolist() == array.reshape(3, 2).tolist()
    lanes = read_array(tmp_path / "x.bin", DataType.parse("int16x3"))
    assert lanes.tolist() == array.tolist()


def test_a_file_that_does_not_fit_says_why(tmp_path: Path) -> None:
    np.save(tmp_path / "complex.npy", np.zeros(2, np.complex64))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "fine.npy", np.zeros(2))
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY\x01")
    (tmp_path / "seven.bin").write_bytes(bytes(7))
    for name, reason in [
        ("complex.npy", "no counterpart"),
        ("objects.npy", "no counterpart"),
        ("damaged.npy", "not a .npy file that numpy reads"),
        ("seven.bin", "has 7 bytes, and float32[1] has 4"),
        ("fine.npy", "leave --dtype and --shape out"),
        (".", "Is a directory"),
    ]:
        with pytest.raises(typer.BadParameter) as caught:
            read_array(tmp_path / name, FLOAT32 if name in ("seven.bin", "fine.npy") else None)
        assert reason in caught.value.message


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (5, "5"),
        (2.5, "2.5"),
        ("a b", "a b"),
        (b"\x0a\xff", "bytes:0aff"),
        (OpaqueHandle(0x20), "0x20"),
        (FLOAT32, "float32"),
        (Device(1, 0), "device 1,0"),
    ],
)
def test_a_result_is_shown_as_a_literal_where_there_is_one(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x0a\xff", "0aff"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (np.array([[1.5, math.inf]], np.float32), [[1.5, "inf"]]),
        (np.array([True]), [True]),
        (FLOAT32, "float32"),
        (OpaqueHandle(3), 3),
    ],
)
def test_json_has_a_form_for_every_result(value: Any, expected: Any) -> None:
    assert to_json(value) == expected


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(0, np.float32), "empty"),
        (np.array(7, np.int8), "7  (min 7, max 7, mean 7)"),
        (np.arange(8), "0 1 2 3 4 5 ...  (min 0, max 7, mean 3.5)"),
        (np.array([True, False]), "true false  (min false, max true, mean 0.5)"),
        (np.full(2, 3e38, np.float32), "3e+38 3e+38  (min 3e+38, max 3e+38, mean 3e+38)"),
    ],
)
def test_an_array_is_summarized_in_one_line(array: Any, text: str) -> None:
    assert summarize(array) == text


def test_a_type_reads_back_as_it_is_written() -> None:
    assert parse_type("float32[4,4]") == (FLOAT32, (4, 4))


# --- what asks for more than there is -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9" * 5000, "a number of 5000 digits is more than any board takes"),
        ("-" + "9" * 5000, "a number of 5001 digits"),
        (f"tensor:uint8[{'9' * 5000}]", "a number of 5000 digits"),
        (f"addr:0x20000000:uint8[{'9' * 5000}]", "a number of 5000 digits"),
        (f"addr:{'9' * 5000}:uint8[4]", "is not an address"),
        ("addr:0x10000000000000000:uint8[4]", "is not an address"),
        ("addr:-1:uint8[4]", "is not an address"),
        ("tensor:uint8[100000000000000000]", "no such tensor can be made here"),
        (f"tensor:float64[{2**62},4]", "no such tensor can be made here"),
        (f"tensor:float32[{','.join('1' * 70)}]", "no such tensor can be made here: maximum supported dimension"),
    ],
    ids=lambda text: text[:20],
)
def test_a_literal_that_nobody_can_have_is_one_clear_error(text: str, reason: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_literal(text)
    assert reason in str(caught.value)


def test_a_size_is_compared_before_anything_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    byte = DataType.parse("uint8")
    check_size(10**14, byte, (10**14,), "SIZE")
    with pytest.raises(typer.BadParameter, match=r"SIZE 3 has 3 bytes, and uint8\[4\] has 4"):
        check_size(3, byte, (4,), "SIZE 3")
    with pytest.raises(typer.BadParameter, match="numpy has no array of 70 dimensions"):
        check_size(1, byte, (1,) * 70, "SIZE 1")


NPY = b"\x93NUMPY\x01\x00"


def npy(header: str) -> bytes:
    return NPY + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000,)}\n"),
            "header tells of 40000000",
        ),
        (npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**63}, {2**63})}}\n"), "its header tells of"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n") + bytes(8), "its header tells of"),
        (npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {(1,) * 70}}}\n") + bytes(4), "not a .npy file"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}\n") + bytes(4), "tells of the shape (True,)"),
        (npy("(" * 3000), "its header cannot be read ("),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + b"cos\nsystem\n", "no counterpart"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "its format has the version 9.0"),
        (b"PK\x03\x04" + bytes(100), "not a .npy file"),
        (b"", "not a .npy file"),
    ],
    ids=["huge", "overflow", "negative", "70 dimensions", "bool", "brackets", "pickle", "version", "zip", "empty"],
)
def test_a_npy_file_is_not_believed(tmp_path: Path, contents: bytes, reason: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(contents)
    with pytest.raises(typer.BadParameter) as caught:
        read_array(path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_good_npy_file_is_read_whatever_its_order(tmp_path: Path, order: Any) -> None:
    array = np.asarray(np.arange(6, dtype=">i2").reshape(2, 3), order=order)
    np.save(tmp_path / "x.npy", array)
    assert np.array_equal(read_array(tmp_path / "x.npy"), array)
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    assert read_array(tmp_path / "none.npy").shape == (0, 3)
