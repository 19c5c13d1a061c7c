"""What `make` installs, and when: the demonstration brings no compiler, and nothing is installed twice."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess

import needs
import pytest

ROOT = pathlib.Path(__file__).parent.parent
OF_DEMO, OF_ALL = "-e '.[fast]'", "-e '.[dev,fast]'"
LATER_S = 100.0


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """What make needs of a fresh clone."""
    needs.program("make")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run_make(
    directory: pathlib.Path, *args: str, timeout_s: float = 60, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell, also where `make test` runs this: nothing of that one's is handed on."""
    of_make = ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in of_make}
    return subprocess.run(
        ["make", *args], cwd=directory, env=environment | variables, capture_output=True, text=True, timeout=timeout_s
    )


def plan(clone: pathlib.Path, target: str) -> str:
    """Give the commands that `make TARGET` would run."""
    run = run_make(clone, "--dry-run", target)
    assert run.returncode == 0, run.stderr
    return run.stdout


def install(clone: pathlib.Path, *stamps: str) -> None:
    """Do as if these were installed after the project was fetched."""
    (clone / ".venv").mkdir(exist_ok=True)
    later = (clone / "pyproject.toml").stat().st_mtime + LATER_S
    for stamp in stamps:
        (clone / ".venv" / stamp).touch()
        os.utime(clone / ".venv" / stamp, (later, later))


def test_the_demonstration_of_a_fresh_clone_installs_no_compiler_and_says_first_how_much_it_is(
    clone: pathlib.Path,
) -> None:
    planned = plan(clone, "demo")
    assert OF_DEMO in planned
    assert OF_ALL not in planned
    assert planned.index("130 MB in all; no compiler") < planned.index("pip install")
    assert planned.splitlines()[-1].strip() == ".venv/bin/microrpc demo"


def test_the_tests_add_the_rest_to_the_same_environment_and_say_so(clone: pathlib.Path) -> None:
    install(clone, ".installed-demo")
    assert "pip install" not in plan(clone, "demo")
    planned = plan(clone, "test")
    assert OF_ALL in planned
    assert planned.index("660 MB in all") < planned.index("pip install")


def test_the_demonstration_after_the_tests_installs_nothing(clone: pathlib.Path) -> None:
    install(clone, ".installed")
    assert "pip install" not in plan(clone, "demo")
    assert "pip install" not in plan(clone, "test")


def test_what_is_older_than_the_list_of_what_is_needed_is_installed_again_as_it_was(clone: pathlib.Path) -> None:
    install(clone, ".installed-demo")
    newer = (clone / "pyproject.toml").stat().st_mtime + 2 * LATER_S
    os.utime(clone / "pyproject.toml", (newer, newer))
    assert OF_DEMO in plan(clone, "demo")
    (clone / ".venv" / ".installed").touch()
    os.utime(clone / ".venv" / ".installed", (newer - LATER_S, newer - LATER_S))
    assert OF_ALL in plan(clone, "demo")


def test_a_python_that_is_too_old_is_named_before_anything_is_made(clone: pathlib.Path) -> None:
    old = clone / "python3.6"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.6.1"\nexit 1\n')
    old.chmod(0o755)
    run = run_make(clone, "demo", f"PYTHON={old}")
    assert run.returncode == 2
    assert f"Python 3.11 or newer is needed; {old} is: Python 3.6.1. Name another: make PYTHON=python3.12" in run.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.tools
@pytest.mark.timeout(600)  # 130 MB are fetched and installed: how long that takes is the network's affair
def test_the_demonstration_of_a_fresh_clone_really_runs_and_takes_what_it_said(tmp_path: pathlib.Path) -> None:
    """From the files of the repository alone; pip fetches what it needs, as on any computer."""
    needs.program("make")
    needs.program("git")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    run = run_make(tmp_path, "demo", timeout_s=500)
    assert run.returncode == 0, run.stderr
    said = re.search(r"(\d+) MB in all; no compiler", run.stdout)
    assert said is not None
    assert "checks hold" in run.stdout.splitlines()[-1]
    du = subprocess.run(["du", "-sm", ".venv"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert int(du.split()[0]) == pytest.approx(int(said[1]), rel=0.15)
    assert not list(tmp_path.glob(".venv/lib/*/site-packages/ziglang"))
    again = run_make(tmp_path, "demo")
    assert again.returncode == 0, again.stderr
    assert "Installing" not in again.stdout


def test_bytecode_is_kept_whatever_the_environment_says(clone: pathlib.Path) -> None:
    (clone / "shown.mk").write_text('include Makefile\nshown:\n\t@echo "[$$PYTHONDONTWRITEBYTECODE]"\n')
    assert run_make(clone, "-s", "-f", "shown.mk", "shown", PYTHONDONTWRITEBYTECODE="1").stdout == "[]\n"
