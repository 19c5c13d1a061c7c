"""The Tab key in real shells, with the completion installed as a user installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import needs
import pytest
from shells import shell

pytestmark = pytest.mark.tools

LINES = (
    ("microrpc info sim://nucleo_f\t", ["microrpc", "info", "sim://nucleo_f746zg"]),
    ("microrpc func\t", ["microrpc", "functions"]),
    ("microrpc call sim:// rever\t", ["microrpc", "call", "sim://", "reverse"]),
    ("microrpc info 'sim://nucleo_f\t", ["microrpc", "info", "sim://nucleo_f746zg"]),
    ("microrpc put sim:// wei\t", ["microrpc", "put", "sim://", "weights.npy"]),
    (
        "microrpc put sim:// weights.npy --board-file wei\t",
        ["microrpc", "put", "sim://", "weights.npy", "--board-file", "weights.npy"],
    ),
    ("microrpc info sim://nosuch\t", ["microrpc", "info", "sim://nosuch"]),
)


@pytest.mark.timeout(300)  # each Tab starts the program, in fish twice
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_what_is_begun_is_completed(name: str, tmp_path: Path) -> None:
    needs.program(name)
    program = Path(sys.executable).parent / "microrpc"
    environ = {**os.environ, "HOME": str(tmp_path)}
    del environ["XDG_CONFIG_HOME"]  # that of the tests
    install = [name, "-c", f"{program} --install-completion; true"]
    ran = subprocess.run(install, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"{name} completion installed in {tmp_path}")
    (tmp_path / "weights.npy").touch()
    with shell(name, tmp_path) as typed:
        if name == "zsh":
            typed.becomes("microrpc inf\t")  # the first one only loads it
        for line, words in LINES:
            assert typed.becomes(line) == words
        if name == "bash":
            assert typed.becomes("microrpc info --board=arduino_d\t") == ["microrpc", "info", "--board=arduino_due"]
