"""Firmware for the tests: a project is built once and emulated, or put on a board first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.core  # noqa: F401
import needs
import pytest
from fake_flashers import FAIL, FakeTools
from firmware.test_elf import make_program
from serial.tools.list_ports_common import ListPortInfo

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards import booting
from microrpc.boards.catalogue import profile
from microrpc.firmware import drives
from microrpc.firmware.emulator import build_to_run, start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_project

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
NAMES = b"nucleo_f746zg\0microrpc demonstration\0"  # those of the board that answers
ADD = "def test(board): assert board.function('add')(1, 2) == 3\n"

Run = Callable[..., pytest.RunResult]


def errors(result: pytest.RunResult) -> str:
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sum(line.startswith("ERROR") for line in result.errlines) == 1
    return "\n".join(result.errlines)


@pytest.fixture
def project(pytester: pytest.Pytester) -> Path:
    """A new project, `my_project`, for this computer."""
    new_project(pytester.path / "my_project", "posix")
    return pytester.path / "my_project"


# --- what is named --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("board", "told"),
    [
        ("posix", "emulated posix with my_project"),
        ("qemu_mps2_an385", "emulated qemu_mps2_an385 with my_project"),
        ("rpi_pico", "emulated rp2040 with my_project"),
        ("rpi_pico_uart", "emulated rp2040_uart with my_project"),
        ("arduino_uno", "emulated simavr_uno with my_project"),
        ("microbit", "emulated qemu_microbit with my_project"),
        ("micropython", "emulated micropython with my_project"),
        ("nucleo_f746zg", "nucleo_f746zg with my_project"),
    ],
)
@pytest.mark.parametrize("name", ["./my_project", "my_project"])
def test_a_project_is_for_its_board_or_the_twin_that_is_emulated(
    run: Run, pytester: pytest.Pytester, board: str, told: str, name: str
) -> None:
    new_project(pytester.path / "my_project", board)
    result = run("def test(board): pass", f"--microrpc-board={name}", "--collect-only")
    result.stdout.fnmatch_lines([f"microrpc: {told}"])
    assert result.ret == 0


def test_a_project_on_a_port(run: Run, pytester: pytest.Pytester) -> None:
    new_project(pytester.path / "my_project", "rpi_pico")
    options = ("--microrpc-board=./my_project", "--collect-only")
    for more, told in (
        (["--microrpc-port=/dev/x"], "rpi_pico on /dev/x with my_project"),
        (["--microrpc-port=/dev/x", "--microrpc-port=/dev/y"], "rpi_pico on /dev/x, /dev/y with my_project"),
        (["--microrpc-port=auto", "--microrpc-flash"], "rpi_pico with my_project, flashed first"),
    ):
        run("def test(board): pass", *options, *more).stdout.fnmatch_lines([f"microrpc: {told}"])


def test_in_the_projects_file_it_is_relative_to_that(
    run: Run, pytester: pytest.Pytester, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\nmicrorpc_board = ./my_project")
    monkeypatch.chdir(pytester.mkdir("sub"))
    run("def test(board): pass", "--collect-only", "..").stdout.fnmatch_lines(
        ["microrpc: emulated posix with my_project"]
    )


def test_a_simulated_board_is_what_the_project_of_the_projects_file_is_for(run: Run, pytester: pytest.Pytester) -> None:
    new_project(pytester.path / "my_project", "rpi_pico")
    pytester.makeini("[pytest]\nmicrorpc_board = ./my_project")
    run(ADD, "--microrpc-port=sim://").stdout.fnmatch_lines(["microrpc: simulated rpi_pico, robust firmware"])


def test_the_name_of_a_profile_goes_before_a_directory(run: Run, pytester: pytest.Pytester) -> None:
    new_project(pytester.path / "rpi_pico", "posix")
    run(ADD, "--microrpc-board=rpi_pico", "--collect-only").stdout.fnmatch_lines(["microrpc: rpi_pico"])
    run(ADD, "--microrpc-board=./rpi_pico", "--collect-only").stdout.fnmatch_lines(["*emulated posix with rpi_pico"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["./none"], "--microrpc-board ./none: there is no such directory"),
        (["./empty"], "--microrpc-board ./empty: */empty: has no port.toml: `microrpc firmware new` makes*"),
        (["./sketch"], "--microrpc-board ./sketch: */sketch: is a sketch, which the Arduino IDE*"),
        (
            ["./my_project", "--microrpc-port=sim://"],
            "--microrpc-port sim://: a simulated board runs no firmware, such*",
        ),
        (
            ["./my_project", "--microrpc-port=qemu://mps2_an385"],
            "--microrpc-port qemu://mps2_an385 and --microrpc-board*",
        ),
        (["./other", "--microrpc-port=/dev/x", "--microrpc-board-file=uno.toml"], "*/port.toml: is for nucleo_f746zg*"),
        (["loopback", "--microrpc-port=/dev/x", "--microrpc-flash"], "/dev/x: is no real board, but a simulated one*"),
        (["spresense", "--microrpc-port=/dev/x", "--microrpc-flash"], "*microrpc does not know how a program is put*"),
    ],
)
def test_what_cannot_be_is_one_clear_error(
    run: Run, pytester: pytest.Pytester, project: Path, options: list[str], message: str
) -> None:
    pytester.mkdir("empty")
    (pytester.mkdir("sketch") / "sketch.ino").touch()
    new_project(pytester.path / "other", "nucleo_f746zg")
    pytester.makefile(
        ".toml",
        uno='name = "uno"\ndescription = "mine"\nbaud = 115200\npacket_size_bytes = 256\nheap_bytes = 200\n'
        'flash = ["prog", "{elf}"]\n',
    )
    result = run("def test(board): pass", "--microrpc-board", *options)
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    errors(result)


def test_flash_without_a_board_says_what_to_name(run: Run) -> None:
    text = errors(run("def test(board): pass", "--microrpc-port=/dev/x", "--microrpc-flash"))
    assert "which firmware /dev/x takes is not known: say with --microrpc-board what it is" in text


# --- emulated -------------------------------------------------------------------------------------


def test_a_project_is_built_and_emulated(run: Run, project: Path) -> None:
    needs.emulated("posix")
    result = run(
        """
@pytest.mark.microrpc_board(profile="posix")
def test(board):
    assert board.identity.firmware == "my_project"
    assert board.name == "emulated://my_project"
    assert board.function("add")(1, 2) == 3
@pytest.mark.microrpc_board(flash=True, reset=True)
def test_flash(board): assert board.identity.firmware == "my_project"
@pytest.mark.microrpc_board(profile="rpi_pico")
def test_other(board): assert 0
@pytest.mark.hardware
def test_hardware(board): assert 0
""",
        "--microrpc-board=./my_project",
        "--microrpc-flash",
    )
    result.assert_outcomes(passed=2, skipped=2)


def test_what_does_not_compile_is_one_clear_error_before_any_test(run: Run, project: Path) -> None:
    needs.emulated("posix")
    functions = project / "functions.c"
    functions.write_text(functions.read_text().replace("int64_t a =", "int64_t oops ="))
    result = run("def test(board): pass\ndef test_other(): pass", "--microrpc-board=./my_project")
    text = errors(result)
    assert "ERROR: my_project cannot be built, the compiler says:\n" in text
    assert "use of undeclared identifier 'a'" in text
    assert "test_it.py" not in result.stdout.str()


@pytest.mark.boards
def test_a_mark_names_other_firmware_for_an_emulated_board(run: Run, pytester: pytest.Pytester, project: Path) -> None:
    needs.emulated("posix")
    new_project(pytester.path / "other", "posix")
    new_project(pytester.path / "nucleo", "nucleo_f746zg")
    (pytester.path / "mine.elf").write_bytes(make_program([(1, 0, b"x")]))
    result = run(
        """
def test_first(board): assert board.identity.firmware == "microrpc demonstration"
@pytest.mark.microrpc_board(flash="other")
def test_other(board): assert board.identity.firmware == "other"
@pytest.mark.microrpc_board(flash="other", count=2)
def test_two(boards): assert [board.identity.firmware for board in boards] == ["other", "other"]
def test_again(board): assert board.identity.firmware == "microrpc demonstration"
@pytest.mark.microrpc_board(flash="nucleo")
def test_another_board(board): assert 0
@pytest.mark.microrpc_board(flash="mine.elf")
def test_built(board): assert 0
""",
        "--microrpc-board=posix",
    )
    result.assert_outcomes(passed=4, skipped=2)
    result.stdout.fnmatch_lines_random(
        [
            "*needs a board with other firmware: *port.toml: is for nucleo_f746zg*",
            "*needs hardware: mine.elf is a built program, and posix is emulated",
        ]
    )


@pytest.mark.boards
def test_processes_build_a_project_once(pytester: pytest.Pytester, project: Path, own_cache: Path) -> None:
    needs.emulated("posix")
    tests = "import pytest\n@pytest.mark.parametrize('number', range(6))\ndef test(board, number):\n"
    pytester.makepyfile(test_it=f"{tests}    assert board.identity.firmware == 'my_project'")
    environment = os.environ | {"XDG_CACHE_HOME": str(own_cache)}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "3", "-o", "log_cli=true", "--microrpc-board=./my_project"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=pytester.path,
        env=environment,
    )
    assert "6 passed" in ran.stdout, ran.stdout + ran.stderr
    built = list((own_cache / "microrpc" / "firmware").glob("my_project-*.elf"))
    assert len(built) == 1


# --- put on a board -------------------------------------------------------------------------------


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """No tool is installed but those that a test adds, and no drive is there."""
    tools = FakeTools(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tools.directory))
    monkeypatch.setattr(drives, "mounted", lambda: iter(()))
    monkeypatch.setattr(booting, "BACK_S", 0.5)
    return tools


@pytest.fixture
def server() -> Iterator[PtyServer]:
    with PtyServer(simulate(profile("nucleo_f746zg"))) as server:
        yield server


def counting(path: Path) -> str:
    """What a tool does that counts how often it is run."""
    return f"open({str(path)!r}, 'a').write('x')"


@pytest.fixture
def count(tmp_path: Path, fakes: FakeTools) -> Callable[[], int]:
    """Have openocd, which does nothing; gives how often it was run."""
    path = tmp_path / "count"
    fakes.add("openocd", counting(path))
    return lambda: len(path.read_text()) if path.exists() else 0


def options(server: PtyServer) -> list[str]:
    return ["--microrpc-board=nucleo_f746zg", f"--microrpc-port={server.path}"]


def test_a_board_is_flashed_once_for_all_tests_that_want_it(
    run: Run, pytester: pytest.Pytester, server: PtyServer, fakes: FakeTools, count: Callable[[], int]
) -> None:
    for name in ("mine", "other"):
        (pytester.path / f"{name}.elf").write_bytes(make_program([(1, 0x10000010, NAMES + name.encode())]))
    tests = """
def test_without(board): assert board.function('add')(1, 2) == 3
@pytest.mark.microrpc_board(flash="mine.elf")
class TestMine:
    def test(self, board): assert board.function('add')(1, 2) == 3
    def test_again(self, board): assert board.function('add')(1, 2) == 3
    def test_leaves(self, board): board.close()
    def test_after(self, board): assert board.function('add')(1, 2) == 3
"""
    run(tests, *options(server)).assert_outcomes(passed=5)
    assert count() == 1
    assert str(pytester.path / "mine.elf") in " ".join(fakes.words("openocd"))
    run(tests, *options(server)).assert_outcomes(passed=5)
    assert count() == 2, "another run of pytest knows nothing of what was done between"
    other = "@pytest.mark.microrpc_board(flash='other.elf')\ndef test_other(board): pass\n"
    again = "@pytest.mark.microrpc_board(flash='mine.elf')\ndef test_mine_again(board): pass\n"
    run(tests + other + again, *options(server)).assert_outcomes(passed=7)
    assert count() == 5


def test_what_answers_must_be_what_was_flashed(
    run: Run, pytester: pytest.Pytester, server: PtyServer, count: Callable[[], int]
) -> None:
    (pytester.path / "mine.elf").write_bytes(make_program([(1, 0x10000010, b"nucleo_f746zg\0mine\0")]))
    mark = "@pytest.mark.microrpc_board(flash='mine.elf')\n"
    result = run(f"{mark}def test(board): pass\n{mark}def test_2(board): pass", *options(server))
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["E*FirmwareError: nucleo_f746zg: was flashed, but what answers calls itself*"])


def test_a_board_that_cannot_be_flashed_is_tried_once(
    run: Run, pytester: pytest.Pytester, server: PtyServer, fakes: FakeTools, tmp_path: Path
) -> None:
    (pytester.path / "mine.elf").write_bytes(make_program([(1, 0x10000010, NAMES)]))
    fakes.add("openocd", f"{counting(tmp_path / 'count')}; {FAIL}")
    mark = "@pytest.mark.microrpc_board(flash='mine.elf')\n"
    result = run(f"{mark}def test_1(board): pass\n{mark}def test_2(board): pass\n{ADD}", *options(server), "-k", "test")
    result.assert_outcomes(errors=2, passed=1)
    result.stdout.fnmatch_lines(["E*FirmwareError: *could not be flashed: *openocd*"])
    result.stdout.fnmatch_lines(["the board could not be flashed before, so it is not tried again: *"])
    assert (tmp_path / "count").read_text() == "x"


def test_a_tool_that_is_missing_is_told_before_any_test(run: Run, server: PtyServer, fakes: FakeTools) -> None:
    text = errors(run(ADD, *options(server), "--microrpc-flash"))
    assert "nothing here can put the program into nucleo_f746zg:\n" in text
    assert "openocd: openocd or openocd-esp32 is not installed: apt-get install openocd" in text


def test_a_simulated_board_takes_flash_for_granted(run: Run, project: Path) -> None:
    source = "@pytest.mark.microrpc_board(flash=True)\ndef test(board): pass\n"
    source += "@pytest.mark.microrpc_board(flash='my_project')\ndef test_project(board): pass"
    run(source).assert_outcomes(passed=2)
    run(source, "--microrpc-flash").assert_outcomes(passed=2)


def test_a_program_that_was_not_built_is_asked_for_where_a_board_is_to_have_it(
    run: Run, server: PtyServer, fakes: FakeTools, count: Callable[[], int]
) -> None:
    source = "@pytest.mark.microrpc_board(flash='build/mine.elf')\ndef test(board): pass\n"
    run(source).assert_outcomes(passed=1)
    result = run(source, *options(server))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*FirmwareError: *build/mine.elf: there is no such file*"])
    assert count() == 0


def test_what_board_it_is_must_be_known_to_flash_it(run: Run, server: PtyServer, project: Path) -> None:
    source = "@pytest.mark.microrpc_board(flash=True)\ndef test(board): assert 0\n"
    result = run(source, f"--microrpc-port={server.path}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs a board with other firmware: which firmware * takes is not known*"])


def test_a_board_that_boots_under_another_name_is_followed(
    run: Run, pytester: pytest.Pytester, fakes: FakeTools, count: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / "mine.elf").write_bytes(make_program([(1, 0x10000010, NAMES)]))
    (usb, *_) = profile("nucleo_f746zg").usb

    def port(server: PtyServer) -> ListPortInfo:
        info = ListPortInfo(server.path)
        info.vid, info.pid, info.serial_number = usb.vendor_id, usb.product_id, "1"
        return info

    with (
        PtyServer(simulate(profile("nucleo_f746zg"))) as before,
        PtyServer(simulate(profile("nucleo_f746zg"))) as after,
    ):
        monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [port(after if count() else before)])
        result = run(
            f"""
def test_before(board): assert board.name == {before.path!r}
@pytest.mark.microrpc_board(flash="mine.elf")
class TestFlashed:
    def test(self, board): assert board.name == {after.path!r}
    def test_again(self, board): assert board.name == {after.path!r}
def test_after(board): assert board.name == {after.path!r}
""",
            "--microrpc-board=nucleo_f746zg",
        )
    result.assert_outcomes(passed=4)
    assert count() == 1


@pytest.mark.boards
def test_processes_that_share_a_board_flash_it_once(
    pytester: pytest.Pytester, server: PtyServer, count: Callable[[], int]
) -> None:
    (pytester.path / "mine.elf").write_bytes(make_program([(1, 0x10000010, NAMES)]))
    mark = "@pytest.mark.microrpc_board(flash='mine.elf')\n@pytest.mark.parametrize('number', range(8))\n"
    pytester.makepyfile(
        test_it=f"import pytest\n{mark}def test(board, number): assert board.function('add')(1, 2) == 3"
    )
    result = pytester.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider", *options(server))
    result.assert_outcomes(passed=8)
    assert count() == 1


@pytest.mark.boards
def test_a_project_is_built_and_put_on_the_board(
    run: Run, pytester: pytest.Pytester, server: PtyServer, count: Callable[[], int], fakes: FakeTools
) -> None:
    needs.zig()
    new_project(pytester.path / "my_project", "nucleo_f746zg")
    functions = pytester.path / "my_project" / "functions.c"
    functions.write_text(functions.read_text().replace('"my_project"', '"microrpc demonstration"'))
    result = run(
        f"{ADD}def test_2(board): pass",
        "--microrpc-board=./my_project",
        f"--microrpc-port={server.path}",
        "--microrpc-flash",
    )
    result.assert_outcomes(passed=2)
    assert count() == 1
    assert re.search(r"my_project-\w+\.elf", " ".join(fakes.words("openocd")))


# --- the guide ------------------------------------------------------------------------------------


@pytest.mark.parametrize("board", ["posix", pytest.param("qemu_mps2_an385", marks=pytest.mark.boards)])
def test_the_example_of_the_guide_runs_on_firmware_as_printed(pytester: pytest.Pytester, board: str) -> None:
    needs.emulated(board)
    blocks = {language: re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL) for language in ("python", "c")}
    relu, row = blocks["c"]
    folder = pytester.path / "my_project"
    new_project(folder, board)
    functions = (folder / "functions.c").read_text()
    functions = functions.replace("/* What hosts can call", f"{relu}\n/* What hosts can call", 1)
    table = "board_functions[] = {\n"
    (folder / "functions.c").write_text(functions.replace(table, table + row, 1))
    pytester.makepyfile(test_relu=blocks["python"][0])
    pytester.makefile(".toml", noise=re.findall(r"```toml\n(.*?)```", GUIDE, flags=re.DOTALL)[0])
    strict = ("-W", "error", "--strict-markers", "-rA", "-p", "no:cacheprovider")

    emulated = pytester.runpytest_inprocess(*strict, "--microrpc-board", "./my_project")
    emulated.assert_outcomes(passed=2, skipped=4)
    emulated.stdout.fnmatch_lines(["PASSED test_relu.py::test_relu", "PASSED *::test_a_copy_comes_back_as_it_was"])

    without = pytester.runpytest_inprocess(*strict, "--microrpc-board", board)  # whose own firmware has no relu
    without.assert_outcomes(passed=1, skipped=5)
    without.stdout.fnmatch_lines(
        ["microrpc: a test was skipped for want of *", "PASSED *::test_a_copy_comes_back_as_it_was"]
    )

    with start_firmware(build_to_run(load_project(folder))) as emulator:
        on_a_port = pytester.runpytest_inprocess(*strict, f"--microrpc-port={emulator.port}")
    on_a_port.assert_outcomes(passed=3, skipped=3)
    on_a_port.stdout.fnmatch_lines_random(
        ["PASSED test_relu.py::test_relu", "PASSED test_relu.py::test_the_firmware_takes_packets_of_1_kb"]
    )
