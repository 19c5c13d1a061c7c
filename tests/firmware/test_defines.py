"""Sizes that are given to a port by `--define`: the board tells them, and a wrong one does not compile."""

from __future__ import annotations

import needs
import pytest

import microrpc
from microrpc.errors import FirmwareError
from microrpc.firmware.build import build
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.project import load_port

pytestmark = pytest.mark.boards  # they build much

PORTS = ["posix", "qemu_mps2_an385"]
EVENT_BYTES = 2 + 10 + 1 + 9 + 3 + 4  # of the ring, for one of the name "e", an Int and 4 bytes


@pytest.mark.parametrize(("port", "window_bytes"), [("posix", 1024), ("qemu_mps2_an385", 512)])
def test_a_board_has_the_sizes_that_are_defined(port: str, window_bytes: int) -> None:
    needs.emulated(port)
    sizes = ["PACKET_BYTES=777", "RING_BYTES=1024", f"EVENT_RING_BYTES={3 * EVENT_BYTES}"]
    firmware = build(load_port(port), defines=sizes)
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as board:
        assert board.function("emit")("e", 5, 4, 1) == 3
        assert board.link is not None
        assert (board.link.packet_bytes, board.link.window_bytes) == (777, window_bytes)


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    ("define", "says"),
    [
        ("PACKET_BYTES=127", "PACKET_BYTES must be a number from 128 to 16777215"),
        ("PACKET_BYTES=16777216", "PACKET_BYTES must be a number from 128 to 16777215"),
        ("PACKET_BYTES=many", "PACKET_BYTES must be a number from 128 to 16777215"),
        ("EVENT_RING_BYTES=0", "EVENT_RING_BYTES must be a number from 1 to 16777215"),
        ("RING_BYTES=0", "RING_BYTES must be a "),
        ("RING_BYTES=33554432", "RING_BYTES must be a "),
    ],
)
def test_a_size_that_cannot_be_is_told(port: str, define: str, says: str) -> None:
    needs.zig()
    with pytest.raises(FirmwareError, match=says):
        build(load_port(port), defines=[define])


def test_a_ring_is_a_power_of_two() -> None:
    needs.zig()
    with pytest.raises(FirmwareError, match="RING_BYTES must be a power of 2 from 2 to 16777216"):
        build(load_port("qemu_mps2_an385"), defines=["RING_BYTES=1000"])
