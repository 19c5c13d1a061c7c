"""`runtime.RPCTimeEvaluator`, with the arguments that it has from one TVM version to the next (docs/protocol.md 6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from firmware_sim.board.clock import Clock
from firmware_sim.board.long_call import Steps, run_within
from firmware_sim.board.runtime import RuntimeSession, check_kinds
from microrpc.errors import RequestError
from microrpc.serve.local import FunctionError, Module, RemoteCallable
from microrpc.wire.names import RELEASE_FUNCTION, TIME_EVALUATOR_FUNCTION

ArgumentCount = Literal[8, 10, 11, 12]
"""How many arguments it takes, which tells the TVM version."""
DEFAULT_COUNT: ArgumentCount = 11
"""That of the commit that all else of the stock firmware is modelled on."""

_GROWTH = 1.618
_LIMIT_ZERO_TIME_ITERATIONS = 100  # TVM's default
# The last of the arguments is a Str, and tells by its place which they are.
_PLACES_OF_LAST = (7, 9, 10)
_NEWEST = 11
_FIRST_NUMBER = 2


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The numbers among the arguments. What a version does not have is as its successors have it by default."""

    device_type: int
    device_id: int
    number: int
    repeat: int
    min_repeat_ms: int
    limit_zero_time_iterations: int = _LIMIT_ZERO_TIME_ITERATIONS
    cooldown_interval_ms: int = 0
    repeats_to_cooldown: int = 1
    cache_flush_bytes: int = 0


def register_time_evaluator(session: RuntimeSession, clock: Clock, count: ArgumentCount | None) -> None:
    """Put it into the global registry of `session`, which runs what is timed; `count` is None for all forms.

    Raises RequestError for a count that no version has.
    """
    if count is not None and count not in get_args(ArgumentCount):
        raise RequestError(f"no time evaluator takes {count} arguments: it is one of {get_args(ArgumentCount)}")
    functions = session.functions

    @functions.function(name=TIME_EVALUATOR_FUNCTION)
    def rpc_time_evaluator(*arguments: Any) -> Callable[..., Steps]:
        last = _find_last(arguments) if count is None else _check_count(arguments, count)
        module: Module = arguments[0]
        name, f_preproc = arguments[1], arguments[last]
        numbers = _read_numbers(arguments[_FIRST_NUMBER:last])
        timed = module.get(name)
        # Nothing frees the memory of a function that is running.
        preproc = functions.get(f_preproc) if f_preproc and f_preproc != RELEASE_FUNCTION else None
        if timed is None or (f_preproc and preproc is None):
            raise FunctionError("RPCTimeEvaluator: no function has that name")
        if numbers.number < 1 or numbers.repeat < 1:
            raise FunctionError("RPCTimeEvaluator: number and repeat must be positive")
        return _evaluator(session, clock, timed, preproc, numbers)

    del rpc_time_evaluator


def _find_last(arguments: tuple[Any, ...]) -> int:
    """Give the place of the last argument. Raises FunctionError for what is no form."""
    last = next((at for at in _PLACES_OF_LAST if at < len(arguments) and type(arguments[at]) is str), _NEWEST)
    check_kinds(_kinds(last), arguments)
    return last


def _check_count(arguments: tuple[Any, ...], count: int) -> int:
    """Do the same where only one form is known, with the texts of the C runtime."""
    if len(arguments) < count:
        raise FunctionError("not enough args")
    try:
        check_kinds(_kinds(count - 1), arguments)
    except FunctionError:
        raise FunctionError(f"{TIME_EVALUATOR_FUNCTION}: one or more invalid arg types") from None
    return count - 1


def _kinds(last: int) -> tuple[str, ...]:
    return ("Module", "Str", *("Int",) * (last - _FIRST_NUMBER), "Str")


def _read_numbers(numbers: tuple[int, ...]) -> _Numbers:
    head, rest = numbers[:5], numbers[5:]
    if len(rest) == 2:  # before there was limit_zero_time_iterations
        rest = (_LIMIT_ZERO_TIME_ITERATIONS, *rest)
    return _Numbers(*head, *rest)


def _evaluator(
    session: RuntimeSession, clock: Clock, timed: RemoteCallable, preproc: RemoteCallable | None, numbers: _Numbers
) -> Callable[..., Steps]:
    """Give the function that times: a long one, which reports between its repeats."""

    def run(number: int, arguments: tuple[Any, ...]) -> Generator[None, None, float]:
        start = clock.now()
        for _ in range(number):
            yield from run_within(session.start(timed, list(arguments)))
        return clock.now() - start

    def evaluate(*arguments: Any) -> Steps:
        number, times = numbers.number, []
        least_s = numbers.min_repeat_ms / 1000
        for index in range(numbers.repeat):
            if preproc is not None:
                yield from run_within(preproc(*arguments))
            taken_s, zeros = 0.0, 0
            while True:
                if taken_s > 0:
                    number = int(max(least_s / (taken_s / number) + 1, number * _GROWTH))
                taken_s = yield from run(number, arguments)
                zeros += taken_s == 0
                if taken_s >= least_s or zeros >= numbers.limit_zero_time_iterations:
                    break
            times.append(taken_s / number)
            if index + 1 < numbers.repeat:
                yield index + 1, numbers.repeat
            if numbers.cooldown_interval_ms > 0 and index % max(numbers.repeats_to_cooldown, 1) == 0:
                clock.sleep(numbers.cooldown_interval_ms / 1000)
        return struct.pack(f"<{numbers.repeat}d", *times)

    return evaluate
