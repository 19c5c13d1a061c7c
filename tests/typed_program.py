"""A user's program with the documented names, which `mypy --strict` must pass (test_names.py). It is never run."""

from __future__ import annotations

import pathlib
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import pytest

import microrpc
import microrpc.aio
import pytest_microrpc
from firmware_sim.device import Clock, Device, Firmware, RealClock, Stats, VirtualClock
from firmware_sim.faults import Drop, Fault, Faults, Flip, Reset, Unplug, load_faults, parse_fault
from firmware_sim.loopback import LineChannel, LoopbackChannel
from firmware_sim.serve import PtyPort, PtyServer, Server, TcpPort, TcpServer
from firmware_sim.simulate import SimBoard, simulate, uart_of
from firmware_sim.uart import FirmwareTime, HostAdapter, LineState, Rate, Uart, UartLine
from microrpc import boards, errors
from microrpc.boards import BoardKind, BoardProfile, FlowControl, ResetStep, ResetStrategy, UsbId, user_directory
from microrpc.errors import FaultsError, MicroRpcError, RemoteError


def blocking() -> None:
    lines: list[str] = []
    with microrpc.connect("/dev/ttyACM0", board="arduino_due", on_log=lines.append, reconnect=True) as board:
        assert_type(board, microrpc.Board)
        add = board.function("add")
        assert_type(add, microrpc.RemoteFunction)
        assert_type(board.functions(), list[microrpc.FunctionDescription])
        assert_type(board.identity, microrpc.Identity | None)
        print(board.f.scale(2, factor=3), board.f["a.b"](timeout_s=1.0), [told.doc for told in board.functions()])
        print(add(2, 3, timeout_s=1.0), microrpc.UInt(7), microrpc.OpaqueHandle(0x2000))
        x = board.array(np.arange(-4, 4, dtype="float32"), verify=True)
        assert_type(x, microrpc.RemoteArray)
        assert_type(x.numpy(), npt.NDArray[Any])
        assert_type(x.dtype, microrpc.DataType)
        board.empty((2, 3), "int8").copy_to(x)
        library = board.system_library()
        assert_type(library, microrpc.RemoteModule | None)
        stream: microrpc.RemoteStream = board.create_stream()
        stream.sync()
        timing: microrpc.Timing = board.time_evaluator("add", number=10)(2, 3)
        model = board.model("mlp")
        assert_type(model, microrpc.Model)
        report: microrpc.ModelReport = model.profile(np.zeros((1, 4), np.float32))
        result: microrpc.Validation = model.validate(np.zeros((5, 4), np.float32), np.zeros((5, 3)))
        print(bool(result), report.layers[0].time_us, [tensor.shape for tensor in model.inputs], board.models())
        stats: microrpc.Stats = board.stats
        copies: microrpc.CopyStats = stats.to_board
        print(timing.mean, copies.goodput_bytes_s, board.attribute(0, microrpc.CPU), board.link)


def catching() -> None:
    try:
        microrpc.connect(timeouts=microrpc.Timeouts(call_s=1.0)).close(shutdown=True)
    except microrpc.BoardResetError as error:
        assert_type(error, errors.BoardResetError)
    except (RemoteError, microrpc.RequestTooLargeError, microrpc.PortBusyError) as error:
        print(error)
    except (FaultsError, MicroRpcError):
        raise


async def asyncio() -> None:
    async with microrpc.aio.connect("sim://") as board:
        assert_type(board, microrpc.aio.AsyncBoard)
        add = await board.function("add")
        assert_type(add, microrpc.aio.AsyncRemoteFunction)
        print(await add(2, 3), await board.f.scale(2, factor=3))
        assert_type(await board.functions(), list[microrpc.FunctionDescription])
        assert_type(await board.identity, microrpc.Identity | None)
        x: microrpc.aio.AsyncRemoteArray = await board.array([1.0, 2.0])
        assert_type(await x.numpy(), npt.NDArray[Any])
    opening: microrpc.aio.Opening = microrpc.aio.connect("sim://")
    await (await opening).close()
    channel: microrpc.aio.AsyncChannel = microrpc.aio.InMemoryChannel(LoopbackChannel(Device()))
    await (await microrpc.aio.open_board(channel, microrpc.Timeouts())).close()


def hear(board: microrpc.Board) -> None:
    with board.on_event("sample", lambda event: print(event.values)) as subscription:
        assert_type(subscription, microrpc.Subscription)
    with board.events("sample", timeout_s=1.0) as events:
        for event in events:
            assert_type(event, microrpc.Event)
    assert_type(board.poll(0.1), int)
    call: microrpc.Call = board.function("work").start(3, on_progress=lambda done, total: print(done, total))
    call.cancel()
    print(call.result(timeout_s=1.0), call.done())


async def hear_awaited(board: microrpc.aio.AsyncBoard) -> None:
    async for event in board.events("sample"):
        assert_type(event, microrpc.Event)
    call: microrpc.aio.AsyncCall = (await board.function("work")).start(3)
    print(await call, await board.poll())


def profiles() -> dict[str, BoardProfile]:
    own: BoardProfile = boards.load_profile(pathlib.Path("mine.toml"))
    assert_type(boards.profile("loopback"), microrpc.BoardProfile)
    known: list[BoardKind | FlowControl | UsbId | ResetStrategy] = [own.kind, own.flow_control, *own.usb]
    steps: tuple[ResetStep, ...] = own.reset.sequence
    print(known, steps, user_directory(), microrpc.load_profile("mine.toml"), microrpc.__version__)
    return microrpc.profiles()


def simulated() -> None:
    clock: Clock = VirtualClock()
    device: Device = simulate(microrpc.profile("loopback"), firmware=Firmware.STOCK, clock=clock)

    @device.function
    def add(a: int, b: int) -> int:
        return a + b

    stats: Stats = device.stats
    uart: Uart = uart_of(microrpc.profile("loopback"))
    faults = Faults([Drop(rate=0.1), parse_fault("kind = 'flip', at = 3"), *load_faults("faults.toml").faults], seed=1)
    line = UartLine(device, uart, faults)
    state: LineState = line.state
    slow = Uart(Rate(9600), Rate(9600), firmware=FirmwareTime(), adapter=HostAdapter())
    with Server(PtyPort(line), TcpPort(Device(clock=RealClock()))), PtyServer(device) as pty, TcpServer(device) as tcp:
        print(pty.port, tcp.path, stats, state, slow, add)


@pytest.mark.microrpc_board("arduino_due", functions=["add"])
def test_a_board(board: microrpc.Board, sim_board: SimBoard) -> None:
    fault: Fault = Flip(at=(100,))
    sim_board.inject(fault, Reset(function="add"), Unplug(1.5))
    channel: LineChannel = sim_board.open_channel()
    with microrpc.open_board(channel, sim_board.profile.timeouts, seed=0) as again:
        print(board.epoch, again.session_id, pytest_microrpc.__doc__)
