"""What the README and the guides to TVM show is run as it is written, but for the port that a test may take."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import needs
import pytest
from stock_tvm import served, stock_tracker, until

from microrpc.firmware.build import build as build_firmware
from microrpc.firmware.emulator import start_firmware
from microrpc.firmware.project import load_project

pytestmark = [pytest.mark.tvm, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent.parent
BOARD = "qemu_mps2_an385"


@pytest.fixture(scope="module", autouse=True)
def _needed() -> None:
    needs.tvm()


def examples(document: str, containing: str) -> list[str]:
    """Give the Python blocks of a document that say something."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [block for block in blocks if containing in block]
    assert found, document
    return found


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a Python program to its end, and give what it prints."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", ["README.md", "docs/tvm.md", "docs/tvm_serve.md"])
def test_a_client_does_with_a_simulated_board_what_the_document_says(document: str) -> None:
    with served("sim://") as (address, _):
        port = address.rpartition(":")[2]
        for example in examples(document, 'rpc.connect("127.0.0.1", 9090)'):
            if "load_module" in example:
                continue  # tests/tvm/test_load.py
            said = run("-c", example.replace("9090", port)).splitlines()
            expected = re.findall(r"^# prints (.*)", example, flags=re.MULTILINE)
            assert said[: len(expected)] == expected  # what comes then are times


def test_a_client_gets_a_board_from_the_tracker_as_the_document_says() -> None:
    first, farm = examples("docs/tvm_farm.md", 'rpc.connect_tracker("127.0.0.1", 9190)')
    boards = ["sim://"] * 16
    with stock_tracker() as (port, _), served(*boards, "--key", "farm", "--tracker", f"127.0.0.1:{port}"):
        said = run("-c", farm.replace("9190", str(port)))
        assert said.splitlines()[0] == str(list(range(1, 17)))
        one = first.replace("9190", str(port)).replace('request("board"', 'request("farm"')
        assert run("-c", one).splitlines() == ["5"]


def test_the_tour_leads_from_an_onnx_file_to_a_model_on_a_board(tmp_path: Path) -> None:
    needs.emulated(BOARD)
    said = run(ROOT / "examples" / "sine_onnx.py", cwd=tmp_path)
    tour = (ROOT / "docs" / "tvm.md").read_text(encoding="utf-8")
    assert said.rstrip("\n") in tour
    cli = ("-m", "microrpc.cli")
    built = run(*cli, "tvm", "build", "sine.onnx", "--board", BOARD, "--out", "sine_board", cwd=tmp_path)
    for line in re.findall(r"^(?:code|weights|arena) .*", built, flags=re.MULTILINE):
        assert f"    {line}\n" in tour
    with start_firmware(build_firmware(load_project(tmp_path / "sine_board"))) as emulator:
        validated = run(*cli, "model", "validate", emulator.port, "--data", "sine.npz", cwd=tmp_path)
        assert validated.startswith("sine: 200 of 200 samples agree; ")
        (example,) = examples("docs/tvm.md", "board.model()")
        assert run("-c", example.replace("/dev/pts/7", emulator.port)).startswith("[[0.9990358]]\n")


def test_the_example_of_the_tuner_leaves_nothing_running_when_it_is_ended(tmp_path: Path) -> None:
    needs.emulated(BOARD)
    said = tmp_path / "said"
    with said.open("w") as stderr:
        command = [sys.executable, str(ROOT / "examples" / "tune_matmul.py"), "--trials", "1"]
        tuner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
    try:
        until(lambda: "registered at the tracker" in said.read_text(), "the gateway is at the tracker", 120)
        tuner.terminate()
        assert tuner.wait(timeout=60) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.killpg(tuner.pid, 0)  # nobody is in its group: the gateway has gone, too
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(tuner.pid, signal.SIGKILL)
        tuner.wait(timeout=60)
