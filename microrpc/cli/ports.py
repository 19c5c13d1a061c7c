"""`microrpc ports`: which serial ports there are, and which boards may be behind them."""

from __future__ import annotations

from microrpc.cli.common import JsonOption, print_json, reporting, say_columns
from microrpc.cli.streams import say


def ports(as_json: JsonOption = False) -> None:
    """List the serial ports of this computer.

    Boards are told by their USB ids, which boards with the same debug probe share: then all of them are named.
    """
    with reporting(as_json=as_json):
        from microrpc.boards.catalogue import profiles
        from microrpc.boards.finding import boards_behind
        from microrpc.ports.usb import serial_ports, usb_id

        known = profiles().values()
        found = [
            {
                "device": str(port.device),
                "description": None if port.description in (None, "n/a") else str(port.description),
                "usb_id": str(usb_id(port)) if usb_id(port) else None,
                "serial_number": port.serial_number,
                "boards": boards_behind(port, known),
            }
            for port in serial_ports()
        ]
        if as_json:
            print_json({"ports": found})
        elif found:
            heads = ("DEVICE", "USB ID", "SERIAL NUMBER", "DESCRIPTION", "BOARD")
            keys = ("device", "usb_id", "serial_number", "description")
            rows = [[*(str(port[key] or "-") for key in keys), " or ".join(port["boards"] or "-")] for port in found]
            say_columns(heads, rows)
        else:
            say("There is no serial port here. Plug a board in, or try a simulated one: microrpc info sim://")
