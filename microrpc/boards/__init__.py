"""What is known of boards: their profiles, finding them by their USB ids, resetting them (docs/boards.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc._lazy import lazy

if TYPE_CHECKING:
    from microrpc.boards.catalogue import load_profile, profile, profiles, user_directory
    from microrpc.boards.schema import BoardKind, BoardProfile, Reset
    from microrpc.boards.strategies import ResetStep, ResetStrategy
    from microrpc.ports.usb import UsbId
    from microrpc.wire.uart import FlowControl

__all__ = [
    "BoardKind",
    "BoardProfile",
    "FlowControl",
    "Reset",
    "ResetStep",
    "ResetStrategy",
    "UsbId",
    "load_profile",
    "profile",
    "profiles",
    "user_directory",
]

_PLACES = {
    "load_profile": "microrpc.boards.catalogue",
    "profile": "microrpc.boards.catalogue",
    "profiles": "microrpc.boards.catalogue",
    "user_directory": "microrpc.boards.catalogue",
    "BoardKind": "microrpc.boards.schema",
    "BoardProfile": "microrpc.boards.schema",
    "Reset": "microrpc.boards.schema",
    "ResetStep": "microrpc.boards.strategies",
    "ResetStrategy": "microrpc.boards.strategies",
    "UsbId": "microrpc.ports.usb",
    "FlowControl": "microrpc.wire.uart",
}

__getattr__, __dir__ = lazy(__name__, _PLACES)
