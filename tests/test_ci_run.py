"""That `.ci/run`, and the workflow beside it, bring every program that a test needs: on a new machine none is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import needs
import pytest

from microrpc.firmware.project import load_port, port_names

ROOT = Path(__file__).parent.parent
TESTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
NEED = re.compile(r"^ *need (\S+) ", re.MULTILINE)
RUN = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
INSTALLED = {*NEED.findall(RUN), *re.search(r"missing\+=\((nodejs npm)\)", RUN)[1].split()}  # type: ignore[index]
"""The packages of Debian that `.ci/run` knows how to install."""
BROUGHT = {"bash", "wireshark-common"}
"""Which need no line: one is essential in Debian, the other comes with tshark."""
ON_THE_RUNNER = {"make", "git", "nodejs", "npm", "python3-venv"}
"""What GitHub's own images have, or its actions bring."""


def constants(tree: ast.Module) -> dict[str, str]:
    """Give the names that a module gives to texts."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def packages_needed(source: str) -> set[str]:
    """Give the packages that a test names where it needs something; where the name is computed, it is not told."""
    if "needs." not in source:
        return set()
    tree = ast.parse(source)
    named = constants(tree)
    found: set[str] = set()
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "needs"):
            continue
        texts = [named.get(one.id) if isinstance(one, ast.Name) else getattr(one, "value", None) for one in node.args]
        if node.func.attr in ("program", "file") and texts and isinstance(texts[-1], str):
            found |= set(needs.package_of(texts[-1]).split())
        elif node.func.attr == "gcc":
            found.add("gcc")
    return found


@pytest.mark.parametrize(
    ("call", "packages"),
    [
        ('needs.program("tshark")', {"tshark"}),
        ('needs.program("clang++")', {"clang"}),
        ('needs.program("node", "nodejs")', {"nodejs"}),
        ('MORE = "a b"\nneeds.file("/x", MORE)', {"a", "b"}),
        ("needs.gcc()", {"gcc"}),
        ("needs.program(compiler)", set()),
        ("needs.tools()", set()),
    ],
)
def test_what_a_test_needs_is_read_from_its_source(call: str, packages: set[str]) -> None:
    assert packages_needed(call) == packages


def test_every_package_that_a_test_needs_is_installed_by_the_script() -> None:
    wanted = {path: packages_needed(source) for path, source in TESTS.items()}
    wanted.pop("tests/test_ci_run.py")
    assert len(set().union(*wanted.values())) > 10
    lacking = {path: missing for path, packages in wanted.items() if (missing := packages - INSTALLED - BROUGHT)}
    assert lacking == {}


def test_so_is_every_package_that_an_emulation_names() -> None:
    emulations = [load_port(name).emulation for name in port_names()]
    wanted = {package for one in emulations if one and one.package for package in one.package.split()}
    assert len(wanted) > 3
    assert wanted - INSTALLED == set()


def test_the_workflow_installs_what_the_script_would() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    listed = re.search(r"--no-install-recommends((?:\s+[a-z0-9+.-]+)+)\n\s+- run: PYTHON=python \.ci/run", workflow)
    assert listed is not None
    assert set(listed[1].split()) == INSTALLED - ON_THE_RUNNER


def test_the_packages_of_npm_that_tests_name_are_those_that_the_script_installs() -> None:
    named = {
        text
        for source in TESTS.values()
        for text in re.findall(r'^[A-Z_]+ = "(@?[\w/-]+@[\d.]+)"', source, re.MULTILINE)
    }
    assert named
    emulations = [load_port(name).emulation for name in port_names()]
    of_ports = {package for one in emulations if one for package in one.npm}
    assert named - of_ports == set(re.findall(r'\{"(\S+@[\d.]+)"\}', RUN))
