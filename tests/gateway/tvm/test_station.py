"""One board of a gateway: opened, opened again with other firmware, and looked after while nobody uses it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from tvm_gateway import InMemory, Serving

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from microrpc.client.aio.board import AsyncBoard
from microrpc.errors import FirmwareError, PortLostError
from microrpc.firmware.build import Firmware
from microrpc.gateway.tvm import station
from microrpc.gateway.tvm.station import Station

IMAGE = cast("Firmware", "an image")


class Choosy(InMemory):
    """A board that some firmware does not start on."""

    async def __call__(self, image: Firmware | None) -> AsyncBoard:
        if image is not None:
            raise FirmwareError("it does not boot")
        return await super().__call__(image)


def board() -> Device:
    device = Device(seed=7)
    install(device)
    return device


def run(opener: InMemory, use: Any) -> None:
    async def main() -> None:
        one = Station("board", "key", opener, call_s=2.0)
        await one.open()
        try:
            await use(one)
        finally:
            await one.close()

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_a_board_is_opened_with_other_firmware_and_with_its_own_again() -> None:
    opener = InMemory(board())

    async def use(one: Station) -> None:
        await one.restart_with(IMAGE)
        assert (await one._shared.board.function("add")) is not None
        await one.restart_with(None)

    run(opener, use)
    assert opener.images == [None, IMAGE, None]


def test_where_other_firmware_does_not_start_the_board_has_its_own_again() -> None:
    opener = Choosy(board())

    async def use(one: Station) -> None:
        before = one._shared.board
        with pytest.raises(FirmwareError, match="does not boot"):
            await one.restart_with(IMAGE)
        assert one._shared.failure is None
        assert one._shared.board is not before
        add = await one._shared.board.function("add")
        assert await add(2, 3) == 5

    run(opener, use)
    assert opener.images == [None, None]


def test_what_a_client_loaded_is_for_no_other_even_where_the_board_does_not_come_back_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(station, "_REVIVE_S", 0.0)
    opener = InMemory(board())

    async def use(one: Station) -> None:
        await one.restart_with(IMAGE)
        opener.is_gone = True
        with pytest.raises(PortLostError):
            await one.restart_with(None)
        opener.is_gone = False
        await one.revive()
        assert (await one._shared.board.function("add")) is not None

    run(opener, use)
    assert opener.images == [None, IMAGE, None]


def test_a_client_that_goes_while_its_board_is_closed_for_what_it_loaded_leaves_a_board_that_works() -> None:
    opener = InMemory(board())

    async def use(one: Station) -> None:
        await one._shared.board.function("add")  # which is to be given back
        opener.held.set()
        loading = asyncio.create_task(one.restart_with(IMAGE))
        await asyncio.sleep(0)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        opener.held.clear()
        assert opener.images == [None]
        await one._clean(lambda: asyncio.sleep(0))
        assert (await one._shared.board.function("add")) is not None

    run(opener, use)
    assert opener.images == [None, None]


def test_a_board_that_comes_to_life_with_firmware_that_was_loaded_has_that_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(station, "_REVIVE_S", 0.0)
    opener = InMemory(board())

    async def use(one: Station) -> None:
        await one.restart_with(IMAGE)
        one._shared.failure = PortLostError("board", "the emulator ended")
        opener.is_gone = True
        await one.revive()
        assert one._shared.failure is not None
        opener.is_gone = False
        await one.revive()
        assert one._shared.failure is None
        await one.revive()

    run(opener, use)
    assert opener.images == [None, IMAGE, IMAGE]


def test_a_board_that_cannot_be_opened_is_not_tried_at_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "_REVIVE_S", 1000.0)
    opener = InMemory(board())

    async def use(one: Station) -> None:
        one._shared.failure = PortLostError("board", "the emulator ended")
        one._revived_at = asyncio.get_running_loop().time()
        await one.revive()
        assert one._shared.failure is not None

    run(opener, use)
    assert opener.opened == 1


def test_a_board_that_goes_while_nobody_uses_it_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(station, "_WATCH_S", 0.01)
    with Serving(comes_back=False) as serving:
        serving.opener.line.is_lost = True
        serving.wait_until(lambda: serving.opener.opened == 2)
        with serving.client() as client:
            assert client.call("add", 2, 3) == 5
    assert any("opened anew" in note for note in serving.notes)


def test_keys_and_matchkeys_say_who_is_let_in() -> None:
    class Offer:
        matchkey = "key:0.5"

        def taken(self) -> None:
            """Nothing is told here."""

        def released(self) -> None:
            """Nothing is told here."""

    one = Station("board", "key", InMemory(board()), call_s=2.0)
    assert [one.expects(key) for key in ("", "key", "key:0.5", "other")] == [True, True, False, False]
    one.offer = Offer()
    assert [one.expects(key) for key in ("", "key", "key:0.5", "other")] == [False, False, True, False]
    one.offer.matchkey = ""
    assert not one.expects("")
