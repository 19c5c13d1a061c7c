from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import UnsupportedValueError
from microrpc.wire.checks import show
from microrpc.wire.datatypes import (
    CPU,
    DataType,
    DataTypeCode,
    Device,
    DeviceType,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    TypeCode,
    UInt,
)

NUMPY_PAIRS = [
    ("int8", (0, 8)),
    ("int16", (0, 16)),
    ("int32", (0, 32)),
    ("int64", (0, 64)),
    ("uint8", (1, 8)),
    ("uint16", (1, 16)),
    ("uint32", (1, 32)),
    ("uint64", (1, 64)),
    ("float16", (2, 16)),
    ("float32", (2, 32)),
    ("float64", (2, 64)),
    ("bool", (1, 1)),
]


def test_type_codes_are_those_of_the_protocol() -> None:
    assert " ".join(code.name for code in TypeCode) == (
        "INT UINT FLOAT OPAQUE_HANDLE NULL DATA_TYPE DEVICE TENSOR OBJECT MODULE FUNCTION STR BYTES NDARRAY "
        "OBJECT_RVALUE_REF"
    )
    assert [code.value for code in TypeCode] == list(range(15))
    assert [(code.name, code.value) for code in DataTypeCode] == [
        ("INT", 0),
        ("UINT", 1),
        ("FLOAT", 2),
        ("HANDLE", 3),
        ("BFLOAT", 4),
        ("BOOL", 6),
    ]


@pytest.mark.parametrize(("name", "fields"), NUMPY_PAIRS)
def test_numpy_dtypes_map_both_ways(name: str, fields: tuple[int, int]) -> None:
    dtype = DataType.from_numpy(name)
    assert dtype == DataType(*fields, 1)
    assert type(dtype.code) is int
    assert dtype.numpy == np.dtype(name)
    assert dtype.itemsize_bytes == np.dtype(name).itemsize
    assert str(dtype) == name
    assert DataType.parse(name) == dtype


@pytest.mark.parametrize(
    "alias", [np.longlong, np.intc, np.int_, int, np.dtype("<i4"), np.dtype("=u2"), np.bool_, float]
)
def test_numpy_aliases_map_by_width(alias: Any) -> None:
    assert DataType.from_numpy(alias).numpy == np.dtype(alias)


def test_lanes_are_a_subarray_dtype() -> None:
    dtype = DataType.from_numpy(np.dtype(("<f4", (4,))))
    assert dtype == DataType(2, 32, 4)
    assert dtype.itemsize_bytes == 16
    assert dtype.numpy == np.dtype(("<f4", (4,)))
    assert dtype.numpy.itemsize == 16
    assert np.zeros(3, dtype.numpy).shape == (3, 4)
    assert str(dtype) == "float32x4"


def test_bfloat16_is_handed_out_as_its_raw_bits() -> None:
    dtype = DataType.parse("bfloat16")
    assert dtype == DataType(4, 16, 1)
    assert dtype.numpy == np.dtype("uint16")
    assert dtype.itemsize_bytes == 2


@pytest.mark.parametrize(
    "dtype",
    [
        "O",
        "complex64",
        "S4",
        "U4",
        "V8",
        "M8[s]",
        "m8[s]",
        [("a", "<i4")],
        np.dtype(("<f4", (2, 2))),
        np.dtype(("?", (4,))),
        np.dtype(("<i1", (70000,))),
        None,
        "float32x4",
        "nonsense",
        "i4,",
        object(),
    ],
)
def test_other_numpy_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(UnsupportedValueError):
        DataType.from_numpy(dtype)


@pytest.mark.parametrize("text", ["int4", "handle64", "uint1x4", "void", "custom[130]16", "float32x0", "float128"])
def test_types_that_numpy_lacks_have_no_numpy_dtype(text: str) -> None:
    with pytest.raises(UnsupportedValueError, match="numpy has no dtype for"):
        _ = DataType.parse(text).numpy


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("int32", (0, 32, 1)),
        ("uint8", (1, 8, 1)),
        ("float16x2", (2, 16, 2)),
        ("float32x4", (2, 32, 4)),
        ("bfloat16", (4, 16, 1)),
        ("bool", (1, 1, 1)),
        ("uint1x8", (1, 1, 8)),
        ("handle64", (3, 64, 1)),
        ("int4", (0, 4, 1)),
        ("void", (3, 0, 0)),
        ("custom[130]16x2", (130, 16, 2)),
    ],
)
def test_spellings_are_read_and_written_alike(text: str, fields: tuple[int, int, int]) -> None:
    assert DataType.parse(text) == DataType(*fields)
    assert str(DataType(*fields)) == text


def test_a_bare_handle_has_64_bits() -> None:
    assert DataType.parse("handle") == DataType(3, 64, 1)


@pytest.mark.parametrize(
    "text",
    ["", "int", "float", "32", "int32x", "int32 ", " int32", "int-32", "int999", "int32x65536", "boolx4", "int٣"],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(UnsupportedValueError):
        DataType.parse(text)


@given(code=st.integers(0, 255), bits=st.integers(0, 255), lanes=st.integers(0, 65535))
def test_every_data_type_parses_back_from_its_spelling(code: int, bits: int, lanes: int) -> None:
    dtype = DataType(code, bits, lanes)
    assert DataType.parse(str(dtype)) == dtype
    assert dtype.itemsize_bytes == -(-bits * lanes // 8)


@pytest.mark.parametrize(
    "fields", [(-1, 8, 1), (256, 8, 1), (0, -1, 1), (0, 256, 1), (0, 8, -1), (0, 8, 65536)], ids=str
)
def test_fields_wider_than_the_wire_are_refused(fields: tuple[int, int, int]) -> None:
    with pytest.raises(UnsupportedValueError, match=r"(code|bits|lanes) of a data type is a whole number from 0 to "):
        DataType(*fields)


@pytest.mark.parametrize("value", [1.0, True, None, "8", np.float32(8), np.array([8]), 10**5000], ids=show)
def test_a_field_that_is_no_whole_number_is_refused(value: Any) -> None:
    for make in (lambda: DataType(value, 8), lambda: DataType(0, value), lambda: DataType(0, 8, value)):
        with pytest.raises(UnsupportedValueError, match=" of a data type is a whole number from 0 to "):
            make()
    assert type(DataType(0, np.uint8(8)).bits) is int  # type: ignore[arg-type]  # a number all the same


@pytest.mark.parametrize("value", [None, 5, b"int8", 10**5000, np.array(["int8", "int8"])], ids=show)
def test_what_is_no_text_names_no_data_type(value: Any) -> None:
    with pytest.raises(UnsupportedValueError, match="is not a data type"):
        DataType.parse(value)


def test_what_is_none_of_numpys_is_shown_in_short() -> None:
    with pytest.raises(UnsupportedValueError, match=r"^a number of very many digits is not a numpy dtype"):
        DataType.from_numpy(10**5000)  # type: ignore[arg-type]


def test_numpy_takes_a_data_type_for_its_own() -> None:
    assert np.zeros(3, DataType.parse("float32")).dtype == np.float32  # type: ignore[call-overload]
    assert np.dtype(DataType.parse("int8x4")) == np.dtype(("int8", (4,)))  # type: ignore[call-overload]
    for name in ("bfloat16", "int4", "handle"):
        with pytest.raises(TypeError):
            np.dtype(DataType.parse(name))  # type: ignore[call-overload]
        assert not hasattr(DataType.parse(name), "dtype")


@pytest.mark.parametrize(
    ("text", "size"), [("bool", 1), ("int4", 1), ("uint1x9", 2), ("int4x3", 2), ("float32x3", 12), ("void", 0)]
)
def test_an_element_is_rounded_up_to_whole_bytes(text: str, size: int) -> None:
    assert DataType.parse(text).itemsize_bytes == size


def test_devices_are_those_of_dlpack_and_know_their_session() -> None:
    assert Device(1, 0) == CPU
    assert (DeviceType.CPU, DeviceType.CUDA, DeviceType.OPENCL, DeviceType.ROCM, DeviceType.HEXAGON) == (
        1,
        2,
        4,
        10,
        16,
    )
    assert [Device(type_).session_mask for type_ in (1, 127, 128, 129, 257)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("float32", (), 4),
        ("float32", (3, 5), 60),
        ("float32", (3, 0), 0),
        ("bool", (5,), 5),
        ("float32x4", (2,), 32),
        ("int64", (2**62, 2**62), 2**127),
    ],
)
def test_the_size_of_a_tensor_is_exact(dtype: str, shape: tuple[int, ...], size: int) -> None:
    assert Tensor(0, CPU, DataType.parse(dtype), shape).size_bytes == size


def test_the_size_of_a_tensor_with_numpy_extents_does_not_wrap_around() -> None:
    shape = (np.int64(2**62), np.int64(2**62))
    size = Tensor(0, CPU, DataType(0, 8), shape).size_bytes  # type: ignore[arg-type]
    assert size == 2**124
    assert type(size) is int


def test_handles_are_ints_with_a_telling_repr() -> None:
    assert repr(OpaqueHandle(0x80000001)) == str(OpaqueHandle(0x80000001)) == "OpaqueHandle(0x80000001)"
    assert repr(ModuleHandle(0)) == "ModuleHandle(0x0)"
    assert repr(FunctionHandle(255)) == "FunctionHandle(0xff)"
    assert repr(UInt(7)) == "UInt(7)"
    assert OpaqueHandle(5) == 5
    assert hash(OpaqueHandle(5)) == hash(5)


@pytest.mark.parametrize("value", [OpaqueHandle(3), UInt(3), DataType(2, 32), Tensor(1, CPU, DataType(2, 32), (1, 2))])
def test_values_survive_pickling(value: object) -> None:
    copy = pickle.loads(pickle.dumps(value))
    assert copy == value
    assert type(copy) is type(value)
