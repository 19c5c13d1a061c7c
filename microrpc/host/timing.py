"""The argument lists of `runtime.RPCTimeEvaluator`, which TVM changed with every other version (docs/protocol.md 6).

A board does not tell which one it has, but refuses the others before it does anything.
"""

from __future__ import annotations

from typing import Any

from microrpc.wire.datatypes import CPU

NEWEST = 12
"""How many arguments it takes since TVM 0.14."""
COUNTS: tuple[int, ...] = (NEWEST, 11, 10, 8)
"""How many arguments it takes, by TVM version, the newest first."""

_LIMIT_ZERO_TIME_ITERATIONS = 100  # TVM's default: so often nothing may be measured, while min_repeat_ms wants more
_COOLDOWN_INTERVAL_MS, _REPEATS_TO_COOLDOWN = 0, 1
_CACHE_FLUSH_BYTES = 0
_NO_PREPARATION = ""
_REFUSALS = ("not enough args", "invalid arg types", " expected")


def evaluator_arguments(
    count: int, library: object, name: str, *, number: int, repeat: int, min_repeat_ms: int
) -> tuple[Any, ...]:
    """Give the `count` arguments that make a function which times `name` of `library`."""
    head = (library, name, CPU.type, CPU.id, number, repeat, min_repeat_ms)
    zeros = (_LIMIT_ZERO_TIME_ITERATIONS,) if count >= 11 else ()
    cooldown = (_COOLDOWN_INTERVAL_MS, _REPEATS_TO_COOLDOWN) if count >= 10 else ()
    flush = (_CACHE_FLUSH_BYTES,) if count >= NEWEST else ()
    return (*head, *zeros, *cooldown, *flush, _NO_PREPARATION)


def is_refusal(text: str) -> bool:
    """Whether the text of an exception says that it is the arguments that do not fit, and nothing else is wrong."""
    return any(refusal in text for refusal in _REFUSALS)
