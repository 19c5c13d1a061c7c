"""Options, markers, fixtures and the report. Nothing of microrpc is imported before a test needs a board."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from firmware_sim.running.simulate import SimBoard
    from microrpc.client.board import Board
    from pytest_microrpc.desk import Desk
    from pytest_microrpc.setups import Setup
    from pytest_microrpc.telling import Telling
    from pytest_microrpc.wishes import Wishes

MARK = "microrpc_board"
"""The marker that says what a test needs of its board."""
_MARKERS = (
    f"{MARK}(profile, functions, faults, firmware, uart, seed, reset, flash, count): what a test needs of its boards",
    "hardware: the test needs a real board; without --microrpc-port or --microrpc-board it is skipped",
)
_SETTINGS: dict[str, Literal["string", "args", "bool"]] = {
    **dict.fromkeys(("board", "board_file", "firmware", "wait", "capture"), "string"),
    "port": "args",
    **dict.fromkeys(("flash", "require"), "bool"),
}
"""What the file of a project may say, and of what type it is."""
_NEEDS_HARDWARE = "needs hardware: give --microrpc-port or --microrpc-board"
_CONVERSATION = "microrpc conversation"
_HIDDEN = ("microrpc", "firmware_sim", "pytest_microrpc", "serial")

_setup_key: pytest.StashKey[Setup] = pytest.StashKey()
_wishes_key: pytest.StashKey[Wishes] = pytest.StashKey()
_tellings_key: pytest.StashKey[list[Telling]] = pytest.StashKey()
_too_few_key: pytest.StashKey[str] = pytest.StashKey()
_most_boards_key: pytest.StashKey[int] = pytest.StashKey()


# --- options and markers ------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and settings for the file of the project. Other plugins have a --port of theirs."""
    group = parser.getgroup("microrpc", "microrpc: boards, real, emulated or simulated")
    group.addoption(
        "--microrpc-board",
        metavar="NAME|DIR",
        help="The profile of the board (`microrpc boards` lists them), or the directory of a firmware project: "
        "it is built, and emulated where that can be and no port is named.",
    )
    group.addoption("--microrpc-board-file", metavar="PATH", help="The profile of the board, a .toml file of your own.")
    group.addoption(
        "--microrpc-port",
        metavar="PATH",
        action="append",
        help="Run on the board on this port; give it again for each board. Without it, or with `auto`, the ports that "
        "--microrpc-board is plugged into. sim://NAME: simulate this board; qemu://NAME: start its emulator.",
    )
    group.addoption(
        "--microrpc-flash",
        action="store_true",
        help="Put firmware on a real board before its first test: the project of --microrpc-board, or microrpc's own.",
    )
    group.addoption(
        "--microrpc-wait",
        metavar="S",
        help="How long a test waits for boards that other processes use, in seconds. [default: 60]",
    )
    group.addoption(
        "--microrpc-require",
        action="store_true",
        help="Fail a test that needs more boards than there are; else it is skipped.",
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
    for name, kind in _SETTINGS.items():
        option = f"--microrpc-{name.replace('_', '-')}"
        text = f"What {option} is where the command line does not say."
        parser.addini(f"microrpc_{name}", text, type=kind, default=None)


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
    options = (*_SETTINGS, "fault_seed")
    is_told = any(config.getoption(f"microrpc_{name}") not in (None, False) for name in options)
    if is_told or any(config.getini(f"microrpc_{name}") is not None for name in _SETTINGS):
        _setup(config)
    if config.getoption("xmlpath", None) and not hasattr(config, "workerinput"):
        from pytest_microrpc.junit import SystemOut

        config.pluginmanager.register(SystemOut(config, _CONVERSATION), "microrpc-junit")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Build the project that was named, before any test, and once: processes of pytest-xdist find it built."""
    config = session.config
    setup = config.stash.get(_setup_key, None)
    if setup is not None and not hasattr(config, "workerinput") and not config.option.collectonly:
        setup.prepare(_command(config))


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
        from pytest_microrpc.wishes import read_wishes

        item.stash[_wishes_key] = read_wishes(item, MARK)
    return item.stash[_wishes_key]


def _command(config: pytest.Config) -> str:
    """Give what this run of pytest was started with, for people."""
    return shlex.join(map(str, getattr(config, "workerinput", {}).get("mainargv") or sys.argv))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check all marks, and let be skipped what cannot run here."""
    for item in items:
        reason = None
        if item.get_closest_marker(MARK) is not None:
            wishes = _wishes(item)
            reason = _setup(config).lacks(wishes)
            if reason is None and (lack := _setup(config).too_few(wishes.count)) is not None:
                if _setup(config).is_required:
                    item.stash[_too_few_key] = lack
                else:
                    reason = lack
        setup = config.stash.get(_setup_key, None)
        if item.get_closest_marker("hardware") is not None and not _may_use_dut(item):
            reason = _NEEDS_HARDWARE if setup is None or setup.is_simulated else setup.is_no_hardware or reason
        if setup is not None and not setup.is_simulated:
            asked = {"sim_board", "sim_boards"} & set(getattr(item, "fixturenames", ()))
            reason = f"needs the simulator: {min(asked)}" if asked else reason
        if reason is None and _wishes_key in item.stash:
            config.stash[_most_boards_key] = max(config.stash.get(_most_boards_key, 1), _wishes(item).count)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def _may_use_dut(item: pytest.Item) -> bool:
    """Whether `board` is the one behind the `dut` of pytest-embedded: the test uses that, and no port is named."""
    names, config = getattr(item, "fixturenames", ()), item.config
    if (
        "dut" not in names
        or {"sim_board", "sim_boards"} & set(names)
        or not config.pluginmanager.hasplugin("pytest_embedded")
    ):
        return False
    is_told = config.getoption("microrpc_port") or config.getini("microrpc_port")
    return not (is_told or _setup(config).is_started_here)


# --- fixtures -----------------------------------------------------------------------------------------


@pytest.fixture
def sim_boards(request: pytest.FixtureRequest) -> list[SimBoard]:
    """Simulated boards of this test's own, in virtual time, as many as its mark says: to add functions to, to break, to
    look inside.

    `boards` are connected to them where a test uses both. Skips on hardware, and on emulated boards.
    """
    setup = _setup(request.config)
    if not setup.is_simulated:  # asked for while the test runs: otherwise it was seen before
        pytest.skip("needs the simulator: sim_board")
    from pytest_microrpc.simulated import make_sim_boards

    made = make_sim_boards(setup, _wishes(request.node))
    request.node.stash[_tellings_key] = [telling for _, telling in made]
    return [sim for sim, _ in made]


@pytest.fixture
def sim_board(sim_boards: list[SimBoard]) -> SimBoard:
    """The first of `sim_boards`: `board` is connected to it."""
    return sim_boards[0]


@pytest.fixture
def boards(request: pytest.FixtureRequest) -> Iterator[list[Board]]:
    """As many `microrpc.Board`s as the mark says, one where it says nothing: new simulated ones for each test, or with
    --microrpc-port or --microrpc-board real or emulated ones, which nobody else uses meanwhile.
    """
    setup, wishes = _setup(request.config), _wishes(request.node)
    if _may_use_dut(request.node):
        from pytest_microrpc.embedded import open_dut_board, serial_of, tell_of

        serial = serial_of(request.getfixturevalue("dut"))
        if serial is not None:
            reason = setup.on(serial.port).lacks_behind_dut(wishes)
            if reason is not None:
                pytest.skip(reason)
            telling = tell_of(serial, setup)
            request.node.stash[_tellings_key] = [telling]
            queue = request.getfixturevalue("msg_queue")
            with open_dut_board(serial, queue, setup, telling, wishes) as behind_dut:
                yield [behind_dut]
            return
        if request.node.get_closest_marker("hardware") is not None:
            pytest.skip(_NEEDS_HARDWARE)
    if setup.is_simulated:
        from pytest_microrpc.simulated import open_sim_board

        with contextlib.ExitStack() as stack:
            opened = []
            for number, sim in enumerate(request.getfixturevalue("sim_boards")):
                opened.append(stack.enter_context(open_sim_board(sim, wishes, number)))
                request.node.stash[_tellings_key][number].talk(opened[-1], is_new=True)
            yield opened
        return
    from pytest_microrpc.wishes import skip_without

    desk: Desk = request.getfixturevalue("_microrpc_desk")
    try:
        places = desk.take(wishes.count)
        request.node.stash[_tellings_key] = tellings = [place.begin() for place in places]
        source, real = setup.source(wishes), []
        for place, telling in zip(places, tellings, strict=True):
            real.append(place.take(reset=wishes.reset, source=source))
            telling.talk(real[-1], is_new=place.is_new)
        for place, opened_board in zip(places, real, strict=True):
            skip_without(opened_board, wishes, place.name)
        yield real
        for place in places:
            place.tidy()
    finally:
        desk.tidy()


@pytest.fixture
def board(boards: list[Board]) -> Board:
    """A `microrpc.Board`, the first of `boards`: a new simulated one for each test, or with --microrpc-port or
    --microrpc-board the real or emulated one.
    """
    return boards[0]


@pytest.fixture(scope="session")
def _microrpc_desk(pytestconfig: pytest.Config) -> Iterator[Desk]:
    """The real or emulated boards, connected to once where there are enough of them."""
    from pytest_microrpc.desk import Desk
    from pytest_microrpc.locks import Run

    worker = getattr(pytestconfig, "workerinput", {})  # of pytest-xdist
    run = Run(
        worker.get("testrunuid") or f"{os.getpid()} {time.time_ns()}",
        _command(pytestconfig),
        worker.get("workercount", 1),
        pytestconfig.stash.get(_most_boards_key, 1),
    )
    desk = Desk(_setup(pytestconfig), run)
    yield desk
    desk.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that has too few boards, where it was said that there must be enough."""
    if (lack := item.stash.get(_too_few_key, None)) is not None:
        pytest.fail(f"{lack} (--microrpc-require)", pytrace=False)


# --- the report ---------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what was said to the report of a test that failed, and leave the library out of its traceback.

    What is known of its boards are properties of each test that had some.
    """
    if call.excinfo is not None:
        _hide_library(call.excinfo.value)
    tellings = item.stash.get(_tellings_key, [])
    if tellings:
        from pytest_microrpc.telling import put_properties
    if call.when == "call" or (call.when == "setup" and call.excinfo is not None):
        for number, telling in enumerate(tellings):
            put_properties(item.user_properties, [*telling.properties(number)])  # before the report: it copies them
    report = yield
    if tellings and report.failed:
        captures, told = _setup(item.config).captures, []
        for number, telling in enumerate(tellings):
            lines = telling.lines(item)
            if captures is not None:
                line, saved = telling.save(captures, item.nodeid, number)
                lines.append(line)
                put_properties(item.user_properties, saved)
                put_properties(report.user_properties, saved)
            told.append("\n".join(lines))
        report.sections.append((_CONVERSATION, "\n\n".join(told)))
    if tellings and call.when == "teardown":  # items live on, a simulated board need not
        for telling in tellings:
            telling.listener.end()
        del item.stash[_tellings_key]
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
