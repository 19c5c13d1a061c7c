"""What is believed of the board, and since when: the count of its resets, and what is doubtful (docs/protocol.md 6).

A timeout, a damaged byte, an interrupted call: each leaves a stock board possibly one message behind, about to answer
an old question when the next one comes. So nothing is believed before the board has proved itself in a new session
(`microrpc.host.recovery`).
"""

from __future__ import annotations

from dataclasses import dataclass

from microrpc.errors import BoardResetError, CallTimeoutError, DamagedReplyError

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

    epoch: how often the board was seen to reset, or all of its memory was freed; what was obtained in one epoch is gone
    in the next. reply_epoch: the
    epoch in which the last request was sent. doubt: why the next request begins with a new session. damage: what
    arrived in this session after which nothing is believed. Both are empty where all is well.
    """

    epoch: int = 0
    reply_epoch: int = 0
    doubt: str = ""
    damage: str = ""

    def forget_handles(self) -> None:
        """Let every handle be from another epoch: what they stand for is about to be freed."""
        self.epoch += 1

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
            raise BoardResetError(f"{_RESET_DURING} {label}; {_RESET_NEXT}")
        if self.damage:
            self.doubt = self.damage
            raise DamagedReplyError(
                f"{self.damage} while the reply of {label} was awaited; it may have run. "
                f"The next request starts a new session"
            )
        if is_late:
            self.doubt = f"{label} was not answered"
            raise CallTimeoutError(
                f"no reply of {label} within {timeout_s:g} s; it may have run, or still be running. "
                f"Give it a longer timeout_s, or check the board; the next request starts a new session"
            )
