"""How long Wireshark's `tshark` takes for a capture of 10 MB with the dissector, and without."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import microrpc.capture
from benchmarks.monitor import conversation
from benchmarks.rows import Row
from microrpc.capture.pcapng import interface_block, packet_block, section_header

_DISSECTOR = Path(microrpc.capture.__file__).parent / "plugins" / "wireshark" / "microrpc.lua"
_SIZE_BYTES = 10_000_000
_STEP_NS = 100_000
_COPY_BYTES = 1 << 17


def _write(path: Path, size_bytes: int) -> int:
    """Write a capture of calls and copies over the link with so many bytes of the line; give its packets."""
    frames = conversation(copy_bytes=_COPY_BYTES)
    left, number = size_bytes, 0
    with path.open("wb") as file:
        file.write(section_header() + interface_block("sim://"))
        while left > 0:
            for to_board, data in frames:
                file.write(packet_block(number * _STEP_NS, data, to_board=to_board))
                number += 1
                left -= len(data)
    return number


def measure(*, quick: bool) -> Iterator[Row]:
    """Read it with tshark as often as told."""
    if shutil.which("tshark") is None:
        yield Row("Wireshark", "missing", "", "", "needs tshark: apt-get install --no-install-recommends tshark")
        return
    size_bytes = _SIZE_BYTES // 100 if quick else _SIZE_BYTES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pcapng"
        packets = _write(path, size_bytes)
        remark = f"{packets:,} packets, {size_bytes / 1e6:g} MB of the line"
        loads = ["-X", f"lua_script:{_DISSECTOR}"]
        for title, options in (
            ("without the dissector", []),
            ("with it", loads),
            ("with it, two passes", [*loads, "-2"]),
        ):
            times = [_time(["tshark", *options, "-r", str(path)], folder) for _ in range(1 if quick else 3)]
            spread = f"{min(times):.1f} to {max(times):.1f}"
            yield Row(f"tshark {title}", f"{statistics.median(times):.1f}", "s", spread, remark)


def _time(command: list[str], home: str) -> float:
    begun = time.perf_counter()
    subprocess.run(command, env=os.environ | {"HOME": home}, capture_output=True, check=True)
    return time.perf_counter() - begun
