"""What is told of boards in the XML of --junitxml: properties of every test, the conversation of those that failed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.core  # noqa: F401
import pytest

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile

SOURCE = """
import numpy as np, pytest
from firmware_sim.faults import Flip
def test_passes(board):
    array = board.array(np.zeros(100, "uint8"))
    assert board.function("add")(2, 3) == 5
@pytest.mark.microrpc_board(firmware="stock", faults=[Flip(rate=1e-4)], seed=7)
def test_fails(board):
    board.function("add")(2, 3)
    assert 0
def test_has_no_board(): assert 0
"""

Xml = Callable[..., dict[str, ET.Element]]


@pytest.fixture
def xml(pytester: pytest.Pytester) -> Xml:
    """Run a file of tests where warnings are errors; give the testcases of the XML by name."""

    def xml(source: str, *options: str, in_process: bool = True) -> dict[str, ET.Element]:
        pytester.makepyfile(test_it=source)
        options = ("-W", "error", "-p", "no:cacheprovider", "--junitxml=out.xml", *options)
        (pytester.runpytest_inprocess if in_process else pytester.runpytest_subprocess)(*options)
        found = ET.parse(pytester.path / "out.xml").getroot().iter("testcase")
        return {str(testcase.get("name")): testcase for testcase in found}

    return xml


def properties(testcase: ET.Element) -> dict[str, str]:
    return {str(one.get("name")): str(one.get("value")) for one in testcase.iter("property")}


def said(testcase: ET.Element) -> list[str]:
    return [str(element.text) for element in testcase.iter("system-out")]


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_each_test_with_a_board_tells_of_it_and_one_that_failed_what_was_said(xml: Xml, family: str) -> None:
    cases = xml(SOURCE, "-o", f"junit_family={family}")
    told = properties(cases["test_passes"])
    assert told["microrpc.board"] == "loopback"
    assert told["microrpc.port"] == "sim://loopback"
    assert told["microrpc.firmware"] == "simulated, robust"
    assert told["microrpc.seed"] == "0"
    assert told["microrpc.copied_to_board_bytes"] == "100"
    assert told["microrpc.frames_damaged"] == "0"
    assert int(told["microrpc.requests"]) > 1
    assert float(told["microrpc.round_trip_s"]) > 0
    assert "microrpc.fault_seed" not in told
    assert "microrpc.capture" not in told
    assert said(cases["test_passes"]) == []

    told = properties(cases["test_fails"])
    assert told["microrpc.firmware"] == "simulated, stock"
    assert told["microrpc.seed"] == told["microrpc.fault_seed"] == "7"
    (text,) = said(cases["test_fails"])
    assert text.startswith("sim://loopback, frames: ")
    assert "add(2, 3)" in text
    assert text.splitlines()[-1].startswith("replay: pytest test_it.py::test_fails")
    assert [element.tag for element in cases["test_fails"]] == ["properties", "failure", "system-out"]

    assert list(cases["test_has_no_board"].iter("property")) == []
    assert said(cases["test_has_no_board"]) == []


@pytest.mark.tools
def test_with_xdist_it_is_the_same_and_so_are_the_captures(xml: Xml, pytester: pytest.Pytester) -> None:
    alone = xml(SOURCE, "--microrpc-capture=kept")
    spread = xml(SOURCE, "--microrpc-capture=spread", "-n", "2", in_process=False)
    for name, case in spread.items():
        expected = properties(alone[name])
        if name == "test_fails":
            expected["microrpc.capture"] = "spread/test_it.py.test_fails.pcapng"
        assert properties(case) == expected
        assert said(case) == [text.replace("capture: kept", "capture: spread") for text in said(alone[name])]
    assert [path.name for path in (pytester.path / "spread").iterdir()] == ["test_it.py.test_fails.pcapng"]


def test_what_a_board_says_in_control_characters_and_brackets_leaves_the_xml_whole(xml: Xml) -> None:
    source = r"""
def test(board):
    board.function("log")("\x01\x1b[31m]]> <b> \ufffe \x85 &")
    board.function("echo_str")("\x1b]0;title\x07 ]]> &amp;")
    assert 0
"""
    (text,) = said(xml(source)["test"])
    assert "]]> <b>" in text
    assert "&amp;" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("where", ["setup", "teardown", "call and teardown"])
def test_a_failure_before_or_after_the_test_has_its_conversation_too(
    xml: Xml, pytester: pytest.Pytester, where: str
) -> None:
    source = f"""
import pytest
@pytest.fixture
def more(board):
    board.function("add")(40, 1)
    assert "{where}" != "setup"
    yield
    board.function("add")(40, 2)
    assert "teardown" not in "{where}"
def test(board, more):
    board.function("add")(40, 3)
    assert "call" not in "{where}"
"""
    xml(source)
    text = "".join(said(ET.parse(pytester.path / "out.xml").getroot()))  # pytest has two testcases for two failures
    for value, is_said in ((1, True), (2, "teardown" in where), (3, where != "setup")):
        assert (f"add(40, {value})" in text) == is_said


def test_a_test_and_its_teardown_that_fail_are_two_testcases_each_with_its_own(
    xml: Xml, pytester: pytest.Pytester
) -> None:
    source = """
import pytest
@pytest.fixture
def more(board):
    yield
    board.function("add")(40, 2)
    assert 0
@pytest.mark.parametrize("is_right", [True, False])
def test(board, more, is_right):
    board.function("add")(40, 1)
    assert is_right
"""
    xml(source, "--microrpc-capture=kept")
    cases = list(ET.parse(pytester.path / "out.xml").getroot().iter("testcase"))
    assert [[element.tag for element in case] for case in cases] == [
        ["properties", "error", "system-out"],
        ["properties", "failure", "system-out"],
        ["properties", "error", "system-out"],
    ]
    assert ["add(40, 2)" in said(case)[0] for case in cases] == [True, False, True]
    for case in cases:
        names = [str(one.get("name")) for one in case.iter("property")]
        assert len(names) == len(set(names))
        assert properties(case)["microrpc.capture"] in said(case)[0]


AGAIN = """
from _pytest.runner import runtestprotocol
def pytest_runtest_protocol(item):
    runtestprotocol(item, log=False)
    item._initrequest()
"""


def test_a_test_that_is_run_again_has_each_property_once(xml: Xml, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(AGAIN)
    source = """
def test(board, request):
    request.node.user_properties.append(("microrpc.mine", 1))
    board.function("add")(1, 2)
    assert 0
"""
    case = xml(source, "--microrpc-capture=kept")["test"]
    names = [str(one.get("name")) for one in case.iter("property")]
    assert names.count("microrpc.mine") == 2, "what a test records is its own affair"
    assert len(names) - 1 == len(set(names)) > 10
    assert len(said(case)) == 1


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("loopback"))) as server:
        yield server


def test_on_hardware_each_test_has_the_counts_of_its_own(xml: Xml, server: PtyServer) -> None:
    source = "def test_{}(board):\n    add = board.function('add')\n    for i in range({}): add(2, i)\n"
    cases = xml("".join(source.format(number, number) for number in (1, 50, 3)), f"--microrpc-port={server.path}")
    requests = [int(properties(cases[f"test_{number}"])["microrpc.requests"]) for number in (1, 50, 3)]
    assert requests[1] - requests[2] == 47
    assert properties(cases["test_50"])["microrpc.sessions"] == "0"
    assert properties(cases["test_1"])["microrpc.port"] == server.path
    assert properties(cases["test_50"])["microrpc.firmware"].endswith("on loopback")
    assert "microrpc.seed" not in properties(cases["test_50"])


def test_a_board_that_is_not_there_is_told_by_its_port(xml: Xml) -> None:
    assert properties(xml("def test(board): pass", "--microrpc-port=/dev/none")["test"]) == {
        "microrpc.port": "/dev/none"
    }


def test_without_the_xml_nothing_of_it_is_loaded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(pytestconfig): assert not pytestconfig.pluginmanager.hasplugin('microrpc-junit')")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_captures_are_named_in_it(xml: Xml, tmp_path: Path) -> None:
    cases = xml(SOURCE, f"--microrpc-capture={tmp_path / 'captures'}")
    (path,) = (tmp_path / "captures").iterdir()
    assert properties(cases["test_fails"])["microrpc.capture"] == str(path)
    assert "microrpc.capture" not in properties(cases["test_passes"])
    assert f"capture: {path}" in said(cases["test_fails"])[0]
