"""The serial ports of this computer, and the USB ids that tell what is plugged into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo


@dataclass(frozen=True, slots=True, order=True)
class UsbId:
    """`vendor_id` and `product_id` of a USB device, 16 bits each; as text "0483:374b"."""

    vendor_id: int
    product_id: int

    def __str__(self) -> str:
        return f"{self.vendor_id:04x}:{self.product_id:04x}"


def serial_ports() -> list[ListPortInfo]:
    """Give the serial ports of this computer, in the order of their names; what is no USB device, too.

    A system that pyserial does not know, or without termios, has none.
    """
    try:
        from serial.tools import list_ports
    except ImportError:
        return []
    return sorted(list_ports.comports())


def usb_id(port: ListPortInfo) -> UsbId | None:
    """Give the USB id of a port, None where it is not one of a USB device."""
    return UsbId(port.vid, port.pid) if port.vid is not None and port.pid is not None else None
