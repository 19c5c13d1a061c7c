"""Markers, fixtures and the report. Nothing of microrpc is imported before a test needs a board."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_microrpc.options import LACKS_FUNCTION, MARK, MARKERS, REQUIRE, is_told
from pytest_microrpc.options import pytest_addoption as pytest_addoption
from pytest_microrpc.options import pytest_load_initial_conftests as pytest_load_initial_conftests
from pytest_microrpc.rack import LACKS_DRIVER, is_given, lacks_driver, read_rack

if TYPE_CHECKING:
    from firmware_sim.running.simulate import SimBoard
    from microrpc.client.board import Board
    from pytest_microrpc.desk import Desk
    from pytest_microrpc.setups import Setup
    from pytest_microrpc.telling import Telling
    from pytest_microrpc.wishes import Wishes

_NEEDS_HARDWARE = "needs hardware: give --microrpc-port or --microrpc-board"
_CONVERSATION = "microrpc conversation"
_HIDDEN = ("microrpc", "firmware_sim", "pytest_microrpc", "serial")

_setup_key: pytest.StashKey[Setup] = pytest.StashKey()
_wishes_key: pytest.StashKey[Wishes] = pytest.StashKey()
_tellings_key: pytest.StashKey[list[Telling]] = pytest.StashKey()
_lack_key: pytest.StashKey[str] = pytest.StashKey()
_most_boards_key: pytest.StashKey[int] = pytest.StashKey()
_locks_dut_key: pytest.StashKey[bool] = pytest.StashKey()


# --- the session ------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers and check the options."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    if is_told(config) and not is_given(config):
        _setup(config)
    if config.getoption("xmlpath", None) and not hasattr(config, "workerinput"):
        from pytest_microrpc.junit import SystemOut

        config.pluginmanager.register(SystemOut(config, _CONVERSATION), "microrpc-junit")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Build the project that was named, before any test, and once: processes of pytest-xdist find it built."""
    config = session.config
    if is_given(config) and (is_told(config) or read_rack(config) is not None):  # which labgrid has read by now
        _setup(config)
    setup = config.stash.get(_setup_key, None)
    if setup is not None and not hasattr(config, "workerinput") and not config.option.collectonly:
        setup.prepare(_command(config))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which board it runs on, where it was told one."""
    setup = config.stash.get(_setup_key, None)
    if lacks_driver(config):
        return f"microrpc: {setup or 'simulated boards'}: {LACKS_DRIVER}"
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
    is_simulated_unasked = lacks_driver(config)
    for item in items:
        reason = None
        if is_simulated_unasked and _wants_any_board(item) and _setup(config).is_required:
            item.stash[_lack_key] = f"needs a board, and {LACKS_DRIVER} ({REQUIRE})"
        if item.get_closest_marker(MARK) is not None:
            wishes = _wishes(item)
            reason = _setup(config).lacks(wishes)
            if reason is None and (lack := _setup(config).too_few(wishes.count)) is not None:
                if _setup(config).is_required:
                    item.stash[_lack_key] = f"{lack} ({REQUIRE})"
                else:
                    reason = lack
        setup = config.stash.get(_setup_key, None)
        if item.get_closest_marker("hardware") is not None and not _may_use_dut(item):
            reason = _NEEDS_HARDWARE if setup is None or setup.is_simulated else setup.is_no_hardware or reason
        if setup is not None and not setup.is_simulated:
            asked = {"sim_board", "sim_boards"} & set(getattr(item, "fixturenames", ()))
            reason = f"needs the simulator: {min(asked)}" if asked else reason
        if {"board", "boards"} & set(getattr(item, "fixturenames", ())) and _may_use_dut(item):
            config.stash[_locks_dut_key] = True
            if lack := _lacks_target(item):
                item.stash[_lack_key] = lack
        if reason is None and _wishes_key in item.stash:
            config.stash[_most_boards_key] = max(config.stash.get(_most_boards_key, 1), _wishes(item).count)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def _wants_any_board(item: pytest.Item) -> bool:
    """Whether a test asks for a board, and for nothing that simulated ones alone have."""
    names, wishes = set(getattr(item, "fixturenames", ())), _wishes(item)
    asks_for_simulator = {"sim_board", "sim_boards"} & names or wishes.faults or wishes.uart or wishes.firmware
    return bool({"board", "boards"} & names) and not asks_for_simulator and not _may_use_dut(item)


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


def _lacks_target(item: pytest.Item) -> str:
    """Tell why there will be no `dut`, "" where there may be one: labgrid has a fixture `target`, too."""
    known = getattr(item, "_fixtureinfo", None)  # of pytest, and private
    found = known.name2fixturedefs.get("target", ()) if known is not None else ()
    if not found or not found[-1].func.__module__.startswith("labgrid."):
        return ""
    text = "pytest-embedded and labgrid both have a fixture `target`, and `dut` gets labgrid's"
    return f"{text}: turn labgrid off for these tests, with `-p no:labgrid` (docs/testing.md)"


# --- fixtures -----------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Lock the port of a `dut` before pytest-embedded opens it, where `board` is behind one."""
    is_theirs = fixturedef.argname == "serial" and fixturedef.func.__module__.startswith("pytest_embedded.")
    if not (is_theirs and request.config.stash.get(_locks_dut_key, False)):
        return (yield)
    from pytest_microrpc.embedded import PortLocks

    config = request.config
    setup = _setup(config)
    if not setup.is_simulated:  # the boards of other tests may be the same ones
        request.getfixturevalue("_microrpc_desk").close()
    locks = PortLocks(_command(config), setup.wait_s)
    request.addfinalizer(locks.free)
    locks.wait_for(request.getfixturevalue("port"))
    serial = yield
    locks.check(serial)
    return serial


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
            skip_without(opened_board, wishes, place.name, is_required=setup.is_required)
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
def _microrpc_desk(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The real or emulated boards, connected to once where there are enough of them."""
    from pytest_microrpc.desk import Desk
    from pytest_microrpc.locks import Run

    if _setup(pytestconfig).rack is not None:
        request.getfixturevalue("env")  # labgrid's, which ends pytest where a place is not acquired, and cleans up last
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
    """Fail a test that lacks what it must have."""
    if (lack := item.stash.get(_lack_key, None)) is not None:
        pytest.fail(lack, pytrace=False)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that tests were skipped for want of functions, without -rs too: what is green there has run nothing. And that
    they ran on simulated boards, where labgrid was to give real ones.
    """
    ran = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    simulated = {
        report.nodeid
        for report in ran
        if any(key == "microrpc.port" and str(value).startswith("sim://") for key, value in report.user_properties)
    }
    if simulated and lacks_driver(terminalreporter.config):
        told = (
            "a test ran on a simulated board"
            if len(simulated) == 1
            else f"{len(simulated)} tests ran on simulated boards"
        )
        terminalreporter.write_line(f"microrpc: {told}: {LACKS_DRIVER}", yellow=True)
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    lacks = sum(f": {LACKS_FUNCTION}" in reason for reason in reasons)
    if lacks:
        tests = "a test was" if lacks == 1 else f"{lacks} tests were"
        text = (
            f"microrpc: {tests} skipped for want of functions in the board's firmware (-rs names them; {REQUIRE} fails)"
        )
        terminalreporter.write_line(text, yellow=True)


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
