"""Every exception that microrpc raises, as one tree under `MicroRpcError`.

Three questions decide the class: could the port be had (`PortError`), did the board or the line fail
(`BoardError`), or did the caller ask for something that cannot be (`RequestError`)?
This module imports nothing.
"""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """Give `text` with escapes for what a terminal would obey, or not show: control characters above all.

    What a board says is not to move the cursor, or to hide a line. `keep` has those that are left as they are.
    """
    if text.isprintable():
        return text
    escaped = (char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)
    return "".join(escaped)


def reason_of(error: OSError) -> str:
    """Say in few words what the system refused; some errors, numpy's for example, have no number and no text of it."""
    return error.strerror or str(error) or type(error).__name__


def counted(count: int, what: str) -> str:
    """Give a number of things: "1 byte", "2 bytes"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _as_it_was(kind: type[MicroRpcError], arguments: tuple[object, ...]) -> MicroRpcError:
    """Make an error again without its constructor, which would make another text; the fields follow."""
    return kind.__new__(kind, *arguments)


class MicroRpcError(Exception):
    """The root: catching it catches everything that microrpc raises on purpose.

    Every class of the tree survives `pickle` and `copy` with its text, fields and notes, and so the way out of
    another process (`multiprocessing.Pool`, `ProcessPoolExecutor`). As with any exception, its cause and its
    traceback stay behind. What a board said is escaped in its text, but for line ends and tabs.
    """

    def __str__(self) -> str:
        return printable(super().__str__(), keep="\n\t")

    def __reduce__(self) -> tuple[object, ...]:
        return _as_it_was, (type(self), self.args), self.__dict__


# --- the port ---------------------------------------------------------------------------------


class PortError(MicroRpcError):
    """The port cannot be opened or used. `port` is its name as the caller gave it."""

    def __init__(self, port: str, message: str) -> None:
        super().__init__(message)
        self.port = port


class PortNotFoundError(PortError):
    """There is no such port, or nobody answers at such an address; or the board to look for is not plugged in."""


class PortBusyError(PortError):
    """Another program holds the port; the message names it where this user may see that."""


class PortPermissionError(PortError):
    """This user may not open the port."""


class PortLostError(PortError):
    """The port went away while it was open: unplugged, or the other end closed it.

    `may_have_run` says whether the request that was under way may have been executed.
    """

    def __init__(self, port: str, message: str, *, may_have_run: bool = False) -> None:
        super().__init__(port, message)
        self.may_have_run = may_have_run


# --- the board and the line -------------------------------------------------------------------


class BoardError(MicroRpcError):
    """The board, or the line to it, did not do what it should."""


class HandshakeTimeoutError(BoardError):
    """No session could be opened, or the board could not be brought in step (docs/protocol.md 2, 6)."""


class OutcomeUnknownError(BoardError):
    """A request was sent and its answer never came or cannot be trusted.

    `may_have_run` is False only where it is certain that the board did not execute the request.
    The next request opens a new session, and raises HandshakeTimeoutError where the board needs a reset for that.
    """

    def __init__(self, message: str, *, may_have_run: bool = True) -> None:
        super().__init__(message)
        self.may_have_run = may_have_run


class CallTimeoutError(OutcomeUnknownError):
    """No answer came within the call's deadline."""


class DamagedReplyError(OutcomeUnknownError):
    """Bytes were damaged on the line while an answer was awaited."""


class BoardResetError(OutcomeUnknownError):
    """The board was reset: its memory is gone, and handles from before are refused."""


class CallCancelledError(OutcomeUnknownError):
    """A call was cancelled: it did not begin, where `may_have_run` is False; else it ended early, or may go on.

    Where the board has answered, the next request goes on in the same session.
    """


class RemoteError(BoardError):
    """The board executed a request and answered with an exception.

    `message` is the board's own text (it may be empty, docs/protocol.md 6), `function` the name of what was
    called, `code` the name of the packet that was refused, for example "CallFunc". `advice` is what this host makes of
    it, which may be nothing.
    """

    def __init__(self, message: str, *, function: str = "", code: str = "", advice: str = "") -> None:
        where = function or code or "the request"
        text = message or "(the board gave no text)"
        text = text if text.startswith(f"{where}:") else f"{where}: {text}"
        super().__init__(f"{text}; {advice}" if advice else text)
        self.message = message
        self.function = function
        self.code = code
        self.advice = advice


class VerifyError(BoardError):
    """A copy that was to be verified is not what it should be: it and the board's memory differ (docs/copies.md)."""


class ProtocolError(BoardError):
    """The peer sent something that the protocol does not allow. `section` is that of `document` in docs/."""

    def __init__(self, section: str, message: str, *, document: str = "protocol.md") -> None:
        super().__init__(f"{message} (docs/{document}, section {section})")
        self.section = section
        self.reason = message
        """What was wrong, without the section."""


# --- the caller -------------------------------------------------------------------------------


class RequestError(MicroRpcError):
    """The caller asked for something that cannot be sent; nothing crossed the line."""


class UnsupportedValueError(RequestError):
    """A value that RPC cannot carry (docs/protocol.md 3)."""


class RequestTooLargeError(RequestError):
    """A request larger than the board's receive buffer; a stock board would die of it (docs/protocol.md 4, 6)."""

    def __init__(self, message: str, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes
        """What the request takes, in bytes."""
        self.limit_bytes = limit_bytes
        """The most that the board takes, in bytes."""


class CopyRangeError(RequestError):
    """A copy that reaches past the end of the tensor, or a block size that is not positive (docs/protocol.md 4)."""


class FunctionNotFoundError(RequestError):
    """Neither the board's global registry nor its system library has a function of that name."""


class FunctionAttributeError(FunctionNotFoundError, AttributeError):
    """The same of an attribute, `board.f.NAME`: an AttributeError too, so that hasattr() and completion work."""


class ArgumentError(RequestError):
    """An argument is not what the function's signature says; the message has both (docs/description.md 3)."""


class SignatureError(RequestError):
    """A signature cannot be read: the message has the column, and what was expected there (docs/description.md 3)."""


class FeatureMissingError(RequestError):
    """The board's firmware does not know what was asked for, such as events; the message says what it must have."""


class StaleHandleError(RequestError):
    """A function or array from before a reset of the board, or one that was freed."""


class ClosedError(RequestError):
    """The connection was closed by this program, or can be used no more: the message says why. Connect again."""


class ProfileError(RequestError):
    """A board profile is missing or wrong. The message names the file, the key and the reason."""


class FaultsError(RequestError):
    """A description of faults for the simulator is wrong. The message names where, the key and the reason."""


class FirmwareError(RequestError):
    """Firmware cannot be built or run. The message names file and reason, what to install, or the compiler's words."""


class CaptureError(RequestError):
    """A capture cannot be written or read: the message says where, and what is wrong (docs/capture.md)."""
