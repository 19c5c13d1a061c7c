"""How much stack the device library takes: the reckoning by hand, what boards took, and the guide."""

from __future__ import annotations

import pathlib
import re

import needs
import numpy as np
import pytest

import microrpc
from benchmarks.core_stack import CPUS, HANDLER, MODEL, PATHS, Calls, core_calls, read_calls, rows, written
from microrpc.errors import FirmwareError
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.project import load_port, read_project

GUIDE = (pathlib.Path(__file__).parents[2] / "docs" / "firmware.md").read_text(encoding="utf-8")
MOST_BYTES = {  # on a Cortex-M3 and a Cortex-M0, with all parts
    "`microrpc_receive`, with all that it calls of the library": 1152,
    "`microrpc_receive`, as far as a function of yours": 512,
    "`microrpc_log`": 320,
}
_INTERRUPT_BYTES = 8 * 4 + 4  # what a Cortex-M puts there by itself


def need_gcc() -> None:
    needs.program("arm-none-eabi-gcc", "gcc-arm-none-eabi")


# --- the reckoning ------------------------------------------------------------------------------

CALLS = Calls(
    frames={"main": 8, "a.c:left": 100, "right": 16, "deep": 24, "mrpc_serve": 1000, "microrpc_is_cancelled": 32},
    callees={
        "main": {"a.c:left", "right", "memcpy"},
        "right": {"deep", HANDLER},
        "deep": {"__aeabi_lmul"},
        "microrpc_is_cancelled": {"right", "mrpc_serve"},
    },
)


def test_the_deepest_path_counts() -> None:
    assert CALLS.most("main") == 8 + 100
    assert CALLS.most("right") == 16 + 24
    assert CALLS.most("left") == 100
    assert CALLS.most("main", HANDLER) == 8 + 16
    assert CALLS.most("microrpc_is_cancelled") == 32 + 16 + 24  # what comes meanwhile is not served
    with pytest.raises(FirmwareError, match="left does not come to"):
        CALLS.most("left", HANDLER)
    with pytest.raises(FirmwareError, match="there are 0 functions center"):
        CALLS.most("center")


def test_what_nobody_can_know_is_an_error() -> None:
    circle = Calls(frames={"a": 8, "b": 8}, callees={"a": {"b"}, "b": {"a"}})
    with pytest.raises(FirmwareError, match="a -> b -> a: there is no end of it"):
        circle.most("a")
    with pytest.raises(FirmwareError, match="nothing is known of the stack of printf"):
        Calls(frames={"a": 8}, callees={"a": {"printf"}}).most("a")


def test_a_pointer_that_nobody_has_told_of_is_an_error(tmp_path: pathlib.Path) -> None:
    needs.program("gcc")
    (tmp_path / "port.toml").write_text('[build]\nsources = ["a.c"]\n')
    (tmp_path / "a.c").write_text("void f(void (*what)(void));\nvoid f(void (*what)(void)) {\n    what();\n}\n")
    project = read_project(tmp_path / "port.toml", tmp_path, "p")
    with pytest.raises(FirmwareError, match=r"a\.c:3:5: nobody has said what is called here: what\(\);"):
        read_calls(project)
    (tmp_path / "a.c").write_text("int f(int n);\nint f(int n) { char a[n]; a[n / 2] = 1; return a[0]; }\n")
    with pytest.raises(FirmwareError, match="f takes what nobody can know: dynamic"):
        read_calls(project)


# --- the library --------------------------------------------------------------------------------


def test_no_path_takes_more_than_it_is_meant_to() -> None:
    need_gcc()
    found = rows()
    for row, most in MOST_BYTES.items():
        assert max(found[row]) <= most, row
        assert min(found[row]) > most / 2, row


def test_the_guide_has_todays_stack() -> None:
    need_gcc()
    if (
        version := re.search(r"\d+\.\d+", core_calls("Cortex-M3")[1])
    ) is None or f"GCC {version[0]} tells" not in GUIDE:
        pytest.skip("the guide has the figures of another compiler")
    for row, sizes in rows().items():
        assert f"\n| {row} | {' | '.join(f'{size:,}' for size in sizes)} |" in GUIDE
    other = re.sub(r"^(\| `microrpc_\w+`.*? \|)( [\d,]+ \|){2}$", r"\1 1 | 2 |", GUIDE, flags=re.MULTILINE)
    assert other.count("| 1 | 2 |") == len(PATHS)
    assert written(other) == GUIDE


def test_a_path_to_a_function_is_part_of_the_whole() -> None:
    need_gcc()
    for cpu in CPUS:
        calls = core_calls(cpu)[0]
        whole = calls.most("microrpc_receive")
        assert calls.most("microrpc_receive", HANDLER) < calls.most("microrpc_receive", MODEL) < whole


@pytest.mark.boards
def test_a_board_takes_no_more_than_was_reckoned() -> None:
    """All that the demonstration has: events, long calls, models, timing, failures."""
    needs.emulated("qemu_mps2_an385")
    need_gcc()
    port = load_port("qemu_mps2_an385")
    calls = read_calls(port)
    most = calls.most("main") + calls.most("receive") + _INTERRUPT_BYTES
    firmware = build(port, compiler=Compiler.GCC)
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as board:
        before = board.memory().most_stack_bytes
        array = board.array(np.arange(100, dtype=np.float32))
        for model in board.models():
            board.model(model.name).profile(*[np.zeros(tensor.shape, str(tensor.dtype)) for tensor in model.inputs])
        board.time_evaluator("add", number=3, repeat=3)(2, 3)
        for name, arguments in (("sum_f32", (array,)), ("log", ("hello",)), ("fail", ("no",)), ("add", ("a",))):
            try:
                board.function(name)(*arguments)
            except microrpc.RemoteError:
                continue
        after = board.memory().most_stack_bytes
    assert before is not None
    assert after is not None
    print(f"{before} and then {after} bytes were taken, {most} reckoned")
    assert before <= after <= most < 2 * after
