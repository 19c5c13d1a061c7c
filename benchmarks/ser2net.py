"""A call through ser2net, raw and by RFC 2217, as ser2net is by itself and with `chardelay: false`."""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.modes import PROFILE
from benchmarks.processes import child
from benchmarks.rows import Row, quantile
from microrpc.connecting.blocking import connect

_PROGRAM = "/usr/sbin/ser2net"  # not in everybody's PATH
_PACKET_BYTES = "2048"
_BLOCK = 20  # calls of one kind before those of the next kind
_START_S = 10.0
_ACCEPTERS = {"raw": ("socket", "tcp"), "RFC 2217": ("rfc2217", "telnet(rfc2217),tcp")}
"""What connects to such a port, and how ser2net calls it."""
_SETTINGS = {"as it is": "", "chardelay: false": "  options:\n    chardelay: false\n"}


def measure(*, quick: bool) -> Iterator[Row]:
    """Time calls of `add` in turn, in blocks; the boards have no line's own time."""
    program = shutil.which("ser2net") or shutil.which(_PROGRAM)
    if program is None:
        yield Row("ser2net", "missing", "", "", "needs ser2net: apt-get install --no-install-recommends ser2net")
        return
    with contextlib.ExitStack() as stack:
        calls = _calls(stack, program)
        times: dict[str, list[float]] = {name: [] for name in calls}
        for call in calls.values():
            _block(call)
        for _ in range(1 if quick else 300 // _BLOCK):
            for name, call in calls.items():
                times[name] += _block(call)
    direct_ms = statistics.median(times[next(iter(times))])
    for name, unsorted in times.items():
        taken = sorted(unsorted)
        spread = f"p10 {quantile(taken, 0.1):.2f}, p90 {quantile(taken, 0.9):.2f}"
        median = statistics.median(taken)
        yield Row(f"call {name}", f"{median:.2f}", "ms", spread, f"{median / direct_ms:.1f} times that on the pty")


def _calls(stack: contextlib.ExitStack, program: str) -> dict[str, Callable[[], object]]:
    """Give the calls by where they go, each on a board of its own."""
    ports = {"on the pty itself": _board(stack)}
    settings, numbers = "", list[int]()
    for how, (scheme, accepter) in _ACCEPTERS.items():
        for title, options in _SETTINGS.items():
            numbers.append(_free_port())
            address = f"127.0.0.1:{numbers[-1]}"
            ports[f"through ser2net, {how}, {title}"] = f"{scheme}://{address}"
            settings += (
                f"connection: &c{len(ports)}\n"
                f"  accepter: {accepter},{address.replace(':', ',')}\n"
                f"  connector: serialdev,{_board(stack)},115200n81,local\n{options}"
            )
    file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ser2net.yaml"
    file.write_text(settings)
    server = stack.enter_context(subprocess.Popen([program, "-d", "-n", "-c", file], stderr=subprocess.DEVNULL))
    stack.callback(server.kill)
    for number in numbers:
        _wait_for(number)
    calls = {}
    for name, port in ports.items():
        calls[name] = _call(stack.enter_context(connect(port, board=PROFILE)).function("add"))
    return calls


def _call(add: Callable[..., object]) -> Callable[[], object]:
    def call() -> None:
        if add(2, 3) != 5:
            raise AssertionError("2 + 3 is not 5 there")

    return call


def _board(stack: contextlib.ExitStack) -> str:
    return stack.enter_context(child("benchmarks.board", "robust", _PACKET_BYTES))


def _block(call: Callable[[], object]) -> list[float]:
    """Give the times of one block's calls, in milliseconds."""
    times = []
    for _ in range(_BLOCK):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


def _wait_for(number: int) -> None:
    """Wait until somebody listens there; nobody is connected to, for one client is all that there may be."""
    until = time.monotonic() + _START_S
    while f":{number:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text():
        if time.monotonic() > until:
            raise RuntimeError(f"ser2net does not listen on TCP port {number}")
        time.sleep(0.02)
