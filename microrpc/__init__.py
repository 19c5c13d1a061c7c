"""Call functions and move tensors on a microcontroller over a serial port.

    with microrpc.connect("/dev/ttyACM0") as board:
        board.function("add")(2, 3)

`connect` opens a `Board`; every exception is a `MicroRpcError`. See README.md and docs/.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from microrpc.boards import BoardProfile, load_profile, profile, profiles
from microrpc.client import Board
from microrpc.datatypes import CPU, DataType, Device, OpaqueHandle, UInt
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
from microrpc.opening import connect, open_board
from microrpc.remote import RemoteArray, RemoteFunction, RemoteModule, RemoteStream, Timing
from microrpc.session import Timeouts
from microrpc.stats import CopyStats, Stats

if TYPE_CHECKING:
    from microrpc import aio

__version__ = "0.4.0"

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


def __getattr__(name: str) -> ModuleType:
    """Import `microrpc.aio` when it is first used: importing asyncio takes longer than opening a board."""
    if name == "aio":
        return importlib.import_module("microrpc.aio")
    raise AttributeError(f"module 'microrpc' has no attribute {name!r}")
