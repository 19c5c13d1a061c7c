"""What each syscall takes, and what is said of anything else."""

from __future__ import annotations

import numpy as np
import pytest

from microrpc.errors import UnsupportedValueError
from microrpc.wire.datatypes import CPU, DataType, ModuleHandle, OpaqueHandle, Tensor, UInt, Value
from microrpc.wire.packets import PacketCode, Syscall
from microrpc.wire.signatures import check_signature, fits_signature

BYTE = DataType.parse("uint8")
TENSOR = Tensor(0x2000_0000, CPU, BYTE, (4,))
HANDLE = OpaqueHandle(16)

GOOD: list[tuple[PacketCode, tuple[Value, ...]]] = [
    (PacketCode.GET_GLOBAL_FUNC, ("add",)),
    (PacketCode.FREE_HANDLE, (HANDLE, 10)),
    (PacketCode.DEV_SET_DEVICE, (CPU,)),
    (PacketCode.DEV_GET_ATTR, (CPU, np.int16(3))),
    (PacketCode.DEV_ALLOC_DATA, (CPU, 4, 8, BYTE)),
    (PacketCode.DEV_FREE_DATA, (CPU, HANDLE)),
    (PacketCode.DEV_STREAM_SYNC, (CPU, HANDLE)),
    (PacketCode.COPY_AMONG_REMOTE, (TENSOR, TENSOR, HANDLE)),
    (PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (TENSOR, None)),
    (PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (TENSOR, "global")),
    (PacketCode.DEV_CREATE_STREAM, (CPU,)),
    (PacketCode.DEV_FREE_STREAM, (CPU, HANDLE)),
    (PacketCode.DEV_SET_STREAM, (CPU, HANDLE)),
    (PacketCode.DEV_GET_CURRENT_STREAM, (CPU,)),
]
WRONG: tuple[Value, ...] = (1.5, b"add", UInt(3), ModuleHandle(16))


@pytest.mark.parametrize(("code", "args"), GOOD)
def test_a_syscall_takes_its_arguments_and_no_others(code: PacketCode, args: tuple[Value, ...]) -> None:
    check_signature(Syscall(code, args))
    for index in range(len(args)):
        for wrong in WRONG:
            assert not fits_signature(Syscall(code, (*args[:index], wrong, *args[index + 1 :])))
    assert not fits_signature(Syscall(code, (*args, None)))
    assert not fits_signature(Syscall(code, args[:-1]))


def test_every_syscall_that_is_known_has_a_signature() -> None:
    syscalls = {code for code in PacketCode if code >= PacketCode.GET_GLOBAL_FUNC}
    assert {code for code, _ in GOOD} == syscalls
    assert {code for code in syscalls if fits_signature(Syscall(code, WRONG))} == set()
    assert fits_signature(Syscall(99, WRONG))


def test_the_error_says_what_it_takes_and_what_it_was_given() -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        check_signature(Syscall(PacketCode.DEV_ALLOC_DATA_WITH_SCOPE, (TENSOR, 5)))
    assert str(caught.value) == (
        "DevAllocDataWithScope takes (Tensor, str or None), not (Tensor, int); nothing was sent"
    )
    with pytest.raises(UnsupportedValueError, match="argument 0, type object is not supported"):
        check_signature(Syscall(PacketCode.GET_GLOBAL_FUNC, (object(),)))  # type: ignore[arg-type]
