"""Boards of a labgrid environment (`--lg-env`): its targets that have a MicrorpcDriver.

Nothing is imported here: labgrid's own plugin, where it is installed, has read the environment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

DRIVER = "MicrorpcDriver"
"""What labgrid calls the driver of `microrpc.labgrid`."""
LACKS_DRIVER = f"no target of labgrid's environment has a {DRIVER}"
"""Why boards are simulated there."""


@dataclass(frozen=True, slots=True)
class Rack:
    """The boards of labgrid's `environment`: `drivers` has the target and the name of each driver, by what is its port
    here, as "labgrid:///home/me/env.yaml#main". `profiles`: the names of their boards' profiles, where they are told.
    """

    environment: Any
    drivers: Mapping[str, tuple[str, str | None]]
    profiles: frozenset[str | None]


def is_given(config: pytest.Config) -> bool:
    """Whether pytest was told of an environment of labgrid's."""
    is_there = config.pluginmanager.hasplugin("labgrid")
    return is_there and bool(config.getoption("lg_env", None) or os.environ.get("LG_ENV"))


def lacks_driver(config: pytest.Config) -> bool:
    """Whether boards are simulated for want of a driver: there is an environment without one, and nothing else says
    which boards there are.
    """
    names = ("board", "board_file", "port")
    is_told = any(config.getoption(f"microrpc_{name}") or config.getini(f"microrpc_{name}") for name in names)
    return is_given(config) and not is_told and read_rack(config) is None


def read_rack(config: pytest.Config) -> Rack | None:
    """Give the boards of the environment, None where there is none, or no target with such a driver."""
    hooks = sys.modules.get("labgrid.pytestplugin.hooks")
    environment = config.stash.get(hooks.LABGRID_ENV_KEY, None) if is_given(config) and hooks is not None else None
    if environment is None:
        return None
    path, factory = os.path.abspath(environment.config_file), sys.modules["labgrid.factory"].target_factory
    drivers: dict[str, tuple[str, str | None]] = {}
    profiles: set[str | None] = set()
    for target, content in environment.config.get_targets().items():
        for name, (keys, _) in factory.normalize_config(content)[1].get(DRIVER, {}).items():
            drivers[f"labgrid://{path}#{target}{f'/{name}' if name else ''}"] = target, name
            profiles.add(keys.get("profile"))
    return Rack(environment, drivers, frozenset(profiles)) if drivers else None
