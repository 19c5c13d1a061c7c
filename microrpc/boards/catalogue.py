"""Board profiles: what the host must know about a board before it speaks to it, one TOML file each.

Those in the package are joined by the user's own, which lie in `user_directory()` and come first where a name is in
both; any other file is read by `load_profile(path)`. docs/boards.md is the guide to writing one.
"""

from __future__ import annotations

import functools
import os
import pathlib

from microrpc.boards.places import config_directory
from microrpc.boards.schema import CHECKER, BoardProfile, parse_profile
from microrpc.boards.tables import did_you_mean
from microrpc.errors import ProfileError, reason_of
from microrpc.wire.checks import check_text


def load_profile(path: str | pathlib.Path) -> BoardProfile:
    """Read and check one profile. Raises ProfileError, which names the file, the key and the reason."""
    path = pathlib.Path(path)
    return parse_profile(path, CHECKER.load(path))


def profile(name: str) -> BoardProfile:
    """The profile of that name. Raises ProfileError for an unknown name, which tells the one like it, or all."""
    known = _files()
    if check_text(name, "the name of a board") not in known:
        guess = did_you_mean(name, known)
        listed = (
            f"{guess} `microrpc boards` lists all {len(known)}"
            if guess
            else f". Known: {', '.join(known)} (`microrpc boards`)"
        )
        raise ProfileError(f"there is no board profile {name!r}{listed}")
    return _load(known[name])


def names() -> list[str]:
    """The names of all profiles, in their order. None of them is read."""
    return list(_files())


def profiles() -> dict[str, BoardProfile]:
    """All profiles by name, in the order of the names. Raises ProfileError when one is wrong."""
    return {name: _load(path) for name, path in _files().items()}


def user_directory() -> pathlib.Path:
    """Where the user's own profiles lie, `~/.config/microrpc/boards` on Linux; it need not exist.

    Raises FileNotFoundError where no home directory is known.
    """
    return config_directory("boards")


def _files() -> dict[str, pathlib.Path]:
    """All profiles' files by name, in the order of the names."""
    return dict(sorted((_bundled_files(_bundled_directory()) | _own_files()).items()))


@functools.cache  # the user's own come and go, these do not
def _bundled_files(where: pathlib.Path) -> dict[str, pathlib.Path]:
    found = {path.stem: path for path in where.glob("*.toml")}
    if not found:
        raise ProfileError(f"{where}: no board profiles there: the installation is incomplete, install it again")
    return found


def _own_files() -> dict[str, pathlib.Path]:
    try:
        where = user_directory()
    except FileNotFoundError:
        return {}  # of whom no home directory is known, as in a container with a number for a user
    try:
        names = os.listdir(where)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}  # HOME may be another user's, as in many containers and under sudo: none there are this one's
    except OSError as error:
        text = "profiles of your own are looked for there, and it cannot be read"
        raise ProfileError(f"{where}: {text}: {reason_of(error)}") from error
    return {path.stem: path for path in map(where.joinpath, names) if path.suffix == ".toml"}


def _load(path: pathlib.Path) -> BoardProfile:
    return _load_bundled(path) if path.parent == _bundled_directory() else _load_named(path)


def _load_named(path: pathlib.Path) -> BoardProfile:
    board = load_profile(path)
    if board.name != path.stem:
        raise ProfileError(f"{path}: name: is {board.name!r}, but the file is called {path.name!r}")
    return board


_load_bundled = functools.cache(_load_named)


def _bundled_directory() -> pathlib.Path:
    """`microrpc/_boards` in an installed wheel, `boards` beside the package in a source checkout."""
    package = pathlib.Path(__file__).resolve().parent.parent
    installed = package / "_boards"
    return installed if installed.is_dir() else package.parent / "boards"
