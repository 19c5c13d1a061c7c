"""No session comes about: the error says what came instead, and what to try."""

from __future__ import annotations

import pytest
from apis import Api

from microrpc.errors import HandshakeTimeoutError
from microrpc.host.connection import Connection
from microrpc.host.recovery import MAX_ATTEMPTS
from microrpc.wire.frames import FrameDecoder, encode_frame
from microrpc.wire.session import (
    MAX_STARTS,
    Established,
    Message,
    MessageType,
    Session,
    Timeouts,
    encode_log,
    encode_message,
)

TIMEOUTS = Timeouts(retry_s=0.5, start_s=2.0, call_s=1.0)
RESET = "; then reset it: a stock board that met a damaged frame may be deaf until it is."


class Answering:
    """A port that answers everything that is sent with the same bytes, in virtual time."""

    name = "/dev/ttyX"

    def __init__(self, answer: bytes, before: bytes = b"") -> None:
        self._answer = answer
        self._waiting = before
        self._now = 0.0

    def write(self, data: bytes, deadline: float) -> None:
        self._waiting += self._answer

    def read(self, deadline: float) -> bytes:
        data, self._waiting = self._waiting, b""
        if not data:
            self._now = max(self._now, deadline)
        return data

    def now(self) -> float:
        return self._now

    def close(self) -> None:
        pass


def failure(api: Api, answer: bytes, before: bytes = b"", **options: object) -> str:
    with pytest.raises(HandshakeTimeoutError) as caught:
        api.open_board(Answering(answer, before), TIMEOUTS, seed=1, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            b"",
            "Nothing came from it. Check that it is powered, runs firmware that speaks the protocol (`microrpc "
            "firmware flash`), is not in a long call still, and that ",
        ),
        (b"SyntaxError: invalid syntax\r\n>>> ", r"bytes of text, 'SyntaxError: invalid syntax\r\n>>> S"),
        (b"SyntaxError: invalid syntax\r\n>>> ", "An interpreter (a REPL) runs there"),
        (b"Hit any key to stop autoboot: 3\r\n", "A boot loader talks"),
        (b"\r\nHardFault at 0x08001234\r\n", "The firmware crashed"),
        (b"Guru Meditation Error: Core 0 panic'ed\r\n", "The firmware crashed"),
        (b"Ubuntu 22.04 board ttyS0\r\n\r\nboard login: ", "A console is there"),
        (b"/ # ", "A console is there"),
        (b"\x1b[1;32muart:~$ \x1b[m", "A console is there"),
        (b"temperature: 21.5 \xc2\xb0C\r\n", "Other firmware runs there"),
        (b"\xff\xfb\x03\xff\xfb\x01\xff\xfd\x03", "begin with telnet's negotiation (ff fb 03 ff fb 01 ff fd 03"),
        (b"\xff\xfd\x03\xff\xfb\x01\xff\xfd\x00", "begin with telnet's negotiation"),
        (b"\x80\xe0\x00\xf8\x1c\x86", "are neither whole frames nor text (80 e0 00 f8 1c 86"),
        (encode_frame(encode_log("hello")), "It sent frames ("),
        (encode_frame(encode_message(0, MessageType.TERMINATE_SESSION)), "it may boot again and again"),
    ],
)
def test_the_error_says_what_came(api: Api, answer: bytes, told: str) -> None:
    text = failure(api, answer, baud=9600)
    assert text.startswith("no session with the board on /dev/ttyX at 9600 baud within 2 s. ")
    assert told in text
    assert text.endswith(RESET) == (
        not any(word in text for word in ("telnet", "REPL", "loader", "crashed", "console is"))
    )


def test_a_single_byte_is_one(api: Api) -> None:
    told = "The 1 byte that came is neither whole frames nor text (00): it looks like one of another baud rate. "
    assert told in failure(api, b"", before=b"\0")


def test_what_came_before_is_told_too() -> None:
    connection = Connection(seed=1, timeouts=TIMEOUTS, port="COM3")
    operation = connection.open()

    def wait_for_it() -> None:
        deadline = operation.send((b"", max(operation.send((b"MicroPython v1.22\r\n>>> ", 0.0)), 0.0)))
        while True:
            deadline = operation.send((b"", deadline))

    operation.send(None)  # type: ignore[arg-type]
    with pytest.raises(
        HandshakeTimeoutError, match=r"on COM3 within 2 s\. It sent 23 bytes of text, 'MicroPython v1\.22"
    ):
        wait_for_it()


def test_the_error_says_why_a_session_was_wanted_and_why_none_stayed() -> None:
    diagnosis = Connection(seed=1, timeouts=TIMEOUTS, port="COM3").diagnosis
    assert "within 1 s (why one was wanted: a reason). Nothing came" in str(diagnosis.no_session(1.0, "a reason"))
    assert "3 sessions were opened on COM3 and none stayed (noise)." in str(diagnosis.none_stayed(3, "noise"))


class Leaving(Answering):
    """A port whose board opens each session, in no time, and says only `leaves` in it."""

    def __init__(self, leaves: bytes) -> None:
        super().__init__(b"")
        self.inits = 0
        self._leaves = leaves
        self._board = Session(3)
        self._decoder = FrameDecoder()

    def write(self, data: bytes, deadline: float) -> None:
        for payload in self._decoder.feed(data):
            event = self._board.receive(payload) if isinstance(payload, bytes) else None
            if isinstance(event, Established):
                self.inits += 1
                self._waiting += encode_frame(self._board.outgoing.pop())
            if isinstance(event, Established | Message):
                self._waiting += self._leaves


@pytest.mark.parametrize("leaves", [encode_frame(encode_message(0, MessageType.TERMINATE_SESSION)), b"\0" * 20])
def test_a_board_that_leaves_each_session_at_once_is_asked_as_often_as_a_silent_one(api: Api, leaves: bytes) -> None:
    line = Leaving(leaves)
    with pytest.raises(HandshakeTimeoutError, match=r"within 2 s\. It sent frames .* it may boot again and again"):
        api.open_board(line, TIMEOUTS, seed=1)
    assert MAX_STARTS < line.inits < MAX_ATTEMPTS + MAX_STARTS
    assert line.now() == pytest.approx(TIMEOUTS.start_s)


def test_a_port_that_came_back_under_another_name_is_called_by_that() -> None:
    connection = Connection(seed=1, timeouts=TIMEOUTS, port="/dev/ttyACM0")
    connection.on_port_reopened(lambda memory_is_lost: None, "/dev/ttyACM1")
    assert " on /dev/ttyACM1 within" in str(connection.diagnosis.no_session(1.0, ""))
