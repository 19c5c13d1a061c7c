"""What TVM compiles for, by the processor that a port names."""

from __future__ import annotations

import dataclasses

import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.project import load_port, port_names
from microrpc.firmware.tvm.targets import TargetKind, target_of

M3 = load_port("qemu_mps2_an385")


@pytest.mark.parametrize("name", [name for name in port_names() if load_port(name).sources])
def test_every_port_has_a_target_of_each_kind(name: str) -> None:
    port = load_port(name)
    assert target_of(port, TargetKind.C) == {"kind": "c"}
    assert target_of(port, TargetKind.LLVM)["kind"] == "llvm"


@pytest.mark.parametrize(
    ("target", "cpu", "triple", "float_abi"),
    [
        ("thumb-freestanding-eabi", "cortex_m0", "thumbv6m-unknown-linux-gnueabi", "soft"),
        ("thumb-freestanding-eabi", "cortex_m3", "thumbv7m-unknown-linux-gnueabi", "soft"),
        ("thumb-freestanding-eabi", "cortex_m4", "thumbv7em-unknown-linux-gnueabi", "soft"),
        ("thumb-freestanding-eabihf", "cortex_m4", "thumbv7em-none-eabihf", "hard"),
        ("thumb-freestanding-eabihf", "cortex_m7", "thumbv7em-none-eabihf", "hard"),
        ("thumb-freestanding-eabihf", "cortex_m33", "thumbv8m.main-none-eabihf", "hard"),
    ],
)
def test_floats_are_where_the_port_has_them(target: str, cpu: str, triple: str, float_abi: str) -> None:
    words = target_of(dataclasses.replace(M3, target=target, cpu=cpu), TargetKind.LLVM)
    assert (words["mtriple"], words["mfloat-abi"]) == (triple, float_abi)
    assert words["mcpu"] == cpu.replace("_", "-")


@pytest.mark.parametrize(
    ("target", "cpu"), [("thumb-freestanding-eabi", "cortex_m99"), ("avr-freestanding", None), ("riscv32-none", "odd")]
)
def test_a_processor_that_is_not_known_is_told(target: str, cpu: str | None) -> None:
    port = dataclasses.replace(M3, target=target, cpu=cpu)
    with pytest.raises(FirmwareError, match=r"qemu_mps2_an385: what LLVM is to compile for is not known.*--target c"):
        target_of(port, TargetKind.LLVM)
    assert target_of(port, TargetKind.C) == {"kind": "c"}
