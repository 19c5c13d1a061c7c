"""The boards of this test run: those that a test wants are locked, so that nobody else has them meanwhile."""

from __future__ import annotations

import pytest

from microrpc.boards.finding import find_ports
from pytest_microrpc.locks import Lock, Run, busy_error, take_free
from pytest_microrpc.place import Place
from pytest_microrpc.setups import Setup

_TRACKED = "tvm://"  # a tracker gives each who asks a board of its own


class Desk:
    """The boards that `setup` names. A test takes some, and gives them back."""

    def __init__(self, setup: Setup, run: Run) -> None:
        self._setup = setup
        self._run = run
        self._places: dict[str, Place] = {}
        self._locks: dict[str, Lock] = {}
        self._is_enough = True

    def take(self, count: int) -> list[Place]:
        """Have so many boards, one or more, for a test, which gives them back by `tidy`.

        Skips where there are too few. Raises PortBusyError where others have them for longer than `Setup.wait_s`, and
        PortError and PortNotFoundError where none is found.
        """
        if self._setup.is_started_here:
            return [self._place(f"#{number + 1}", None) for number in range(count)]
        ports, run = self._find(count), self._run
        self._is_enough = run.processes == 1 or run.processes * max(run.most_boards, count) <= len(ports)
        return [self._place(port, port) for port in self._lock(ports, count)]

    def tidy(self) -> None:
        """Keep the boards for the next test where there are enough for all processes, else let others have them."""
        if not self._setup.ports:
            self._follow()
        if not self._is_enough:
            self._give_back()

    def close(self) -> None:
        """Leave all boards, end all emulators, and let others have them."""
        self._give_back()

    def _find(self, count: int) -> list[str]:
        """Give the ports that there are. Raises PortError and PortNotFoundError."""
        if self._setup.ports:
            return list(self._setup.ports)
        assert self._setup.board is not None, "without a port a board was named"
        found = find_ports(self._setup.board)
        if lack := self._setup.too_few(count, found):
            if self._setup.is_required:
                pytest.fail(lack, pytrace=False)
            pytest.skip(lack)
        return found

    def _lock(self, ports: list[str], count: int) -> list[str]:
        """Give `count` of the ports, which are this process's own then. Raises PortBusyError."""
        if ports[0].startswith(_TRACKED):
            return ports[:count]
        held = [port for port in ports if port in self._locks]
        if len(held) >= count:
            return held[:count]
        others = [Lock(port) for port in ports if port not in self._locks]
        taken = take_free(others, count - len(held), self._run.command, 0) if held else None
        if taken is None:  # whoever waits holds nothing: two who wait for each other would do so for ever
            self._give_back()
            all_locks = [Lock(port) for port in ports]
            taken = take_free(all_locks, count, self._run.command, self._setup.wait_s)
            if taken is None:
                raise busy_error(all_locks, count, self._run.command, self._setup.wait_s)
        self._locks |= {lock.what: lock for lock in taken}
        return [port for port in ports if port in self._locks][:count]

    def _follow(self) -> None:
        """Have boards under the names that their ports have now: one that was flashed may have booted under another."""
        for port, place in list(self._places.items()):
            if place.port is not None and place.port != port and (lock := Lock(place.port)).take(self._run.command):
                old = self._locks.pop(port)
                lock.note(flashed=old.noted().get("flashed"))
                old.free()
                self._places[place.port] = self._places.pop(port)
                self._locks[place.port] = lock

    def _place(self, key: str, port: str | None) -> Place:
        if key not in self._places:
            self._places[key] = self._make_place(self._name(key, port), port)
        self._places[key].lock = self._locks.get(key)
        return self._places[key]

    def _make_place(self, name: str, port: str | None) -> Place:
        setup = self._setup
        if setup.rack is None or port is None:
            return Place(setup, name, port, self._run)
        from pytest_microrpc.rack_place import RackPlace

        return RackPlace(setup, name, port, self._run, setup.rack)

    def _name(self, key: str, port: str | None) -> str:
        """Give what to call a board in messages: its port, where there is more than one."""
        setup = self._setup
        if len(setup.ports) == 1 or key == "#1":
            return setup.name
        if port is None:
            return f"{setup.name} {key}"
        return f"{setup.board.name} on {port}" if setup.board is not None else port

    def _give_back(self) -> None:
        locks, self._locks = self._locks, {}
        try:
            for place in self._places.values():
                place.close()
        finally:
            for lock in locks.values():
                lock.free()
