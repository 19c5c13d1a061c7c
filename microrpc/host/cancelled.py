"""What a program is told of a call that it has cancelled (docs/link.md 9, 11)."""

from __future__ import annotations

from microrpc.errors import CallCancelledError
from microrpc.wire.link import CANCELLED_TEXT


def ended_error(label: str, message: str) -> CallCancelledError:
    """Give the error for a call that was cancelled, and answered with the exception `message`."""
    if message == CANCELLED_TEXT:
        return CallCancelledError(f"{label} was cancelled before it began", may_have_run=False)
    if message.startswith(f"{label} was cancelled"):  # a server over a stream passes on what its host says
        return CallCancelledError(message)
    return CallCancelledError(f"{label} was cancelled while it ran, and ended with: {message or 'no text'}")


def between_error() -> CallCancelledError:
    """Give the error for an operation of several requests that ends between two: one was answered already."""
    return CallCancelledError("it was cancelled before all of it was done")
