"""One board of a labgrid environment: what connects to it is its driver there."""

from __future__ import annotations

from typing import Any

from microrpc.client.board import Board
from microrpc.connecting.wrap import tapped
from microrpc.firmware.putting import Source
from pytest_microrpc.locks import Run
from pytest_microrpc.place import Place
from pytest_microrpc.rack import DRIVER, Rack
from pytest_microrpc.setups import Setup


class RackPlace(Place):
    """A board of `rack`. Its driver is activated for the first test that wants it, unless somebody has done so before.

    The other arguments are those of `Place`; what is put on it first is the business of labgrid's own drivers.
    """

    def __init__(self, setup: Setup, name: str, port: str, run: Run, rack: Rack) -> None:
        super().__init__(setup, name, port, run)
        self._target: Any = None
        self._driver: Any = None
        self._environment, (self._role, self._name) = rack.environment, rack.drivers[port]

    def _open(self, *, reset: bool, source: Source | None) -> Board:
        if self._driver is None:
            self._target = self._environment.get_target(self._role)
            self._driver = self._target.get_driver(DRIVER, name=self._name, activate=False)
        driver, was_reset = self._driver, self._driver.reset
        if reset or (self._is_active and driver.board.pump.closed):
            self._target.deactivate(driver)
        if not self._is_active:
            driver.wrap, driver.reset = tapped(self._listener), reset or was_reset
            try:
                self._target.activate(driver)
            finally:
                driver.reset = was_reset
        board: Board = driver.board
        return board

    @property
    def _is_active(self) -> bool:
        return bool(self._driver.state is type(self._driver.state).active)

    def _leave(self) -> None:
        super()._leave()
        if self._driver is not None and self._is_active:
            self._target.deactivate(self._driver)
