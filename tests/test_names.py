"""The names that users import: there for good and never with a warning, typed, cheap; and old ones, which work."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

import microrpc

ROOT = Path(__file__).parent.parent
TYPED_PROGRAM = Path(__file__).parent / "typed_program.py"
PACKAGES = ("microrpc", "firmware_sim", "pytest_microrpc")

PERMANENT = {
    "microrpc": (
        "ArgumentError Board BoardError BoardMemory BoardProfile BoardResetError CPU Call CallCancelledError "
        "CallTimeoutError CaptureError ClosedError CopyRangeError CopyStats DamagedReplyError DataType Device Event "
        "Events FeatureMissingError FirmwareError FunctionAttributeError FunctionDescription FunctionNotFoundError "
        "HandshakeTimeoutError Identity LayerDifference LayerTime MicroRpcError Model ModelLayer ModelReport "
        "ModelTable ModelTensor OpaqueHandle OutcomeUnknownError PortBusyError PortError PortLostError "
        "PortNotFoundError PortPermissionError ProfileError ProtocolError RemoteArray RemoteError RemoteFunction "
        "RemoteModule RemoteStream RequestError RequestTooLargeError SignatureError StaleHandleError Stats "
        "Subscription Timeouts Timing UInt UnsupportedValueError Validation VerifyError aio boards connect errors "
        "load_profile open_board profile profiles"
    ),
    "microrpc.aio": (
        "AsyncBoard AsyncCall AsyncChannel AsyncEvents AsyncModel AsyncRemoteArray AsyncRemoteFunction "
        "AsyncRemoteModule AsyncRemoteStream InMemoryChannel Opening connect open_board"
    ),
    "microrpc.boards": (
        "BoardKind BoardProfile FlowControl Reset ResetStep ResetStrategy UsbId load_profile profile profiles "
        "user_directory"
    ),
    "firmware_sim.device": "Cancelled Clock Device Feature Firmware RealClock Stats VirtualClock",
    "firmware_sim.faults": (
        "Action BoardFault BrownOut Burst ByteFault Delay DelayEvents Direction Double Drop Fault Faults Flip Garbage "
        "HoldEvents Insert LoseEvents Reset Stuck Unplug Wedge load_faults parse_fault"
    ),
    "firmware_sim.loopback": "Damager LineChannel LoopbackChannel",
    "firmware_sim.serve": "PtyPort PtyServer Server TcpPort TcpServer",
    "firmware_sim.simulate": "SimBoard simulate uart_of",
    "firmware_sim.uart": "FirmwareTime HostAdapter LineState Rate Uart UartLine",
}
LAZY = ("microrpc", "microrpc.aio", "microrpc.boards")

MOVED = {
    "microrpc.channel": {
        "microrpc.ports.channel": "Channel SerialChannel monotonic",
        "microrpc.ports.fd": "FdChannel",
        "microrpc.ports.opening": "open_serial",
        "microrpc.ports.pyserial": "PyserialChannel",
        "microrpc.ports.sockets": "open_tcp",
    },
    "microrpc.client": {"microrpc": "Board"},
    "microrpc.emulator": {
        "microrpc.firmware.emulator": "Emulator START_S build_to_run start_emulated start_firmware",
    },
    "microrpc.host": {
        "microrpc.host.job": "Progress",
        "microrpc.wire.names": "MAX_PACKET_SIZE_FUNCTION MODULE_GET_FUNCTION SYSTEM_LIBRARY_FUNCTION",
    },
    "microrpc.link": {
        "firmware_sim.board.link": "LinkDevice",
        "microrpc.host.link": "LinkHost LinkReply LinkRequest",
        "microrpc.host.blocks": "Noise",
        "microrpc.wire.link": "LinkParameters ReplyKind RequestKind decode_link_message encode_link_message",
        "microrpc.wire.names": "LINK_FUNCTION",
    },
    "microrpc.share": {"microrpc.gateway.unix": "Share check_system default_path turn_bytes"},
}
MOVES = [
    (module, name, place)
    for module, places in MOVED.items()
    for place, names in places.items()
    for name in names.split()
]


def python(*args: str) -> str:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, check=True).stdout


# --- permanent names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PERMANENT)
def test_a_module_exports_its_permanent_names(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(PERMANENT[name].split())
    assert set(module.__all__) <= set(dir(module))
    for each in module.__all__:
        assert getattr(module, each) is not None


@pytest.mark.parametrize("name", PERMANENT)
def test_a_star_imports_them_all(name: str) -> None:
    given: dict[str, object] = {}
    exec(f"from {name} import *", given)
    assert set(given) - {"__builtins__"} == set(PERMANENT[name].split())


def test_permanent_names_never_warn() -> None:
    imports = [f"from {module} import {', '.join(names.split())}" for module, names in PERMANENT.items()]
    program = "; ".join([*imports, "import microrpc.errors, pytest_microrpc.plugin; print('quiet')"])
    assert python("-W", "error", "-c", program) == "quiet\n"


def test_an_unknown_name_is_no_attribute_and_no_import() -> None:
    with pytest.raises(AttributeError, match=r"^module 'microrpc' has no attribute 'conect'"):
        _ = microrpc.conect  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'conect' from 'microrpc'"):
        exec("from microrpc import conect")


# --- laziness -----------------------------------------------------------------------------------------


def test_importing_microrpc_loads_neither_numpy_nor_pyserial() -> None:
    loaded = python("-c", "import sys, microrpc; print(*sys.modules)").split()
    assert {name for name in loaded if name.startswith(("microrpc", "numpy", "serial"))} == {
        "microrpc",
        "microrpc._names",
    }


def test_submodules_and_names_are_there_after_a_plain_import() -> None:
    program = (
        "import microrpc; "
        "print(microrpc.boards.profile('loopback').name, microrpc.profile('loopback').name, "
        "microrpc.errors.MicroRpcError is microrpc.MicroRpcError, microrpc.aio.connect.__module__)"
    )
    assert python("-c", program) == "loopback loopback True microrpc.connecting.aio\n"


def test_a_name_is_looked_up_once() -> None:
    program = (
        "import microrpc; before = 'Board' in vars(microrpc); microrpc.Board; print(before, 'Board' in vars(microrpc))"
    )
    assert python("-c", program) == "False True\n"


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_the_names_that_are_loaded(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    seen = {
        alias.asname: f"{node.module}.{alias.name}"
        for block in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.keys() == set(module.__all__)
    for each, place in seen.items():
        holder, _, attribute = place.rpartition(".")
        assert getattr(module, each) is getattr(importlib.import_module(holder), attribute)


# --- types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_that_it_is_typed(name: str) -> None:
    assert (ROOT / name / "py.typed").exists()


@pytest.mark.timeout(600)
def test_mypy_passes_a_program_that_uses_the_documented_names(tmp_path: Path) -> None:
    cache = ROOT / "build" / "tests" / "mypy"
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", str(TYPED_PROGRAM)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False, cwd=tmp_path)
    assert ran.stdout == "Success: no issues found in 1 source file\n", ran.stdout + ran.stderr


# --- old names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("module", "name", "place"), MOVES)
@pytest.mark.parametrize(
    "way", ["\n\nfrom {module} import {name} as found", "import {module}\n\nfound = {module}.{name}"]
)
def test_an_old_name_is_the_new_thing_and_the_warning_points_at_the_users_line(
    module: str, name: str, place: str, way: str
) -> None:
    given: dict[str, object] = {"__name__": "users_program"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(way.format(module=module, name=name), "users_program.py", "exec"), given)
    assert given["found"] is getattr(importlib.import_module(place), name)
    assert {(one.category, str(one.message), one.filename, one.lineno) for one in caught} == {
        (
            DeprecationWarning,
            f"{module}.{name} is {place}.{name} now; the old name goes with a later release",
            "users_program.py",
            3,
        )
    }


@pytest.mark.parametrize("module", MOVED)
def test_an_old_module_has_no_other_names_and_warns_of_none(module: str) -> None:
    old: ModuleType = importlib.import_module(module)
    with pytest.raises(AttributeError, match=f"^module '{module}' has no attribute 'nothing'$"):
        _ = old.nothing


def test_what_did_not_move_does_not_warn() -> None:
    program = "import microrpc.firmware.project, microrpc.host.requests, microrpc.client.board; print('quiet')"
    assert python("-W", "error", "-c", program) == "quiet\n"


def test_names_are_loaded_although_a_test_tool_has_taken_their_module_away_meanwhile() -> None:
    code = (
        "import sys, microrpc.aio\n"
        "aio = sys.modules.pop('microrpc.aio')\n"
        "print(aio.AsyncBoard.__name__, 'AsyncBoard' in dir(aio), hasattr(aio, 'nothing'))"
    )
    assert python("-c", code) == "AsyncBoard True False\n"
