"""What the monitor keeps, saved as a capture."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path

from microrpc.boards.files import WriteError, replacing
from microrpc.capture.pcapng import Packet, interface_block, packet_block, section_header


def default_name(now_s: float) -> str:
    """Give a name for a file of this moment."""
    return datetime.datetime.fromtimestamp(now_s).strftime("microrpc-%Y%m%d-%H%M%S.pcapng")


def save(packets: Iterable[Packet], path: Path) -> int:
    """Write packets to a new file, whole or not at all; give how many. Raises WriteError, also where one is there."""
    if path.exists():
        raise WriteError(f"{path} is there already: give another name")
    names: dict[str, int] = {}
    count = 0
    blocks = bytearray(section_header())
    with replacing(path) as file:
        for packet in packets:
            if packet.interface not in names:
                names[packet.interface] = len(names)
                blocks += interface_block(packet.interface)
            blocks += packet_block(
                packet.time_ns,
                packet.data,
                to_board=bool(packet.to_board),
                comments=packet.comments,
                interface=names[packet.interface],
            )
            count += 1
            if len(blocks) > 1 << 20:
                file.write(blocks)
                blocks.clear()
        file.write(blocks)
    return count
