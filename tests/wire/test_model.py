"""The table of a model, and its profile, as bytes (docs/models.md 1)."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, UnsupportedValueError
from microrpc.wire.datatypes import DataType
from microrpc.wire.model import (
    ModelLayer,
    ModelProfile,
    ModelTable,
    ModelTensor,
    decode_model,
    decode_profile,
    encode_model,
    encode_profile,
)

INT16 = DataType.parse("int16")
SUMS = ModelTable(
    name="sums",
    hash=0x0102030405060708,
    inputs=(ModelTensor("a", INT16, (2,), scale=0.5, zero_point=-1), ModelTensor("b", INT16, (2,))),
    outputs=(ModelTensor("sum", INT16, (2,)),),
    layers=(ModelLayer("subtract", ModelTensor("difference", INT16, (2,))), ModelLayer("add")),
    weights_bytes=1,
    arena_bytes=2,
    workspace_bytes=3,
)
BYTES = bytes.fromhex(
    """
    01  0400 73756d73  0807060504030201  01000000 02000000 03000000  0200 0100 0200
    0100 61      00 10 0100  01 02000000  0000003f ffffffff
    0100 62      00 10 0100  01 02000000  00000000 00000000
    0300 73756d  00 10 0100  01 02000000  00000000 00000000
    0800 7375627472616374  0a00 646966666572656e6365  00 10 0100  01 02000000  00000000 00000000
    0300 616464            0000                       00 00 0000  00           00000000 00000000
    """
)
"""The same by hand; firmware/tests/test_model.c has such a one of the library in C."""


def test_a_table_is_these_bytes() -> None:
    assert encode_model(SUMS) == BYTES
    assert decode_model(BYTES) == SUMS


def test_a_table_that_ends_anywhere_is_a_protocol_error() -> None:
    for end in range(1, len(BYTES)):
        with pytest.raises(ProtocolError, match=f"cannot be read: it ends at byte {end}, within"):
            decode_model(BYTES[:end])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is b'', not bytes"),
        (7, "it is 7, not bytes"),
        (None, "it is None, not bytes"),
        (b"\x02" + BYTES[1:], "it is of version 2, and this microrpc reads version 1"),
        (BYTES + b"\0", "1 bytes are left over"),
        (BYTES.replace(b"\0\0\0\x3f", struct.pack("<f", -1.0)), r"a: a scale is a positive f32, not -1\.0"),
        (BYTES.replace(b"\0\0\0\x3f", struct.pack("<f", float("nan"))), "a: a scale is a positive f32, not nan"),
        (BYTES.replace(b"\0\0\0\x3f", struct.pack("<f", float("inf"))), "a: a scale is a positive f32, not inf"),
    ],
)
def test_what_is_no_table_is_a_protocol_error(data: object, reason: str) -> None:
    with pytest.raises(ProtocolError, match=f"the table of a model, from microrpc.models, cannot be read: {reason}"):
        decode_model(data)


def test_counts_that_lie_make_nothing() -> None:
    head = BYTES[: 1 + 2 + 4 + 8 + 12]
    with pytest.raises(ProtocolError, match="it ends at byte"):
        decode_model(head + b"\xff\xff" * 3)
    with pytest.raises(ProtocolError, match="it ends at byte"):
        decode_model(head + b"\1\0\0\0\0\0" + b"\xff\xff")


def test_a_name_that_is_not_utf_8_comes_back_as_it_was() -> None:
    data = BYTES.replace(b"sums", b"s\xff\xfes")
    assert encode_model(decode_model(data)) == data


def test_a_scale_is_rounded_to_32_bits() -> None:
    tensor = ModelTensor("x", INT16, (), scale=0.1)
    assert tensor.scale == struct.unpack("<f", struct.pack("<f", 0.1))[0] != 0.1


def test_a_negative_zero_is_no_scale() -> None:
    data = BYTES.replace(b"\0\0\0\x3f", b"\0\0\0\x80")
    assert decode_model(data).inputs[0].scale is None


@pytest.mark.parametrize("scale", [0.0, -0.0, -1.0, float("nan"), float("inf"), 1e39, 1e-50])
def test_a_scale_that_is_no_positive_f32_is_refused(scale: float) -> None:
    with pytest.raises(UnsupportedValueError, match="x: a scale is a positive f32, not"):
        ModelTensor("x", INT16, (1,), scale=scale)


@pytest.mark.parametrize("shape", [(-1,), (1 << 32,), (1,) * 256])
def test_a_shape_that_a_table_cannot_say_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedValueError, match="x"):
        ModelTensor("x", INT16, shape)


def test_numbers_and_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnsupportedValueError, match="the zero point of x"):
        ModelTensor("x", INT16, (), zero_point=1 << 31)
    for field in ("weights_bytes", "arena_bytes", "workspace_bytes"):
        with pytest.raises(UnsupportedValueError, match=field):
            ModelTable("m", 0, (), (), **{field: 1 << 32})  # type: ignore[arg-type]
    with pytest.raises(UnsupportedValueError, match="the hash of a model"):
        ModelTable("m", 1 << 64, (), ())
    with pytest.raises(UnsupportedValueError, match="the number of layers"):
        ModelTable("m", 0, (), (), (ModelLayer("l"),) * 65536)
    with pytest.raises(UnsupportedValueError, match="the bytes of a name"):
        encode_model(ModelTable("m" * 65536, 0, (), ()))


def test_a_tensor_tells_its_size_and_is_shown_as_boards_show_it() -> None:
    tensor = ModelTensor("x", DataType.parse("float32"), (2, 3, 4))
    assert (tensor.count, tensor.size_bytes, str(tensor)) == (24, 96, "x: float32[2, 3, 4]")
    scalar = ModelTensor("s", DataType.parse("bool"), ())
    assert (scalar.count, scalar.size_bytes, str(scalar)) == (1, 1, "s: bool[]")
    assert ModelTensor("huge", INT16, (0xFFFF_FFFF,) * 255).size_bytes == 2 * 0xFFFF_FFFF**255


# --- properties -------------------------------------------------------------------------------

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
_DTYPES = st.builds(DataType, st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFF))
_WITH_OUTPUT = st.builds(DataType, st.integers(0, 255), st.integers(1, 255), st.integers(0, 0xFFFF))
_SHAPES = st.lists(st.integers(0, 0xFFFF_FFFF), max_size=5).map(tuple)
_SCALES = st.none() | st.floats(2.0**-149, 2.0**127, width=32)
_ZEROS = st.integers(-(1 << 31), (1 << 31) - 1)
_U32 = st.integers(0, 0xFFFF_FFFF)


def _tensors(dtypes: st.SearchStrategy[DataType]) -> st.SearchStrategy[ModelTensor]:
    return st.builds(ModelTensor, _TEXTS, dtypes, _SHAPES, _SCALES, _ZEROS)


_LAYERS = st.builds(ModelLayer, _TEXTS, st.none() | _tensors(_WITH_OUTPUT))
_TABLES = st.builds(
    ModelTable,
    _TEXTS,
    st.integers(0, (1 << 64) - 1),
    st.lists(_tensors(_DTYPES), max_size=3).map(tuple),
    st.lists(_tensors(_DTYPES), max_size=3).map(tuple),
    st.lists(_LAYERS, max_size=4).map(tuple),
    *(_U32, _U32, _U32),
)


@given(_TABLES)
def test_every_table_comes_back_as_it_was(table: ModelTable) -> None:
    assert decode_model(encode_model(table)) == table


def test_hostile_bytes_are_a_table_or_a_protocol_error() -> None:
    rng = random.Random(13)
    read = 0
    for _ in range(20_000):
        data = bytearray(BYTES)
        for _ in range(rng.choice((1, 2, 5))):
            at = rng.randrange(1, len(data))
            if rng.random() < 0.7:
                data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            else:
                del data[at : at + rng.choice((1, 2, 4))]
        try:
            table = decode_model(bytes(data))
        except ProtocolError:
            continue
        read += 1
        assert decode_model(encode_model(table)) == table
        assert len(encode_model(table)) <= len(data)  # nothing is kept of an output that cannot be had
    assert 1000 < read < 19_000


# --- a profile --------------------------------------------------------------------------------


def test_a_profile_is_the_total_and_the_time_of_each_layer() -> None:
    data = bytes.fromhex("e8030000 2c010000 ffffffff")
    assert decode_profile(data, 2) == ModelProfile(1000, (300, 0xFFFF_FFFF))
    assert encode_profile(ModelProfile(1000, (300, 0xFFFF_FFFF))) == data
    assert decode_profile(data[:4], 0) == ModelProfile(1000, ())


@pytest.mark.parametrize("data", [b"", bytes(8), bytes(11), bytes(16), 7, None])
def test_a_profile_of_another_size_is_a_protocol_error(data: object) -> None:
    with pytest.raises(ProtocolError, match=r"microrpc\.model\.profile returned .*, not 12 bytes"):
        decode_profile(data, 2)
