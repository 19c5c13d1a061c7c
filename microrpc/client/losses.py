"""Which failures of a request mean that its port is lost, and what is told of them. The same for both pumps.

Nothing here keeps the error: what a pump's frame kept of it would keep that frame, and all that its callers have.
"""

from __future__ import annotations

from dataclasses import dataclass

from microrpc.errors import (
    BoardError,
    CallTimeoutError,
    ClosedError,
    HandshakeTimeoutError,
    MicroRpcError,
    PortLostError,
)
from microrpc.host.trust import Trust
from microrpc.ports.channel import others_on


@dataclass(frozen=True, slots=True)
class Loss:
    """What a failure means for the channel that it happened on."""

    closed: str = ""
    """Why nothing can be asked any more over it; "" where the next request may try."""
    more: str | None = None
    """What else is to be told: what `retold` gives is raised then, and where it is None the error as it is."""


def loss_of(error: MicroRpcError, channel: object, trust: Trust, *, can_reopen: bool, comes_back: bool) -> Loss:
    """Judge what a request over `channel` ended in; or, where its port only `comes_back`, what was to come before it.

    A port that can be opened anew is lost, too, where no session comes about over it or its stream is closed: a TCP
    connection whose other end went silently looks like that.
    """
    if isinstance(error, BoardError):
        trust.note_told(error)
    if isinstance(error, PortLostError):
        said = trust.text.heard_text()  # a server says so that somebody else has the port, and firmware why it crashed
        came = f" Before that came {said!r}." if said.strip() else ""
        return Loss("the port went away", came + (" (the next request looks for it)" if can_reopen else ""))
    if isinstance(error, HandshakeTimeoutError):
        names = others_on(channel)
        text = f" The port is open in {names}, too, which may take the board's answers: close it." if names else None
        return Loss("no session came about" if can_reopen else "", text)
    if isinstance(error, CallTimeoutError) and trust.is_out and not error.may_have_run:
        return Loss(more=" The request was sent once before, or a part of it was: it may have run.")
    if can_reopen and (isinstance(error, ClosedError) or (comes_back and isinstance(error, CallTimeoutError))):
        return Loss(str(error))
    return Loss()


def retold(error: MicroRpcError, more: str, trust: Trust) -> MicroRpcError:
    """Give `error` with what else is to be told, and whether the request may have run, which `trust` knows."""
    if isinstance(error, PortLostError):
        return PortLostError(error.port, f"{error}{more}", may_have_run=trust.is_out)
    if isinstance(error, CallTimeoutError):
        return CallTimeoutError(f"{error}{more}")
    return HandshakeTimeoutError(f"{error}{more}")
