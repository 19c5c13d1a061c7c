"""What each syscall takes (docs/protocol.md 3)."""

from __future__ import annotations

from microrpc.wire.datatypes import (
    DataType,
    Device,
    OpaqueHandle,
    Tensor,
)
from microrpc.wire.packets import (
    PacketCode,
    Syscall,
)

_ARGUMENTS: dict[int, tuple[tuple[type, ...], ...]] = {
    PacketCode.GET_GLOBAL_FUNC: ((str,),),
    PacketCode.FREE_HANDLE: ((OpaqueHandle,), (int,)),
    PacketCode.DEV_SET_DEVICE: ((Device,),),
    PacketCode.DEV_GET_ATTR: ((Device,), (int,)),
    PacketCode.DEV_ALLOC_DATA: ((Device,), (int,), (int,), (DataType,)),
    PacketCode.DEV_FREE_DATA: ((Device,), (OpaqueHandle,)),
    PacketCode.DEV_STREAM_SYNC: ((Device,), (OpaqueHandle,)),
    PacketCode.COPY_AMONG_REMOTE: ((Tensor,), (Tensor,), (OpaqueHandle,)),
    PacketCode.DEV_ALLOC_DATA_WITH_SCOPE: ((Tensor,), (str, type(None))),
    PacketCode.DEV_CREATE_STREAM: ((Device,),),
    PacketCode.DEV_FREE_STREAM: ((Device,), (OpaqueHandle,)),
    PacketCode.DEV_SET_STREAM: ((Device,), (OpaqueHandle,)),
}
"""What each syscall takes: for each argument its types (docs/protocol.md 3)."""


def fits_signature(request: Syscall) -> bool:
    """Whether the arguments of a syscall are those that it takes, by number and type; those of an unknown one are."""
    wanted = _ARGUMENTS.get(request.code)
    if wanted is None:
        return True
    given = [type(value) for value in request.args]
    return len(given) == len(wanted) and all(kind in kinds for kind, kinds in zip(given, wanted, strict=True))
