"""Kernels and models that TVM compiles, made into firmware: needs `pip install 'microrpc[tvm]'` (docs/tvm_build.md).

report = microrpc.tvm.build("kernels.py:make", board="qemu_mps2_an385", out="my_project")
print(report.flash_bytes, report.ram_bytes)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc._names import lazy

if TYPE_CHECKING:
    from microrpc.firmware.tvm.building import build as build
    from microrpc.firmware.tvm.report import BuildReport as BuildReport
    from microrpc.firmware.tvm.report import KernelReport as KernelReport
    from microrpc.firmware.tvm.report import ModelSizes as ModelSizes
else:
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "microrpc.firmware.tvm.building": "build",
            "microrpc.firmware.tvm.report": "BuildReport KernelReport ModelSizes",
        },
    )
