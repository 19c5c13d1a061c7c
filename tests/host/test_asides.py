"""A stream on which the server says something beside its replies (docs/link.md 11): bytes by hand, and virtual time."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microrpc.errors import (
    BoardError,
    CallCancelledError,
    CallTimeoutError,
    ClosedError,
    FeatureMissingError,
    ProtocolError,
    RemoteError,
)
from microrpc.host.events import Event
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.stream import StreamConnection
from microrpc.wire.packets import CallFunc, PacketCode, Reply, Request, Return, Syscall, encode_packet
from microrpc.wire.session import Timeouts

T = TypeVar("T")
TIMEOUTS = Timeouts(start_s=10.0, call_s=5.0, cancel_s=1.0)
CALL = CallFunc(7, (1,))
CALL_BYTES = encode_packet(CALL)
DONE = encode_packet(Return((0, 5)))
INITIALISED = struct.pack("<Qiii", 12, 4, 1, 4)
LOOK_UP = struct.pack("<QiiiQ", 35, 9, 1, 11, 15) + b"microrpc.stream"
OTHER_LOOK_UP = Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",))

EVENTS, RELIABLE, PROGRESS, CANCEL = 1, 2, 4, 8
ALL = EVENTS | RELIABLE | PROGRESS | CANCEL


def features(known: int) -> bytes:
    return struct.pack("<QiiiQ", 20, 4, 1, 3, 1 | known << 8 if known else 0)


def want(flags: int) -> bytes:
    return struct.pack("<QiB", 5, 0x4D520001, flags)


CANCEL_BYTES = struct.pack("<Qi", 4, 0x4D520002)


def event(
    number: int, name: str = "s", *, reliable: bool = False, missed: int = 0, boot: int = 9, high: int = 0
) -> bytes:
    body = struct.pack("<iIIiIBIB", 0x4D520003, boot, missed, high, number, reliable, 1000, len(name)) + name.encode()
    return struct.pack("<Q", len(body)) + body


def progress(done: int, total: int) -> bytes:
    return struct.pack("<QiII", 12, 0x4D520004, done, total)


def gone(text: bytes) -> bytes:
    return struct.pack("<Qi", 4 + len(text), 0x4D520005) + text


def exception(text: bytes) -> bytes:
    return struct.pack("<QiiiQ", 20 + len(text), 5, 1, 11, len(text)) + text


class Sink:
    """Takes events as subscribers do."""

    def __init__(self) -> None:
        self.is_wanted = True
        self.has_room = True
        self.got: list[Event] = []

    def deliver(self, event: Event) -> None:
        self.got.append(event)

    def wake(self) -> None:
        raise AssertionError("a stream has no KEEP_ALIVEs")


class Peer:
    """Pumps a connection: `answers` are what arrives, one at each wait; b"" lets the deadline come."""

    def __init__(self, *, asks: bool = True, wanted: bool = False) -> None:
        self.connection = StreamConnection(timeouts=TIMEOUTS, asks=asks)
        self.sink = Sink()
        self.sink.is_wanted = wanted
        self.connection.events.sink = self.sink
        self.now = 100.0
        self.sent: list[bytes] = []

    def take(self) -> list[bytes]:
        """Give what was sent since the last time, piece by piece."""
        sent, self.sent = self.sent, []
        return sent

    def run(
        self,
        operation: Operation[T],
        *answers: bytes | Callable[[], bytes],
        at_once: bytes = b"",
        is_exact: bool = True,
    ) -> T:
        trust, arriving = self.connection.trust, iter(answers)
        try:
            deadline = operation.send(None)  # type: ignore[arg-type]  # a generator starts with None
            while True:
                data = at_once
                if deadline != AT_ONCE:
                    answer = next(arriving)
                    data = answer if isinstance(answer, bytes) else answer()
                    self.now = self.now if data or callable(answer) else deadline
                at_once = at_once if deadline != AT_ONCE else b""
                deadline = operation.send((data, self.now))
                if self.connection.output.pieces:
                    self._flush()
                    trust.is_out = trust.is_asking
        except StopIteration as stop:
            self._flush()
            assert not (is_exact and list(arriving)), "not all was awaited"
            result: T = stop.value
            return result
        finally:
            self._flush()
            operation.close()
            trust.is_asking = trust.is_out = trust.is_cancelled = False

    def _flush(self) -> None:
        self.sent += [piece for piece in self.connection.output.pieces if piece]
        self.connection.output.pieces.clear()

    def ask(self, *answers: Any, request: Request = CALL, timeout_s: float = 2.0, **options: Any) -> Reply:
        at_once, is_exact = options.pop("at_once", b""), options.pop("is_exact", True)
        return self.run(
            self.connection.exchange(
                request, encode_packet(request), timeout_s=timeout_s, repeatable=False, epoch=None, **options
            ),
            *answers,
            at_once=at_once,
            is_exact=is_exact,
        )

    def listen(self, *answers: Any, timeout_s: float = 0.0, **options: Any) -> int:
        at_once = options.pop("at_once", b"")
        return self.run(self.connection.listen(timeout_s, **options), *answers, at_once=at_once)


def begun(known: int = ALL, *, wanted: bool = True) -> Peer:
    """Give a connection whose server was asked, and told what is wanted."""
    peer = Peer(wanted=wanted)
    peer.ask(features(known), DONE)
    peer.take()
    return peer


# --- asking ---------------------------------------------------------------------------------------


def test_a_server_that_shares_a_board_is_asked_once_before_the_first_call() -> None:
    peer = Peer()
    peer.ask(features(0), request=OTHER_LOOK_UP)
    assert peer.take() == [encode_packet(OTHER_LOOK_UP)]
    assert peer.ask(features(ALL), DONE) == Return((0, 5))
    assert peer.take() == [LOOK_UP, want(2), CALL_BYTES]
    assert peer.connection.features.known == ALL
    peer.ask(DONE)
    assert peer.take() == [CALL_BYTES]


def test_another_server_is_asked_only_where_progress_or_events_are_wanted() -> None:
    peer = Peer(asks=False)
    peer.ask(DONE)
    assert peer.take() == [CALL_BYTES]
    assert peer.connection.features.known == 0
    peer.ask(features(0), DONE, on_progress=lambda done, total: None)
    assert peer.take() == [LOOK_UP, CALL_BYTES]
    peer.ask(DONE, on_progress=lambda done, total: None)
    assert peer.take() == [CALL_BYTES]


def test_a_server_that_says_nothing_is_told_nothing_and_what_it_says_is_as_wrong_as_ever() -> None:
    peer = begun(0)
    assert not peer.connection.cancel(0.0)
    with pytest.raises(ProtocolError):
        peer.ask(progress(1, 2))
    for data in (event(0), event(0)[:20]):
        peer = begun(0)
        with pytest.raises(ProtocolError):
            peer.listen(at_once=data)


def test_a_shared_board_in_trouble_is_asked_again_and_another_server_that_refuses_is_not() -> None:
    peer = Peer()
    with pytest.raises(RemoteError, match="PortLostError: it went"):
        peer.ask(exception(b"PortLostError: it went"))
    assert peer.take() == [LOOK_UP]
    assert peer.ask(features(0), DONE) == Return((0, 5))
    other = Peer(asks=False)
    assert other.ask(exception(b"no such function"), DONE, on_progress=lambda done, total: None) == Return((0, 5))
    assert other.ask(DONE, on_progress=lambda done, total: None) == Return((0, 5))


def test_a_question_that_is_left_is_answered_to_the_next_operation() -> None:
    for request, at_once in ((CALL, b""), (CALL, features(ALL)), (OTHER_LOOK_UP, features(ALL))):
        peer = Peer(wanted=True)
        left = peer.connection.listen(0.0)
        left.send(None)  # type: ignore[arg-type]
        left.send((b"", peer.now))
        left.send((b"", peer.now))
        peer._flush()
        left.close()
        assert peer.take() == [LOOK_UP]
        if at_once:
            peer.listen(at_once=at_once, timeout_s=0.0) if request is CALL else None
        answers = [DONE] if request is CALL and at_once else [features(ALL), DONE]
        assert peer.ask(*answers, request=request) == Return((0, 5))
        assert peer.take() == [want(3), encode_packet(request)]


def test_an_answer_that_came_to_nobody_is_kept_for_who_needs_it() -> None:
    peer = Peer(wanted=True)
    left = peer.connection.listen(0.0)
    for arrival in (None, (b"", peer.now), (b"", peer.now)):
        left.send(arrival)  # type: ignore[arg-type]
    peer._flush()
    left.close()
    peer.sink.is_wanted = False
    peer.listen(at_once=features(ALL))
    peer.listen()
    assert peer.ask(DONE) == Return((0, 5))
    assert peer.take() == [LOOK_UP, want(2), CALL_BYTES]


def test_a_server_that_does_not_answer_the_question_is_given_up() -> None:
    peer = Peer()
    with pytest.raises(CallTimeoutError, match="no reply of GetGlobalFunc within 10 s"):
        peer.ask(b"")
    assert peer.now == 110.0
    with pytest.raises(ClosedError, match="GetGlobalFunc was not answered"):
        peer.ask()


# --- events ---------------------------------------------------------------------------------------


def test_events_are_asked_for_and_no_more_and_come_with_all_that_they_have() -> None:
    peer = Peer(wanted=True)
    assert peer.connection.listens_at == AT_ONCE
    assert peer.listen(features(ALL)) == 0
    assert peer.take() == [LOOK_UP, want(3)]
    assert peer.connection.listens_at == peer.now + 60.0
    assert peer.listen(at_once=event(3, "ab", missed=2, high=1) + event(0, reliable=True)) == 2
    assert peer.sink.got == [
        Event(3, "ab", (), (1 << 32) + 1000, 2, False, 9),
        Event(0, "s", (), 1000, 0, True, 9),
    ]
    peer.sink.is_wanted = False
    assert peer.connection.listens_at == AT_ONCE
    assert peer.listen(at_once=event(4)) == 0, "one that was under way is nobody's"
    assert peer.take() == [want(2)]
    assert peer.connection.listens_at == math.inf


def test_events_come_in_pieces_before_a_reply_and_behind_it() -> None:
    peer = begun()
    data = event(0) + event(1) + DONE + event(2)
    for cut in range(1, len(data)):
        peer.sink.got.clear()
        if cut < 2 * len(event(0)) + len(DONE):
            assert peer.ask(data[:cut], data[cut:]) == Return((0, 5))
        else:
            assert peer.ask(data[:cut]) == Return((0, 5))
            peer.listen(at_once=data[cut:])
        assert [each.number for each in peer.sink.got] == [0, 1, 2]


def test_listening_ends_with_its_time_or_with_the_first_event() -> None:
    peer = begun()
    assert peer.listen(event(0), b"", timeout_s=1.0) == 1
    assert peer.now == 101.0
    assert peer.listen(event(1), timeout_s=1.0, until_event=True) == 1
    assert peer.now == 101.0


def test_what_has_no_room_is_left_with_the_server_until_there_is_some() -> None:
    peer = begun()
    peer.sink.has_room = False
    assert peer.connection.listens_at == AT_ONCE
    peer.ask(DONE)
    assert peer.take() == [want(7), CALL_BYTES]
    assert peer.connection.listens_at == math.inf
    peer.sink.has_room = True
    peer.listen()
    assert peer.take() == [want(3)]


def test_a_server_without_events_is_an_error_to_who_wants_some() -> None:
    peer = begun(PROGRESS)
    with pytest.raises(FeatureMissingError, match="over a stream they come from `microrpc share`"):
        peer.listen()
    peer.sink.is_wanted = False
    assert peer.listen(timeout_s=0.0) == 0


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Qi", 4, 0x4D520003),
        struct.pack("<Qi", 4, 0x4D520001),
        DONE,
        progress(1, 2)[:-8] + b"\0" * 8 + DONE,
    ],
)
def test_what_nobody_asked_for_ends_the_stream(data: bytes) -> None:
    peer = begun()
    with pytest.raises(ProtocolError):
        peer.listen(at_once=data)
    with pytest.raises(ClosedError, match="the stream is closed"):
        peer.ask()
    assert peer.connection.listens_at == AT_ONCE, "so that who waits for events learns of it"
    with pytest.raises(ClosedError):
        peer.listen()


def test_a_server_that_ends_it_says_why() -> None:
    for use in (Peer.listen, Peer.ask):
        peer = begun()
        with pytest.raises(ClosedError, match=r"^too slow; connect again"):
            use(peer, at_once=event(0) + gone(b"too slow"))
        assert len(peer.sink.got) == 1
        with pytest.raises(ClosedError, match="too slow"):
            peer.ask()


def test_after_a_reconnection_the_server_is_asked_and_told_anew_and_what_was_lost_is_missed() -> None:
    for boot, missed in ((9, (3, 0)), (10, (8, 1))):
        peer = begun()
        peer.listen(at_once=event(4) + event(0, reliable=True))
        peer.connection.on_port_reopened(lambda memory_is_lost: None, "unix:///b")
        peer.listen(INITIALISED, features(ALL), event(8, boot=boot), event(1, reliable=True), b"", timeout_s=1.0)
        assert peer.take()[1:] == [LOOK_UP, want(3)]
        assert [(each.number, each.missed) for each in peer.sink.got] == [
            (4, 0),
            (0, 0),
            (8, missed[0]),
            (1, missed[1]),
        ]


@pytest.mark.parametrize("is_told", [False, True])
def test_what_came_while_none_were_wanted_is_not_missed_after_a_reconnection(is_told: bool) -> None:
    peer = begun()
    peer.listen(at_once=event(4))
    peer.sink.is_wanted = False
    if is_told:
        peer.listen()
    peer.connection.on_port_reopened(lambda memory_is_lost: None, "unix:///b")
    peer.sink.is_wanted = True
    peer.listen(INITIALISED, features(ALL), event(8), timeout_s=1.0, until_event=True)
    assert peer.sink.got[-1].missed == 0


# --- long calls -----------------------------------------------------------------------------------


def test_progress_is_told_and_puts_the_end_off_by_the_silence_that_is_allowed() -> None:
    peer, told = begun(wanted=False), []

    def later() -> bytes:
        peer.now += 1.5
        return progress(len(told) + 1, 9)

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    peer.ask(later, later, lambda: progress(3, 9) + DONE, on_progress=tell, renews=True)
    assert told == [(1, 9), (2, 9), (3, 9)]
    with pytest.raises(CallTimeoutError, match="within 5 s"):
        peer.ask(later, b"", renews=True)
    assert peer.now == 100.0 + 3 * 1.5 + 5.0


def test_progress_does_not_put_off_a_limit_of_the_programs_own() -> None:
    peer = begun(wanted=False)
    with pytest.raises(CallTimeoutError, match="within 2 s"):
        peer.ask(progress(1, 9), b"")
    assert peer.now == 102.0


def test_progress_that_nobody_takes_is_bounded() -> None:
    peer = begun(wanted=False)
    peer.listen(at_once=progress(1, 2) * 10_000)
    assert len(peer.connection._asides.progress) == 64
    told: list[int] = []
    peer.ask(DONE, on_progress=lambda done, total: told.append(done))
    assert told == [], "it was of no call of this client"


def test_a_cancel_is_sent_once_and_the_reply_tells_what_came_of_it() -> None:
    peer = begun()

    def cancel() -> bytes:
        assert peer.connection.cancel(peer.now)
        assert not peer.connection.cancel(peer.now)
        return b""

    with pytest.raises(
        CallCancelledError, match="CallFunc was cancelled while it ran, and ended with: stopped"
    ) as caught:
        peer.ask(cancel, exception(b"stopped"))
    assert caught.value.may_have_run
    assert peer.take() == [CALL_BYTES, CANCEL_BYTES]
    with pytest.raises(CallCancelledError, match="CallFunc was cancelled before it began") as caught:
        peer.ask(cancel, exception(b"cancelled before it began"))
    assert not caught.value.may_have_run
    with pytest.raises(CallCancelledError, match=r"^CallFunc was cancelled, and the board did not"):
        peer.ask(cancel, exception(b"CallFunc was cancelled, and the board did not end it"))
    assert peer.ask(cancel, DONE) == Return((0, 5)), "it was done all the same"


def test_an_answer_that_comes_with_the_first_bytes_after_the_cancel_is_that_of_a_cancelled_call() -> None:
    peer = begun()

    def cancel() -> bytes:
        assert peer.connection.cancel(peer.now)
        return exception(b"cancelled before it began")

    with pytest.raises(CallCancelledError, match="CallFunc was cancelled before it began"):
        peer.ask(cancel)
    assert peer.ask(DONE) == Return((0, 5))


def test_a_cancel_is_waited_for_and_no_longer_than_the_call() -> None:
    for timeout_s, until in ((10.0, 102.0), (0.5, 100.5)):
        peer = begun()

        def cancel(peer: Peer = peer) -> bytes:
            assert peer.connection.cancel(peer.now)
            return b""

        with pytest.raises(CallCancelledError, match="This stream can be used no more: connect again"):
            peer.ask(cancel, progress(1, 2), b"", timeout_s=timeout_s, renews=True)
        assert peer.now == until
        with pytest.raises(ClosedError):
            peer.ask()


def test_only_a_call_that_is_out_can_be_cancelled_and_only_where_the_server_takes_that() -> None:
    peer = begun()
    seen: list[bool] = []

    def cancel() -> bytes:
        seen.append(peer.connection.cancel(peer.now))
        return DONE

    peer.ask(cancel, request=Syscall(PacketCode.GET_GLOBAL_FUNC, ("f",)))
    assert not peer.connection.cancel(peer.now)
    peer = begun(ALL & ~CANCEL)
    peer.ask(cancel)
    assert seen == [False, False]


# --- whatever comes -------------------------------------------------------------------------------


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from(
                [DONE, event(0), event(1, reliable=True), progress(1, 2), exception(b"no"), want(1), CANCEL_BYTES]
            ),
            st.builds(
                lambda code, body: struct.pack("<Qi", 4 + len(body), code) + body,
                st.integers(0x4D520000, 0x4D520006),
                st.binary(max_size=40),
            ),
        ),
        max_size=8,
    )
)
def test_whatever_a_server_says_ends_in_an_answer_or_an_error(pieces: list[bytes]) -> None:
    peer = begun()
    with contextlib.suppress(BoardError, ClosedError):
        for piece in pieces:
            peer.listen(at_once=piece)
        peer.ask(*[piece for piece in pieces if piece], b"", is_exact=False)
    assert len(peer.sink.got) <= 16
