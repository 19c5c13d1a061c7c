"""Models that TVM compiled, as a library of this computer: the same C as on a board, called without one."""

from __future__ import annotations

import ctypes
import pathlib
import subprocess
from typing import Any

import numpy as np
import numpy.typing as npt

from microrpc.firmware.tvm.compile import compile_kernels
from microrpc.firmware.tvm.model_source import write_model
from microrpc.firmware.tvm.plan import ModelPlan
from microrpc.firmware.tvm.relax import kernel_module

FIRMWARE = pathlib.Path(__file__).resolve().parents[1] / "firmware"
FLAGS = ("-std=c11", "-O1", "-fPIC", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
_INCLUDES = tuple(f"-I{FIRMWARE / folder}" for folder in ("include", "tvm", "tvm/include"))
_WORKSPACE = "-DMICRORPC_TVM_WORKSPACE_BYTES=16777216"


def compile_adapter(directory: pathlib.Path) -> pathlib.Path:
    """Compile what all models share: the adapter and the device library. Give the archive."""
    archive = directory / "libadapter.a"
    sources = [*FIRMWARE.glob("tvm/*.c"), *FIRMWARE.glob("src/*.c")]
    _run("gcc", *FLAGS, *_INCLUDES, _WORKSPACE, "-c", *map(str, sources), where=directory)
    _run("ar", "rcs", str(archive), *(f"{source.stem}.o" for source in sources), where=directory)
    return archive


class HostModel:
    """A plan, compiled and loaded."""

    def __init__(self, plan: ModelPlan, adapter: pathlib.Path, directory: pathlib.Path) -> None:
        self._plan = plan
        source = write_model(plan)
        (directory / "model.c").write_text(source.text)
        kernels = compile_kernels(kernel_module(plan.prim_funcs), {"kind": "c"}).data if plan.prim_funcs else b""
        (directory / "kernels.c").write_bytes(kernels)
        library = directory / "model.so"
        files = ("model.c", *(["kernels.c"] if kernels else []), str(adapter), "-lm")
        _run("gcc", *FLAGS, *_INCLUDES, _WORKSPACE, "-shared", "-o", str(library), *files, where=directory)
        self._library = ctypes.CDLL(str(library))
        self._model = ctypes.c_char.in_dll(self._library, source.model)
        self._library.microrpc_tvm_run_model.restype = ctypes.c_char_p

    def __call__(self, *inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Run it. Raises RuntimeError with the model's own words."""
        given = [np.array(x, order="C") for x in inputs]
        results = [np.full(output.shape, 85, output.dtype.numpy) for output in self._plan.outputs]
        failure = self._library.microrpc_tvm_run_model(
            ctypes.byref(self._model), _addresses(given), _addresses(results), None
        )
        if failure is not None:
            raise RuntimeError(failure.decode())
        return results


def _addresses(arrays: list[npt.NDArray[Any]]) -> Any:
    return (ctypes.c_void_p * max(len(arrays), 1))(*(array.ctypes.data for array in arrays))


def _run(*command: str, where: pathlib.Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr[:2000]}")
