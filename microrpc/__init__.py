"""Call functions and move tensors on a microcontroller over a serial port.

    with microrpc.connect("/dev/ttyACM0") as board:
        board.function("add")(2, 3)

`connect` opens a `Board`; every exception is a `MicroRpcError`. `CPU` is the device that arrays lie on. See README.md
and docs/.
"""

from __future__ import annotations

from microrpc._names import TYPE_CHECKING, call_at_end, lazy

__version__ = "0.10.0"

if TYPE_CHECKING:
    from microrpc import aio as aio
    from microrpc import boards as boards
    from microrpc import errors as errors
    from microrpc.boards.catalogue import load_profile as load_profile
    from microrpc.boards.catalogue import profile as profile
    from microrpc.boards.catalogue import profiles as profiles
    from microrpc.boards.schema import BoardProfile as BoardProfile
    from microrpc.client.board import Board as Board
    from microrpc.client.calls import Call as Call
    from microrpc.client.events import Events as Events
    from microrpc.client.model import Model as Model
    from microrpc.client.remote import RemoteArray as RemoteArray
    from microrpc.client.remote import RemoteFunction as RemoteFunction
    from microrpc.client.remote import RemoteModule as RemoteModule
    from microrpc.client.remote import RemoteStream as RemoteStream
    from microrpc.connecting.blocking import connect as connect
    from microrpc.connecting.blocking import open_board as open_board
    from microrpc.errors import ArgumentError as ArgumentError
    from microrpc.errors import BoardError as BoardError
    from microrpc.errors import BoardResetError as BoardResetError
    from microrpc.errors import CallCancelledError as CallCancelledError
    from microrpc.errors import CallTimeoutError as CallTimeoutError
    from microrpc.errors import CaptureError as CaptureError
    from microrpc.errors import ClosedError as ClosedError
    from microrpc.errors import CopyRangeError as CopyRangeError
    from microrpc.errors import DamagedReplyError as DamagedReplyError
    from microrpc.errors import FeatureMissingError as FeatureMissingError
    from microrpc.errors import FirmwareError as FirmwareError
    from microrpc.errors import FunctionAttributeError as FunctionAttributeError
    from microrpc.errors import FunctionNotFoundError as FunctionNotFoundError
    from microrpc.errors import HandshakeTimeoutError as HandshakeTimeoutError
    from microrpc.errors import MicroRpcError as MicroRpcError
    from microrpc.errors import OutcomeUnknownError as OutcomeUnknownError
    from microrpc.errors import PortBusyError as PortBusyError
    from microrpc.errors import PortError as PortError
    from microrpc.errors import PortLostError as PortLostError
    from microrpc.errors import PortNotFoundError as PortNotFoundError
    from microrpc.errors import PortPermissionError as PortPermissionError
    from microrpc.errors import ProfileError as ProfileError
    from microrpc.errors import ProtocolError as ProtocolError
    from microrpc.errors import RemoteError as RemoteError
    from microrpc.errors import RequestError as RequestError
    from microrpc.errors import RequestTooLargeError as RequestTooLargeError
    from microrpc.errors import SignatureError as SignatureError
    from microrpc.errors import StaleHandleError as StaleHandleError
    from microrpc.errors import UnsupportedValueError as UnsupportedValueError
    from microrpc.errors import VerifyError as VerifyError
    from microrpc.host.handles import Timing as Timing
    from microrpc.host.model_report import LayerTime as LayerTime
    from microrpc.host.model_report import ModelReport as ModelReport
    from microrpc.host.stats import CopyStats as CopyStats
    from microrpc.host.stats import Stats as Stats
    from microrpc.host.subscriptions import Subscription as Subscription
    from microrpc.host.validation import LayerDifference as LayerDifference
    from microrpc.host.validation import Validation as Validation
    from microrpc.wire.datatypes import CPU as CPU
    from microrpc.wire.datatypes import DataType as DataType
    from microrpc.wire.datatypes import Device as Device
    from microrpc.wire.datatypes import OpaqueHandle as OpaqueHandle
    from microrpc.wire.datatypes import UInt as UInt
    from microrpc.wire.description import FunctionDescription as FunctionDescription
    from microrpc.wire.description import Identity as Identity
    from microrpc.wire.events import Event as Event
    from microrpc.wire.memory import BoardMemory as BoardMemory
    from microrpc.wire.model import ModelLayer as ModelLayer
    from microrpc.wire.model import ModelTable as ModelTable
    from microrpc.wire.model import ModelTensor as ModelTensor
    from microrpc.wire.session import Timeouts as Timeouts
else:
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "microrpc": "aio boards errors",
            "microrpc.boards.catalogue": "load_profile profile profiles",
            "microrpc.boards.schema": "BoardProfile",
            "microrpc.client.board": "Board",
            "microrpc.client.calls": "Call",
            "microrpc.client.events": "Events",
            "microrpc.client.model": "Model",
            "microrpc.client.remote": "RemoteArray RemoteFunction RemoteModule RemoteStream",
            "microrpc.connecting.blocking": "connect open_board",
            "microrpc.errors": (
                "ArgumentError BoardError BoardResetError CallCancelledError CallTimeoutError CaptureError ClosedError "
                "CopyRangeError DamagedReplyError FeatureMissingError FirmwareError FunctionAttributeError "
                "FunctionNotFoundError HandshakeTimeoutError MicroRpcError OutcomeUnknownError PortBusyError "
                "PortError PortLostError PortNotFoundError PortPermissionError ProfileError ProtocolError "
                "RemoteError RequestError RequestTooLargeError SignatureError StaleHandleError "
                "UnsupportedValueError VerifyError"
            ),
            "microrpc.host.handles": "Timing",
            "microrpc.host.model_report": "LayerTime ModelReport",
            "microrpc.host.stats": "CopyStats Stats",
            "microrpc.host.subscriptions": "Subscription",
            "microrpc.host.validation": "LayerDifference Validation",
            "microrpc.wire.datatypes": "CPU DataType Device OpaqueHandle UInt",
            "microrpc.wire.description": "FunctionDescription Identity",
            "microrpc.wire.events": "Event",
            "microrpc.wire.memory": "BoardMemory",
            "microrpc.wire.model": "ModelLayer ModelTable ModelTensor",
            "microrpc.wire.session": "Timeouts",
        },
    )

call_at_end("microrpc.ports.registry", "end_all")
