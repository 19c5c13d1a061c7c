"""`python -m benchmarks` runs and prints every row; how fast anything is, is not asserted."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = (16, 64, 256, 2048, 8192)
CODEC = [
    f"{direction}, {content}, {size} B"
    for direction in ("encode", "decode")
    for content in ("random", "all 0xFF", "zeros")
    for size in SIZES
]
CALLS = {
    "ping-pong, 1 B, reader sleeps": "us",
    "ping-pong, 1 B, reader spins": "us",
    "empty call": "us",
    "call / ping-pong, reader sleeps": "times",
    "call / ping-pong, reader spins": "times",
}
COPIES = [f"copy 256 KiB {way} the board, {size} KiB packets" for way in ("to", "from") for size in (2, 8)]
VIRTUAL_TIME = [f"a minute of line{case}" for case in ("", ", FTDI adapter", ", stock firmware")]
UNITS = {
    **dict.fromkeys(CODEC, "MB/s"),
    **CALLS,
    **dict.fromkeys(COPIES, "MB/s"),
    **dict.fromkeys(VIRTUAL_TIME, "times"),
}


@pytest.fixture(scope="module")
def output() -> str:
    command = [sys.executable, "-m", "benchmarks", "--quick"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_says_what_ran_and_prints_one_table(output: str) -> None:
    lines = output.splitlines()
    assert re.search(r"cores; crc: (fastcrc|crcmod)$", lines[0])
    assert lines[1].split() == ["measured", "median", "unit", "spread", "remark"]
    assert len(lines) == 3 + len(UNITS) + 1


@pytest.mark.parametrize(("name", "unit"), UNITS.items())
def test_every_row_is_there_with_a_number_and_its_unit(output: str, name: str, unit: str) -> None:
    rows = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    assert len(rows) == 1
    assert re.match(rf"{re.escape(name)} +[\d,]+\.\d+ +{unit} ", rows[0])
    assert re.search(r"(min|p10) [\d,.]+, p90 [\d,.]+", rows[0])


@pytest.mark.parametrize("name", CODEC)
def test_codec_rows_give_frames_a_second(output: str, name: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{name}  "))
    assert re.search(r"[\d,]+ frames/s$", row)
