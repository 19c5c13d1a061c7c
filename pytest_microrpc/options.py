"""The options of the plugin, and the settings for the file of a project. Nothing of microrpc is imported here."""

from __future__ import annotations

from typing import Literal

import pytest

MARK = "microrpc_board"
"""The marker that says what a test needs of its board."""
REQUIRE = "--microrpc-require"
"""The option with which a test fails for what is lacking, and is not skipped."""
LACKS_FUNCTION = "needs function "
"""Begins the reason of a test that is skipped for want of a function."""
MARKERS = (
    f"{MARK}(profile, functions, faults, firmware, uart, seed, reset, flash, count): what a test needs of its boards",
    "hardware: the test needs a real board; without --microrpc-port or --microrpc-board it is skipped",
)
"""What pytest is told of the marks."""
SETTINGS: dict[str, Literal["string", "args", "bool"]] = {
    **dict.fromkeys(("board", "board_file", "firmware", "wait", "capture"), "string"),
    "port": "args",
    **dict.fromkeys(("flash", "require"), "bool"),
}
"""What the file of a project may say, and of what type it is."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and settings for the file of the project. Other plugins have a --port of theirs."""
    group = parser.getgroup("microrpc", "microrpc: boards, real, emulated or simulated")
    group.addoption(
        "--microrpc-board",
        metavar="NAME|DIR",
        help="The profile of the board (`microrpc boards` lists them), or the directory of a firmware project: "
        "it is built, and emulated where that can be and no port is named.",
    )
    group.addoption("--microrpc-board-file", metavar="PATH", help="The profile of the board, a .toml file of your own.")
    group.addoption(
        "--microrpc-port",
        metavar="PATH",
        action="append",
        help="Run on the board on this port; give it again for each board. Without it, or with `auto`, the ports that "
        "--microrpc-board is plugged into. sim://NAME: simulate this board; qemu://NAME: start its emulator.",
    )
    group.addoption(
        "--microrpc-flash",
        action="store_true",
        help="Put firmware on a real board before its first test: the project of --microrpc-board, or microrpc's own.",
    )
    group.addoption(
        "--microrpc-wait",
        metavar="S",
        help="How long a test waits for boards that other processes use, in seconds. [default: 60]",
    )
    group.addoption(
        REQUIRE,
        action="store_true",
        help="Fail a test that needs more boards than there are, or functions that a board lacks; else it is skipped.",
    )
    group.addoption(
        "--microrpc-fault-seed", metavar="N", type=int, help="The seed of all faults. [default: the test's own, else 0]"
    )
    group.addoption(
        "--microrpc-firmware",
        choices=("robust", "stock"),
        help="What simulated boards run where the test does not say. [default: robust]",
    )
    group.addoption(
        "--microrpc-capture",
        metavar="DIR",
        help="Write what crossed the line in each test that fails to a file of its own in DIR (docs/capture.md).",
    )
    for name, kind in SETTINGS.items():
        option = f"--microrpc-{name.replace('_', '-')}"
        text = f"What {option} is where the command line does not say."
        parser.addini(f"microrpc_{name}", text, type=kind, default=None)


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Have pytest's error tell what an option is called now that was given by its old name."""
    given = {arg.partition("=")[0] for arg in args}
    for name in ("board", "board-file", "port", "firmware", "fault-seed"):
        if f"--{name}" in given:
            parser.extra_info[f"microrpc's --{name}"] = f"is called --microrpc-{name} now"


def is_told(config: pytest.Config) -> bool:
    """Whether anything was said of boards, on the command line or in the project's file."""
    options = (*SETTINGS, "fault_seed")
    is_given = any(config.getoption(f"microrpc_{name}") not in (None, False) for name in options)
    return is_given or any(config.getini(f"microrpc_{name}") is not None for name in SETTINGS)
