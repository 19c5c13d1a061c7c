"""The venv that the peers live in: made on demand, one peer after the other, so that each can be missing by itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT

DEFAULT_VENV = ROOT / ".venv-peers"
_INSTALL_S = 300


class MissingError(Exception):
    """Why a peer cannot be measured."""


@dataclass(frozen=True)
class Package:
    """What a peer's script needs; `imports` shows whether it is there. Pinned, so that figures stay comparable."""

    script: str
    title: str
    imports: str
    requirements: tuple[str, ...]
    bare: tuple[str, ...] = ()
    """Installed without what they ask for, which is much more than what is used here."""


PACKAGES = (
    Package("erpc", "eRPC 1.14.0", "erpc, serial", ("erpc==1.14.0", "pyserial==3.5")),
    Package(
        "pigweed",
        "pw_rpc 0.0.24",
        "pw_hdlc.rpc, pw_rpc.benchmark_pb2",
        ("protobuf>=5.28.2,<5.29", "pyserial==3.5"),
        bare=("pigweed==0.0.24",),
    ),
    Package("smp", "smpclient 7.3.0", "smp, smpclient.transport.serial", ("smp==4.2.0", "smpclient[serial]==7.3.0")),
    Package("cobs", "cobs 1.2.2, crc_hqx", "cobs", ("cobs==1.2.2",)),
    Package(
        "serialtransfer", "pySerialTransfer 2.6.11", "pySerialTransfer.pySerialTransfer", ("pySerialTransfer==2.6.11",)
    ),
)


def prepare(package: Package, venv: Path, *, may_install: bool) -> str:
    """Give the interpreter to run a peer's script with. Raises MissingError, which says why there is none."""
    python = venv / "bin" / "python"
    if _has(python, package):
        return str(python)
    if not may_install:
        raise MissingError("not installed, and --quick installs nothing")
    if not python.exists():
        _run([sys.executable, "-m", "venv", str(venv)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if package.bare:
        _run([*pip, "--no-deps", *package.bare])
    _run([*pip, *package.requirements])
    if not _has(python, package):
        raise MissingError("installed, but cannot be imported")
    return str(python)


def _has(python: Path, package: Package) -> bool:
    if not python.exists():
        return False
    command = [str(python), "-c", f"import {package.imports}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise MissingError(f"installing it took more than {_INSTALL_S} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"status {done.returncode}"
        raise MissingError(f"cannot be installed: {reason}")
