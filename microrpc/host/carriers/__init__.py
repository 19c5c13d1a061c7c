"""How a request crosses: a connection has one carrier at a time (docs/protocol.md 2, docs/link.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from microrpc.host.job import CopyJob, Progress
from microrpc.host.operation import Operation
from microrpc.wire.link import LinkParameters
from microrpc.wire.packets import Reply, Request


class Carrier(Protocol):
    """What a connection needs of a carrier. An exchange or copy here is one attempt: nothing in it is tried again."""

    @property
    def parameters(self) -> LinkParameters | None:
        """What the board told of its link; None where this is none."""

    @property
    def limit_bytes(self) -> int | None:
        """The largest packet that the board takes, without its packet_nbytes; None where it must be asked."""

    @property
    def retransmissions(self) -> int:
        """How often this carrier has sent a request again by itself."""

    def exchange(
        self,
        request: Request,
        packet: bytes,
        now: float,
        timeout_s: float,
        on_progress: Progress | None = None,
        renews: bool = False,
        beside: CopyJob | None = None,
    ) -> Operation[Reply]:
        """Send `request`, encoded as `packet`, and give its reply, which may take `timeout_s` besides the line's time.

        on_progress: told how far a call has come, where the board tells; renews: then `timeout_s` begins anew. beside:
        a copy of which blocks may be sent meanwhile; they are answered when this ends. Raises CallTimeoutError,
        CallCancelledError, DamagedReplyError, BoardResetError, ProtocolError.
        """

    def copy(self, job: CopyJob, now: float) -> Operation[None]:
        """Go on with a copy; what is done is taken off `job.todo`. Raises as `exchange`, and RemoteError."""

    def cancel(self, now: float) -> bool:
        """Have the board told that the call under way is cancelled; give whether it can be, and was not yet."""

    @property
    def listens_at(self) -> float:
        """When something is to be sent although nothing is asked; infinity where nothing is."""

    def listen(self, now: float, until: float) -> Operation[float]:
        """Take what comes, and send what is due, once at least; give the time: `until`, or when anything came."""

    @property
    def on_link(self) -> Callable[[bytes, float], object]:
        """Takes the payload of a message of the link, and the time."""

    def on_damage(self, what: str, now: float) -> None:
        """Take note of a damaged frame."""

    def on_garbage(self, data: bytes, now: float) -> None:
        """Take note of bytes outside of any frame that are no text."""

    def after_garbage(self, was_answered: bool, now: float) -> None:
        """Judge the garbage so far, after all that arrived with it; `was_answered`: a reply was among that."""
