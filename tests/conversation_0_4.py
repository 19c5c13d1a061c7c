"""What a program of 0.4.0 does with a board; it runs under that host, and in the tests under today's.

python conversation_0_4.py PORT SESSIONS TIMEOUT_S speaks|silent    # prints what came of each session, as JSON

Before the last calls of each session it prints "next?" and waits for a line of its input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import microrpc

DATA = np.random.default_rng(4).integers(0, 256, 20_001, np.uint8)


def converse(board: Any, logs: list[str]) -> dict[str, Any]:
    """Call, copy, fail; give what came of it, which is the same on every device."""

    def call(name: str, *arguments: object) -> Any:
        return again(board.function(name), *arguments)

    came: dict[str, Any] = {
        "numbers": [call("add", 2, 3), call("mul", -7, 6), call("fadd", 0.5, 0.25)],
        "texts": [call("echo_str", "h\u00e9\u20ac"), call("reverse", bytes(range(256))).hex()],
        "a function that was returned": call("adder", 40)(2),
        "a tensor that was returned": call("iota", 300).numpy().sum().item(),
    }
    for name, arguments in (("fail", ()), ("echo_str", (1,)), ("no_such_function", ())):
        try:
            call(name, *arguments)
        except (microrpc.RemoteError, microrpc.FunctionNotFoundError) as error:
            came[f"{name}{arguments}"] = type(error).__name__
    with board.array(DATA) as array:
        came["a copy"] = bool((array.numpy() == DATA).all())
    with board.array(np.zeros(1, np.int64)) as counter:
        inc = board.function("inc_tensor")
        for _ in range(100):
            inc(counter)
        came["counted"] = counter.numpy().tolist()
    call("log", "a line")
    came["logs"] = logs
    came["timed"] = len(again(board.time_evaluator("noop", number=2, repeat=3)).results)
    return came


def again(function: Callable[..., Any], *arguments: object) -> Any:
    """Call, again where the line lost a reply that was too long for the board to keep (docs/link.md 3)."""
    for _ in range(10):
        try:
            return function(*arguments)
        except microrpc.DamagedReplyError:
            continue
    raise AssertionError("the line lost every reply")


EXPECTED = {
    "numbers": [5, -42, 0.75],
    "texts": ["h\u00e9\u20ac", bytes(range(256))[::-1].hex()],
    "a function that was returned": 42,
    "a tensor that was returned": 44850.0,
    "fail()": "RemoteError",
    "echo_str(1,)": "RemoteError",
    "no_such_function()": "FunctionNotFoundError",
    "a copy": True,
    "counted": [100],
    "logs": ["a line"],
    "timed": 3,
}


def speak(board: Any) -> list[Any]:
    """Have a board of today send events and report its progress, where it can; give what the calls gave."""
    emit = board.function("emit")
    return [emit("sample", 20, 32, 0), emit("sample", 3, 32, 1), board.function("work")(5, 100)]


def held_call(add: Any) -> Any:
    """Call a function that was looked up before; give what came of it."""
    try:
        return add(20, 22)
    except microrpc.MicroRpcError as error:
        return type(error).__name__


def session(
    port: str, timeout_s: float, pause: Callable[[], object], speaks: Callable[[Any], list[Any]] | None
) -> dict[str, Any]:
    """Connect, do all of it, and close."""
    logs: list[str] = []
    timeouts = microrpc.Timeouts(retry_s=timeout_s / 20, start_s=timeout_s, call_s=timeout_s)
    with microrpc.connect(port, timeouts=timeouts, on_log=logs.append) as board:
        came = {"came": converse(board, logs), "spoke": speaks(board) if speaks else [], "link": board.link is not None}
        add = board.function("add")
        pause()
        return came | {"later": [held_call(add), board.function("add")(20, 22)]}


def _pause() -> None:
    print("next?", flush=True)
    sys.stdin.readline()


def main(port: str, sessions: str, timeout_s: str, speaks: str) -> None:
    what = speak if speaks == "speaks" else None
    came = [session(port, float(timeout_s), _pause, what) for _ in range(int(sessions))]
    where = [str(getattr(module, "__file__", None)) for module in list(sys.modules.values())]
    print(json.dumps({"version": microrpc.__version__, "sessions": came, "modules": where}))


if __name__ == "__main__":
    main(*sys.argv[1:])
