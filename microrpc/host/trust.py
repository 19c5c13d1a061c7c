"""What is believed of the board, and since when: the count of its resets, and what is doubtful (docs/protocol.md 6).

A timeout, a damaged byte, an interrupted call: each leaves a stock board possibly one message behind, about to answer
an old question when the next one comes. So nothing is believed before the board has proved itself in a new session
(`microrpc.host.recovery`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from microrpc.errors import BoardError, BoardResetError, CallTimeoutError, DamagedReplyError, HandshakeTimeoutError
from microrpc.wire.text import TextReader

INTERRUPTED = "a request was interrupted"
"""The doubt while a request is under way: it stays where the generator that waits for the reply is closed."""

_RESET_BEFORE = (
    "the board was reset or without power: its memory is gone, and this request uses a function or array from before. "
    "Look the function up again, and allocate the array again"
)
_RESET_UNTOLD = (
    "the board was reset or without power since the last request: its memory and all handles are gone. "
    "The next request is carried out: look functions up again, and allocate arrays again"
)
_NOTHING_SENT = "nothing of this request was sent"
_RESET_DURING = "the board was reset during"
_RESET_NEXT = "its memory and all handles are gone. The next request starts a new session"


@dataclass(slots=True)
class Trust:
    """The state that a connection's parts share.

    epoch: how often the board was seen to reset, or all of its memory was freed; what was obtained in one epoch is gone
    in the next. reply_epoch: the epoch in which the last request was sent. doubt: why the next request begins with a
    new session. damage: what arrived in this session after which nothing is believed. Both are empty where all is well.
    text: what the board prints beside its frames; what was heard of that since a request was sent stands in its error.

    last_words: what it printed before its last reset, since a request was sent, as a sentence; or "".

    is_used: the program asked something in this epoch, so that a reset takes something from it. is_untold: there was
    such a reset, and the program does not know yet; on_reset: called instead, where it is given.
    is_asking: the operation under way has come to send what it is for, and is_out: the port took that, or a part of
    it. is_preparing: what it sends now is not what it is for, but what it must know before. is_cancelled: nothing
    more of it is begun. A pump sets `is_out`, and clears all three in the end.
    """

    epoch: int = 0
    reply_epoch: int = 0
    doubt: str = ""
    damage: str = ""
    text: TextReader = field(default_factory=TextReader)
    last_words: str = ""
    is_used: bool = False
    is_untold: bool = False
    on_reset: Callable[[], None] | None = None
    is_asking: bool = False
    is_out: bool = False
    is_preparing: bool = False
    is_cancelled: bool = False

    def note_reset(self) -> None:
        """Take note of a reset: tell the program, where it has lost something, or have it told."""
        self.epoch += 1
        self.last_words = self.text.quote()
        was_used, self.is_used = self.is_used, False
        if was_used:
            if self.on_reset is not None:
                self.on_reset()
            else:
                self.is_untold = True

    def tell_reset(self) -> None:
        """Raise BoardResetError where the program does not know of a reset, and nothing of this operation was sent.

        What is sent already goes on as long as it can; then the next one tells.
        """
        if self.is_untold and not self.is_asking:
            raise self._reset_error(_RESET_UNTOLD)

    def note_told(self, error: BoardError) -> None:
        """Take note of what reaches the program: it is told, or that the board must be reset, which is no news then."""
        if isinstance(error, BoardResetError | HandshakeTimeoutError):
            self.is_untold = False
        if isinstance(error, HandshakeTimeoutError) and self.on_reset is None:
            self.is_used = False

    def check_handle(self) -> None:
        """Raise BoardResetError for a handle from before a reset that the program cannot know of yet."""
        if self.is_untold or self.is_asking:
            self.is_untold = False
            raise self._reset_error(_RESET_BEFORE)

    def forget_handles(self) -> None:
        """Let every handle be from another epoch: what they stand for is about to be freed."""
        self.epoch += 1

    def check_epoch(self, epoch: int | None) -> None:
        """Raise BoardResetError where the handles of a request are from another epoch; None stands for no handles."""
        if epoch is not None and epoch != self.epoch:
            raise self._reset_error(_RESET_BEFORE)

    def _reset_error(self, text: str) -> BoardResetError:
        words = f".{self.last_words}" if self.last_words else ""
        if self.is_out:
            return BoardResetError(f"{text}. What was sent before that may have run{words}")
        return BoardResetError(f"{text}; {_NOTHING_SENT}{words}", may_have_run=False)

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
