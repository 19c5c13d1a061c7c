"""Where things of the user's own are kept: what is cached, what is configured, what other programs load."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

_NAME = "microrpc"


def cache_directory(kind: str) -> Path:
    """Give where things of a `kind` are cached, `~/.cache/microrpc/KIND` on Linux. Raises as `home`."""
    import platformdirs

    return _absolute(lambda: Path(platformdirs.user_cache_dir(_NAME, appauthor=False), kind), "HOME or XDG_CACHE_HOME")


def config_directory(kind: str) -> Path:
    """Give where things of a `kind` are that the user states, `~/.config/microrpc/KIND` on Linux. Raises as `home`."""
    import platformdirs

    return _absolute(
        lambda: Path(platformdirs.user_config_dir(_NAME, appauthor=False), kind), "HOME or XDG_CONFIG_HOME"
    )


def home() -> Path:
    """Give the home directory. Raises FileNotFoundError where none is known, as of a number that is no user's."""
    return _absolute(Path.home, "HOME")


def _absolute(find: Callable[[], Path], variables: str) -> Path:
    try:
        found = find()
    except RuntimeError:  # of pathlib and platformdirs; an older one gives "~" as it is
        found = Path()
    if not found.is_absolute():
        raise FileNotFoundError(errno.ENOENT, f"no home directory is known: set {variables}")
    return found
