"""What is released: built, checked and installed as a user does, in a fresh place."""

from __future__ import annotations

import collections
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import golden
import needs
import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
MOST_WHEEL_BYTES = 1_500_000
MOST_SDIST_BYTES = 4_000_000
MOST_INSTALLED_BYTES = 130_000_000

pytestmark = pytest.mark.tools


def run(*command: object, cwd: Path = ROOT, **environment: str) -> str:
    """Run a program that must succeed; give what it prints."""
    words = [str(word) for word in command]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MICRORPC_"))}
    ran = subprocess.run(
        words, cwd=cwd, env=environ | environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, f"{' '.join(words)}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source distribution, and the wheel that is built of it and nothing else."""
    folder = tmp_path_factory.mktemp("dist")
    run(needs.tools(), "-m", "build", "--outdir", folder, ROOT)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    print(f"{wheel.name}: {wheel.stat().st_size} bytes, {sdist.name}: {sdist.stat().st_size} bytes")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and what it brings."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", built.wheel)
    return folder / "bin"


def contents(wheel: Path) -> dict[str, str]:
    """Give the hash of each file of a wheel but its own list of them."""
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if not name.endswith("RECORD")]
        return {name: hashlib.sha256(file.read(name)).hexdigest() for name in names}


def test_checkers_of_packages_have_nothing_to_say(built: Built) -> None:
    tools = Path(needs.tools()).parent
    said = run(tools / "twine", "check", "--strict", built.wheel, built.sdist, NO_COLOR="1", COLUMNS="300")
    assert re.findall(r"PASSED|FAILED|WARN", said) == ["PASSED", "PASSED"], said
    assert run(tools / "check-wheel-contents", built.wheel) == f"{built.wheel}: OK\n"


def test_no_file_is_in_the_wheel_twice_but_the_license(built: Built) -> None:
    names = collections.defaultdict(set)
    with zipfile.ZipFile(built.wheel) as file:
        for name in file.namelist():
            if file.getinfo(name).file_size:
                names[file.read(name)].add(name)
    twice = [{name.rpartition("/")[2] for name in same} for same in names.values() if len(same) > 1]
    assert twice == [{"LICENSE"}]


def test_the_sdist_builds_the_wheel_that_the_sources_build(built: Built, tmp_path: Path) -> None:
    run(needs.tools(), "-m", "build", "--wheel", "--outdir", tmp_path, ROOT)
    [wheel] = tmp_path.glob("*.whl")
    assert contents(wheel) == contents(built.wheel)


def test_both_have_all_that_belongs_to_them_and_are_small(built: Built) -> None:
    assert built.wheel.stat().st_size <= MOST_WHEEL_BYTES
    assert built.sdist.stat().st_size <= MOST_SDIST_BYTES
    tracked = run("git", "ls-files", "microrpc", "firmware_sim", "pytest_microrpc").split()
    assert [name for name in tracked if name not in contents(built.wheel)] == []
    with tarfile.open(built.sdist) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    tracked = run("git", "ls-files").split()
    assert [name for name in tracked if name not in inside] == []
    assert [name for name in tracked if name.endswith(".whl") and "/" not in name] == []


def test_the_wheel_works_where_nothing_else_is(installed: Path, tmp_path: Path) -> None:
    microrpc, home = installed / "microrpc", str(tmp_path)
    assert "loopback" in run(microrpc, "info", "sim://", cwd=tmp_path, HOME=home)
    assert run(microrpc, "call", "sim://", "add", 2, 3, cwd=tmp_path, HOME=home) == "5\n"
    assert f"installed into {home}" in run(microrpc, "sigrok", "--install", cwd=tmp_path, HOME=home)
    assert run(microrpc, "firmware", "new", "mine", "--board", "posix", cwd=tmp_path, HOME=home)
    assert (tmp_path / "mine" / "LICENSE").read_text(encoding="utf-8") == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_what_shows_the_line_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    microrpc, home = installed / "microrpc", str(tmp_path)
    shutil.copy(golden.VECTORS / "crt_2k.jsonl", tmp_path)
    assert "CallFunc" in run(microrpc, "decode", "crt_2k.jsonl", cwd=tmp_path, HOME=home)
    assert home in run(microrpc, "wireshark", "--install", cwd=tmp_path, HOME=home)
    assert list(tmp_path.rglob("microrpc.lua"))


def test_the_plugin_of_pytest_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    run(installed / "python", "-m", "pip", "install", "--quiet", "pytest")
    test = "def test_add(board):\n    assert board.function('add')(2, 3) == 5\n"
    (tmp_path / "test_it.py").write_text(test, encoding="utf-8")
    said = run(installed / "python", "-m", "pytest", "-q", "-W", "error", cwd=tmp_path, HOME=str(tmp_path))
    assert "1 passed" in said


def test_the_base_install_is_small_enough_for_a_small_computer(installed: Path) -> None:
    packages = installed.parent / "lib"
    ours = [path for path in packages.rglob("*") if path.is_file() and "pip" not in path.relative_to(packages).parts]
    size_bytes = sum(path.stat().st_size for path in ours if not path.is_symlink())
    print(f"the base install takes {size_bytes / 1e6:.0f} MB")
    assert size_bytes <= MOST_INSTALLED_BYTES


def test_every_command_of_the_guide_that_tries_a_wheel_runs(built: Built, tmp_path: Path) -> None:
    [section] = re.findall(r"^## Trying it as users will\n(.*?)^## ", GUIDE, flags=re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^    (.*?)(?:\s+#.*)?$", section, flags=re.MULTILINE)
    assert {line.split()[0] for line in commands} == {"pipx", "uv", "uvx", "microrpc"}
    shutil.copytree(built.wheel.parent, tmp_path / "dist")
    bin_folder = tmp_path / "bin"
    own = {
        "HOME": str(tmp_path),
        "PATH": f"{bin_folder}:{Path(needs.tools()).parent}:{os.environ['PATH']}",
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(bin_folder),
        "UV_TOOL_DIR": str(tmp_path / "uv"),
        "UV_TOOL_BIN_DIR": str(bin_folder),
    }
    for line in commands:
        assert run("bash", "-c", line, cwd=tmp_path, **own) or line.startswith("uv "), line
        assert (bin_folder / "microrpc").exists() is not (" uninstall " in line or line.startswith("uvx")), line
