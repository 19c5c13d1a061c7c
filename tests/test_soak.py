"""The soak in short, and that it sees what it looks for."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from apis import Api, BlockingApi
from soak import BlockingBoard, Round, Tally, main, run_round

from microrpc import aio
from microrpc.client.losses import Loss
from microrpc.errors import CallTimeoutError, MicroRpcError
from microrpc.host.trust import Trust
from microrpc.ports.aio import adopt
from microrpc.wire.session import Timeouts

QUIET = Round(
    seed=1,
    is_asyncio=False,
    is_pty=True,
    link=True,
    packet_bytes=16384,
    damage_rate=0.0,
    reset_rate=0.0,
    pause_rate=0.0,
    goes_away=False,
)


@pytest.mark.parametrize("is_asyncio", [False, True], ids=["blocking", "asyncio"])
def test_what_the_program_was_told_is_what_the_board_did(is_asyncio: bool) -> None:
    tally = Tally()
    rough = replace(QUIET, is_asyncio=is_asyncio, packet_bytes=2048, damage_rate=0.002, reset_rate=0.03, goes_away=True)
    run_round(rough, tally, duration_s=1.5)
    assert tally.faults == []
    assert tally.outcomes["calls: answered, ran"] > 0
    assert tally.outcomes["rounds"] == 1


def test_a_host_that_says_wrongly_that_a_call_did_not_run_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lie(error: MicroRpcError, more: str, trust: Trust) -> MicroRpcError:
        return CallTimeoutError(f"{error}{more}", may_have_run=False)

    monkeypatch.setattr("microrpc.client.owner.loss_of", lambda *args, **kwargs: Loss(more=""))
    monkeypatch.setattr("microrpc.client.pump.retold", lie)
    monkeypatch.setattr(Round, "draw", lambda seed: QUIET)
    assert main(["--seconds", "2"]) == 1
    assert "ran, and may_have_run was False" in capsys.readouterr().out


@pytest.mark.parametrize("packet_bytes", [16384, 60000])
def test_a_board_that_blocks_on_its_answer_is_listened_to_while_a_repetition_is_written(
    api: Api, packet_bytes: int
) -> None:
    with BlockingBoard(replace(QUIET, packet_bytes=packet_bytes)) as board:
        board.calm_down()

        @board.device.function
        def slow_echo(data: bytes) -> bytes:
            time.sleep(0.6)  # in which the request is repeated, until the port takes no more
            return data

        timeouts = Timeouts(retry_s=0.2, start_s=5.0, call_s=5.0)

        async def open_awaited() -> aio.AsyncBoard:
            return await aio.open_board(adopt(board.open()), timeouts)

        is_blocking = isinstance(api, BlockingApi)
        connection = api.open_board(board.open(), timeouts) if is_blocking else api.wait(open_awaited())
        with connection:
            data = np.random.default_rng(1).bytes(packet_bytes - 200)
            assert connection.function("slow_echo")(data) == data
            assert connection.function("slow_echo")(data[:10]) == data[:10]
