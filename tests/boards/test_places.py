"""Where things of the user's own are kept, and what becomes of it all where no home directory is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import run

import microrpc
from microrpc.boards.catalogue import profile, user_directory
from microrpc.boards.places import cache_directory, config_directory, home
from microrpc.errors import FirmwareError, PortError
from microrpc.firmware.build import cache_directory as builds
from pytest_microrpc.locks import Lock


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user of whom the system knows nothing but a number."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_each_kind_has_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / "cache" / name))
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name, appauthor: str(tmp_path / "config" / name))
    assert cache_directory("locks") == tmp_path / "cache" / "microrpc" / "locks"
    assert config_directory("boards") == tmp_path / "config" / "microrpc" / "boards"


@pytest.mark.parametrize(
    ("find", "variables"),
    [
        (home, "HOME"),
        (lambda: cache_directory("locks"), "HOME or XDG_CACHE_HOME"),
        (user_directory, "HOME or XDG_CONFIG_HOME"),
    ],
)
@pytest.mark.usefixtures("homeless")
def test_where_no_home_is_known_that_is_one_error(find: Callable[[], Path], variables: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no home directory is known: set {variables}$"):
        find()


def test_a_platformdirs_that_leaves_the_home_as_a_tilde_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: f"~/.cache/{name}")
    with pytest.raises(FileNotFoundError, match="no home directory is known"):
        cache_directory("locks")


@pytest.mark.usefixtures("homeless")
def test_a_board_is_used_and_its_profile_found_without_a_home() -> None:
    assert profile("loopback").name == "loopback"
    with microrpc.connect("sim://") as board:
        assert board.f.add(2, 3) == 5
    listed = run("boards", "--json")
    assert (listed.code, '"user_directory": null' in listed.out) == (0, True)


@pytest.mark.usefixtures("homeless")
def test_what_must_be_kept_somewhere_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FirmwareError, match=r"^there is no place to keep what is built: no home directory is known"):
        builds()
    with pytest.raises(PortError, match=r"no home directory is known: set HOME or XDG_CACHE_HOME"):
        Lock("sim://")
    monkeypatch.setenv("PATH", "/nowhere")  # a tshark would tell
    for name in ("sigrok", "wireshark"):
        told = run(name)
        assert (told.code, told.err) == (6, "error: no home directory is known: set HOME\n")
