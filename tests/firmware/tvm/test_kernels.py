"""What a kernel takes, as signatures, and what a call needs of the workspace."""

from __future__ import annotations

import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.kernels import Argument, Kernel, check_name
from microrpc.wire.datatypes import DataType
from microrpc.wire.grammar import parse_signature

FLOAT32, INT8, BOOL = DataType.parse("float32"), DataType.parse("int8"), DataType.parse("bool")


def test_a_signature_is_one_that_hosts_read() -> None:
    kernel = Kernel(
        "mixed",
        (
            Argument("A.x", FLOAT32, ("n", 4)),
            Argument("A_x", INT8, ()),
            Argument("lambda", FLOAT32, None),
            Argument("3", INT8, None),
            Argument("flag", BOOL, None),
            Argument("out", BOOL, ("n",)),
        ),
    )
    assert kernel.signature == (
        "A_x: float32[n, 4], A_x_2: int8[], _lambda: float, _3: int8, flag: bool, out: bool[n] -> None"
    )
    assert str(parse_signature(kernel.signature)) == kernel.signature
    assert kernel.symbol == "__tvm_ffi_mixed"
    assert Kernel("none", (), "int").signature == " -> int"
    assert str(parse_signature(Kernel("none", (), "int").signature)) == "-> int"


def test_a_call_needs_room_for_values_tensors_and_shapes() -> None:
    kernel = Kernel("two", (Argument("a", FLOAT32, (4, 4)), Argument("n", INT8, None)))
    assert kernel.frame_bytes(32) == 2 * 16 + 2 * 40 + 2 * 8
    assert kernel.frame_bytes(64) == 2 * 16 + 2 * 48 + 2 * 8
    assert Kernel("one", (Argument("a", FLOAT32, (4,)),)).frame_bytes(32) == 64
    assert Kernel("three", (Argument("a", FLOAT32, (4, 1, 1)),)).frame_bytes(64) == 96  # 88, in whole 16 bytes


@pytest.mark.parametrize("name", ["a", "_x9", "A" * 63])
def test_c_takes_names_of_letters_and_digits(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "9a", "a-b", "ä", "a b", "A" * 64, 'a"', "a\n"])
def test_c_takes_no_other_names(name: str) -> None:
    with pytest.raises(FirmwareError, match="C takes no such name"):
        check_name(name)


def test_the_name_of_what_every_module_has_is_none_for_a_kernel() -> None:
    with pytest.raises(FirmwareError, match="'_library_ctx': is TVM's own"):
        check_name("_library_ctx")
