"""Simulated boards on ports of this computer, in real time.

    with PtyServer(simulate(profile("loopback")), link="/tmp/board") as server:
        board = microrpc.connect(server.path)

One `Server` holds any number of boards in one thread. A plain device answers as fast as it can; one behind a `UartLine`
at the speed of that line. Of hundreds most is spent on waking up: with `tick_s=0.001` it does that once a millisecond.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from firmware_sim.board.device import Device
from firmware_sim.running.polling import POLLIN, make_poller, make_wakers
from firmware_sim.running.ports import HostPort, PtyPort, SimulatedBoard, TcpPort
from microrpc.wire.checks import check_seconds

__all__ = ["PtyServer", "Server", "TcpServer"]

# poll() counts in milliseconds, a byte at 921600 baud takes 11 us: the last millisecond is slept in slices.
_SLICE_S = 100e-6

P = TypeVar("P", bound=HostPort)


class _ClosedError(Exception):
    """The server was closed."""


class Server:
    """Serves `ports` until it is closed; hosts may come and go.

    Use it as a context manager or with `start` and `close` to serve from a thread, or call `run` to serve from
    this one. While it serves, ports and devices belong to it: from elsewhere use `do`.

    tick_s: how long it sleeps at least between two looks at its ports, as USB does with its adapters: all that comes
    meanwhile, or is due, is done together and so much later at most. Raises RequestError for a time that cannot be.
    """

    def __init__(self, *ports: HostPort, tick_s: float = 0.0) -> None:
        self.ports = ports
        self._tick_s = check_seconds(tick_s, "tick_s", may_be_zero=True)
        self._next_look = 0.0
        self._thread: threading.Thread | None = None
        self._is_open = True
        self._serving = threading.Lock()  # held while it serves
        self._orders: deque[Callable[[float], None]] = deque()
        self._wake, self._waker = make_wakers()
        self._wake_fd = self._wake.fileno()
        self._poller = make_poller()
        self._poller.register(self._wake_fd, POLLIN)
        self._owners: dict[int, HostPort] = {}
        self._interests: dict[HostPort, dict[int, int]] = {}
        self._epoch = time.monotonic()
        self._process = os.getpid()
        self._closed_itself = False

    # --- from any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Serve from a thread."""
        self._thread = threading.Thread(
            target=self.run, name=f"{type(self).__name__} {self.ports[0].path}", daemon=True
        )
        self._thread.start()

    def do(self, order: Callable[[float], None]) -> None:
        """Have `order` called by the server, with its time, as soon as what it is executing is done."""
        if self._is_open:
            self._orders.append(order)
            self._waker.send(b"o")

    def close(self) -> None:
        """Stop serving, and release the ports. Closing twice is fine, and in a fork it does nothing."""
        if not self._is_open or os.getpid() != self._process:
            return

        def stop(now: float) -> None:
            raise _ClosedError

        self.do(stop)
        self._is_open = False
        if self._thread is threading.current_thread():  # garbage is collected in any thread: `run` does the rest
            self._closed_itself = True
            return
        if self._thread is not None:
            self._thread.join()
        with self._serving:
            self._release()

    def _release(self) -> None:
        for port in self.ports:
            port.close()
        for one in (self._wake, self._waker):
            one.close()

    def __enter__(self) -> Self:
        """Serve from a thread."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # --- serving --------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until `close` is called from another thread, or until an exception such as KeyboardInterrupt."""
        with self._serving:
            with contextlib.suppress(_ClosedError):
                if self._is_open:
                    self._run()
            if self._closed_itself:
                self._release()

    def _run(self) -> None:
        ports, owners = self.ports, self._owners
        for port in ports:
            self._pump(port)
        self._next_look = time.monotonic() - self._epoch + self._tick_s
        due = min(port.due for port in ports)
        while True:
            for fd, _ in self._wait(due):
                if fd == self._wake_fd:
                    self._obey()
                elif (owner := owners.get(fd)) is not None:  # it may have gone in this very round
                    owner.serve(fd, time.monotonic() - self._epoch)
                    self._register(owner)
            now = time.monotonic() - self._epoch
            self._next_look = now + self._tick_s
            for port in ports:
                if port.due <= now:
                    self._pump(port)
            due = min([port.due for port in ports])

    def _wait(self, due: float) -> list[tuple[int, int]]:
        """Wait for one of the ports, at most until `due`."""
        poll = self._poller.poll
        if self._tick_s and (rest_s := self._next_look - (time.monotonic() - self._epoch)) > 0:
            time.sleep(rest_s)
        if due == math.inf:
            return poll()
        while (wait_s := due - (time.monotonic() - self._epoch)) > 0:
            ready = poll(int(wait_s * 1e3))
            if ready:
                return ready
            wait_s = due - (time.monotonic() - self._epoch)
            if 0 < wait_s < 1e-3:
                time.sleep(min(wait_s, max(self._tick_s, _SLICE_S)))
        return poll(0)

    def _pump(self, port: HostPort) -> None:
        port.pump(time.monotonic() - self._epoch)
        self._register(port)

    def _register(self, port: HostPort) -> None:
        """Have poll wait for what the port waits for now."""
        before, interests = self._interests.get(port, {}), port.interests
        if interests == before:
            return
        self._interests[port] = interests
        for fd in before.keys() - interests.keys():
            del self._owners[fd]
            self._poller.unregister(fd)
        for fd, events in interests.items():
            self._owners[fd] = port
            self._poller.register(fd, events)

    def _obey(self) -> None:
        """Do what other threads asked for."""
        self._wake.recv(4096)
        while self._orders:
            self._orders.popleft()(time.monotonic() - self._epoch)
        for port in self.ports:
            self._pump(port)


class _OnePortServer(Server, Generic[P]):
    """Serves one board."""

    def __init__(self, port: P) -> None:
        self._port = port
        try:
            super().__init__(port)
        except BaseException:
            port.close()
            raise

    @property
    def device(self) -> Device:
        """The board."""
        return self._port.device

    @property
    def path(self) -> str:
        """What a host opens."""
        return self._port.path

    def reset(self) -> None:
        """Press the device's reset button, as soon as what it is executing is done."""
        self.do(self._port.reset)


class PtyServer(_OnePortServer[PtyPort]):
    """Serves a board on a pty; `link` as `PtyPort` has it."""

    def __init__(self, board: SimulatedBoard, *, link: str | os.PathLike[str] | None = None) -> None:
        super().__init__(PtyPort(board, link=link))

    @property
    def port(self) -> str:
        """The path of the pty itself."""
        return self._port.port


class TcpServer(_OnePortServer[TcpPort]):
    """Serves a board on a TCP socket; `host` and `number` as `TcpPort` has them."""

    def __init__(self, board: SimulatedBoard, *, host: str = "127.0.0.1", number: int = 0) -> None:
        super().__init__(TcpPort(board, host=host, number=number))
