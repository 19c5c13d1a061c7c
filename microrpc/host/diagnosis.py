"""What came while a session was wanted, and what it may mean where none came about (docs/troubleshooting.md). Pure."""

from __future__ import annotations

import re

from microrpc.errors import HandshakeTimeoutError, counted
from microrpc.host.line import Line
from microrpc.wire.text import TextReader

_KEPT_BYTES = 64
_SHOWN_BYTES = 16
# WILL or WONT of an option: a receiver of frames calls both an invalid escape. DO looks like the start of a frame, but
# none has another one three bytes later.
_TELNET = re.compile(rb"\xff(?:[\xfb\xfc][\x00-\x31]|\xfd[\x00-\x31]\xff[\xfb-\xfe][\x00-\x31])")

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_KINDS_OF_TEXT = (
    (
        r"hard ?fault|bus ?fault|usage ?fault|memmanage|panic|guru meditation|stack overflow|abort\(|assert",
        "The firmware crashed: reset the board, and mend what it says.",
    ),
    (
        r"^>>> |\n>>> |micropython|circuitpython|syntaxerror|nameerror|traceback \(",
        "An interpreter (a REPL) runs there: `microrpc firmware flash micropython` gives MicroPython a program, or it "
        "is another port of the board.",
    ),
    (
        r"u-boot|autoboot|boot ?loader|waiting for download|xmodem|ymodem|rst:0x",
        "A boot loader talks: let it start the firmware, or flash that; give the board time with a longer timeout.",
    ),
    (
        r"login: |password: |[$#] ?$",
        "A console is there that waits for commands: this is another port of the board, or other firmware.",
    ),
)


class Diagnosis:
    """Looks on while a session is opened over `line`, and says what came where none comes about.

    port: its name, for messages. baud: of the line in bits a second, None where nobody knows.
    """

    def __init__(self, line: Line, text: TextReader, *, port: str, baud: int | None) -> None:
        self.port = port
        self.baud = baud
        self._line = line
        self._text = text
        self.begin()

    def begin(self) -> None:
        """Forget what came before."""
        self._text.heard = b""
        self._first = b""
        self._size_bytes = 0
        self._before = self._counts()

    def note(self, data: bytes) -> None:
        """Take what came, before the line takes it."""
        self._first += data[: _KEPT_BYTES - len(self._first)]
        self._size_bytes += len(data)

    def no_session(self, timeout_s: float, reason: str) -> HandshakeTimeoutError:
        """Give the error for a session that did not come about in `timeout_s`; `reason`: why it was wanted, or ""."""
        why = f" (why one was wanted: {reason})" if reason else ""
        return HandshakeTimeoutError(
            f"no session with the board{self._where()} within {timeout_s:g} s{why}. {self._what_came()}"
        )

    def none_stayed(self, sessions: int, reason: str) -> HandshakeTimeoutError:
        """Give the error for `sessions` that did not stay; `reason`: why not."""
        return HandshakeTimeoutError(
            f"{sessions} sessions were opened{self._where()} and none stayed ({reason}). Check the board's power "
            f"supply, the cable, and that nothing else writes to this port.{self._text.quote()}"
        )

    def _where(self) -> str:
        return (f" on {self.port}" if self.port else "") + (f" at {self.baud} baud" if self.baud else "")

    def _counts(self) -> tuple[int, int, int, int]:
        line = self._line
        return line.frames_received, line.frames_damaged, line.frames_echoed, self._text.size_bytes

    def _what_came(self) -> str:
        """Give what came and what to try, in sentences."""
        self._text.flush()
        frames, damaged, echoed, text_bytes = (
            now - before for now, before in zip(self._counts(), self._before, strict=True)
        )
        size = counted(self._size_bytes, "byte")
        baud_is = f"{self.baud} baud is" if self.baud else "the baud rate is"
        reset = "then reset it: a stock board that met a damaged frame may be deaf until it is."
        if not self._size_bytes:
            return (
                "Nothing came from it. Check that it is powered, runs firmware that speaks the protocol (`microrpc "
                f"firmware flash`), is not in a long call still, and that {baud_is} its own and its RX and TX are not "
                f"swapped; {reset}"
            )
        if _TELNET.match(self._first):
            return (
                f"The {size} that came begin with telnet's negotiation ({self._first[:_SHOWN_BYTES].hex(' ')}): "
                f"open rfc2217://HOST:PORT in place of socket://HOST:PORT, or set the server's port to raw mode."
            )
        if text_bytes and 2 * text_bytes >= self._size_bytes:
            told = self._text.heard_text()
            plain = _ESCAPE.sub("", told).lower().strip("\r\n")
            other = (
                "Other firmware runs there, or this is the port of its console: see `microrpc ports`, or flash "
                f"what is to run (`microrpc firmware flash`); {reset}"
            )
            advice = next((advice for kind, advice in _KINDS_OF_TEXT if re.search(kind, plain)), other)
            return f"It sent {text_bytes} bytes of text, {told!r}. {advice}"
        if echoed and frames <= 1:  # our TERMINATE came back before it was known that there is an echo
            return (
                f"Only what was sent came back, {size}: the line has an echo (RS-485, RX and TX joined), and behind it "
                f"nobody answers. Check that the board is powered, on this bus, and that {baud_is} its own; {reset}"
            )
        if frames:
            return (
                f"It sent frames ({frames} whole, {damaged} damaged), but no answer: it may boot again and again, or "
                f"answer another program. Check its power supply, and who else has the port; {reset}"
            )
        are, look = ("are", "they look like those") if self._size_bytes != 1 else ("is", "it looks like one")
        return (
            f"The {size} that came {are} neither whole frames nor text ({self._first[:_SHOWN_BYTES].hex(' ')}): "
            f"{look} of another baud rate. Check that {baud_is} the board's, and the cable; {reset}"
        )
