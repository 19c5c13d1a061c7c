"""Print one table of all measurements; nothing is asserted about speed."""

from __future__ import annotations

import argparse
import os
import platform
import time

from benchmarks import calls, codec, copies, virtual_time
from benchmarks.codec import Row
from microrpc.framing import CRC_ENGINE


def table(rows: list[Row]) -> str:
    """Align the columns; values to the right, text to the left."""
    lines = [row[:5] for row in (Row("measured", "median", "unit", "spread", "remark"), *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.rjust(width) if index == 1 else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([aligned[0], "  ".join("-" * width for width in widths), *aligned[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it runs, not how fast")
    quick: bool = parser.parse_args().quick
    start = time.monotonic()
    rows = [row for part in (codec, calls, copies, virtual_time) for row in part.measure(quick=quick)]
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores; crc: {CRC_ENGINE}")
    print(table(rows))
    print(f"MB are of payload, 10**6 bytes. Took {time.monotonic() - start:.1f} s{', --quick' if quick else ''}.")


if __name__ == "__main__":
    main()
