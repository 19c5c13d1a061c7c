"""Make the blocking client from asyncio's: `make generate`. Both are checked in; a test says where they differ.

What is written is `board.py`, `events.py`, `functions.py`, `model.py` and `remote.py` of `microrpc/client/aio`. The
blocking twins are the same text without the waiting: names lose their "Async", `await` and `async` vanish, and where a
sentence is true of one client only, the table below has what stands in its place. A pump is different work and written
twice.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLIENT = ROOT / "microrpc" / "client"
FILES = ("board.py", "events.py", "functions.py", "model.py", "remote.py")

HEAD = "# Generated from {source} by `make generate`; edit that.\n"

# What is said of asyncio alone, and what stands there of the blocking client; each must be found once.
SENTENCES: dict[str, tuple[tuple[str, str], ...]] = {
    "board.py": (
        (
            '"""asyncio\'s client: an `AsyncBoard` has its operations pumped over a channel that is awaited.\n',
            '"""The blocking client: a `Board` has its operations pumped over a channel that blocks.\n',
        ),
        (
            '"""A connection to one board. All methods that ask it something are awaited, and all waits end.\n\n'
            "    It belongs to the event loop that it was made in, and raises RequestError in any other. "
            "Tasks take turns, in the\n    order in which they asked. Each may be cancelled: what it asked the board "
            "for may have been done, and the next\n    request begins with a new session.\n",
            '"""A connection to one board. All methods that ask it something wait, and all waits end.\n\n'
            "    Any thread may call them; they take turns, in the order in which they asked.\n",
        ),
        (
            "`reopen` is awaited for a port that went away and opens it",
            "`reopen` waits for a port that went away and opens it",
        ),
        (" Cancelled, the memory may stay\n        taken until the board's reset.", ""),
        (
            "        A request of another task that is under way for longer ends",
            "        A request of another thread that is under way for longer ends",
        ),
        (
            "        The port is released even if this is cancelled.\n",
            "        Raises RequestError from within a request: in a callback, or a signal handler.\n",
        ),
        ("reopen: Callable[[float], Awaitable[AsyncChannel]] | None", "reopen: Callable[[float], AsyncChannel] | None"),
        ("-> Callable[..., Awaitable[Timing]]:", "-> Callable[..., Timing]:"),
        (
            "from collections.abc import Awaitable, Callable, Sequence\n",
            "from collections.abc import Callable, Sequence\n",
        ),
        ("from microrpc.ports.aio import AsyncChannel\n", "from microrpc.ports.channel import AsyncChannel\n"),
        ("`microrpc.aio.connect` opens one", "`microrpc.connect` opens one"),
    ),
    "events.py": (
        (
            '"""Events of a board, as a task reads them."""',
            '"""Events of a board, as a blocking program reads them."""',
        ),
        (
            "    It is as `microrpc.client.events.Events`, but `async for` reads it, and several tasks may. `close` "
            "and `with` are\n    not awaited.\n",
            "    The loop over it ends where none comes for so long as it was told, and when the board is closed; "
            "another loop goes\n    on then. Up to 1024 events wait to be read: then the board is asked for no more. "
            "It raises PortLostError where the\n    port went away for good. `close`, the end of `with` and "
            "whoever drops it end it. Any thread may read it, but not\n    within a request.\n",
        ),
        ("        pump.check_process()\n", "        pump.check_process()\n        pump.check_turn()\n"),
        (
            "                try:\n"
            "                    async with asyncio.timeout(min(left_s, _LONGEST_WAIT_S)):\n"
            "                        await self._has_arrived.wait()\n"
            "                except TimeoutError:\n"
            "                    pass\n",
            "                self._has_arrived.wait(min(left_s, _LONGEST_WAIT_S))\n",
        ),
        ("= asyncio.Event()\n", "= threading.Event()\n"),
        ("import asyncio\n", "import threading\n"),
    ),
    "functions.py": (
        (
            '    `board.f["a.b"]`, as are those that begin with a `_`. Names are known once the board was asked:\n'
            "    `await board.functions()`. A call looks its function up when it is called first. A board that tells "
            "nothing has\n    functions of every name here, unchecked.\n",
            '    `board.f["a.b"]`, as are those that begin with a `_`. The board is asked for their names once. A call '
            "looks its\n    function up when it is called first. A board that tells nothing has functions of every "
            "name here, unchecked.\n",
        ),
        (
            "    def _known(self) -> Description | None:\n"
            '        """What is known of the board."""\n'
            "        return self._board.operations.described.known\n",
            "    def _known(self) -> Description | None:\n"
            '        """What is known of the board, which is asked first."""\n'
            "        return self._board.pump.run(self._board.operations.described.read)\n",
        ),
        (
            'Callable[..., Awaitable[Any]]:\n        """Give the function of that name. Raises FunctionNotFoundError '
            "where",
            'Callable[..., Any]:\n        """Give the function of that name. Raises FunctionNotFoundError where',
        ),
        (
            'Callable[..., Awaitable[Any]]:\n        """Give the function of that name. Raises FunctionNotFoundError, '
            "which",
            'Callable[..., Any]:\n        """Give the function of that name. Raises FunctionNotFoundError, which',
        ),
        ("from collections.abc import Awaitable, Callable\n", "from collections.abc import Callable\n"),
    ),
    "model.py": (),
    "remote.py": (
        ("\n        Cancelled, a part may have been written.", ""),
        (
            '        """Refuse: copying it back must be awaited. Raises TypeError."""\n'
            '        raise TypeError(f"{self!r} lies on the board: `await x.numpy()` copies it back")\n',
            '        """Copy it back for numpy, as in `np.asarray(x)`; `dtype` is what numpy asks for.\n\n'
            "        Raises ValueError where `copy` is False, for it lies on the board; TypeError for bfloat16; else "
            'as `numpy`\n        does.\n        """\n'
            "        if copy is False:\n"
            '            raise ValueError(f"{self!r} lies on the board: numpy gets a copy of it, or nothing")\n'
            "        if self.dtype.code == DataTypeCode.BFLOAT:\n"
            '            raise TypeError(f"numpy has no {self.dtype}: x.numpy() gives its raw bits, as uint16")\n'
            "        contents = self.numpy()\n"
            "        return contents if dtype is None else contents.astype(dtype, copy=False)\n",
        ),
        ("import CPU, OpaqueHandle\n", "import CPU, DataTypeCode, OpaqueHandle\n"),
    ),
}

WORDS = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\bmicrorpc\.client\.aio\.", "microrpc.client."),
)


def generate(name: str) -> str:
    """Give the blocking twin of a file of `microrpc/client/aio`, formatted. Raises ValueError for a stale sentence."""
    source = CLIENT / "aio" / name
    text = source.read_text(encoding="utf-8")
    for ours, theirs in SENTENCES[name]:
        if text.count(ours) != 1:
            raise ValueError(f"{source} has {text.count(ours)} times, not once: {ours!r}")
        text = text.replace(ours, theirs)
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return HEAD.format(source=source.relative_to(ROOT).as_posix()) + _formatted(text, name)


def _formatted(text: str, name: str) -> str:
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(CLIENT / name), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


def main() -> None:
    """Write the blocking client."""
    for name in FILES:
        (CLIENT / name).write_text(generate(name), encoding="utf-8")


if __name__ == "__main__":
    main()
