"""Which versions of TVM and of its foreign function interface work together: asked before tvm is imported.

pip takes the newest interface for every TVM, and a wrong one ends the process (a segmentation fault while a module is
saved) or the import (an undefined symbol). So nothing here imports either: what is installed says its version.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from microrpc.errors import FirmwareError

_TVM, _FFI = "apache-tvm", "apache-tvm-ffi"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two packages that were tested together."""

    tvm: str
    """The version of `apache-tvm`."""
    ffi: str
    """The version of `apache-tvm-ffi`."""

    @property
    def release(self) -> str:
        """The release of TVM, as "0.27": its later builds take the same interface."""
        return ".".join(self.tvm.split(".")[:2])

    @property
    def requirements(self) -> str:
        """The two, as pip takes them."""
        return f"{_TVM}=={self.tvm} {_FFI}=={self.ffi}"

    @property
    def command(self) -> str:
        """What installs the two."""
        return f"pip install {self.requirements}"


PAIRS = (
    Pair("0.27.0.post1", "0.1.14.post1"),
    Pair("0.26.0", "0.1.14.post1"),
    Pair("0.25.0", "0.1.12"),
)
"""What works, newest first. The first one is what `pip install 'microrpc[tvm]'` brings."""


def requirements_of(release: str) -> str:
    """Give what pip is to install for a release, as "0.26". Raises FirmwareError for one that was not tested."""
    for pair in PAIRS:
        if pair.release == release:
            return pair.requirements
    raise FirmwareError(f"TVM {release} is none of those that microrpc was tested with: {_known()}")


def check_versions() -> Pair:
    """Give the pair that is installed.

    Raises FirmwareError where one of the two is missing, or where they do not work together: it says what is there,
    what works, and what installs it.
    """
    tvm, ffi = _version(_TVM), _version(_FFI)
    newest = PAIRS[0]
    if tvm is None:
        raise FirmwareError(f"{_TVM} is not installed: pip install 'microrpc[tvm]', or {newest.command}")
    pair = next((pair for pair in PAIRS if tvm.split(".")[:2] == pair.release.split(".")), None)
    if pair is None:
        raise FirmwareError(
            f"{_TVM} {tvm} is none of those that microrpc was tested with ({_known()}): {newest.command}"
        )
    if ffi is None:
        raise FirmwareError(f"{_TVM} {tvm} needs {_FFI} {pair.ffi}, which is not installed: {pair.command}")
    if ffi != pair.ffi:
        raise FirmwareError(
            f"{_TVM} {tvm} does not work with {_FFI} {ffi}, which is installed, but with {pair.ffi}: {pair.command}"
        )
    return Pair(tvm, ffi)


def _known() -> str:
    return ", ".join(pair.release for pair in PAIRS)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
