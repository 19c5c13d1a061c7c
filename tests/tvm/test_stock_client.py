"""Stock clients of TVM and `microrpc tvm serve`, each a process of its own: directly, and through a stock tracker."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import needs
import pytest
from stock_tvm import (
    Client,
    Tracker,
    check_client,
    free_of,
    kill,
    served,
    servers_of,
    stock_tracker,
    summary_of,
    until,
)

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.firmware.emulator import start_emulated
from microrpc.serve.local import FunctionError

pytestmark = pytest.mark.tvm

DEVICES = ("simulator", "posix", "qemu_mps2_an385")
LARGEST_BYTES = 1 << 20
ALLOCATE = f"x = tvm.runtime.empty(({LARGEST_BYTES},), 'uint8', session.cpu(0)); result = x.shape[0]"
TWO_AND_THREE = "result = session.get_function('add')(2, 3)"


@dataclass(frozen=True)
class Served:
    """A device on its port, and what the checks are to know of it."""

    port: str
    arguments: tuple[str, ...] = ()
    server: PtyServer | None = None


@contextlib.contextmanager
def simulator() -> Iterator[Served]:
    """A simulated board with the memory of an emulated one, and with functions that give no UTF-8."""
    device = simulate(profile("qemu_mps2_an385"))

    @device.function
    def bad_text() -> str:
        return b"caf\xe9".decode("utf-8", "surrogateescape")

    @device.function
    def bad_error() -> None:
        raise FunctionError(b"caf\xe9".decode("utf-8", "surrogateescape"))

    with PtyServer(device) as server:
        yield Served(server.path, ("--extra",), server)


@contextlib.contextmanager
def running_device(name: str) -> Iterator[Served]:
    if name == "simulator":
        with simulator() as device:
            yield device
    else:
        needs.emulated(name)
        with start_emulated(name) as emulator:
            # QEMU takes 12 KB/s on its UART.
            yield Served(emulator.port, ("--copy", "65536") if name.startswith("qemu_") else ())


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[Served]:
    needs.tvm()
    with running_device(request.param) as device:
        yield device


@pytest.fixture
def tracker() -> Iterator[int]:
    needs.tvm()
    with stock_tracker() as (port, _):
        yield port


@pytest.fixture
def simulated() -> Iterator[Served]:
    needs.tvm()
    with simulator() as device:
        yield device


# --- all checks ---------------------------------------------------------------------------------------------


def test_a_stock_client_passes_all_checks_directly(device: Served) -> None:
    with served(device.port, "--key", "board") as (address, _):
        check_client(needs.tvm(), address, "--key", "board", "--largest", LARGEST_BYTES, *device.arguments)


def test_a_stock_client_passes_all_checks_through_a_stock_tracker(device: Served, tracker: int) -> None:
    at = f"127.0.0.1:{tracker}"
    with served(device.port, "--key", "board", "--tracker", at) as (address, _):
        until(lambda: free_of(tracker, "board"), "the board is offered")
        options = ("--key", "board", "--largest", LARGEST_BYTES, "--tracker", at)
        check_client(needs.tvm(), address, *options, *device.arguments)
        until(lambda: free_of(tracker, "board"), "the board is offered again")


@pytest.mark.tvm_versions
@pytest.mark.parametrize("through_tracker", [False, True], ids=["directly", "through-its-tracker"])
@pytest.mark.parametrize("release", ["0.26", "0.25"])
def test_clients_of_older_releases_pass_all_checks(simulated: Served, release: str, through_tracker: bool) -> None:
    python = needs.tvm(release)
    with contextlib.ExitStack() as stack:
        options: tuple[object, ...] = ("--key", "board", "--largest", LARGEST_BYTES, *simulated.arguments)
        serving = [simulated.port, "--key", "board"]
        if through_tracker:
            port, _ = stack.enter_context(stock_tracker(python=python))
            serving += ["--tracker", f"127.0.0.1:{port}"]
            options += ("--tracker", f"127.0.0.1:{port}")
        address, _ = stack.enter_context(served(*serving))
        check_client(python, address, *options)


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_a_client_that_is_killed_leaves_nothing_on_the_board(device: Served) -> None:
    needs.tvm()
    with served(device.port) as (address, _):
        for _ in range(4):  # of 4 MiB; all that it held together is more
            with Client.run(address) as client:
                assert client.do("session = open()") is None
                assert client.do(ALLOCATE) == LARGEST_BYTES
                assert client.do("f = [session.system_lib()['adder'](n) for n in range(20)]; result = f[7](1)") == 8
        with Client.run(address) as client:
            client.do("session = open()")
            assert client.do(TWO_AND_THREE) == 5


def test_a_client_that_is_killed_in_a_call_leaves_the_board_to_the_next(simulated: Served) -> None:
    with served(simulated.port) as (address, _):
        with Client.run(address) as client:
            client.do("session = open(); f = session.system_lib()['sleep_ms']")
            client.send("f(1500)")
        with Client.run(address) as client:
            client.do("session = open()")
            assert client.do(TWO_AND_THREE) == 5


def test_a_board_that_resets_in_a_session_has_lost_what_it_had_and_goes_on(simulated: Served) -> None:
    server = simulated.server
    assert server is not None
    with served(simulated.port) as (address, _), Client.run(address) as client:
        client.do("session = open(); old = session.get_function('add')")
        client.do("x = tvm.runtime.tensor(np.arange(4, dtype='float32'), session.cpu(0))")
        assert client.do("result = old(2, 3), x.numpy().tolist()") == (5, [0, 1, 2, 3])
        server.do(lambda now: server.device.reset())
        for order in ("result = x.numpy()", "result = old(2, 3)"):
            answer = client.do(order)
            assert "RPCError" in answer, answer
            assert "reset" in answer, answer
        assert client.do(TWO_AND_THREE) == 5
        client.do("del x, old; x = tvm.runtime.tensor(np.ones(4, 'float32'), session.cpu(0))")
        assert client.do("result = x.numpy().tolist()") == [1, 1, 1, 1]


def test_a_gateway_that_is_killed_is_withdrawn_and_its_client_gets_an_error(simulated: Served, tracker: int) -> None:
    at = f"127.0.0.1:{tracker}"
    with served(simulated.port, "--key", "board", "--tracker", at) as (address, gateway):
        until(lambda: free_of(tracker, "board"), "the board is offered")
        with Client.run(address, tracker=tracker, key="board") as client:
            client.do("session = open(); f = session.get_function('add')")
            assert client.do("result = f(2, 3)") == 5
            kill(gateway)
            until(lambda: not servers_of(tracker), "the board is withdrawn")
            assert "Error" in client.do("result = f(2, 3)")
        with served(simulated.port, "--key", "board", "--tracker", at) as (address, _):
            until(lambda: free_of(tracker, "board"), "the board is offered again")
            with Client.run(address, tracker=tracker, key="board") as client:
                client.do("session = open()")
                assert client.do(TWO_AND_THREE) == 5


def test_a_gateway_that_is_ended_withdraws_what_it_offered(tracker: int) -> None:
    with served("sim://", "--key", "board", "--tracker", f"127.0.0.1:{tracker}") as (_, gateway):
        until(lambda: free_of(tracker, "board"), "the board is offered")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(timeout=30) == 0
        until(lambda: not servers_of(tracker), "the board is withdrawn")
        assert free_of(tracker, "board") == 0


def test_a_tracker_that_is_killed_and_started_again_has_the_board_and_no_session_notices() -> None:
    needs.tvm()
    with contextlib.ExitStack() as stack:
        port, process = stack.enter_context(stock_tracker())
        address, _ = stack.enter_context(served("sim://", "--key", "board", "--tracker", f"127.0.0.1:{port}"))
        until(lambda: free_of(port, "board"), "the board is offered")
        client = stack.enter_context(Client.run(address, tracker=port, key="board"))
        client.do("session = open(); f = session.get_function('add')")
        assert client.do("result = f(2, 3)") == 5
        kill(process)
        assert client.do("result = f(3, 4)") == 7
        stack.enter_context(stock_tracker(port))
        until(lambda: servers_of(port) == ["board"], "the board is listed again", 60)
        assert free_of(port, "board") == 0  # in a session
        assert client.do("result = f(4, 5)") == 9
        client.do("del f, session; gc.collect()")
        until(lambda: free_of(port, "board"), "the board is offered again")
        client.do("session = open()")
        assert client.do(TWO_AND_THREE) == 5


def test_a_client_that_finds_no_board_free_waits_at_the_tracker_until_one_is(tracker: int) -> None:
    with contextlib.ExitStack() as stack:
        address, _ = stack.enter_context(served("sim://", "--key", "board", "--tracker", f"127.0.0.1:{tracker}"))
        first, second = (stack.enter_context(Client.run(address, tracker=tracker, key="board")) for _ in range(2))
        first.do("session = open()")
        second.send("session = open()")
        until(lambda: summary_of(tracker)["queue_info"]["board"]["pending"] == 1, "the second one waits")
        assert first.do(TWO_AND_THREE) == 5
        first.do("del session; gc.collect()")
        assert second.result() is None
        assert second.do(TWO_AND_THREE) == 5


# --- a farm -------------------------------------------------------------------------------------------------


def test_sixteen_boards_of_one_gateway_are_requested_used_and_released(tracker: int) -> None:
    boards = ["sim://"] * 16
    with served(*boards, "--key", "farm", "--tracker", f"127.0.0.1:{tracker}") as (address, _):
        until(lambda: free_of(tracker, "farm") == 16, "all boards are offered", 60)
        assert servers_of(tracker) == ["farm"] * 16
        with Client.run(address, tracker=tracker, key="farm") as client:
            for _ in range(2):
                assert client.do("sessions = [open() for _ in range(16)]") is None
                assert free_of(tracker, "farm") == 0
                assert servers_of(tracker) == ["farm"] * 16
                client.do("arrays = [tvm.runtime.tensor(np.full(9, n), s.cpu(0)) for n, s in enumerate(sessions)]")
                client.do("result = [a.numpy().tolist() == [n] * 9 for n, a in enumerate(arrays)]")
                assert client.do("result = [int(a.numpy()[0]) for a in arrays]") == list(range(16))
                assert client.do("result = [s.get_function('add')(n, 1) for n, s in enumerate(sessions)]") == list(
                    range(1, 17)
                )
                client.do("del arrays, sessions; gc.collect()")
                until(lambda: free_of(tracker, "farm") == 16, "all boards are offered again")


def test_boards_of_different_keys_on_one_port_are_told_apart(tracker: int) -> None:
    keys = ["--key", "small", "--key", "large", "--tracker", f"127.0.0.1:{tracker}"]
    with served("sim://", "sim://qemu_mps2_an385", *keys) as (address, _):
        until(lambda: servers_of(tracker) == ["large", "small"] and free_of(tracker, "large"), "both are offered")
        with Client.run(address, tracker=tracker, key="large") as client:
            client.do("session = open()")
            assert client.do(ALLOCATE) == LARGEST_BYTES
            assert (free_of(tracker, "small"), free_of(tracker, "large")) == (1, 0)
        with Client.run(address, tracker=tracker, key="small") as client:
            client.do("session = open()")
            assert "out of memory" in client.do(ALLOCATE)


def test_a_matchkey_is_let_in_and_nothing_else_is(tracker: int) -> None:
    with served("sim://", "--key", "board", "--tracker", f"127.0.0.1:{tracker}") as (address, _):
        until(lambda: free_of(tracker, "board"), "the board is offered")
        with Tracker(tracker) as asking:
            matchkey = asking.ask([4, "board", "", 1])[1][2]
        with Client.run(address) as client:
            port = address.rpartition(":")[2]
            for key in ("", "board", "board:0.5", matchkey[:-1], f"{matchkey}1"):
                answer = client.do(f"rpc.connect('127.0.0.1', {port}, {key!r})")
                assert f"cannot find server that matches key=client:{key}" in answer, answer
            client.do(f"session = rpc.connect('127.0.0.1', {port}, {matchkey!r})")
            assert client.do(TWO_AND_THREE) == 5
            client.do("del session; gc.collect()")
            answer = client.do(f"rpc.connect('127.0.0.1', {port}, {matchkey!r})")
            assert "cannot find server" in answer, answer


def test_three_clients_share_two_boards_and_none_goes_without(tracker: int) -> None:
    turns = """
def turn(n):
    session = open(session_timeout=60)
    x = tvm.runtime.tensor(np.full(100, n, "int32"), session.cpu(0))
    session.system_lib()["inc_tensor"](x)
    return int(x.numpy().sum())
result = [turn(n) for n in range(8)]
"""
    with contextlib.ExitStack() as stack:
        at = ("--key", "farm", "--tracker", f"127.0.0.1:{tracker}")
        address, _ = stack.enter_context(served("sim://", "sim://", *at))
        clients = [stack.enter_context(Client.run(address, tracker=tracker, key="farm")) for _ in range(3)]
        for client in clients:
            client.send(turns)
        for client in clients:
            assert client.result(60) == [100 * (n + 1) for n in range(8)]
        until(lambda: free_of(tracker, "farm") == 2, "both boards are offered again")
