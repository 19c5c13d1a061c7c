"""TVM itself, which only building needs: imported when it is, and its errors told in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.intrinsics import teach_tvm_c
from microrpc.firmware.tvm.versions import check_versions


def import_tvm() -> Any:
    """Give the module `tvm`. Raises FirmwareError where it is not installed, or with a wrong partner."""
    check_versions()
    try:
        import tvm
    except (ImportError, OSError, AttributeError) as error:  # what a wrong pair raises
        raise FirmwareError(f"TVM is installed and cannot be imported: {error}") from error
    teach_tvm_c()
    return tvm


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Turn what TVM raises into a FirmwareError, which begins with `what`."""
    try:
        yield
    except FirmwareError:
        raise
    except Exception as error:  # TVM's have no class of their own
        raise FirmwareError(f"{what}: {reason_of_tvm(error)}") from error


def reason_of_tvm(error: BaseException) -> str:
    """The last line of what TVM says, which tells what is wrong; the others tell where in TVM."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no reason is given'}"
