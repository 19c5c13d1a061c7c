"""What a pump says where it does not drive an operation, in both clients."""

from __future__ import annotations

import os

from microrpc.errors import CallTimeoutError, ClosedError, RequestError


def closed_error(name: str, reason: str) -> ClosedError:
    """Give the error for a request over a connection that is closed; `reason` is why."""
    return ClosedError(f"the connection to {name} is closed ({reason}); connect again")


def ended_error(name: str) -> ClosedError:
    """Give the error for a request that was under way when the connection was closed."""
    return ClosedError(f"the connection to {name} was closed during this request, which may have run; connect again")


def inherited_error(what: str, process: int) -> ClosedError:
    """Give the error for a board, `what`, in a fork of the `process` that opened its port."""
    return ClosedError(
        f"{what} belongs to process {process}, and this is process {os.getpid()}, a fork of it, which has no part in "
        "its port; connect again in this process, when the other has closed it"
    )


def in_use_error(name: str, whose: str, timeout_s: float) -> CallTimeoutError:
    """Give the error for a request whose turn did not come in time, because of other threads or tasks, `whose`."""
    return CallTimeoutError(
        f"{name} was in use by {whose} for the {timeout_s:g} s that this request was given; nothing was sent. "
        "Give it a longer timeout_s, and let no handler of events wait",
        may_have_run=False,
    )


def crossed_error(name: str) -> RequestError:
    """Give the error for two callbacks of two boards, each of which uses the other's board at the same time."""
    return RequestError(
        f"<Board {name}> is used by a thread that itself waits for a board which this thread is in a callback of: each "
        "would wait for the other for ever. Nothing was sent. Take a note there, and ask when the request is done"
    )


def not_done_error(label: str, timeout_s: float) -> CallTimeoutError:
    """Give the error for a call whose result was waited for in vain; it goes on."""
    return CallTimeoutError(
        f"{label} was not done within the {timeout_s:g} s that its result was waited for. It goes on: wait again, or "
        "cancel() it"
    )


def within_error(name: str) -> RequestError:
    """Give the error for a request from within another of the same thread."""
    return RequestError(
        f"<Board {name}> is used from within a request of its own: in on_log, on_progress, on_reconnect, on_reset, the "
        "handler of an event, or a signal handler that interrupts a request. Nothing was sent, and the request goes "
        "on. Take a note there, and ask the board when the request is done"
    )
