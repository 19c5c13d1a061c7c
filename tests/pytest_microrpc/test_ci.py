"""The jobs of docs/ci.md: they can be read, and what they run runs as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import needs
import pytest
import yaml

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
GITHUB, GITLAB = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL))

TESTS = """
def test_passes(board): assert board.function("add")(2, 3) == 5
def test_fails(board): assert board.function("add")(2, 3) == 6
"""


def github_steps(job: str, **matrix: str) -> list[str]:
    """The shell steps of a job, with what GitHub puts in."""
    steps = [step["run"] for step in GITHUB["jobs"][job]["steps"] if "run" in step]
    return [re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: matrix[found[1]], step) for step in steps]


def jobs(kind: str) -> Iterator[Any]:
    """The commands that test, of both services, each with its variables."""
    matrix = GITHUB["jobs"]["emulated"]["strategy"]["matrix"]["include"]
    assert [{"NAME": one["name"], "PORT": one["port"]} for one in matrix] == GITLAB["emulated"]["parallel"]["matrix"]
    if kind == "hardware":
        yield pytest.param(github_steps("hardware")[-1], {}, id="github")
        yield pytest.param(*GITLAB["hardware"]["script"], {}, id="gitlab")
        return
    for one in matrix:
        marks = [pytest.mark.boards] if one["name"] == "qemu" else []
        yield pytest.param(github_steps("emulated", **one)[-1], one, id=f"github {one['name']}", marks=marks)
        yield pytest.param(*GITLAB["emulated"]["script"], one, id=f"gitlab {one['name']}", marks=marks)


def run(folder: Path, command: str, **environment: str) -> ET.Element:
    """Run the command of a job in a folder with tests, one of which fails; give its report."""
    (folder / "test_it.py").write_text(TESTS)
    (folder / ".venv").symlink_to(sys.prefix)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    plugins = {"PYTEST_ADDOPTS": f"-p no:cacheprovider {environment.pop('PYTEST_ADDOPTS', '')}"}
    ran = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env=os.environ | {"PATH": path} | plugins | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed, 1 passed" in ran.stdout
    assert [one.name for one in (folder / "captures").iterdir()] == ["test_it.py.test_fails.pcapng"]
    (report,) = (folder / "reports").iterdir()
    return ET.parse(report).getroot()


@pytest.mark.parametrize(("command", "variables"), [*jobs("emulated")])
def test_the_tests_run_on_the_simulator_and_in_qemu(command: str, variables: dict[str, str], tmp_path: Path) -> None:
    if variables["name"] == "qemu":
        needs.emulated("qemu_mps2_an385")
    root = run(tmp_path, command, NAME=variables["name"], PORT=variables["port"])
    told = {str(one.get("name")): str(one.get("value")) for one in root.iter("property")}
    assert told["microrpc.board"] == {"simulator": "loopback", "qemu": "qemu_mps2_an385"}[variables["name"]]
    assert told["microrpc.capture"] == "captures/test_it.py.test_fails.pcapng"
    assert "add(2, 3)" in str(next(root.iter("system-out")).text)


@pytest.mark.parametrize(("command", "variables"), [*jobs("hardware")])
def test_the_tests_run_on_a_board_of_a_runner(command: str, variables: dict[str, str], tmp_path: Path) -> None:
    """What is plugged in is a simulated board here: where it is, is told besides."""
    with PtyServer(simulate(profile("loopback"))) as server:
        root = run(tmp_path, command, PYTEST_ADDOPTS=f"--microrpc-port {server.path}", **variables)
    assert 'name="microrpc.board" value="nucleo_f746zg"' in ET.tostring(root, encoding="unicode")


def test_what_the_jobs_install_is_what_ci_itself_installs() -> None:
    listed = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    installed = [step for step in github_steps("emulated", name="qemu", port="") if "apt-get" in step]
    installed += [step for step in GITLAB["emulated"]["before_script"] if "apt-get" in step]
    for step in installed:
        for package in re.findall(r"--no-install-recommends (.*)", step)[0].split():
            assert f"need {package} " in listed
    assert len(installed) == 2


def test_both_services_keep_reports_and_captures_of_failures() -> None:
    for job in GITHUB["jobs"].values():
        (upload,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
        assert upload["if"] == "${{ !cancelled() }}"
        assert upload["with"]["path"].split() == ["reports", "captures"]
    for name in ("emulated", "hardware"):
        assert GITLAB[name]["artifacts"] == {
            "when": "always",
            "reports": {"junit": "reports/*.xml"},
            "paths": ["captures"],
        }


def test_requirements_are_what_pip_takes() -> None:
    (text,) = re.findall(r"```text\n(.*?)```", GUIDE, flags=re.DOTALL)
    names = [line.partition("#")[0].strip() for line in text.splitlines()]
    assert names == ["microrpc[firmware]", "pytest"]
