"""The devices that the same tests run on, and what each has: a test is made for those that have what it takes.

    @takes("add", "inc_tensor", Part.TENSORS)
    def test_...(board: Board) -> None: ...

A test without a mark is for all of them. What a test is not made for is not skipped: it is not there.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from benchmarks.core_size import documented_ports
from microrpc.boards.catalogue import profiles
from microrpc.boards.schema import BoardKind
from microrpc.firmware.build import build
from microrpc.firmware.project import firmware_directory, load_port

SIMULATOR = "simulator"


class Part(enum.Enum):
    """What a device may have, besides functions that are called."""

    TENSORS = enum.auto()
    MODELS = enum.auto()
    MEMORY = enum.auto()
    """It tells what is used of its memory."""
    CLOCK = enum.auto()
    """The time evaluator works."""
    RANDOM = enum.auto()
    """It fills tensors at random."""
    FLOAT64 = enum.auto()
    """Its numbers are those of the host, and not rounded to 32 bits."""
    HANDLES = enum.auto()
    """Any number of arguments, of every type."""


EVERY_PART = frozenset(Part)
# Those of firmware/demo/demo.c that the tests call.
_DEMO = """
    add mul fadd adder describe noop echo_str echo_bytes reverse fail fail_silent sleep_ms log
    inc_tensor relu_f32 scale_f32 add_f32 matmul_f32 sum_f32 iota
"""
DEMO = frozenset(_DEMO.split())
RECORDED = """add fadd echo_str echo_bytes fail fail_silent noop describe inc_tensor sleep_ms log"""
"""Functions that the recording of the real host calls."""


@dataclass(frozen=True)
class Device:
    """A device, what it has, and whether only `make test-boards` runs it."""

    name: str
    is_other: bool = True
    parts: frozenset[Part] = EVERY_PART
    functions: frozenset[str] = DEMO
    is_small: bool = False
    """Whether the largest tensors and texts of the tests are too large for it: it is asked how large they may be."""
    lacks_room_to_replay: bool = False
    """Whether its heap cannot hold the largest tensors of the recording."""

    @property
    def stack_bytes(self) -> int | None:
        """The size of its stack: as its linker script has it, or what a sketch leaves of the RAM; None: not ours."""
        if self.name == SIMULATOR:
            return None
        if self.is_sketch:
            ram_bytes = profiles()[self.name].ram_bytes
            assert ram_bytes is not None
            return ram_bytes - build(load_port(self.name)).sizes.ram_bytes
        if (script := load_port(self.name).linker_script) is None:
            return None
        text = (firmware_directory() / script).read_text(encoding="utf-8")
        found = re.search(r"^stack_bytes = (\d+)K;", text, flags=re.MULTILINE)
        assert found is not None, script
        return int(found[1]) * 1024

    @property
    def is_sketch(self) -> bool:
        """Whether Arduino's tools build it: its stack is what the variables leave of the RAM."""
        return self.name != SIMULATOR and bool(load_port(self.name).sketch)

    def has(self, needed: Iterable[Part | str]) -> bool:
        """Whether it has all these parts and functions."""
        return all(one in self.parts if isinstance(one, Part) else one in self.functions for one in needed)

    def param(self) -> Any:
        """Give it as a parameter of a test, by its name."""
        return pytest.param(self.name, marks=pytest.mark.boards if self.is_other else ())


_ALL = (
    Device(SIMULATOR, is_other=False),
    Device("posix", is_other=False),
    Device("qemu_mps2_an385", is_other=False),
    Device("qemu_lm3s6965evb", lacks_room_to_replay=True),
    Device("qemu_riscv32_virt"),
    Device("rp2040"),
    Device("rp2040_uart"),
    Device("micropython", parts=EVERY_PART - {Part.MODELS}),
    Device("qemu_microbit", is_small=True, lacks_room_to_replay=True),
    Device("qemu_mps2_an500"),
    Device("qemu_netduinoplus2"),
    Device("simavr_mega", parts=EVERY_PART - {Part.MODELS, Part.FLOAT64}, is_small=True, lacks_room_to_replay=True),
    Device(
        "simavr_uno",
        parts=EVERY_PART - {Part.MODELS, Part.FLOAT64, Part.HANDLES},
        is_small=True,
        lacks_room_to_replay=True,
    ),
)
DEVICES = {device.name: device for device in _ALL}

_Test = TypeVar("_Test", bound=Callable[..., object])


def takes(*needed: Part | str) -> Callable[[_Test], _Test]:
    """Say which parts and functions of a device a test takes."""
    assert all(one in DEMO for one in needed if isinstance(one, str)), needed

    def note(test: _Test) -> _Test:
        test.takes = needed  # type: ignore[attr-defined]
        return test

    return note


def params_of(test: object) -> list[Any]:
    """Give the devices that a test is made for, as the parameters of it."""
    needed: tuple[Part | str, ...] = getattr(test, "takes", ())
    return [device.param() for device in DEVICES.values() if device.has(needed)]


def port_params(*, are_run: bool = False) -> list[Any]:
    """Give the ports in C as parameters of a test, or those of them that are run here; an image of two boards once.

    Those that only `make test-boards` runs have its mark.
    """
    ports = {load_port(name): is_run for name, is_run in documented_ports().items()}
    names = [
        port.name for port, is_run in ports.items() if port.sources and not port.sketch and (is_run or not are_run)
    ]
    return [DEVICES.get(name, Device(name)).param() for name in names]


def emulated_boards() -> list[str]:
    """Name the boards that are nothing but emulated, in the order of the names: each has a profile and a port."""
    return [name for name, board in profiles().items() if board.kind is BoardKind.EMULATED]
