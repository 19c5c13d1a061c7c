"""What is believed of the board, and since when: the count of its resets, and what is doubtful (docs/protocol.md 6).

A timeout, a damaged byte, an interrupted call: each leaves a stock board possibly one message behind, about to answer
an old question when the next one comes. So nothing is believed before the board has proved itself in a new session
(`microrpc.host.recovery`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from microrpc.errors import BoardResetError, CallTimeoutError, DamagedReplyError
from microrpc.wire.text import TextReader

INTERRUPTED = "a request was interrupted"
"""The doubt while a request is under way: it stays where the generator that waits for the reply is closed."""

_RESET_BEFORE = (
    "the board was reset or without power: its memory is gone, and this request uses a function or array from before; "
    "nothing was sent. Look the function up again, and allocate the array again"
)
_RESET_DURING = "the board was reset during"
_RESET_NEXT = "its memory and all handles are gone. The next request starts a new session"


@dataclass(slots=True)
class Trust:
    """The state that a connection's parts share.

    epoch: how often the board was seen to reset; what was obtained in one epoch is gone in the next. reply_epoch: the
    epoch in which the last request was sent. doubt: why the next request begins with a new session. damage: what
    arrived in this session after which nothing is believed. Both are empty where all is well. text: what the board
    prints beside its frames; what was heard of that since a request was sent stands in its error.
    """

    epoch: int = 0
    reply_epoch: int = 0
    doubt: str = ""
    damage: str = ""
    text: TextReader = field(default_factory=TextReader)

    def check_epoch(self, epoch: int | None) -> None:
        """Raise BoardResetError where the handles of a request are from another epoch; None stands for no handles."""
        if epoch is not None and epoch != self.epoch:
            raise BoardResetError(_RESET_BEFORE, may_have_run=False)

    def give_up_if_due(self, label: str, epoch: int, is_late: bool, timeout_s: float) -> None:
        """Raise where the request `label`, sent in `epoch`, cannot be answered any more; the reason becomes doubt.

        Raises BoardResetError, DamagedReplyError, and CallTimeoutError where `is_late`.
        """
        if self.epoch != epoch:
            self.doubt = "the board was reset"
            raise BoardResetError(f"{_RESET_DURING} {label}; {_RESET_NEXT}.{self.text.quote()}")
        if self.damage:
            self.doubt = self.damage
            raise DamagedReplyError(
                f"{self.damage} while the reply of {label} was awaited; it may have run. "
                f"The next request starts a new session.{self.text.quote()}"
            )
        if is_late:
            self.doubt = f"{label} was not answered"
            raise CallTimeoutError(
                f"no reply of {label} within {timeout_s:g} s; it may have run, or still be running. "
                f"Give it a longer timeout, or check the board; the next request starts a new session."
                + self.text.quote()
            )
