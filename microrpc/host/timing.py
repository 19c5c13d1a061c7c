"""The argument lists of `runtime.RPCTimeEvaluator`, which TVM changed with every other version (docs/protocol.md 6).

A board does not tell which one it has, but refuses the others before it does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from microrpc.errors import RemoteError, RequestTooLargeError
from microrpc.host.operation import Operation
from microrpc.wire.checks import check_whole
from microrpc.wire.datatypes import CPU

T = TypeVar("T")

NEWEST = 12
"""How many arguments it takes since TVM 0.14."""
COUNTS: tuple[int, ...] = (NEWEST, 11, 10, 8)
"""How many arguments it takes, by TVM version, the newest first."""

_NO_PREPARATION = ""
_REFUSALS = ("not enough args", "invalid arg types", " expected")
_MOST_RUNS = 2**31 - 1  # the C runtime has it in an int


class Runs(NamedTuple):
    """How often a function is run: `number` times for each of `repeat` figures, and for `min_repeat_ms` at least.

    The rest only newer boards take; the defaults are TVM's. limit_zero_time_iterations: so often nothing may be
    measured, while min_repeat_ms wants more. cooldown_interval_ms: a pause, after every `repeats_to_cooldown` figures.
    cache_flush_bytes: what is written before each run, so that caches are cold.
    """

    number: int
    repeat: int
    min_repeat_ms: int
    limit_zero_time_iterations: int = 100
    cooldown_interval_ms: int = 0
    repeats_to_cooldown: int = 1
    cache_flush_bytes: int = 0


def check_runs(runs: Runs) -> Runs:
    """Give what a caller wants. Raises RequestError for numbers that no board could mean."""
    least = Runs(1, 1, 0, 0, 0, 1, 0)
    for name, number, lowest in zip(runs._fields, runs, least, strict=True):
        check_whole(number, name, lowest, _MOST_RUNS)
    return runs


class Evaluators:
    """Makes functions that time others, and remembers which argument list the board takes."""

    def __init__(self) -> None:
        self._counts, self._epoch = COUNTS, -1

    def make(
        self, call: Callable[[tuple[Any, ...]], Operation[T]], epoch: int, library: object, name: str, runs: Runs
    ) -> Operation[T]:
        """Have `call`, of the board's evaluator in `epoch`, make a function that times `name` of `library`.

        Raises RemoteError for what the board says to the list that it has, and RequestTooLargeError where it has no
        room for any.
        """
        if self._epoch != epoch:
            self._counts = COUNTS  # it may have other firmware now
        refusals: list[RemoteError | RequestTooLargeError] = []
        for count in self._counts:
            try:
                timed = yield from call(evaluator_arguments(count, library, name, runs))
            except (RemoteError, RequestTooLargeError) as error:
                refusals.append(error)
            else:
                self._counts, self._epoch = (count,), epoch
                return timed
        try:
            raise min(refusals, key=_is_refusal)
        finally:
            refusals.clear()  # which would keep their frames, and those this one


def evaluator_arguments(count: int, library: object, name: str, runs: Runs) -> tuple[Any, ...]:
    """Give the `count` arguments that make a function which times `name` of `library`."""
    head = (library, name, CPU.type, CPU.id, *runs[:3])
    zeros = (runs.limit_zero_time_iterations,) if count >= 11 else ()
    cooldown = (runs.cooldown_interval_ms, runs.repeats_to_cooldown) if count >= 10 else ()
    flush = (runs.cache_flush_bytes,) if count >= NEWEST else ()
    return (*head, *zeros, *cooldown, *flush, _NO_PREPARATION)


def _is_refusal(error: RemoteError | RequestTooLargeError) -> bool:
    """Whether it is the arguments that do not fit, and nothing else is wrong."""
    return isinstance(error, RequestTooLargeError) or any(refusal in error.message for refusal in _REFUSALS)
