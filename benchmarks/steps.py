"""The steps of a warm call: how many Python functions of ours it enters, or comes back to where they are generators."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from benchmarks.rows import Row
from microrpc.connecting import aio, blocking

# What a call may take, without and with the link; tests/client/test_steps.py holds it.
MOST_CALLS = {"blocking": (31, 38), "asyncio": (42, 50)}

_PACKAGE = str(Path(blocking.__file__).parent.parent)
_SPIN = "_spin"  # how often a read looks before it sleeps is chance
_WARM_CALLS = 50
_COUNTED_CALLS = 300  # more than the reads that sleep at once after a spin in vain


@dataclass(frozen=True)
class Steps:
    """What one call visited: the file and the qualified name of each step, in order."""

    visited: tuple[tuple[str, str], ...]

    @property
    def calls(self) -> int:
        return len(self.visited)

    @property
    def modules(self) -> int:
        return len({file for file, _ in self.visited})

    @property
    def changes(self) -> int:
        """How often a step was in another module than the one before it."""
        files = [file for file, _ in self.visited]
        return sum(file != before for before, file in itertools.pairwise(files))


def measure(*, quick: bool) -> Iterator[Row]:
    """Count a call's steps; it takes no time, and so is the same in a quick run."""
    for client, count in (("blocking", blocking_steps), ("asyncio", asyncio_steps)):
        for link, where, most in zip((False, True), ("off", "on"), MOST_CALLS[client], strict=True):
            steps = count(link=link)
            visits = f"{steps.modules} modules, {steps.changes} changes between them"
            name = f"Python calls of add(2, 3), {client}, {where} the link"
            yield Row(name, str(steps.calls), "calls", "", f"at most {most}; {visits}")


def blocking_steps(*, link: bool) -> Steps:
    """Give the steps of `add(2, 3)` on a simulated board behind a pty, where it took least."""
    with blocking.connect("sim://", link=link) as board:
        add = board.function("add")
        for _ in range(_WARM_CALLS):
            add(2, 3)
        counted = []
        for _ in range(_COUNTED_CALLS):
            with _Recorder() as recorder:
                add(2, 3)
            counted.append(recorder.steps())
    return min(counted, key=lambda steps: steps.calls)


def asyncio_steps(*, link: bool) -> Steps:
    """Give those of the asyncio client."""

    async def count() -> Steps:
        async with aio.connect("sim://", link=link) as board:
            add = await board.function("add")
            for _ in range(_WARM_CALLS):
                await add(2, 3)
            counted = []
            for _ in range(_COUNTED_CALLS):
                with _Recorder() as recorder:
                    await add(2, 3)
                counted.append(recorder.steps())
        return min(counted, key=lambda steps: steps.calls)

    return asyncio.run(count())


class _Recorder:
    """Notes every step of this thread that lies in microrpc: the standard library's are not ours to count."""

    def __init__(self) -> None:
        self._visited: list[tuple[str, str]] = []

    def __enter__(self) -> _Recorder:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def steps(self) -> Steps:
        return Steps(tuple((file.removeprefix(_PACKAGE), name) for file, name in self._visited))

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE) and code.co_name != _SPIN:
            self._visited.append((code.co_filename, code.co_qualname))
