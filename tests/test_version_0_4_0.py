"""Today's host with a device of 0.4.0, and a host of 0.4.0 with today's devices (tests/vectors/0.4.0)."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import conversation_0_4 as conversation
import needs
import pytest
from relay import TO_BOARD, TO_HOST, Relay, relayed

import microrpc
from firmware_sim.running.server import PtyServer, TcpServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.firmware.build import Firmware
from microrpc.firmware.emulator import build_to_run, start_firmware
from microrpc.firmware.project import load_port, read_project
from microrpc.wire.names import FEATURES_FUNCTION, LINK_FUNCTION
from microrpc.wire.session import MessageType

ROOT = pathlib.Path(__file__).parent.parent
COMMIT = "e14e512"
WHEEL = ROOT / "tests/vectors/0.4.0/microrpc-0.4.0-py3-none-any.whl"
TIMEOUT_S = 20.0  # two cores, and much else on them
NOISE = 1e-4  # of bits, both ways
ALL_FEATURES = ("DESCRIBE", "EVENTS", "RELIABLE_EVENTS", "PROGRESS", "MEMORY", "HOOKS")
KNOWN_TO_0_4 = set(MessageType) & set(range(0x23))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Give a directory with what is in the wheel, and nothing else."""
    directory = tmp_path_factory.mktemp("0.4.0")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(directory)
    return directory


@pytest.fixture(scope="module")
def old_firmware(old: pathlib.Path) -> Firmware:
    """Give the device of 0.4.0, as a program of this computer."""
    needs.zig()
    root = old / "microrpc/_firmware"
    return build_to_run(read_project(root / "ports/posix/port.toml", root, "posix"))


@pytest.fixture(scope="module")
def new_firmware() -> Firmware:
    """Give the device of today with all that it can."""
    needs.zig()
    return build_to_run(load_port("posix"), defines=[f"MICRORPC_{feature}=1" for feature in ALL_FEATURES])


def expected(*, later: list[Any], spoke: list[Any], logs: bool = True) -> dict[str, Any]:
    came = {what: value for what, value in conversation.EXPECTED.items() if logs or what != "logs"}
    return {"came": came, "spoke": spoke, "link": True, "later": later}


# --- the fixtures are 0.4.0 -----------------------------------------------------------------------------------


def test_the_wheel_is_version_0_4_0(old: pathlib.Path) -> None:
    assert '__version__ = "0.4.0"' in (old / "microrpc/__init__.py").read_text()
    assert "\nVersion: 0.4.0\n" in (old / "microrpc-0.4.0.dist-info/METADATA").read_text()
    assert (old / "microrpc-0.4.0.dist-info/licenses/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    sources = "".join(path.read_text() for path in (old / "microrpc/_firmware").rglob("*.[ch]"))
    assert "microrpc.link" in sources
    assert not re.search(r"microrpc\.features|microrpc\.describe|MICRORPC_EVENTS", sources)


def test_every_file_of_the_wheel_is_that_of_the_commit(old: pathlib.Path) -> None:
    git = ["git", "-C", str(ROOT)]
    if subprocess.run([*git, "cat-file", "-e", f"{COMMIT}^{{commit}}"], capture_output=True, check=False).returncode:
        pytest.skip(f"this clone does not go back to {COMMIT}")
    listed = subprocess.run([*git, "ls-tree", "-r", "--full-tree", COMMIT], capture_output=True, text=True, check=True)
    hashes = {name: line.split()[2] for line in listed.stdout.splitlines() for line, _, name in [line.partition("\t")]}
    moved = {
        "microrpc/_firmware/LICENSE": "LICENSE",
        "microrpc/_firmware/": "firmware/",
        "microrpc/_boards/": "boards/",
    }
    files = [path for path in old.rglob("*") if path.is_file() and ".dist-info" not in str(path)]
    names = [path.relative_to(old).as_posix() for path in files if "__pycache__" not in path.parts]
    assert len(names) > 130
    command = [*git, "hash-object", "--no-filters", *(str(old / name) for name in names)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    for name, digest in zip(names, found, strict=True):
        start = next((start for start in moved if name.startswith(start)), "")
        assert hashes[moved.get(start, "") + name.removeprefix(start)] == digest, name


# --- today's host, a device of 0.4.0 --------------------------------------------------------------------------


def lookups(relay: Relay, name: str) -> int:
    """Count how often the host asked for a function of that name."""
    messages = relay.messages(TO_BOARD)
    return sum(kind is MessageType.NORMAL and body.endswith(name.encode()) for _, kind, body in messages)


@pytest.mark.parametrize("noise", [0.0, NOISE], ids=["clean", "noisy"])
def test_a_host_of_today_does_all_with_a_device_of_0_4_0(old_firmware: Firmware, noise: float) -> None:
    with start_firmware(old_firmware) as emulator, relayed(emulator.port, seed=3) as relay:
        relay.flip_rate = noise
        for _ in range(3):
            came = conversation.session(relay.path, TIMEOUT_S, lambda: None, None)
            if noise:
                came["came"].pop("logs")  # its lines are as unreliable as ever
            assert came == expected(later=[42, 42], spoke=[], logs=not noise)
        if noise:
            assert relay.struck > 20
        else:
            assert lookups(relay, LINK_FUNCTION) == 3
            assert lookups(relay, FEATURES_FUNCTION) <= 3
        assert {kind for _, kind, _ in relay.messages(TO_HOST)} <= KNOWN_TO_0_4
        assert {kind for _, kind, _ in relay.messages(TO_BOARD)} <= KNOWN_TO_0_4


def test_a_device_of_0_4_0_is_asked_for_features_at_most_once_a_boot(old_firmware: Firmware) -> None:
    with ExitStack() as stack:
        emulator = stack.enter_context(start_firmware(old_firmware))
        relay = stack.enter_context(relayed(emulator.port))
        timeouts = microrpc.Timeouts(retry_s=1.0, start_s=TIMEOUT_S, call_s=TIMEOUT_S)
        board = stack.enter_context(microrpc.connect(relay.path, timeouts=timeouts))
        for boots in (1, 2):
            add = board.function("add")
            for _ in range(3):  # each leaves doubt, and a new session
                with pytest.raises(microrpc.CallTimeoutError):
                    board.function("sleep_ms")(300, timeout_s=0.05)
                assert board.function("add")(20, 22) == 42
            assert lookups(relay, LINK_FUNCTION) == boots
            assert lookups(relay, FEATURES_FUNCTION) <= boots
            if boots == 1:
                relay.attach(stack.enter_context(start_firmware(old_firmware)).port)
                assert conversation.held_call(add) == "BoardResetError"
        assert board.link is not None
        board.close()


def test_who_wants_events_of_a_device_of_0_4_0_is_told_that_there_are_none_and_goes_on(old_firmware: Firmware) -> None:
    timeouts = microrpc.Timeouts(retry_s=1.0, start_s=TIMEOUT_S, call_s=TIMEOUT_S)
    with start_firmware(old_firmware) as emulator, microrpc.connect(emulator.port, timeouts=timeouts) as board:
        came: list[object] = []
        subscription = board.on_event("sample", came.append)
        for _ in range(2):
            with pytest.raises(microrpc.FeatureMissingError, match="this board's firmware sends no events"):
                board.poll(0.1)
            assert board.function("add")(20, 22) == 42
        subscription.close()
        assert board.poll(0.1) == 0
        assert came == []


# --- a host of 0.4.0, today's devices -------------------------------------------------------------------------


@dataclass
class New:
    """A device of today: what an old host opens, how it is reset, and what crossed, where that is kept."""

    path: str
    reset: Callable[[], None]
    relay: Relay | None


@contextmanager
def _simulated(request: pytest.FixtureRequest) -> Iterator[New]:
    with PtyServer(simulate(profile("loopback"))) as server, relayed(server.path, seed=5) as relay:
        yield New(relay.path, server.reset, relay)


@contextmanager
def _over_tcp(request: pytest.FixtureRequest) -> Iterator[New]:
    with TcpServer(simulate(profile("loopback"))) as server:
        yield New(server.path, server.reset, None)


@contextmanager
def _in_c(request: pytest.FixtureRequest) -> Iterator[New]:
    firmware: Firmware = request.getfixturevalue("new_firmware")
    with ExitStack() as stack:

        def boot() -> str:
            return stack.enter_context(start_firmware(firmware)).port

        relay = stack.enter_context(relayed(boot(), seed=5))
        yield New(relay.path, lambda: relay.attach(boot()), relay)


DEVICES = {"simulator": _simulated, "simulator, TCP": _over_tcp, "C": _in_c}


@pytest.fixture(params=DEVICES)
def new(request: pytest.FixtureRequest) -> Iterator[New]:
    with DEVICES[request.param](request) as device:
        yield device


@contextmanager
def _old_host(old: pathlib.Path, path: str, sessions: int, speaks: str) -> Iterator[subprocess.Popen[str]]:
    program = pathlib.Path(conversation.__file__).resolve()
    command = [sys.executable, "-P", str(program), path, str(sessions), str(TIMEOUT_S), speaks]
    environment = {**os.environ, "PYTHONPATH": str(old), "PYTHONDONTWRITEBYTECODE": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, cwd=old, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_old_host(
    old: pathlib.Path, path: str, *, sessions: int = 1, speaks: bool = True, between: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Run the conversation under 0.4.0; give what came of each session. `between` is called before the last call."""
    with _old_host(old, path, sessions, "speaks" if speaks else "silent") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for _ in range(sessions):
            assert process.stdout.readline() == "next?\n", process.stderr and process.stderr.read()
            between()
            process.stdin.write("\n")
            process.stdin.flush()
        said, complaints = process.communicate(timeout=60)
    assert complaints == ""
    result = json.loads(said)
    assert result["version"] == "0.4.0"
    packages = [str(ROOT / package) for package in ("microrpc", "firmware_sim", "pytest_microrpc")]
    assert [name for name in result["modules"] if name.startswith(tuple(packages))] == []
    assert any(name.startswith(str(old / "microrpc")) for name in result["modules"])
    sent: list[dict[str, Any]] = result["sessions"]
    return sent


SPOKE = [0, 3, 5]  # nobody gave credit for plain events, reliable ones are kept, and the work is done


def test_a_host_of_0_4_0_does_all_with_a_device_of_today_and_hears_nothing_new(old: pathlib.Path, new: New) -> None:
    came = run_old_host(old, new.path, sessions=2)
    assert came == [expected(later=[42, 42], spoke=SPOKE)] * 2
    if new.relay is not None:
        said = {kind for _, kind, _ in new.relay.messages(TO_HOST)}
        assert said <= KNOWN_TO_0_4
        assert MessageType.LINK_REPLY in said
        assert lookups(new.relay, FEATURES_FUNCTION) == 0


def test_a_host_of_0_4_0_on_a_noisy_line_does_all_with_a_device_of_today(old: pathlib.Path, new: New) -> None:
    if new.relay is None:
        pytest.skip("TCP has no noise")
    new.relay.flip_rate = NOISE
    for came in run_old_host(old, new.path, sessions=2):
        came["came"].pop("logs")  # its lines are as unreliable as ever
        assert came == expected(later=[42, 42], spoke=SPOKE, logs=False)
    assert new.relay.struck > 20
    assert {kind for _, kind, _ in new.relay.messages(TO_HOST)} <= KNOWN_TO_0_4


def test_a_host_of_0_4_0_learns_of_a_reset_of_a_device_of_today(old: pathlib.Path, new: New) -> None:
    [came] = run_old_host(old, new.path, between=new.reset)
    assert came.pop("later") in (["BoardResetError", 42], ["StaleHandleError", 42])
    assert came == {"came": conversation.EXPECTED, "spoke": SPOKE, "link": True}


# --- over a board that is shared, one side of 0.4.0 -----------------------------------------------------------

UNIX = pytest.mark.skipif(os.name == "nt", reason="a board is shared on a Unix socket")


@contextmanager
def _shared(path: str, socket: pathlib.Path, *, old: pathlib.Path | None = None) -> Iterator[str]:
    """Share the board at `path`, by today's command or that of 0.4.0; give what clients open."""
    program = "from microrpc.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(old or ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", program, "share", path, "--socket", str(socket)]
    process = subprocess.Popen(
        command, env=environment, cwd=old or ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"unix://{socket}\n"
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


@UNIX
def test_a_host_of_0_4_0_does_all_with_a_board_that_is_shared_today(old: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with PtyServer(simulate(profile("loopback"))) as server, _shared(server.path, tmp_path / "b.sock") as url:
        came = run_old_host(old, url, sessions=2)
    wanted = expected(later=[42, 42], spoke=SPOKE, logs=False) | {"link": False}
    for session in came:
        assert session["came"].pop("logs") == []  # which stay with the one who shares it
        assert session == wanted


@UNIX
def test_a_host_of_today_does_all_with_a_board_that_0_4_0_shares_but_what_that_cannot_pass_on(
    old: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (
        PtyServer(simulate(profile("loopback"))) as server,
        _shared(server.path, tmp_path / "b.sock", old=old) as url,
        microrpc.connect(url) as board,
    ):
        came = conversation.converse(board, [])
        assert came == conversation.EXPECTED | {"logs": []}
        assert board.identity is not None
        assert board.identity.board == "loopback"
        assert any(function.name == "add" for function in board.functions())
        with pytest.raises(microrpc.FeatureMissingError, match="microrpc share"):
            next(iter(board.events("sample", timeout_s=5.0)))
        heard: list[tuple[int, int]] = []
        assert board.function("work").start(5, 100, on_progress=lambda *told: heard.append(told)).result() == 5
        assert heard == []
        assert board.function("add")(20, 22) == 42
