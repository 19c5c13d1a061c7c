"""Firmware that is optimized as a whole, with -flto: it is built, and does what it did."""

from __future__ import annotations

import dataclasses

import needs
import numpy as np
import pytest

import microrpc
from microrpc.firmware.build import Compiler, build
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.project import load_port

pytestmark = pytest.mark.boards  # they build much


@pytest.mark.parametrize("compiler", list(Compiler))
def test_firmware_that_is_optimized_as_a_whole_runs(compiler: Compiler) -> None:
    needs.emulated("qemu_mps2_an385")
    if compiler is Compiler.GCC:
        needs.program("arm-none-eabi-gcc", "gcc-arm-none-eabi")
    port = load_port("qemu_mps2_an385")
    firmware = build(dataclasses.replace(port, flags=(*port.flags, "-flto")), compiler=compiler)
    numbers = np.arange(1000, dtype=np.float32)
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as board:
        assert board.function("add")(2, 3) == 5
        array = board.array(numbers)
        np.testing.assert_array_equal(array.numpy(), numbers)
        assert board.function("sum_f32")(array) == numbers.sum()
        assert [model.name for model in board.models()] == ["mlp", "quantised"]


@pytest.mark.parametrize("compiler", list(Compiler))
def test_a_process_that_is_optimized_as_a_whole_runs(compiler: Compiler) -> None:
    needs.zig()
    if compiler is Compiler.GCC:
        needs.program("gcc")
    port = load_port("posix")
    firmware = build(dataclasses.replace(port, flags=(*port.flags, "-flto")), compiler=compiler)
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as board:
        assert board.function("add")(2, 3) == 5
        assert [model.name for model in board.models()] == ["mlp", "quantised"]
