"""Call functions and move tensors on a microcontroller over a serial port.

    with microrpc.connect("/dev/ttyACM0") as board:
        board.function("add")(2, 3)

`connect` opens a `Board`; every exception is a `MicroRpcError`. `CPU` is the device that arrays lie on. See README.md
and docs/.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc._lazy import lazy

if TYPE_CHECKING:
    from microrpc import aio
    from microrpc.boards.catalogue import load_profile, profile, profiles
    from microrpc.boards.schema import BoardProfile
    from microrpc.client.board import Board
    from microrpc.client.remote import RemoteArray, RemoteFunction, RemoteModule, RemoteStream
    from microrpc.connecting.blocking import connect, open_board
    from microrpc.errors import (
        BoardError,
        BoardResetError,
        CallTimeoutError,
        ClosedError,
        CopyRangeError,
        DamagedReplyError,
        FirmwareError,
        FunctionNotFoundError,
        HandshakeTimeoutError,
        MicroRpcError,
        OutcomeUnknownError,
        PortBusyError,
        PortError,
        PortLostError,
        PortNotFoundError,
        PortPermissionError,
        ProfileError,
        ProtocolError,
        RemoteError,
        RequestError,
        RequestTooLargeError,
        StaleHandleError,
        UnsupportedValueError,
        VerifyError,
    )
    from microrpc.host.handles import Timing
    from microrpc.host.stats import CopyStats, Stats
    from microrpc.wire.datatypes import CPU, DataType, Device, OpaqueHandle, UInt
    from microrpc.wire.session import Timeouts

__version__ = "0.5.0"

__all__ = [
    "CPU",
    "Board",
    "BoardError",
    "BoardProfile",
    "BoardResetError",
    "CallTimeoutError",
    "ClosedError",
    "CopyRangeError",
    "CopyStats",
    "DamagedReplyError",
    "DataType",
    "Device",
    "FirmwareError",
    "FunctionNotFoundError",
    "HandshakeTimeoutError",
    "MicroRpcError",
    "OpaqueHandle",
    "OutcomeUnknownError",
    "PortBusyError",
    "PortError",
    "PortLostError",
    "PortNotFoundError",
    "PortPermissionError",
    "ProfileError",
    "ProtocolError",
    "RemoteArray",
    "RemoteError",
    "RemoteFunction",
    "RemoteModule",
    "RemoteStream",
    "RequestError",
    "RequestTooLargeError",
    "StaleHandleError",
    "Stats",
    "Timeouts",
    "Timing",
    "UInt",
    "UnsupportedValueError",
    "VerifyError",
    "aio",
    "connect",
    "load_profile",
    "open_board",
    "profile",
    "profiles",
]

_PLACES = {
    "aio": "microrpc.aio",
    "load_profile": "microrpc.boards.catalogue",
    "profile": "microrpc.boards.catalogue",
    "profiles": "microrpc.boards.catalogue",
    "BoardProfile": "microrpc.boards.schema",
    "Board": "microrpc.client.board",
    "RemoteArray": "microrpc.client.remote",
    "RemoteFunction": "microrpc.client.remote",
    "RemoteModule": "microrpc.client.remote",
    "RemoteStream": "microrpc.client.remote",
    "connect": "microrpc.connecting.blocking",
    "open_board": "microrpc.connecting.blocking",
    "BoardError": "microrpc.errors",
    "BoardResetError": "microrpc.errors",
    "CallTimeoutError": "microrpc.errors",
    "ClosedError": "microrpc.errors",
    "CopyRangeError": "microrpc.errors",
    "DamagedReplyError": "microrpc.errors",
    "FirmwareError": "microrpc.errors",
    "FunctionNotFoundError": "microrpc.errors",
    "HandshakeTimeoutError": "microrpc.errors",
    "MicroRpcError": "microrpc.errors",
    "OutcomeUnknownError": "microrpc.errors",
    "PortBusyError": "microrpc.errors",
    "PortError": "microrpc.errors",
    "PortLostError": "microrpc.errors",
    "PortNotFoundError": "microrpc.errors",
    "PortPermissionError": "microrpc.errors",
    "ProfileError": "microrpc.errors",
    "ProtocolError": "microrpc.errors",
    "RemoteError": "microrpc.errors",
    "RequestError": "microrpc.errors",
    "RequestTooLargeError": "microrpc.errors",
    "StaleHandleError": "microrpc.errors",
    "UnsupportedValueError": "microrpc.errors",
    "VerifyError": "microrpc.errors",
    "Timing": "microrpc.host.handles",
    "CopyStats": "microrpc.host.stats",
    "Stats": "microrpc.host.stats",
    "CPU": "microrpc.wire.datatypes",
    "DataType": "microrpc.wire.datatypes",
    "Device": "microrpc.wire.datatypes",
    "OpaqueHandle": "microrpc.wire.datatypes",
    "UInt": "microrpc.wire.datatypes",
    "Timeouts": "microrpc.wire.session",
}

__getattr__, __dir__ = lazy(__name__, _PLACES)
