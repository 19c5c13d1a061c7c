"""The connection that fits an open channel, and what is told of the board behind it: to logs, and to the program."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from microrpc.connecting.openers import Opened, ResetFirst
from microrpc.connecting.wrap import Tap
from microrpc.errors import RequestError, printable
from microrpc.host.connection import Connection
from microrpc.host.requests import AnyConnection
from microrpc.host.stream import StreamConnection
from microrpc.wire.checks import check_callable, check_flag, check_whole, show
from microrpc.wire.logs import LogLine, parse_log
from microrpc.wire.session import Timeouts

_log = logging.getLogger("microrpc.board")
_text_log = logging.getLogger("microrpc.text")

OnLog = Callable[[str], None]
"""Called with each line of a board's log."""

OnReset = Callable[[], None]
"""Called when the board was seen to be reset."""

OnReconnect = Callable[[bool], None]
"""Called when the board is back on its port, with whether it lost its memory."""


def check_options(timeouts: object, flags: Mapping[str, object], **functions: object) -> None:
    """Raise RequestError where `timeouts` are no `Timeouts`, one of `flags` is neither True nor False, or one of
    `functions` is neither a function nor None.
    """
    if not isinstance(timeouts, Timeouts):
        raise RequestError(f"timeouts are several, `microrpc.Timeouts(call_s=...)`, not {show(timeouts)}")
    for name, flag in flags.items():
        check_flag(flag, name)
    for name, function in functions.items():
        check_callable(function, name)


def board_log(name: str, on_log: OnLog | None) -> OnLog:
    """Give what the log of the board on the port `name` goes to: "microrpc.board", and `on_log` where there is one.

    What a line has before its text, a level and the board's time, goes to the logger alone (docs/device.md 5).
    """

    def pass_log(text: str) -> None:
        _pass_on(_log, name, on_log, parse_log(text))

    return pass_log


def board_text(name: str, on_log: OnLog | None) -> OnLog:
    """Give what the board prints beside its frames goes to: "microrpc.text", and `on_log` where there is one."""

    def pass_text(text: str) -> None:
        _pass_on(_text_log, name, on_log, LogLine(logging.INFO, None, text))

    return pass_text


def _pass_on(logger: logging.Logger, name: str, on_log: OnLog | None, line: LogLine) -> None:
    if logger.hasHandlers():  # else Python prints what is a warning, which is the program's to decide
        more = {"board_text": line.text, "board_time_us": line.board_time_us}
        logger.log(line.level, "%s: %s", name, printable(line.text), extra=more)
    if on_log is not None:
        _tell("on_log", on_log, line.text)


def reset_first(name: str, on_log: OnLog | None, tap: Tap | None) -> ResetFirst:
    """Have the board on the port `name` be reset: what it says meanwhile goes where the rest of it does."""
    return ResetFirst(board_log(name, on_log), board_text(name, on_log), tap)


def reset_log(name: str, on_reset: OnReset) -> OnReset:
    """Give what is called when the board on the port `name` has lost its memory: it is logged, and `on_reset` told."""

    def tell() -> None:
        _log.info("%s: it was reset, its memory is lost", name)
        _tell("on_reset", on_reset)

    return tell


def reconnect_log(name: str, on_reconnect: OnReconnect | None) -> OnReconnect:
    """Give what is called when the board on the port `name` is back: it is logged, and `on_reconnect` told."""

    def tell(memory_is_lost: bool) -> None:
        _log.info("%s: it is back, %s", name, "its memory is lost" if memory_is_lost else "with its memory")
        if on_reconnect is not None:
            _tell("on_reconnect", on_reconnect, memory_is_lost)

    return tell


def _tell(what: str, listener: Callable[..., None], *news: object) -> None:
    """Call what the program gave as `what`. It must not break the connection that it listens to: that is logged."""
    try:
        listener(*news)
    except Exception:
        _log.exception("%s raised", what)


def make_connection(
    opened: Opened[Any],
    timeouts: Timeouts,
    on_log: OnLog | None,
    *,
    seed: int | None = None,
    link: bool = True,
    on_reset: OnReset | None = None,
) -> AnyConnection:
    """Make the connection to the board behind an open channel; its log goes where `board_log` and `board_text` say.

    seed: of the session's nonces; drawn from the system where it is None. link: use the link extension where the board
    knows it (docs/link.md). A server without frames has neither, nor a log. on_reset: as `connect` has it.
    """
    connection: AnyConnection
    if opened.is_stream:
        connection = StreamConnection(timeouts=timeouts, asks=opened.is_shared)
    else:
        connection = Connection(
            seed=secrets.randbits(64) if seed is None else check_whole(seed, "seed", 0),
            timeouts=timeouts,
            on_log=board_log(opened.channel.name, on_log),
            on_text=board_text(opened.channel.name, on_log),
            link=link,
            port=opened.channel.name,
            ring_bytes=opened.ring_bytes,
            baud=opened.baud,
        )
    if on_reset is not None:
        connection.trust.on_reset = reset_log(opened.channel.name, on_reset)
    return connection
