"""What each syscall takes (docs/protocol.md 3). A stock board that is given anything else is silent until its reset."""

from __future__ import annotations

from microrpc.errors import UnsupportedValueError
from microrpc.wire.checks import show
from microrpc.wire.datatypes import TypeCode
from microrpc.wire.packets import PacketCode, Syscall
from microrpc.wire.values import find_packer

_INT, _HANDLE, _NULL = (TypeCode.INT,), (TypeCode.OPAQUE_HANDLE,), (TypeCode.NULL,)
_DATA_TYPE, _DEVICE, _TENSOR, _STR = (TypeCode.DATA_TYPE,), (TypeCode.DEVICE,), (TypeCode.TENSOR,), (TypeCode.STR,)

_ARGUMENTS: dict[int, tuple[tuple[TypeCode, ...], ...]] = {
    PacketCode.GET_GLOBAL_FUNC: (_STR,),
    PacketCode.FREE_HANDLE: (_HANDLE, _INT),
    PacketCode.DEV_SET_DEVICE: (_DEVICE,),
    PacketCode.DEV_GET_ATTR: (_DEVICE, _INT),
    PacketCode.DEV_ALLOC_DATA: (_DEVICE, _INT, _INT, _DATA_TYPE),
    PacketCode.DEV_FREE_DATA: (_DEVICE, _HANDLE),
    PacketCode.DEV_STREAM_SYNC: (_DEVICE, _HANDLE),
    PacketCode.COPY_AMONG_REMOTE: (_TENSOR, _TENSOR, _HANDLE),
    PacketCode.DEV_ALLOC_DATA_WITH_SCOPE: (_TENSOR, _STR + _NULL),
    PacketCode.DEV_CREATE_STREAM: (_DEVICE,),
    PacketCode.DEV_FREE_STREAM: (_DEVICE, _HANDLE),
    PacketCode.DEV_SET_STREAM: (_DEVICE, _HANDLE),
    PacketCode.DEV_GET_CURRENT_STREAM: (_DEVICE,),
}
"""What each syscall takes: for each argument its types (docs/protocol.md 3)."""

_NAMES = {
    TypeCode.INT: "int",
    TypeCode.OPAQUE_HANDLE: "OpaqueHandle",
    TypeCode.NULL: "None",
    TypeCode.DATA_TYPE: "DataType",
    TypeCode.DEVICE: "Device",
    TypeCode.TENSOR: "Tensor",
    TypeCode.STR: "str",
}


def fits_signature(request: Syscall) -> bool:
    """Whether the arguments of a syscall are those that it takes, by number and type; those of an unknown one are.

    Raises UnsupportedValueError for an argument that RPC cannot carry.
    """
    wanted = _ARGUMENTS.get(request.code)
    if wanted is None:
        return True
    given = [find_packer(index, value)[0] for index, value in enumerate(request.args)]
    return len(given) == len(wanted) and all(code in codes for code, codes in zip(given, wanted, strict=True))


def check_signature(request: Syscall) -> None:
    """Raise UnsupportedValueError where the arguments of a syscall are not those that it takes."""
    if not isinstance(request.code, int):
        raise UnsupportedValueError(f"the code of a syscall is a number (`PacketCode`), not {show(request.code)}")
    if not fits_signature(request):
        takes = ", ".join(" or ".join(_NAMES[code] for code in codes) for codes in _ARGUMENTS[request.code])
        given = ", ".join("None" if value is None else type(value).__name__ for value in request.args)
        label = PacketCode(request.code).label
        raise UnsupportedValueError(f"{label} takes ({takes}), not ({given}); nothing was sent")
