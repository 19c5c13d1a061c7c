"""`runtime.RPCTimeEvaluator` as TVM's clients ask for it, by what a board has (docs/protocol.md 6)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from microrpc.client.aio.board import AsyncBoard
from microrpc.client.aio.remote import AsyncRemoteFunction
from microrpc.gateway.shared import RefusedError
from microrpc.wire.datatypes import CPU, Device, Value
from microrpc.wire.names import TIME_EVALUATOR_FUNCTION

_HEAD = 7  # module, name, device_type, device_id, number, repeat, min_repeat_ms
_MORE = {8: (), 10: (1, 2), 11: (0, 1, 2), 12: (0, 1, 2, 3)}  # by the count of all: which of the defaults are given
_DEFAULTS = (100, 0, 1, 0)
_SERIES = 4  # runs for min_repeat_ms take less than this times as long: each try is longer by 1.6 or more
_LONGEST_S = 86400.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a client wants measured; the numbers as TVM names them."""

    name: str
    """Of the function that is timed."""
    number: int
    """How many runs one time is the mean of."""
    repeat: int
    """How many times are measured."""
    min_repeat_ms: int
    """How long the runs of one time take at least: there are more of them else."""
    limit_zero_time_iterations: int
    """How often a time of 0 is measured again."""
    cooldown_interval_ms: int
    """How long the board rests between times."""
    repeats_to_cooldown: int
    """After how many times it rests."""
    cache_flush_bytes: int
    """How much is written between times, to empty a cache."""

    @classmethod
    def parse(cls, args: Sequence[Value]) -> Measurement:
        """Read the arguments of any version of TVM; the module in front is the caller's. Raises RefusedError."""
        given = _MORE.get(len(args))
        if given is None:
            raise _refused(f"it takes {', '.join(map(str, _MORE))} arguments, by the version of TVM, not {len(args)}")
        _, name, *numbers, preparation = args
        whole = [number for number in numbers if isinstance(number, int)]
        if not isinstance(name, str) or len(whole) < len(numbers):
            raise _refused("it takes a module or None, a name, numbers, and a text")
        if preparation:
            raise _refused("f_preproc must be empty: a board has no functions that prepare a measurement")
        device_type, device_id, number, repeat, min_repeat_ms, *more = map(int, whole)
        if Device(device_type, device_id) != CPU:
            raise _refused(f"a board has the CPU (1, 0) alone, no device ({device_type}, {device_id})")
        rest = list(_DEFAULTS)
        for place, value in zip(given, more, strict=True):
            rest[place] = value
        return cls(name, number, repeat, min_repeat_ms, *rest)

    def deadline_s(self, call_s: float) -> float:
        """Give how long it may take, in seconds, where one call may take `call_s`."""
        runs_s = call_s * (1 + self.number * self.repeat)
        extra_s = self.repeat * (_SERIES * self.min_repeat_ms + self.cooldown_interval_ms) / 1000
        return min(runs_s + extra_s, _LONGEST_S)

    async def make(self, board: AsyncBoard, module: Any) -> AsyncRemoteFunction:
        """Have the board make the function that measures; `module` is one of the board, None its system library."""
        timed: AsyncRemoteFunction = await board.pump.run(
            board.operations.time_evaluator,
            self.name,
            number=self.number,
            repeat=self.repeat,
            min_repeat_ms=self.min_repeat_ms,
            limit_zero_time_iterations=self.limit_zero_time_iterations,
            cooldown_interval_ms=self.cooldown_interval_ms,
            repeats_to_cooldown=self.repeats_to_cooldown,
            cache_flush_bytes=self.cache_flush_bytes,
            module=module,
        )
        return timed

    async def run(self, board: AsyncBoard, timed: AsyncRemoteFunction, args: Sequence[Any], limit_s: float) -> bytes:
        """Measure, within `limit_s` seconds; give the seconds of a run, a double for each repeat, as TVM has them."""
        timing = await board.pump.run(board.operations.timing, timed, args, repeat=self.repeat, timeout_s=limit_s)
        return struct.pack(f"<{self.repeat}d", *timing.results)


def _refused(reason: str) -> RefusedError:
    return RefusedError(f"{TIME_EVALUATOR_FUNCTION}: {reason}")
