"""Options, markers, fixtures and the report. Nothing of microrpc is imported before a test needs a board."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from firmware_sim.running.simulate import SimBoard
    from microrpc.client.board import Board
    from pytest_microrpc.desk import Desk
    from pytest_microrpc.setups import Setup, Wishes
    from pytest_microrpc.telling import Telling

MARK = "microrpc_board"
"""The marker that says what a test needs of its board."""
_MARKERS = (
    f"{MARK}(profile, functions, faults, firmware, uart, seed, reset): what a test needs of its board",
    "hardware: the test needs a real board; without --microrpc-port or --microrpc-board it is skipped",
)
_NEEDS_HARDWARE = "needs hardware: give --microrpc-port or --microrpc-board"
_CONVERSATION = "microrpc conversation"
_HIDDEN = ("microrpc", "firmware_sim", "pytest_microrpc", "serial")

_setup_key: pytest.StashKey[Setup] = pytest.StashKey()
_wishes_key: pytest.StashKey[Wishes] = pytest.StashKey()
_telling_key: pytest.StashKey[Telling] = pytest.StashKey()


# --- options and markers ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and settings for the file of the project. Other plugins have a --port of theirs."""
    group = parser.getgroup("microrpc", "microrpc: boards, real, emulated or simulated")
    group.addoption("--microrpc-board", metavar="NAME", help="The profile of the board (`microrpc boards` lists them).")
    group.addoption("--microrpc-board-file", metavar="PATH", help="The profile of the board, a .toml file of your own.")
    group.addoption(
        "--microrpc-port",
        metavar="PATH",
        help="Run on the board on this port; without it the one that --microrpc-board is plugged into is looked for. "
        "sim://NAME: simulate this board; qemu://NAME: start its emulator.",
    )
    group.addoption(
        "--microrpc-fault-seed", metavar="N", type=int, help="The seed of all faults. [default: the test's own, else 0]"
    )
    group.addoption(
        "--microrpc-firmware",
        choices=("robust", "stock"),
        help="What simulated boards run where the test does not say. [default: robust]",
    )
    group.addoption(
        "--microrpc-capture",
        metavar="DIR",
        help="Write what crossed the line in each test that fails to a file of its own in DIR (docs/capture.md).",
    )
    for name in ("board", "board_file", "port", "firmware", "capture"):
        option = f"--microrpc-{name.replace('_', '-')}"
        parser.addini(f"microrpc_{name}", f"What {option} is where the command line does not say.", default=None)


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Have pytest's error tell what an option is called now that was given by its old name."""
    given = {arg.partition("=")[0] for arg in args}
    for name in ("board", "board-file", "port", "firmware", "fault-seed"):
        if f"--{name}" in given:
            parser.extra_info[f"microrpc's --{name}"] = f"is called --microrpc-{name} now"


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and check the options."""
    for line in _MARKERS:
        config.addinivalue_line("markers", line)
    options = ("board", "board_file", "port", "firmware", "capture", "fault_seed")
    is_told = any(config.getoption(f"microrpc_{name}") is not None for name in options)
    if is_told or any(config.getini(f"microrpc_{name}") is not None for name in options[:-1]):
        _setup(config)
    if config.getoption("xmlpath", None) and not hasattr(config, "workerinput"):
        from pytest_microrpc.junit import SystemOut

        config.pluginmanager.register(SystemOut(config, _CONVERSATION), "microrpc-junit")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which board it runs on, where it was told one."""
    setup = config.stash.get(_setup_key, None)
    return f"microrpc: {setup}" if setup is not None else None


def _setup(config: pytest.Config) -> Setup:
    if _setup_key not in config.stash:
        from pytest_microrpc.setups import read_setup

        config.stash[_setup_key] = read_setup(config)
    return config.stash[_setup_key]


def _wishes(item: pytest.Item) -> Wishes:
    if _wishes_key not in item.stash:
        from pytest_microrpc.setups import read_wishes

        item.stash[_wishes_key] = read_wishes(item, MARK)
    return item.stash[_wishes_key]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check all marks, and let be skipped what cannot run here."""
    for item in items:
        reason = None
        if item.get_closest_marker(MARK) is not None:
            reason = _setup(config).lacks(_wishes(item))
        setup = config.stash.get(_setup_key, None)
        if item.get_closest_marker("hardware") is not None and not _may_use_dut(item):
            reason = _NEEDS_HARDWARE if setup is None or setup.is_simulated else setup.is_no_hardware or reason
        if setup is not None and not setup.is_simulated and "sim_board" in getattr(item, "fixturenames", ()):
            reason = "needs the simulator: sim_board"
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def _may_use_dut(item: pytest.Item) -> bool:
    """Whether `board` is the one behind the `dut` of pytest-embedded: the test uses that, and no port is named."""
    names, config = getattr(item, "fixturenames", ()), item.config
    if "dut" not in names or "sim_board" in names or not config.pluginmanager.hasplugin("pytest_embedded"):
        return False
    is_told = config.getoption("microrpc_port") or config.getini("microrpc_port")
    return not (is_told or _setup(config).is_started_here)


# --- fixtures -----------------------------------------------------------------------------------------


@pytest.fixture
def sim_board(request: pytest.FixtureRequest) -> SimBoard:
    """A simulated board of this test's own, in virtual time: to add functions to, to break, to look inside.

    `board` is connected to it where a test uses both. Skips on hardware, and on emulated boards.
    """
    setup = _setup(request.config)
    if not setup.is_simulated:  # asked for while the test runs: otherwise it was seen before
        pytest.skip("needs the simulator: sim_board")
    from pytest_microrpc.simulated import make_sim_board

    sim, request.node.stash[_telling_key] = make_sim_board(setup, _wishes(request.node))
    return sim


@pytest.fixture
def board(request: pytest.FixtureRequest) -> Iterator[Board]:
    """A `microrpc.Board`: a new simulated one for each test, or with --microrpc-port or
    --microrpc-board the real or emulated one.
    """
    setup, wishes = _setup(request.config), _wishes(request.node)
    if _may_use_dut(request.node):
        from pytest_microrpc.embedded import open_dut_board, serial_of, tell_of

        serial = serial_of(request.getfixturevalue("dut"))
        if serial is not None:
            reason = setup.on(serial.port).lacks(wishes)
            if reason is not None:
                pytest.skip(reason)
            request.node.stash[_telling_key] = telling = tell_of(serial, setup)
            queue = request.getfixturevalue("msg_queue")
            with open_dut_board(serial, queue, setup, telling, wishes) as behind_dut:
                yield behind_dut
            return
        if request.node.get_closest_marker("hardware") is not None:
            pytest.skip(_NEEDS_HARDWARE)
    if setup.is_simulated:
        from pytest_microrpc.simulated import open_sim_board

        with open_sim_board(request.getfixturevalue("sim_board"), wishes) as simulated:
            request.node.stash[_telling_key].talk(simulated, is_new=True)
            yield simulated
        return
    desk: Desk = request.getfixturevalue("_microrpc_desk")
    request.node.stash[_telling_key] = telling = desk.begin()
    real = desk.take(reset=wishes.reset)
    telling.talk(real, is_new=desk.is_new)
    for name in wishes.functions:
        if not desk.has_function(name):
            pytest.skip(f"needs function {name!r}, which {setup.name} does not have")
    yield real
    desk.tidy()


@pytest.fixture(scope="session")
def _microrpc_desk(pytestconfig: pytest.Config) -> Iterator[Desk]:
    """The real or emulated board: connected to once."""
    from pytest_microrpc.desk import Desk

    desk = Desk(_setup(pytestconfig))
    yield desk
    desk.close()


# --- the report ---------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what was said to the report of a test that failed, and leave the library out of its traceback.

    What is known of its board is a property of each test that had one.
    """
    if call.excinfo is not None:
        _hide_library(call.excinfo.value)
    telling = item.stash.get(_telling_key, None)
    if telling is not None and (call.when == "call" or (call.when == "setup" and call.excinfo is not None)):
        item.user_properties += telling.properties()  # before the report: it copies them
    report = yield
    if telling is not None and report.failed:
        lines = telling.lines(item)
        captures = _setup(item.config).captures
        if captures is not None:
            told, saved = telling.save(captures, item.nodeid)
            lines.append(told)
            item.user_properties += saved
            report.user_properties += saved
        report.sections.append((_CONVERSATION, "\n".join(lines)))
    if telling is not None and call.when == "teardown":  # items live on, a simulated board need not
        telling.listener.end()
        del item.stash[_telling_key]
    return report


def _hide_library(failure: BaseException) -> None:
    """Have pytest end tracebacks at the user's line where the error is one of the tree's, unless --full-trace is given.

    So do those of its causes. An error that is none of the tree's is our mistake, and shown in full.
    """
    errors = sys.modules.get("microrpc.errors")
    if errors is None:
        return

    kind, hides_all = errors.MicroRpcError, isinstance(failure, errors.MicroRpcError)

    def hides(excinfo: pytest.ExceptionInfo[BaseException] | None) -> bool:
        return hides_all or (excinfo is not None and isinstance(excinfo.value, kind))

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in _HIDDEN:
            vars(module)["__tracebackhide__"] = hides
