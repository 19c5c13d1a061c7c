"""The session layer, byte for byte and on virtual time (docs/protocol.md 2)."""

from __future__ import annotations

import math
import random

import pytest
from golden import load, stream

from microrpc.errors import RequestError, counted
from microrpc.wire.frames import FrameDecoder
from microrpc.wire.session import (
    Dropped,
    Established,
    LateReply,
    Log,
    Message,
    MessageType,
    Session,
    SessionState,
    StartExpired,
    Terminated,
    encode_log,
    encode_message,
    make_session_id,
    step_nonce,
)

TERMINATE = bytes.fromhex("000002")
RESPONDER_NONCES = [0xE6, 0xC8, 0x07, 0xE1, 0x28, 0x02, 0x41]


def init(nonce: int, version: bytes = b"\x01") -> bytes:
    return bytes([nonce, 0, 0]) + version


def reply(initiator: int, responder: int, version: bytes = b"\x01") -> bytes:
    return bytes([initiator, responder, 1]) + version


def take(session: Session) -> list[bytes]:
    sent = list(session.outgoing)
    session.outgoing.clear()
    return sent


def starting(seed: int = 1, *, now: float = 0.0, retry_s: float = 1.0, total_s: float = 4.0) -> tuple[Session, int]:
    """A session that has sent its first INIT, and that INIT's nonce."""
    session = Session(seed)
    session.start(now, retry_s=retry_s, total_s=total_s)
    return session, take(session)[-1][0]


def established(seed: int = 1, responder: int = 0x77) -> tuple[Session, int]:
    """An initiator in a session, and the session's id."""
    session, nonce = starting(seed)
    session_id = make_session_id(nonce, responder)
    assert session.receive(reply(nonce, responder)) == Established(session_id)
    return session, session_id


def starting_with(nonce: int) -> Session:
    """A session whose INIT, just sent, carries `nonce`."""
    for seed in range(5000):
        session, sent = starting(seed)
        if sent == nonce:
            return session
    raise AssertionError(f"no seed gives the nonce {nonce}")


def run_until_expiry(session: Session) -> tuple[list[float], list[bytes], StartExpired]:
    """Times and INITs of all retries that follow, and how it ended."""
    times, inits = [], []
    while True:
        assert session.deadline is not None
        now = session.deadline
        expired = session.on_time(now)
        if expired is not None:
            assert take(session) == []
            return times, inits, expired
        terminate, start = take(session)
        assert terminate == TERMINATE
        times.append(now)
        inits.append(start)


# --- bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message_type", "body", "expected"),
    [
        (MessageType.START_SESSION_INIT, b"\x01", "34120001"),
        (MessageType.START_SESSION_REPLY, b"\x01", "34120101"),
        (MessageType.TERMINATE_SESSION, b"", "341202"),
        (MessageType.LOG, b"hi", "3412036869"),
        (MessageType.NORMAL, b"\xff\x00", "341210ff00"),
    ],
)
def test_each_message_type_has_its_bytes(message_type: MessageType, body: bytes, expected: str) -> None:
    assert encode_message(0x1234, message_type, body).hex() == expected


def test_there_are_five_message_types_and_nine_of_the_link() -> None:
    assert sorted(MessageType) == [0, 1, 2, 3, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28]


def test_the_session_id_has_the_initiator_in_its_low_byte() -> None:
    assert make_session_id(0xE6, 0xC8) == 0xC8E6


def test_a_log_goes_out_with_session_id_0_and_no_terminator() -> None:
    assert encode_log("héllo") == b"\x00\x00\x03h\xc3\xa9llo"


def test_a_booting_device_says_terminate() -> None:
    session = Session(1)
    session.boot()
    assert take(session) == [TERMINATE]
    assert session.state is SessionState.NO_SESSION


def test_wrap_puts_the_session_header_before_the_body() -> None:
    session, session_id = established(responder=0xAB)
    assert session.wrap(b"body") == bytes([session_id & 0xFF, 0xAB, 0x10]) + b"body"
    assert session.wrap(b"") == bytes([session_id & 0xFF, 0xAB, 0x10])


# --- nonces -----------------------------------------------------------------------------------


def test_the_nonce_steps_by_the_formula_and_is_never_0() -> None:
    for nonce in range(256):
        expected = (((nonce << 5) | (nonce >> 5)) + 1) % 256
        assert step_nonce(nonce) == (expected or (expected + 1) % 256)
    assert 0 not in map(step_nonce, range(256))


def test_the_step_has_64_nonces_in_its_image_which_leaves_enough_fresh_ones() -> None:
    assert len({step_nonce(nonce) for nonce in range(256)}) == 64


def test_the_nonce_steps_as_a_real_board_did() -> None:
    assert [step_nonce(nonce) for nonce in RESPONDER_NONCES[:-1]] == RESPONDER_NONCES[1:]


def test_the_recorded_replies_carry_these_nonces() -> None:
    payloads = [frame for frame in FrameDecoder().feed(stream("fault_initflip", "device")) if isinstance(frame, bytes)]
    assert payloads[0] == TERMINATE
    assert [payload[1] for payload in payloads[1:]] == RESPONDER_NONCES
    assert {payload[2:] for payload in payloads[1:]} == {b"\x01\x01"}


def test_a_responder_answers_the_recorded_inits_byte_for_byte() -> None:
    """The board handled damaged INITs late; given them in the order of its replies, ours says the same."""
    replies = [frame for frame in FrameDecoder().feed(stream("fault_initflip", "device")) if isinstance(frame, bytes)]
    before = next(nonce for nonce in range(256) if step_nonce(nonce) == RESPONDER_NONCES[0])
    board = Session(0)
    board._nonce = before  # the board's clock seeded it
    for expected in replies[1:]:
        assert isinstance(board.receive(init(expected[0])), Established)
        assert take(board) == [expected]


def recorded_payloads(name: str, direction: str) -> list[bytes]:
    return [frame for frame in FrameDecoder().feed(stream(name, direction)) if isinstance(frame, bytes)]


def recorded_handshake() -> tuple[list[bytes], list[bytes]]:
    """The messages of the host, and of the device, until the long recording's session was open."""
    host, device = recorded_payloads("crt_2k", "host")[:2], recorded_payloads("crt_2k", "device")[:2]
    assert (host, device) == ([TERMINATE, init(0x26)], [TERMINATE, reply(0x26, 0x62)])
    return host, device


def test_a_host_of_the_recorded_nonce_says_the_recorded_bytes_and_takes_the_recorded_reply() -> None:
    host, device = recorded_handshake()
    for seed in range(5000):
        session = Session(seed)
        session.start(0.0, retry_s=1.0, total_s=4.0)
        if session.initiator_nonce == 0x26:
            break
    assert take(session) == host
    assert [session.receive(payload) for payload in device] == [Terminated(False), Established(0x6226)]
    first = recorded_payloads("crt_2k", "host")[2]
    assert session.wrap(first[3:]) == first
    assert session.receive(recorded_payloads("crt_2k", "device")[2]) == Message(
        recorded_payloads("crt_2k", "device")[2][3:]
    )


@pytest.mark.parametrize("before", [nonce for nonce in range(256) if step_nonce(nonce) == 0x62])
def test_a_responder_of_the_recorded_nonce_answers_the_recorded_host_byte_for_byte(before: int) -> None:
    host, device = recorded_handshake()
    board = Session(0)
    board._nonce = before
    board.boot()
    assert [board.receive(payload) for payload in host] == [Terminated(False), Established(0x6226)]
    assert take(board) == device


# Of the boards that answered more than one INIT.
@pytest.mark.parametrize("name", ["fault_hellodrop", "fault_helloflip", "fault_initflip"])
def test_the_recorded_boards_stepped_their_nonce_with_each_reply(name: str) -> None:
    replies = [payload for payload in recorded_payloads(name, "device") if payload[2] == 0x01]
    nonces = [payload[1] for payload in replies]
    assert len(nonces) > 1
    assert nonces[1:] == [step_nonce(nonce) for nonce in nonces[:-1]]


def test_the_host_says_the_same_kinds_of_message_as_the_recorded_host() -> None:
    bursts = [burst.data for burst in load("fault_initflip") if burst.dir == "host"]
    payloads = [frame for frame in FrameDecoder().feed(bursts[1]) if isinstance(frame, bytes)]
    session, nonce = starting()
    session.start(0.0, retry_s=1.0, total_s=4.0)
    assert payloads == [TERMINATE, init(payloads[1][0])]
    sent = take(session)
    assert sent == [TERMINATE, init(sent[1][0])]
    assert sent[1][0] not in (0, nonce)


def test_the_nonces_repeat_with_the_seed() -> None:
    assert starting(7)[1] == starting(7)[1]
    assert len({starting(seed)[1] for seed in range(50)}) > 20


# --- opening ----------------------------------------------------------------------------------


def test_opening_is_terminate_init_reply_with_both_roles_back_to_back() -> None:
    host, nonce = starting()
    assert host.state is SessionState.START_SENT
    assert (host.initiator_nonce, host.responder_nonce) == (nonce, 0)
    board = Session(99)
    assert board.receive(TERMINATE) == Terminated(was_established=False)
    event = board.receive(init(nonce))
    [answer] = take(board)
    assert answer == reply(nonce, board.responder_nonce)
    session_id = make_session_id(nonce, board.responder_nonce)
    assert event == Established(session_id)
    assert host.receive(answer) == Established(session_id)
    assert (host.state, board.state) == (SessionState.ESTABLISHED, SessionState.ESTABLISHED)
    assert host.session_id == board.session_id == session_id
    assert host.receive(board.wrap(b"to host")) == Message(b"to host")
    assert board.receive(host.wrap(b"to board")) == Message(b"to board")
    assert take(host) == take(board) == []
    assert host.deadline is None
    assert board.deadline is None


def test_the_responder_steps_its_nonce_for_each_session() -> None:
    board = Session(5)
    nonces = []
    for initiator in (1, 2, 2, 3):
        board.receive(init(initiator))
        nonces.append(take(board)[0][1])
    assert nonces[1:] == [step_nonce(nonce) for nonce in nonces[:-1]]


def test_an_init_while_established_is_answered_and_the_new_session_begins_at_once() -> None:
    board = Session(5)
    board.receive(init(0x11))
    old = board.wrap(b"old")
    take(board)
    event = board.receive(init(0x22))
    assert event == Established(board.session_id)
    assert take(board) == [reply(0x22, board.responder_nonce)]
    assert isinstance(board.receive(old), Dropped)
    assert board.receive(board.wrap(b"new")) == Message(b"new")


def test_the_same_init_again_gives_a_new_session_too() -> None:
    board = Session(5)
    board.receive(init(0x11))
    first = board.session_id
    assert board.receive(init(0x11)) == Established(board.session_id)
    assert board.session_id != first


def test_an_established_initiator_answers_an_init_too() -> None:
    host, session_id = established()
    event = host.receive(init(0x31))
    assert event == Established(host.session_id)
    assert host.session_id != session_id
    assert take(host) == [reply(0x31, host.responder_nonce)]


def test_the_host_ignores_a_reply_to_somebody_elses_init() -> None:
    host, nonce = starting()
    event = host.receive(reply(nonce ^ 0x55, 0x77))
    assert isinstance(event, Dropped)
    assert host.state is SessionState.START_SENT


def test_starting_again_leaves_the_session() -> None:
    host, session_id = established()
    old = host.wrap(b"x")
    host.start(0.0, retry_s=1.0, total_s=2.0)
    assert host.state is SessionState.START_SENT
    assert host.session_id != session_id
    assert isinstance(host.receive(old), Dropped)


# --- both start at once -----------------------------------------------------------------------


def test_a_lower_nonce_than_ours_wins_and_is_answered() -> None:
    session = starting_with(0x82)
    event = session.receive(init(0x81))
    assert event == Established(make_session_id(0x81, step_nonce(0x82)))
    assert take(session) == [reply(0x81, step_nonce(0x82))]
    assert session.deadline is None


def test_a_higher_nonce_than_ours_is_ignored() -> None:
    session = starting_with(0x81)
    event = session.receive(init(0x82))
    assert isinstance(event, Dropped)
    assert "lower and wins" in event.reason
    assert take(session) == []
    assert session.state is SessionState.START_SENT
    assert session.receive(reply(0x81, 9)) == Established(make_session_id(0x81, 9))


def test_two_sides_that_start_at_once_agree_on_one_session() -> None:
    one, other = starting_with(0x21), starting_with(0xC1)
    assert isinstance(one.receive(init(0xC1)), Dropped)
    other.receive(init(0x21))
    one.receive(take(other)[0])
    assert one.session_id == other.session_id == make_session_id(0x21, step_nonce(0xC1))
    assert one.receive(other.wrap(b"x")) == Message(b"x")


def test_equal_nonces_are_stepped_and_sent_again() -> None:
    session = starting_with(0x43)
    event = session.receive(init(0x43))
    assert isinstance(event, Dropped)
    assert "tie" in event.reason
    assert take(session) == [init(step_nonce(0x43))]
    assert session.state is SessionState.START_SENT
    assert session.receive(reply(step_nonce(0x43), 4)) == Established(make_session_id(step_nonce(0x43), 4))


def test_a_run_of_ties_ends_and_waits_for_the_retry_which_breaks_it() -> None:
    one, other = starting_with(0x43), starting_with(0x43)
    other._random = random.Random(12345)  # from the retry on the two are different
    crossing = [init(0x43)], [init(0x43)]
    rounds = 0
    while crossing[0] or crossing[1]:
        for message in crossing[1]:
            one.receive(message)
        for message in crossing[0]:
            other.receive(message)
        crossing = take(one), take(other)
        rounds += 1
        assert rounds < 20, "two sides with equal nonces tie for ever"
    assert rounds == 4
    assert one.deadline == other.deadline == 1.0
    one.on_time(1.0)
    other.on_time(1.0)
    for _ in range(2):
        ours, theirs = take(one), take(other)
        for message in theirs:
            one.receive(message)
        for message in ours:
            other.receive(message)
    assert one.state is other.state is SessionState.ESTABLISHED
    assert one.session_id == other.session_id


def test_a_new_start_may_tie_again() -> None:
    session, _ = starting()
    for _ in range(4):
        session.receive(init(session.initiator_nonce))
    session.start(10.0, retry_s=1.0, total_s=4.0)
    nonce = take(session)[-1][0]
    session.receive(init(nonce))
    assert take(session) == [init(step_nonce(nonce))]


def test_a_tie_does_not_move_the_retry() -> None:
    session = starting_with(0x43)
    session.receive(init(0x43))
    assert session.deadline == 1.0


# --- TERMINATE --------------------------------------------------------------------------------


def test_terminate_before_a_session_is_ignored() -> None:
    session = Session(1)
    assert session.receive(TERMINATE) == Terminated(was_established=False)
    assert session.state is SessionState.NO_SESSION
    assert take(session) == []


def test_terminate_while_starting_does_not_disturb_the_start() -> None:
    session, nonce = starting()
    assert session.receive(TERMINATE) == Terminated(was_established=False)
    assert session.state is SessionState.START_SENT
    assert session.deadline == 1.0
    assert session.receive(reply(nonce, 3)) == Established(make_session_id(nonce, 3))


@pytest.mark.parametrize("says_its_id", [False, True])
def test_terminate_ends_a_session_with_its_id_or_none(says_its_id: bool) -> None:
    session, _ = established()
    old = session.wrap(b"x")
    session_id = session.session_id if says_its_id else 0
    assert session.receive(encode_message(session_id, MessageType.TERMINATE_SESSION)) == Terminated(True)
    assert session.state is SessionState.NO_SESSION
    assert session.session_id == 0
    assert isinstance(session.receive(old), Dropped)
    assert session.receive(TERMINATE) == Terminated(False)


@pytest.mark.parametrize("change", [1, 0x100, 0x8000])
@pytest.mark.parametrize("body", [b"", b"\0"])
def test_a_terminate_of_another_session_is_dropped(change: int, body: bytes) -> None:
    session, _ = established()
    assert isinstance(
        session.receive(encode_message(session.session_id ^ change, MessageType.TERMINATE_SESSION, body)), Dropped
    )
    assert session.state is SessionState.ESTABLISHED


@pytest.mark.parametrize("body", [b"\0", b"\x01", bytes(100)])
def test_a_terminate_with_anything_behind_it_is_dropped(body: bytes) -> None:
    session, _ = established()
    for session_id in (0, session.session_id):
        found = session.receive(encode_message(session_id, MessageType.TERMINATE_SESSION, body))
        assert isinstance(found, Dropped)
        assert f"a TERMINATE of {len(body)} bytes" in found.reason
    assert session.state is SessionState.ESTABLISHED


@pytest.mark.parametrize(
    ("session_id", "body"),
    [(0x0142, b"\x01"), (0x8042, b"\x01"), (0x0100, b"\x01"), (0, b"\x01"), (0x42, b"\x01\0"), (0x42, b"")],
)
def test_an_init_with_anything_behind_it_or_above_its_nonce_is_dropped(session_id: int, body: bytes) -> None:
    session, _ = established()
    before = session.session_id
    assert isinstance(session.receive(encode_message(session_id, MessageType.START_SESSION_INIT, body)), Dropped)
    assert (session.state, session.session_id, take(session)) == (SessionState.ESTABLISHED, before, [])


def test_a_reply_with_anything_behind_it_is_dropped() -> None:
    session, nonce = starting()
    assert isinstance(session.receive(reply(nonce, 3) + b"\0"), Dropped)
    assert session.state is SessionState.START_SENT


def test_terminating_tells_the_peer_and_leaves_the_session() -> None:
    session, _ = established()
    session.terminate()
    assert take(session) == [TERMINATE]
    assert (session.state, session.session_id, session.deadline) == (SessionState.NO_SESSION, 0, None)


def test_terminating_while_starting_stops_the_retries() -> None:
    session, _ = starting()
    session.terminate()
    assert take(session) == [TERMINATE]
    assert session.on_time(100.0) is None
    assert take(session) == []


# --- LOG --------------------------------------------------------------------------------------


def test_a_log_is_taken_before_while_starting_and_during_a_session() -> None:
    assert Session(1).receive(encode_log("boot")) == Log("boot")
    assert starting()[0].receive(encode_log("wait")) == Log("wait")
    assert established()[0].receive(encode_log("run")) == Log("run")


def test_a_log_of_the_current_session_is_taken_and_a_foreign_one_is_not() -> None:
    session, session_id = established()
    assert session.receive(encode_message(session_id, MessageType.LOG, b"mine")) == Log("mine")
    event = session.receive(encode_message(session_id ^ 0x0100, MessageType.LOG, b"foreign"))
    assert isinstance(event, Dropped)
    assert f"0x{session_id ^ 0x0100:04x}" in event.reason


def test_a_log_that_is_not_text_or_is_empty_is_shown_as_it_can_be() -> None:
    session = Session(1)
    assert session.receive(b"\x00\x00\x03a\xffb") == Log("a\\xffb")
    assert session.receive(b"\x00\x00\x03") == Log("")


# --- what is dropped --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_message_shorter_than_its_header_is_dropped(size: int) -> None:
    for session in (Session(1), starting()[0], established()[0]):
        assert session.receive(bytes(size)) == Dropped(
            f"a message of {counted(size, 'byte')} is shorter than its header"
        )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (init(5, b"\x02"), "version 02"),
        (init(5, b"\x00"), "version 00"),
        (init(5, b""), "version none"),
        (init(0), "nonce 0"),
        (b"\x00\x07\x00\x01", "nonce 0"),
        (b"\x05\x06\x04\x01", "type 0x04"),
        (b"\x05\x06\xff", "type 0xff"),
        (b"\x05\x06\x10body", "session 0x0605"),
        (reply(5, 6), "session 0x0605"),
    ],
)
def test_what_cannot_be_used_is_dropped_with_a_reason(message: bytes, reason: str) -> None:
    for session in (Session(1), starting_with(0xE5), established()[0]):
        before = session.state, session.session_id, session.deadline
        event = session.receive(message)
        assert isinstance(event, Dropped)
        assert reason in event.reason
        assert (session.state, session.session_id, session.deadline) == before
        assert take(session) == []


@pytest.mark.parametrize("version", [b"", b"\x00", b"\x02"])
def test_a_reply_of_another_version_is_dropped(version: bytes) -> None:
    session, nonce = starting()
    event = session.receive(reply(nonce, 3, version))
    assert isinstance(event, Dropped)
    assert "version" in event.reason
    assert session.state is SessionState.START_SENT


def test_a_reply_with_nonce_0_is_dropped() -> None:
    session, nonce = starting()
    assert session.receive(reply(nonce, 0)) == Dropped("a REPLY with nonce 0")
    assert session.state is SessionState.START_SENT


def test_a_normal_message_before_the_session_is_dropped_even_with_the_id_in_hand() -> None:
    assert isinstance(Session(1).receive(b"\x00\x00\x10x"), Dropped)
    session, nonce = starting()
    assert isinstance(session.receive(bytes([nonce, 0, 0x10]) + b"x"), Dropped)


def test_an_empty_normal_message_is_a_message() -> None:
    session, session_id = established()
    assert session.receive(encode_message(session_id, MessageType.NORMAL)) == Message(b"")


def test_a_second_copy_of_the_reply_is_dropped() -> None:
    session, session_id = established()
    event = session.receive(reply(session_id & 0xFF, session_id >> 8))
    assert isinstance(event, Dropped)
    assert session.session_id == session_id


@pytest.mark.parametrize("seed", range(20))
def test_random_messages_give_one_event_each_and_never_raise(seed: int) -> None:
    source = random.Random(seed)
    session = Session(seed)
    session.start(0.0, retry_s=1.0, total_s=4.0)
    for _ in range(300):
        head = bytes([source.choice([0, 1, session.session_id & 0xFF]), source.choice([0, session.session_id >> 8])])
        message = head + bytes([source.choice([0, 1, 2, 3, 4, 16])]) + source.randbytes(source.randrange(3))
        assert session.receive(message[: source.randrange(7)]) is not None
        assert (session.state is SessionState.ESTABLISHED) == bool(session.responder_nonce)
        take(session)


# --- late replies -----------------------------------------------------------------------------


def test_a_reply_to_an_earlier_init_is_told_apart() -> None:
    session, first = starting()
    session.on_time(1.0)
    second = take(session)[-1][0]
    assert session.receive(reply(first, 0xC8)) == LateReply(make_session_id(first, 0xC8))
    assert session.state is SessionState.START_SENT
    assert session.receive(reply(second, 0x07)) == Established(make_session_id(second, 0x07))
    assert session.receive(reply(first, 0xC8)) == LateReply(make_session_id(first, 0xC8))
    assert session.session_id == make_session_id(second, 0x07)


def test_a_second_answer_to_the_init_of_this_session_is_late() -> None:
    session, session_id = established(responder=0x10)
    assert session.receive(reply(session_id & 0xFF, 0x11)) == LateReply(make_session_id(session_id & 0xFF, 0x11))
    assert session.session_id == session_id


def test_a_late_reply_is_known_after_the_start_expired() -> None:
    session, nonce = starting(total_s=1.0)
    run_until_expiry(session)
    assert session.receive(reply(nonce, 5)) == LateReply(make_session_id(nonce, 5))
    assert session.state is SessionState.NO_SESSION


# --- time -------------------------------------------------------------------------------------


def test_it_retries_with_fresh_nonces_and_expires() -> None:
    session, nonce = starting(now=100.0, retry_s=1.0, total_s=3.5)
    assert session.deadline == 101.0
    times, inits, expired = run_until_expiry(session)
    assert times == [101.0, 102.0, 103.0]
    assert expired == StartExpired(attempts=4)
    assert len({nonce, *(start[0] for start in inits)}) == 4
    assert (session.state, session.session_id, session.deadline) == (SessionState.NO_SESSION, 0, None)
    assert session.on_time(1e9) is None


def test_nothing_happens_before_the_deadline() -> None:
    session, _ = starting()
    assert session.on_time(math.nextafter(1.0, 0.0)) is None
    assert take(session) == []
    assert Session(1).on_time(1e9) is None


def test_a_late_look_at_the_clock_sends_one_retry_and_waits_from_then() -> None:
    session, _ = starting(retry_s=1.0, total_s=10.0)
    session.on_time(4.25)
    assert len(take(session)) == 2
    assert session.deadline == 5.25


def test_the_last_wait_is_cut_at_the_expiry() -> None:
    session, _ = starting(retry_s=3.0, total_s=4.0)
    session.on_time(3.0)
    assert session.deadline == 4.0
    assert session.on_time(4.0) == StartExpired(attempts=2)


def test_an_established_session_needs_no_time() -> None:
    session, session_id = established()
    assert session.deadline is None
    assert session.on_time(1e9) is None
    assert session.session_id == session_id


@pytest.mark.parametrize("retry_s", [1e-9, 0.001, 0.2])
@pytest.mark.parametrize("total_s", [0.1, 0.3, 1.0, 5.0, 7.7])
@pytest.mark.parametrize("now", [0.0, 0.1, 3.3, 12345.678])
def test_a_start_sends_at_most_16_inits_however_short_the_retry(retry_s: float, total_s: float, now: float) -> None:
    session, nonce = starting(now=now, retry_s=retry_s, total_s=total_s)
    times, inits, expired = run_until_expiry(session)
    nonces = [nonce, *(start[0] for start in inits)]
    assert len(nonces) == expired.attempts <= 16
    assert len(set(nonces)) == len(nonces)
    assert all(start == init(start[0]) and start[0] for start in inits)
    assert all(now < time < now + total_s for time in times)


def test_inits_are_spaced_so_that_16_last_for_the_whole_time() -> None:
    session, _ = starting(now=100.0, retry_s=0.01, total_s=16.0)
    assert session.deadline == 101.0
    times, _, _ = run_until_expiry(session)
    assert times == [100.0 + second for second in range(1, 16)]


def test_rounding_never_makes_a_17th_init() -> None:
    source = random.Random(4)
    for _ in range(300):
        session, _ = starting(now=source.uniform(0, 1000), retry_s=1e-9, total_s=source.uniform(0.1, 10))
        assert run_until_expiry(session)[2].attempts <= 16


def test_nonces_stay_fresh_over_two_starts_in_a_row() -> None:
    session, nonce = starting(retry_s=1e-9)
    nonces = [nonce, *(start[0] for start in run_until_expiry(session)[1])]
    session.start(100.0, retry_s=1e-9, total_s=4.0)
    nonces.append(take(session)[-1][0])
    nonces += [start[0] for start in run_until_expiry(session)[1]]
    assert len(set(nonces)) == len(nonces) == 32


@pytest.mark.parametrize(
    ("retry_s", "total_s"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (math.nan, 1.0), (1.0, math.nan), (1.0, math.inf)],
)
def test_bad_timeouts_are_refused_and_nothing_is_sent(retry_s: float, total_s: float) -> None:
    session = Session(1)
    with pytest.raises(RequestError, match="timeouts"):
        session.start(0.0, retry_s=retry_s, total_s=total_s)
    assert take(session) == []
    assert session.deadline is None


# --- wrap without a session -------------------------------------------------------------------


def test_wrap_without_a_session_is_refused_and_says_why() -> None:
    with pytest.raises(RequestError, match=r"no session is established \(it is: no session\)"):
        Session(1).wrap(b"x")
    with pytest.raises(RequestError, match="start sent"):
        starting()[0].wrap(b"x")
    session, _ = established()
    session.receive(TERMINATE)
    with pytest.raises(RequestError, match="no session"):
        session.wrap(b"x")


# --- a retry that is brought forward ---------------------------------------------------------


def test_a_retry_may_be_brought_forward_and_never_back() -> None:
    session, nonce = starting()
    session.retry_by(3.0)
    assert session.deadline == 1.0
    session.retry_by(0.25)
    assert session.deadline == 0.25
    assert session.on_time(0.25) is None
    again = take(session)
    assert again[0] == TERMINATE
    assert again[1][0] != nonce
    assert session.deadline == 1.25


def test_retries_that_are_brought_forward_are_not_more_than_the_others() -> None:
    session, _ = starting(total_s=100.0)
    now, starts = 0.0, 1
    while session.deadline is not None:
        session.retry_by(now + 0.01)
        now = session.deadline
        session.on_time(now)
        starts += bool(take(session))
    assert now == 100.0
    assert starts == 16


def test_without_a_start_there_is_no_retry_to_bring_forward() -> None:
    session, _ = established()
    session.retry_by(0.5)
    assert session.deadline is None
