"""Which failures of a request mean that its port is lost, and what is told of them. The same for both pumps."""

from __future__ import annotations

from dataclasses import dataclass

from microrpc.errors import CallTimeoutError, ClosedError, HandshakeTimeoutError, MicroRpcError, PortLostError
from microrpc.ports.channel import others_on


@dataclass(frozen=True, slots=True)
class Loss:
    """What is raised, and why nothing can be asked any more over the channel; "" where the next request may try."""

    error: MicroRpcError
    closed: str = ""


def loss_of(error: MicroRpcError, channel: object, *, can_reopen: bool, comes_back: bool) -> Loss:
    """Judge what a request over `channel` ended in. Nothing of it was sent where its port only `comes_back`.

    A port that can be opened anew is lost, too, where no session comes about over it or its stream is closed: a TCP
    connection whose other end went silently looks like that.
    """
    if isinstance(error, PortLostError):
        text = f"{error} (the next request looks for it)" if can_reopen else str(error)
        return Loss(PortLostError(error.port, text, may_have_run=not comes_back), "the port went away")
    if isinstance(error, HandshakeTimeoutError):
        names = others_on(channel)
        text = f"{error}. The port is open in {names}, too, which may take the board's answers: close it"
        shown = HandshakeTimeoutError(text) if names else error
        return Loss(shown, "no session came about" if can_reopen else "")
    if can_reopen and (isinstance(error, ClosedError) or (comes_back and isinstance(error, CallTimeoutError))):
        return Loss(error, str(error))
    return Loss(error)
