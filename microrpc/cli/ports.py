"""`microrpc ports`: which serial ports there are."""

from __future__ import annotations

from microrpc.cli.common import JsonOption, print_json, reporting, say, say_columns


def ports(as_json: JsonOption = False) -> None:
    """List the serial ports of this computer."""
    from serial.tools import list_ports

    with reporting(as_json=as_json):
        found = [
            {
                "device": str(port.device),
                "description": None if port.description in (None, "n/a") else str(port.description),
                "usb_id": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None and port.pid is not None else None,
                "serial_number": port.serial_number,
            }
            for port in sorted(list_ports.comports())
        ]
        if as_json:
            print_json({"ports": found})
        elif found:
            heads = ("DEVICE", "USB ID", "SERIAL NUMBER", "DESCRIPTION")
            keys = ("device", "usb_id", "serial_number", "description")
            say_columns(heads, [[port[key] or "-" for key in keys] for port in found])
        else:
            say("There is no serial port here. Plug a board in, or try a simulated one: microrpc info sim://")
