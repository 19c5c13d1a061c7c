"""Packets of a line for what shows them: recorded, of a simulated board in virtual time, or made by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from golden import load

from microrpc.capture.pcapng import Packet
from microrpc.connecting.blocking import connect
from microrpc.connecting.wrap import tapped

if TYPE_CHECKING:
    from microrpc.client.board import Board

START_NS = 1_800_000_000 * 10**9


def golden_packets(name: str = "crt_2k") -> list[Packet]:
    """A recording, a millisecond between its bursts."""
    return [
        Packet(number, START_NS + number * 10**6, burst.dir == "host", burst.data, (), "/dev/ttyACM0")
        for number, burst in enumerate(load(name), 1)
    ]


class Collector:
    """A tap that collects packets."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        number = len(self.packets) + 1
        self.packets.append(Packet(number, START_NS + round(time_s * 1e9), to_board, data, (), "sim://"))


def board_packets(use: Callable[[Board], object], address: str = "sim://") -> list[Packet]:
    """What crosses the line of a simulated board that is used."""
    collector = Collector()
    with connect(address, wrap=tapped(collector)) as board:
        use(board)
    return collector.packets


def made(*parts: tuple[bool, bytes], comments: tuple[str, ...] = ()) -> list[Packet]:
    """Packets a millisecond apart: which way each goes, and its bytes."""
    return [
        Packet(number, START_NS + number * 10**6, to_board, data, comments, "line")
        for number, (to_board, data) in zip(itertools.count(1), parts, strict=False)
    ]
