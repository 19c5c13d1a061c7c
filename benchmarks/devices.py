"""The device library in C on its emulated boards, beside the simulator: its size, and what calls and copies take.

python -m benchmarks --json results.json devices
python -m benchmarks.devices results.json     # prints the table of docs/firmware.md; with --write it puts it there
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import pathlib
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks.copies import timed_copy
from benchmarks.core_size import CORES, GUIDE, core_size, documented_ports
from benchmarks.modes import MODES, Mode
from benchmarks.peers.environment import MissingError
from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from microrpc.boards.files import replacing
from microrpc.client.board import Board
from microrpc.connecting.address import find_target
from microrpc.connecting.blocking import connect, open_session
from microrpc.connecting.openers.emulated import open_running
from microrpc.errors import FirmwareError, FunctionNotFoundError, MicroRpcError, PortNotFoundError
from microrpc.firmware.build import Firmware, build
from microrpc.firmware.emulator import check_runnable, start_firmware
from microrpc.firmware.project import load_port
from microrpc.wire.session import Timeouts

SIMULATOR = "simulator"
QUICK_DEVICES = (SIMULATOR, "posix")  # in QEMU a byte takes up to 80 us
_QUICK_CORES = 2  # each is a build
DEVICE_MODES = (MODES["link"], MODES["robust"])
SIZE_BYTES = 16 * 1024  # of a copy, where half of the heap is not less
_COPYING_MODE = MODES["link"]
_PACKET_BYTES = 2048  # of the simulator; most boards have it too
_BLOCK = 100
_WARM_UP = 10  # calls in a new session
_TIMEOUTS = Timeouts(retry_s=1.0, start_s=20.0, call_s=20.0)  # an emulator on a busy computer

Raw = Mapping[str, Any]


class _Device:
    """One device, how it is connected to, and what was measured on it."""

    def __init__(self, name: str, connect: Callable[..., Board], firmware: Firmware | None) -> None:
        """Take the `firmware` where it was compiled, and so has sizes."""
        self.name = name
        self.connect = connect
        self.firmware = firmware
        self.times_us: dict[str, list[float]] = {mode.name: [] for mode in DEVICE_MODES}
        self.rates: dict[str, list[float]] = {"to": [], "from": []}
        """Of copies, in KB/s."""
        self.size_bytes = 0
        """Of a copy; 0 where there are none."""

    def measure(self, mode: Mode, data: np.ndarray[Any, Any]) -> None:
        """Add a block of calls in a session of its own, and with the link a copy each way. Raises MicroRpcError."""
        with self.connect(**mode.connecting) as board:
            self.times_us[mode.name] += _call(board)
            if mode is _COPYING_MODE and (size_bytes := _size_of_copies(board)):
                self.size_bytes = size_bytes
                for way, rate in _copy(board, data[:size_bytes]).items():
                    self.rates[way].append(rate)

    def rows(self) -> Iterator[Row]:
        if self.firmware is not None:
            yield from self._size_rows(self.firmware)
        for mode in DEVICE_MODES:
            if not (times := sorted(self.times_us[mode.name])):
                continue
            spread = f"min {times[0]:.1f}, p90 {quantile(times, 0.9):.1f}"
            median = statistics.median(times)
            remark = f"noop(); {len(times):,} times, in turns of {_BLOCK}"
            raw = self._raw(f"call, {mode.name}", median)
            yield Row(f"{self.name}: empty call, {mode.name}", f"{median:.1f}", "us", spread, remark, raw)
        for way, found in self.rates.items():
            if not found:
                continue
            rates = sorted(found)
            spread = f"p10 {quantile(rates, 0.1):,.1f}, p90 {quantile(rates, 0.9):,.1f}"
            median = statistics.median(rates)
            remark = f"{self.size_bytes / median:.2f} ms a copy; {len(rates)} times"
            name = f"{self.name}: copy {self.size_bytes / 1024:.4g} KiB {way} the board, {_COPYING_MODE.name}"
            yield Row(name, f"{median:,.1f}", "KB/s", spread, remark, self._raw(way, median))

    def _size_rows(self, firmware: Firmware) -> Iterator[Row]:
        sizes = firmware.sizes
        flash = f"code {sizes.code_bytes:,}, data {sizes.data_bytes:,}; {firmware.compiler}"
        yield Row(
            f"{self.name}: flash", f"{sizes.flash_bytes:,}", "B", "", flash, self._raw("flash", sizes.flash_bytes)
        )
        ram = f"data {sizes.data_bytes:,}, zeros and stack {sizes.bss_bytes:,}"
        yield Row(f"{self.name}: RAM", f"{sizes.ram_bytes:,}", "B", "", ram, self._raw("RAM", sizes.ram_bytes))

    def _raw(self, figure: str, value: float) -> Raw:
        return {"kind": "device", "device": self.name, "figure": figure, "value": value}


def measure(*, quick: bool) -> Iterator[Row]:
    """Measure each device by itself, as some emulators never rest; say what cannot be built or run here."""
    for name in QUICK_DEVICES if quick else (SIMULATOR, *documented_ports()):
        try:
            yield from list(_measured(name, rounds=2 if quick else 11))
        except MissingError as reason:
            yield Row(name, "missing", "", "", str(reason))
        except MicroRpcError as error:
            yield Row(name, "failed", "", "", str(error))
    yield from _core_rows(quick=quick)


def _measured(name: str, *, rounds: int) -> Iterator[Row]:
    """Give the rows of a device; of a port that is not run here the sizes. Raises MissingError, MicroRpcError."""
    if name != SIMULATOR and not documented_ports()[name]:
        yield from _Device(name, connect, build(load_port(name))).rows()
        return
    data = np.frombuffer(random.Random(3).randbytes(SIZE_BYTES), np.uint8)
    with contextlib.ExitStack() as stack:
        device = _start(name, stack)
        for _ in range(rounds):
            for mode in DEVICE_MODES:
                device.measure(mode, data)
    yield from device.rows()


def _start(name: str, stack: contextlib.ExitStack) -> _Device:
    """Start a device, until `stack` is closed. Raises MissingError, FirmwareError, PortError."""
    if name == SIMULATOR:
        path = stack.enter_context(child("benchmarks.board", "robust", str(_PACKET_BYTES)))
        return _Device(name, partial(connect, path, timeouts=_TIMEOUTS), None)
    project = load_port(name)
    try:
        check_runnable(project)
    except (FirmwareError, PortNotFoundError) as error:
        raise MissingError(str(error)) from error
    firmware = build(project)
    emulator = stack.enter_context(start_firmware(firmware))
    target = find_target(None, board=name, baud=None, timeouts=_TIMEOUTS)

    def connect_to_running(**options: Any) -> Board:
        return open_session(open_running(emulator, target), target.timeouts, **options)

    return _Device(name, connect_to_running, firmware if project.script is None else None)


def _need_zig() -> None:
    _need("the Python package ziglang", importlib.util.find_spec("ziglang"))


def _need(what: str, found: object | None) -> None:
    if found is None:
        raise MissingError(f"{what} is not installed")


def _call(board: Board) -> list[float]:
    """Give the times of one block of calls, in microseconds."""
    noop = board.function("noop")
    for _ in range(_WARM_UP):
        noop()
    clock = time.perf_counter_ns
    times = []
    for _ in range(_BLOCK):
        start = clock()
        noop()
        times.append((clock() - start) / 1000)
    return times


def _size_of_copies(board: Board) -> int:
    """Give how much is copied to this board; 0 where it does not tell how much memory it has."""
    try:
        return min(SIZE_BYTES, board.memory().largest_free_bytes // 2)
    except FunctionNotFoundError:
        return 0


def _copy(board: Board, data: np.ndarray[Any, Any]) -> dict[str, float]:
    """Copy there and back; give the rates in KB/s."""
    with board.empty(data.shape, data.dtype) as array:
        there_s, back_s = timed_copy(array, data)
    return {"to": len(data) / there_s / 1e3, "from": len(data) / back_s / 1e3}


def _core_rows(*, quick: bool) -> Iterator[Row]:
    title = "core alone, Cortex-M3"
    try:
        _need_zig()
        _need("the Python package pyelftools", importlib.util.find_spec("elftools"))
    except MissingError as reason:
        yield Row(title, "missing", "", "", str(reason))
        return
    for words, defines in list(CORES.items())[: _QUICK_CORES if quick else None]:
        size = core_size(defines)
        remark = f"RAM {size.ram_bytes} B besides receive buffer and heap; {size.compiler}"
        raw = {"kind": "core", "core": words, "flash_bytes": size.flash_bytes, "ram_bytes": size.ram_bytes}
        yield Row(f"{title}, {words}: flash", f"{size.flash_bytes:,}", "B", "", remark, raw)


# --- the table of docs/firmware.md ------------------------------------------------------------------


def markdown(raws: Iterable[Raw]) -> str:
    """Give the table of sizes and speeds, from the raw figures of the rows."""
    figures: dict[str, dict[str, float]] = {}
    cores: dict[str, Raw] = {}
    for raw in raws:
        if raw.get("kind") == "device":
            figures.setdefault(raw["device"], {})[raw["figure"]] = raw["value"]
        elif raw.get("kind") == "core":
            cores[raw["core"]] = raw
    lines = [
        "| board | flash, bytes | RAM, bytes | call, us: link | without | copy, KB/s: to the board | back |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for device, of_device in figures.items():
        columns = ("flash", "RAM", *(f"call, {mode.name}" for mode in DEVICE_MODES), "to", "from")
        cells = [f"{of_device[column]:,.0f}" if column in of_device else "" for column in columns]
        lines.append(f"| `{device}` | {' | '.join(cells)} |")
    for words, core in cores.items():
        cells = [f"{core['flash_bytes']:,}", f"{core['ram_bytes']:,}", *[""] * 4]
        lines.append(f"| the core alone on a Cortex-M3, {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def written(guide: str, table: str) -> str:
    """Give the text of the guide with the rows of `table` in the place of those that it has; others stay."""
    head, old = _split(guide)
    new = {line.split(" | ")[0]: line for line in table.splitlines()[2:]}
    kept = {line.split(" | ")[0]: line for line in old.splitlines()[2:]}
    cores = [name for name in kept if name.startswith("| the core")]
    devices = [name for name in kept if name not in cores]
    devices += [name for name in new if name not in kept]
    lines = [*table.splitlines()[:2], *(new.get(name) or kept[name] for name in (*devices, *cores))]
    return guide.replace(head + old, head + "\n".join(lines) + "\n")


def _split(guide: str) -> tuple[str, str]:
    """Give what stands before the table, and the table."""
    found = re.search(r"^\| board \| flash, bytes .*\n(?:\|.*\n)+", guide, flags=re.MULTILINE)
    if found is None:
        raise ValueError(f"{GUIDE.name} has no table that begins with | board | flash, bytes |")
    return guide[: found.start()], found[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.devices", description=__doc__)
    parser.add_argument("results", type=pathlib.Path, help="what `python -m benchmarks --json` has written")
    parser.add_argument("--write", action="store_true", help="put the table into docs/firmware.md")
    options = parser.parse_args()
    table = markdown(row["raw"] for row in json.loads(options.results.read_text(encoding="utf-8"))["rows"])
    if options.write:
        text = written(GUIDE.read_text(encoding="utf-8"), table)
        with replacing(GUIDE) as file:
            file.write(text.encode())
    print(table)


if __name__ == "__main__":
    main()
