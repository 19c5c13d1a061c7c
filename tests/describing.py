"""A meter, a simulated board that tells of itself; and descriptions made by hand (docs/description.md 1, 2)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

from firmware_sim.board.device import Device

SCALE = ("scale", "x: float32[n], factor: float -> None", "Multiply a tensor in place.")
MATMUL = ("matmul", "a: float32[n, k], b: float32[k, m], c: float32[n, m] -> None", "")
VOLTAGE = ("voltage", "channel: int(0..7), delay: uint16 [ms] = 10 -> float [mV]", "Measure a voltage.")
SUM = ("sum", "*values: int -> int", "Add numbers.")
DOTTED = ("a.b", "-> int", "A name that is none of Python.")
ODD = ("odd", "whatever the firmware says", "It has a signature that nobody reads.")
PLAIN = ("plain", "", "")
FUNCTIONS = (SCALE, MATMUL, VOLTAGE, SUM, DOTTED, ODD, PLAIN)

PAGE_BYTES = 512


def describe(
    functions: Sequence[tuple[str, str, str]] = FUNCTIONS,
    identity: tuple[str, str, str] = ("lab board", "meter", "1.2"),
) -> bytes:
    """Give the bytes of a description, by the specification: those of the meter, or of what no board would tell."""
    body = "\t".join(identity) + "\n" + "".join("\t".join(function) + "\n" for function in functions)
    data = body.encode()
    return b"microrpc\t1\t%08x\t%d\t" % (zlib.crc32(data), len(data)) + data


class Telling:
    """What `microrpc.describe` of a board gives, and how often it was asked: `offsets`."""

    def __init__(self, device: Device, data: bytes, *, page_bytes: int) -> None:
        self.device = device
        self.data = data
        self.offsets: list[int] = []
        self.page_bytes = page_bytes
        device.functions["microrpc.describe"] = self.page

    def page(self, offset: int) -> bytes:
        self.offsets.append(offset)
        return self.data[offset : offset + self.page_bytes]


def install(device: Device, data: bytes | None = None, *, page_bytes: int = PAGE_BYTES) -> Telling:
    """Make a board the meter. Pages are cut shorter, and `data` is told in the place of what the board has to tell."""

    def scale(x: object, factor: float) -> None:
        x *= factor  # type: ignore[operator]

    def voltage(channel: int, delay: int = 10) -> float:
        return float(channel * 1000 + delay)

    def total(*values: int) -> int:
        return sum(values)

    functions: dict[str, Callable[..., Any]] = {
        "scale": scale,
        "voltage": voltage,
        "sum": total,
        "a.b": lambda: 7,
        "matmul": lambda a, b, c: None,
        **dict.fromkeys(("odd", "plain"), lambda *values: len(values)),
    }
    library = device.system_library
    if data is None:
        for name in library:
            device.functions.pop(name, None)
        library.clear()
    for name, signature, doc in FUNCTIONS:
        device.function(functions[name], name=name, signature=signature, doc=doc)
    device.description._identity = ("lab board", "meter", "1.2")
    if data is None:
        data = bytes(device.description)
        assert data == describe()
    return Telling(device, data, page_bytes=page_bytes)


def tell_everywhere() -> None:
    """Let every simulated board of this process tell of itself."""
    from firmware_sim.running import simulate

    original = simulate.simulate

    def telling(*args: Any, **options: Any) -> Device:
        device = original(*args, **options)
        install(device)
        return device

    simulate.simulate = telling
