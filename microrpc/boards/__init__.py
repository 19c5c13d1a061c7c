"""What is known of boards: their profiles, finding them by their USB ids, resetting them (docs/boards.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc._names import lazy

if TYPE_CHECKING:
    from microrpc.boards.catalogue import load_profile as load_profile
    from microrpc.boards.catalogue import profile as profile
    from microrpc.boards.catalogue import profiles as profiles
    from microrpc.boards.catalogue import user_directory as user_directory
    from microrpc.boards.schema import BoardKind as BoardKind
    from microrpc.boards.schema import BoardProfile as BoardProfile
    from microrpc.boards.schema import Reset as Reset
    from microrpc.boards.strategies import ResetStep as ResetStep
    from microrpc.boards.strategies import ResetStrategy as ResetStrategy
    from microrpc.ports.usb import UsbId as UsbId
    from microrpc.wire.uart import FlowControl as FlowControl
else:
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "microrpc.boards.catalogue": "load_profile profile profiles user_directory",
            "microrpc.boards.schema": "BoardKind BoardProfile Reset",
            "microrpc.boards.strategies": "ResetStep ResetStrategy",
            "microrpc.ports.usb": "UsbId",
            "microrpc.wire.uart": "FlowControl",
        },
    )
