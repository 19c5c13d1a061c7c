"""What the tests have in common."""

import contextlib
import gc
import os
import pathlib
import signal
from collections.abc import Iterator

import pytest
from missing import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]  # pytest finds it here

pytest_plugins = ["pytester", "apis"]

# The tests neither take the user's own profiles nor fill the user's cache. What is built is kept for the next run
# (`make clean` removes it). Zig keeps its C library, which takes long to build, where it does for all programs.
_BUILD = pathlib.Path(__file__).parent.parent / "build" / "tests"
_CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", os.path.join(_CACHE, "zig"))
os.environ["XDG_CACHE_HOME"] = str(_BUILD / "cache")
os.environ["XDG_CONFIG_HOME"] = str(_BUILD / "config")
os.environ["MICRORPC_CACHE"] = "off"  # what a board told an earlier test is read again

# What emulators run on of npm is the user's own, too: the tests install nothing.
if pathlib.Path(_CACHE) != _BUILD / "cache":  # as it is in the processes that this one starts
    _npm = _BUILD / "cache" / "microrpc" / "npm"
    _npm.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        _npm.symlink_to(pathlib.Path(_CACHE, "microrpc", "npm"))

# Under nohup, as in some services, SIGHUP is ignored, and so it would be by every program that a test starts, which
# obeys that. With a handler this process ignores it still, and those it starts have the default.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)
# In the background of a script it is SIGINT that is ignored; without this no Ctrl-C of a test would ever be one.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def own_cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Give a test a cache of what is built for itself; it is not there yet."""
    from microrpc.firmware import build  # not before the environment is as it is to be

    directory = tmp_path / "cache"
    monkeypatch.setattr(build, "cache_directory", lambda: directory)
    return directory


@pytest.fixture
def others_port(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give a file in place of a port that belongs to a group of the system, as `dialout` is one."""
    port = tmp_path / "ttyACM0"
    port.touch()
    port.chmod(0o660)
    if os.geteuid() == 0:
        import grp

        os.chown(port, -1, max(group.gr_gid for group in grp.getgrall() if group.gr_gid < 1000))
    return port


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what thousands of collected tests consist of out of garbage collections: each would walk all of it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
