"""Uploads as firmware: built, and run as a program of this computer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import needs
import numpy as np
import pytest
from firmware.tvm.test_objects import OBJECT

import microrpc
import microrpc.firmware.build
from microrpc.errors import FirmwareError, FunctionNotFoundError
from microrpc.firmware.build import Firmware
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_port, load_project
from microrpc.firmware.tvm.linking import Linker, functions_source
from microrpc.firmware.tvm.objects import read_upload

KERNEL = """
#include "tvm/ffi/c_api.h"
TVM_DLL int32_t __tvm_ffi_{name}(void* self, void* args, int32_t count, void* result) {{
  DLTensor* x = (DLTensor*)((TVMFFIAny*)args)[0].v_ptr;
  for (int64_t i = 0; i < x->shape[0]; ++i) ((float*)x->data)[i] *= {factor};
  return 0;
}}
"""


def kernel(name: str, factor: int) -> bytes:
    """Give the source of a kernel that multiplies a tensor of float32."""
    return KERNEL.format(name=name, factor=factor).encode()


@pytest.fixture(scope="module")
def linker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Linker]:
    """One for `posix`, with a cache of its own."""
    needs.emulated("posix")
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(microrpc.firmware.build, "cache_directory", lambda: directory)
        yield Linker(load_port("posix"), workspace_bytes=4096)


def link(linker: Linker, data: bytes) -> Firmware:
    return linker.link(read_upload("lib0.c", data), timeout_s=60.0)


def times(firmware: Firmware, name: str) -> float:
    """Give what a kernel makes of 1."""
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port, board="posix") as board:
        x = board.array(np.ones(4, "float32"))
        board.function(name)(x)
        value = float(x.numpy()[3])
        with pytest.raises(FunctionNotFoundError):
            board.function("adder")  # one of the demonstration's
        return value


def test_an_upload_runs_and_the_ports_own_functions_stay_out(linker: Linker) -> None:
    assert times(link(linker, kernel("twice", 2)), "twice") == 2.0


def test_the_same_upload_is_built_once_and_others_do_not_mix_with_it(linker: Linker) -> None:
    first, second = link(linker, kernel("scale", 3)), link(linker, kernel("scale", 5))
    again = link(linker, kernel("scale", 3))
    assert (first.is_new, second.is_new, again.is_new) == (True, True, False)
    assert first.elf == again.elf != second.elf
    assert (times(again, "scale"), times(second, "scale")) == (3.0, 5.0)


def test_a_build_that_fails_gives_the_compilers_words(linker: Linker) -> None:
    with pytest.raises(FirmwareError, match=r"(?s)the compiler says:\nlib0\.c:\d+:\d+: error: .*no_such_thing"):
        link(linker, kernel("broken", 2) + b"int32_t x(void) { return no_such_thing; }\n")


def test_what_cannot_be_linked_is_told_by_its_name(linker: Linker) -> None:
    with pytest.raises(FirmwareError, match=r"no_such_function"):
        link(
            linker,
            b"void no_such_function(void);\n" + kernel("open", 2).replace(b"return 0", b"no_such_function(); return 0"),
        )


def test_an_object_for_another_processor_is_told_before_the_compiler_sees_it(linker: Linker) -> None:
    with pytest.raises(FirmwareError, match=r"^lib0\.o: is for ARM, 32 bits, little-endian, but posix is"):
        linker.link(read_upload("lib0.o", OBJECT), timeout_s=60.0)


def test_parts_whose_names_are_alike_for_the_compiler_are_two_files(linker: Linker) -> None:
    parts = (*read_upload("a b.c", kernel("twice", 2)), *read_upload("a_b.c", kernel("thrice", 3)))
    firmware = linker.link(parts, timeout_s=60.0)
    assert (times(firmware, "twice"), times(firmware, "thrice")) == (2.0, 3.0)


def test_a_compiler_that_takes_too_long_is_ended(linker: Linker) -> None:
    with pytest.raises(FirmwareError, match=r"was ended: it took longer than 0\.001 s"):
        linker.link(read_upload("lib0.c", kernel("slow", 2)), timeout_s=0.001)


def test_warnings_of_generated_code_are_none(linker: Linker) -> None:
    data = kernel("warned", 2).replace(b"{\n  DL", b"{\n  int unused; char narrow = count + 1000000;\n  DL")
    assert times(link(linker, data), "warned") == 2.0


def test_the_functions_of_a_project_stay_out_and_the_rest_of_it_stays(linker: Linker, tmp_path: Path) -> None:
    directory = tmp_path / "mine"
    new_project(directory, "posix")
    (directory / "more.c").write_text("int32_t_ this_is_compiled;\n")
    with pytest.raises(FirmwareError, match=r"more\.c:1:1: error"):
        Linker(load_project(directory), workspace_bytes=4096)
    (directory / "more.c").unlink()
    ours = Linker(load_project(directory), workspace_bytes=4096)
    assert times(ours.link(read_upload("lib0.c", kernel("twice", 2)), timeout_s=60.0), "twice") == 2.0


def test_the_table_names_each_kernel() -> None:
    source = functions_source(["one", "two"])
    assert "MICRORPC_TVM_KERNEL(__tvm_ffi_one)" in source
    assert 'static const microrpc_tvm_function_t kernel_two = {"two", __tvm_ffi_two, NULL, -1};' in source
    assert "board_function_count = 2;" in source
