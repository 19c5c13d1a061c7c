"""What can be done next with a project: as its author is told, and as its README.md has it."""

from __future__ import annotations

import pathlib
import shlex
from collections.abc import Mapping

from microrpc.boards.catalogue import profiles
from microrpc.firmware.project import Project

_ITS_PORT = "/dev/ttyACM0"
_PRINTED_PORT = "/dev/pts/7"
_DOES = {
    "build": "builds it, and says how large it is",
    "run": "runs it here, and prints its port",
    "flash": "puts it on the board, and shows what that then is",
}


def told(port: Project, directory: pathlib.Path, *, is_built: bool = False) -> list[str]:
    """Give the commands for a project in `directory` that has that port, as lines for the terminal."""
    commands = [command for verb, command in _commands(port, directory) if not (is_built and verb == "build")]
    return [f"{'Try: ' if command is commands[0] else '     '}{command}" for command in commands]


def steps_in_readme(port: Project) -> Mapping[str, str]:
    """Give what stands in a README.md for {steps}, for {then}, which leads over to calls, and for {port}."""
    commands = _commands(port, ".")
    width = max(len(command) for _, command in commands)
    verbs = [verb for verb, _ in commands]
    if "flash" not in verbs:
        then = "and in another terminal, with that port:"
    elif "run" not in verbs:
        then = "and then, with the board's port (`microrpc ports` lists those there are):"
    else:
        then = "and then, with the board's port (`microrpc ports`), or elsewhere with the one that `run` prints:"
    return {
        "steps": "\n".join(f"    {command:{width}}    # {_DOES[verb]}" for verb, command in commands),
        "then": then,
        "port": _ITS_PORT if "flash" in verbs else _PRINTED_PORT,
    }


def _commands(port: Project, where: pathlib.Path | str) -> list[tuple[str, str]]:
    """Give the verb of each command, and the command: what has no emulator is not run."""
    where = shlex.quote(str(where))
    commands = [("build", f"microrpc firmware build {where}")]
    if port.emulation is not None:
        commands.append(("run", f"microrpc firmware run {where}"))
    profile = profiles().get(port.name)
    if profile is not None and profile.ways_to_flash:
        commands.append(("flash", f"microrpc firmware flash {port.name} {where}"))
    return commands
