"""A board at a tracker: offered, taken, offered again, whatever the tracker does. A real one is played back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microrpc.errors import ProtocolError, RequestError
from microrpc.gateway.tvm import registration
from microrpc.gateway.tvm.registration import (
    GONE_S,
    POLL_S,
    REPLY_S,
    Registration,
    RegistrationState,
    TrackerError,
    check_key,
)

MAGIC = bytes.fromhex("71f20200")
RECORDING = Path(__file__).parents[2] / "vectors" / "tvm" / "tvm027_tracker.jsonl"


def framed(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<i", len(text)) + text


def parsed(data: bytes) -> list[Any]:
    """Give the messages of `data`; each is whole."""
    found = []
    while data:
        (size,) = struct.unpack_from("<i", data)
        found.append(json.loads(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


class Chances(random.Random):
    """Gives the numbers that it was told."""

    def __init__(self, *numbers: float) -> None:
        super().__init__()
        self.numbers = list(numbers)

    def random(self) -> float:
        return self.numbers.pop(0)


def new_state(*numbers: float, address: str | None = None) -> RegistrationState:
    return RegistrationState("board", 9190, address, Chances(*(numbers or [0.25, 0.5, 0.75, 0.125])))


class Play:
    """A state, its tracker and the time: each step says what the tracker answers and wants what is said next."""

    def __init__(self, state: RegistrationState | None = None) -> None:
        self.state = state or new_state()
        self.now = 100.0

    def said(self) -> list[Any]:
        return parsed(self.state.take())

    def reply(self, value: Any) -> list[Any]:
        self.state.feed(framed(value), self.now)
        return self.said()

    def wait(self) -> list[Any]:
        """Wait until it wakes."""
        assert self.state.wakes_at is not None
        self.now = self.state.wakes_at
        self.state.tick(self.now)
        return self.said()

    def connect(self) -> list[Any]:
        self.state.connected(self.now)
        assert self.state.take() == MAGIC
        self.state.feed(MAGIC, self.now)
        return self.said()

    def register(self) -> list[Any]:
        self.connect()
        offered = self.reply(0)
        assert self.reply(0) == []
        return offered


# --- what is said, and when ---------------------------------------------------------------------------------


def test_nothing_is_said_before_the_tracker_has_answered_the_magic() -> None:
    state = new_state()
    assert (state.wakes_at, state.matchkey) == (None, "")
    state.connected(1.0)
    assert state.take() == MAGIC
    for byte in MAGIC[:3]:
        state.feed(bytes([byte]), 2.0)
        assert state.take() == b""
    state.feed(MAGIC[3:], 2.0)
    assert state.take() == framed([5, {"key": "server:board", "addr": [None, 9190]}])
    assert not state.is_registered


def test_a_board_is_named_and_then_offered_under_a_matchkey() -> None:
    play = Play()
    assert play.connect() == [[5, {"key": "server:board", "addr": [None, 9190]}]]
    assert play.state.matchkey == ""
    assert play.reply(0) == [[3, "board", [9190, "board:0.25"], None]]
    assert play.state.is_registered
    assert play.state.matchkey == "board:0.25"
    assert play.reply(0) == []


def test_an_address_of_ones_own_is_told_twice() -> None:
    play = Play(new_state(address="10.0.0.7"))
    assert play.connect() == [[5, {"key": "server:board", "addr": ["10.0.0.7", 9190]}]]
    assert play.reply(0) == [[3, "board", [9190, "board:0.25"], "10.0.0.7"]]


def test_the_tracker_is_asked_every_two_seconds_whether_the_board_is_still_there() -> None:
    play = Play()
    play.register()
    for turn in range(1, 6):
        assert play.wait() == [[7]]
        assert play.now == 100.0 + turn * POLL_S
        assert play.reply(["board:0.25"]) == []
    assert play.state.matchkey == "board:0.25"


def test_who_got_the_board_has_six_seconds_to_come_and_then_it_is_offered_anew() -> None:
    play = Play()
    play.register()
    gone_at = play.now + POLL_S
    for _ in range(3):
        assert play.wait() == [[7]]
        assert play.reply([]) == []
        assert play.state.matchkey == "board:0.25"  # still good
    assert play.wait() == [[7]]
    assert play.now == gone_at + GONE_S
    assert play.reply([]) == [[3, "board", [9190, "board:0.5"], None]]
    assert play.state.matchkey == "board:0.5"
    assert play.reply(0) == []
    assert play.wait() == [[7]]
    assert play.reply([]) == []  # the count begins again


def test_a_matchkey_that_comes_back_is_not_counted_as_gone() -> None:
    play = Play()
    play.register()
    for answer in ([], [], [], ["board:0.25"], [], [], []):
        assert play.wait() == [[7]]
        assert play.reply(answer) == []


def test_in_a_session_nothing_is_said_and_after_it_the_board_is_offered_again() -> None:
    play = Play()
    play.register()
    play.state.taken()
    assert (play.state.matchkey, play.state.wakes_at) == ("", None)
    play.now += 1000.0
    play.state.tick(play.now)
    assert play.said() == []
    play.state.released(play.now)
    assert play.said() == [[3, "board", [9190, "board:0.5"], None]]
    assert play.reply(0) == []
    assert play.wait() == [[7]]


def test_an_end_that_nobody_began_offers_nothing() -> None:
    play = Play()
    play.register()
    play.state.released(play.now)
    assert play.said() == []
    assert play.state.matchkey == "board:0.25"


@pytest.mark.parametrize("released_first", [True, False])
def test_a_session_that_begins_while_an_answer_is_awaited_waits_for_it(released_first: bool) -> None:
    play = Play()
    play.register()
    assert play.wait() == [[7]]
    play.state.taken()
    assert play.state.wakes_at == play.now + REPLY_S  # of the answer
    if released_first:
        play.state.released(play.now)
        assert play.said() == []  # one question at a time
        assert play.reply([]) == [[3, "board", [9190, "board:0.5"], None]]
        assert play.reply(0) == []  # once is enough
    else:
        assert play.reply([]) == []
        assert play.state.wakes_at is None
        play.state.released(play.now)
        assert play.said() == [[3, "board", [9190, "board:0.5"], None]]


def test_a_session_that_ends_and_another_that_begins_before_an_answer_offer_nothing() -> None:
    play = Play()
    play.register()
    play.wait()
    play.state.taken()
    play.state.released(play.now)
    play.state.taken()
    assert play.reply([]) == []
    assert (play.state.matchkey, play.state.wakes_at) == ("", None)


def test_after_a_lost_connection_all_is_said_again_and_the_old_matchkey_holds_until_then() -> None:
    play = Play()
    play.register()
    play.state.lost()
    assert (play.state.is_registered, play.state.wakes_at) == (False, None)
    assert play.state.matchkey == "board:0.25"
    assert play.connect() == [[5, {"key": "server:board", "addr": [None, 9190]}]]
    assert play.state.matchkey == "board:0.25"
    assert play.reply(0) == [[3, "board", [9190, "board:0.5"], None]]


def test_a_connection_that_is_made_anew_in_a_session_names_the_board_and_offers_it_after_it() -> None:
    play = Play()
    play.register()
    play.state.taken()
    play.state.lost()
    play.connect()
    assert play.reply(0) == []
    assert (play.state.is_registered, play.state.wakes_at) == (True, None)
    play.state.released(play.now)
    assert play.said() == [[3, "board", [9190, "board:0.5"], None]]


def test_a_session_that_ends_without_a_connection_offers_the_board_when_there_is_one() -> None:
    play = Play()
    play.register()
    play.state.taken()
    play.state.lost()
    play.state.released(play.now)
    assert (play.said(), play.state.matchkey) == ([], "")
    play.connect()
    assert play.reply(0) == [[3, "board", [9190, "board:0.5"], None]]


# --- trackers that do not do what they should ---------------------------------------------------------------


def test_an_answer_that_does_not_come_ends_the_connection_at_every_step() -> None:
    for replies in ([], [MAGIC], [MAGIC, framed(0)], [MAGIC, framed(0), framed(0)]):
        play = Play()
        play.state.connected(play.now)
        for data in replies:
            play.state.feed(data, play.now)
        if len(replies) == 3:
            play.now += POLL_S
            play.state.tick(play.now)
        play.state.tick(play.now + REPLY_S - 0.001)
        with pytest.raises(TrackerError, match="hangs: no answer in 10 s"):
            play.state.tick(play.now + REPLY_S)


def test_bytes_that_drip_do_not_put_off_the_deadline() -> None:
    play = Play()
    play.connect()
    for byte in framed(0)[:-1]:
        play.now += 1.0
        play.state.feed(bytes([byte]), play.now)
    assert play.state.wakes_at == 100.0 + REPLY_S


@pytest.mark.parametrize("value", [-1, 1, None, False, "0", [], {}, ["board:0.25"]])
def test_anything_but_0_is_no_answer_to_an_offer(value: object) -> None:
    for steps in (0, 1):
        play = Play()
        play.connect()
        for _ in range(steps):
            play.reply(0)
        with pytest.raises(TrackerError, match="refused"):
            play.reply(value)


@pytest.mark.parametrize("value", [0, None, "board:0.25", {"board:0.25": 1}])
def test_matchkeys_are_a_list(value: object) -> None:
    play = Play()
    play.register()
    play.wait()
    with pytest.raises(TrackerError, match="no list"):
        play.reply(value)


def test_a_list_of_anything_is_borne() -> None:
    play = Play()
    play.register()
    play.wait()
    assert play.reply([None, 1, {}, [], "other:0.1", "board:0.25"]) == []


def test_what_nobody_asked_for_ends_the_connection() -> None:
    play = Play()
    play.register()
    with pytest.raises(TrackerError, match="said 0, which nobody asked for"):
        play.reply(0)
    early = Play()
    early.state.connected(0.0)
    with pytest.raises(TrackerError, match="which nobody asked for"):
        early.state.feed(MAGIC + framed(0), 0.0)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad",
        b"\x72",
        MAGIC + struct.pack("<i", 0),
        MAGIC + struct.pack("<i", (1 << 20) + 1),
        MAGIC + struct.pack("<i", -5),
        MAGIC + struct.pack("<i", 3) + b"\xff{]",
        MAGIC + struct.pack("<i", 9) + b"[" * 9,
    ],
)
def test_nonsense_ends_the_connection(data: bytes) -> None:
    play = Play()
    play.state.connected(0.0)
    with pytest.raises(ProtocolError):
        play.state.feed(data, 0.0)


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([MAGIC, framed(0), framed([])])), max_size=20))
def test_whatever_a_tracker_says_only_these_two_errors_come_of_it(pieces: list[bytes]) -> None:
    play = Play(RegistrationState("board", 9190, None, random.Random(1)))
    play.state.connected(play.now)
    with contextlib.suppress(TrackerError, ProtocolError):
        for data in pieces:
            play.now += 1.0
            play.state.feed(data, play.now)
            play.state.tick(play.now)
            assert len(parsed(play.state.take().removeprefix(MAGIC))) <= 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["wait", "reply", "gone", "take", "release", "lose"]), max_size=60))
def test_in_any_order_of_things_a_free_board_is_offered_and_a_taken_one_is_not(steps: list[str]) -> None:
    """The model: what is on offer at the tracker is what was put last on this connection, unless it is gone."""
    play = Play(RegistrationState("board", 9190, None, random.Random(3)))
    play.register()
    is_taken, question = False, None
    offered = [play.state.matchkey]

    def note(said: list[Any]) -> None:
        nonlocal question
        assert len(said) <= 1
        for message in said:
            assert question is None, "two questions at a time"
            question = message
            if message[0] == 3:
                assert not is_taken
                offered.append(message[2][1])

    for step in steps:
        if step == "wait" and play.state.wakes_at is not None and question is None:
            note(play.wait())
        elif step in ("reply", "gone") and question is not None:
            answer: Any = 0 if question[0] != 7 else [] if step == "gone" else [offered[-1]]
            question = None
            note(play.reply(answer))
        elif step == "take" and not is_taken:
            is_taken = True
            play.state.taken()
        elif step == "release" and is_taken:
            is_taken = False
            play.state.released(play.now)
            note(play.said())
        elif step == "lose":
            question = None
            play.state.lost()
            note(play.connect())
    for _ in range(3):
        if question is not None:
            answer, question = (0 if question[0] != 7 else [offered[-1]]), None
            note(play.reply(answer))
    assert question is None
    assert play.state.matchkey == ("" if is_taken else offered[-1])
    assert (play.state.wakes_at is None) == is_taken
    assert len(set(offered)) == len(offered)


# --- keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["board", "mps2_an385", "gr\u00fcn", "a" * 200, "-x/y.z"])
def test_keys_that_trackers_can_take(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "a:b", ":", "a b", "a\nb", "a\0", "\u00a0", "a" * 201])
def test_a_key_that_is_cut_somewhere_is_one_clear_error(key: str) -> None:
    with pytest.raises(RequestError, match=r"a key is 1 to 200 characters without colons and blanks.*give another"):
        Registration(("127.0.0.1", 9190), key=key, port=1, address=None, on_note=print)


@pytest.mark.parametrize("port", [0, 65536, -1, True])
def test_a_port_that_nobody_can_connect_to_is_refused(port: int) -> None:
    with pytest.raises(RequestError, match="the port that clients connect to"):
        RegistrationState("board", port, None, random.Random())


# --- a recording of a stock server and a stock tracker -------------------------------------------------------


def recorded(connection: int) -> list[tuple[str, bytes]]:
    """Give what both said on a connection: ("peer" or "tracker", all that it said before the other did)."""
    turns: list[tuple[str, bytes]] = []
    for line in RECORDING.read_text(encoding="utf-8").splitlines()[1:]:
        row = json.loads(line)
        if row["conn"] == connection and "hex" in row:
            data = bytes.fromhex(row["hex"])
            if turns and turns[-1][0] == row["dir"]:
                data = turns.pop()[1] + data
            turns.append((row["dir"], data))
    return turns


@pytest.mark.parametrize("connection", [1, 14485], ids=["until the tracker is killed", "the tracker is there again"])
def test_what_a_stock_server_said_is_said_byte_for_byte(connection: int) -> None:
    turns = recorded(connection)
    keys = [m[2][1] for who, data in turns if who == "peer" and data != MAGIC for m in parsed(data) if m[0] == 3]
    assert len(keys) >= 2
    state = RegistrationState("board", 19290, None, Chances(*(float(key.partition(":")[2]) for key in keys)))
    state.connected(now := 0.0)
    sessions = 0
    for who, data in turns:
        if who == "tracker":
            state.feed(data, now)
            continue
        said = state.take()
        if not said and parsed(data)[0][0] == 7:
            assert state.wakes_at == now + POLL_S
            now = state.wakes_at
            state.tick(now)
            said = state.take()
        elif not said:  # a session was served
            state.taken()
            state.released(now := now + 1.0)
            said = state.take()
            sessions += 1
        assert said == data
    assert sessions == {1: 3, 14485: 1}[connection]


# --- the connection -----------------------------------------------------------------------------------------


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def read_message(reader: asyncio.StreamReader) -> Any:
    (size,) = struct.unpack("<i", await reader.readexactly(4))
    return json.loads(await reader.readexactly(size))


class FakeTracker:
    """A tracker that keeps what it was told, and what is on offer on each connection."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()
        self.offers: dict[int, list[str]] = {}
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            assert await reader.readexactly(4) == MAGIC
            writer.write(MAGIC)
            self.offers[number] = []
            while True:
                message = await read_message(reader)
                if message[0] == 3:
                    self.offers[number].append(message[2][1])
                writer.write(framed(self.offers[number] if message[0] == 7 else 0))
                self.heard.put_nowait(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            del self.offers[number]
            self.heard.put_nowait("closed")
        finally:
            writer.close()

    async def next(self, code: object) -> Any:
        """Give the next message of a code, or "closed"."""
        while True:
            message = await self.heard.get()
            if message == code or message[0] == code:
                return message


@contextlib.asynccontextmanager
async def listening(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Serve; give the port. Ended with all its connections."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def registered(port: int, notes: list[str]) -> AsyncIterator[Registration]:
    one = Registration(("127.0.0.1", port), key="board", port=9190, address=None, on_note=notes.append)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def run(test: Callable[[], Coroutine[Any, Any, None]], timeout_s: float = 20.0) -> None:
    asyncio.run(asyncio.wait_for(test(), timeout_s))


def hasten(monkeypatch: pytest.MonkeyPatch, **times: float) -> None:
    for name, seconds in times.items():
        monkeypatch.setattr(registration, name, seconds)


def test_attempts_are_further_and_further_apart_up_to_half_a_minute_and_begin_anew() -> None:
    retries = registration.Retries(random.Random(11))
    waits = [retries.next_s() for _ in range(10)]
    most = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(waits, most, strict=True))
    assert len(set(waits[6:])) == 4
    retries.begin()
    assert retries.next_s() <= 0.5


def test_a_board_is_registered_asked_for_taken_and_offered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, POLL_S=0.01)
    notes: list[str] = []

    async def test() -> None:
        tracker = FakeTracker()
        async with listening(tracker) as port, registered(port, notes) as one:
            assert await tracker.next(5) == [5, {"key": "server:board", "addr": [None, 9190]}]
            assert await tracker.next(3) == [3, "board", [9190, one.matchkey], None]
            for _ in range(3):
                await tracker.next(7)
            first = one.matchkey
            one.taken()
            assert one.matchkey == ""
            await asyncio.sleep(0.05)
            asked = tracker.heard.qsize()
            await asyncio.sleep(0.05)
            assert tracker.heard.qsize() == asked  # in a session nothing is said
            one.released()
            assert (await tracker.next(3))[2][1] == one.matchkey != first
            await tracker.next(7)
            assert tracker.connections == 1

    run(test)
    assert len(notes) == 1
    assert "board: registered at the tracker at 127.0.0.1:" in notes[0]


def test_an_end_withdraws_the_board() -> None:
    async def test() -> None:
        tracker = FakeTracker()
        async with listening(tracker) as port:
            async with registered(port, []):
                await tracker.next(3)
            assert await tracker.next("closed") == "closed"

    run(test)


def test_a_tracker_that_is_started_anew_has_the_board_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, POLL_S=0.02, FIRST_RETRY_S=0.01, LAST_RETRY_S=0.02)
    notes: list[str] = []

    async def test() -> None:
        first, second = FakeTracker(), FakeTracker()
        async with contextlib.AsyncExitStack() as stack:
            async with listening(first) as port:
                one = await stack.enter_async_context(registered(port, notes))
                await first.next(7)
                old = one.matchkey
            while len(notes) < 2 or "cannot be reached" not in notes[-1]:
                await asyncio.sleep(0.01)
            told = len(notes)
            await asyncio.sleep(0.2)  # many attempts
            assert len(notes) == told
            assert one.matchkey == old
            async with listening(second, port):
                assert (await second.next(3))[2][1] == one.matchkey != old
                await second.next(7)
                await second.next(7)
                assert "registered at the tracker" in notes[-1]

    run(test)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(4)
    writer.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def talk_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def announce_too_much(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(MAGIC)
    await reader.readexactly(4)
    await read_message(reader)
    writer.write(struct.pack("<i", 1 << 30))


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(MAGIC)
    await reader.readexactly(4)
    await read_message(reader)
    writer.write(framed(-1))


async def hang_later(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(MAGIC)
    await reader.readexactly(4)
    for _ in range(2):
        await read_message(reader)
        writer.write(framed(0))
    await reader.read()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(MAGIC)
        while True:
            writer.write(framed(0) * 1000)
            await writer.drain()


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (hang, "hangs: no answer in 0.1 s"),
        (close, "closed the connection"),
        (reset, "closed the connection|cannot be reached"),
        (talk_http, "where a tracker's connection begins with"),
        (announce_too_much, "a message of 1073741824 bytes is announced"),
        (refuse, "refused the board's name: it answered -1"),
        (hang_later, "hangs: no answer in 0.1 s"),
        (flood, "said 0, which nobody asked for"),
    ],
)
def test_of_a_tracker_that_is_of_no_use_is_told_once_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, handler: Handler, words: str
) -> None:
    hasten(monkeypatch, REPLY_S=0.1, POLL_S=0.05, FIRST_RETRY_S=0.01, LAST_RETRY_S=0.02)
    notes: list[str] = []
    attempts = 0

    async def test() -> None:
        enough = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 4:
                enough.set()
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await handler(reader, writer)

        async with listening(handle) as port, registered(port, notes):
            await enough.wait()

    run(test)
    troubles = [note for note in notes if "registered at" not in note]
    assert re.search(words, troubles[0])
    assert "board: the tracker at 127.0.0.1:" in troubles[0]
    assert "it is tried again and again" in troubles[0]
    assert len(troubles) <= (4 if handler in (hang_later, reset) else 1)


def test_a_host_that_no_name_can_be_of_is_told_of_as_well() -> None:
    notes: list[str] = []

    async def test() -> None:
        one = Registration(("a" * 70, 1), key="board", port=1, address=None, on_note=notes.append)
        task = asyncio.create_task(one.run())
        while not notes:
            await asyncio.sleep(0.01)
        task.cancel()

    run(test)
    assert "the tracker at aaa" in notes[0]


class Counted(registration.Retries):
    """Remembers what was asked of it."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self.asked: list[str] = []

    def next_s(self) -> float:
        self.asked.append("next")
        return 0.0

    def begin(self) -> None:
        self.asked.append("begin")


@pytest.mark.parametrize(("polls", "asked"), [(0, ["next"] * 3), (2, ["begin", "next"] * 3)])
def test_only_a_connection_that_has_lasted_for_a_poll_makes_the_next_wait_a_short_one(
    monkeypatch: pytest.MonkeyPatch, polls: int, asked: list[str]
) -> None:
    hasten(monkeypatch, POLL_S=0.02)
    monkeypatch.setattr(registration, "Retries", Counted)
    ended = 0

    async def test() -> None:
        enough = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal ended
            await reader.readexactly(4)
            writer.write(MAGIC)
            for _ in range(2 + polls):
                writer.write(framed([] if (await read_message(reader))[0] == 7 else 0))
            writer.close()
            ended += 1
            if ended == 4:
                enough.set()

        async with listening(serve) as port, registered(port, []) as one:
            await enough.wait()
            assert isinstance(one._retries, Counted)
            assert one._retries.asked[: len(asked)] == asked

    run(test)


def test_a_tracker_that_hangs_after_a_session_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch, REPLY_S=0.5)
    notes: list[str] = []

    async def test() -> None:
        offered = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4)
            writer.write(MAGIC)
            for _ in range(2):
                await read_message(reader)
                writer.write(framed(0))
            offered.set()
            with contextlib.suppress(ConnectionError):
                await reader.read()

        async with listening(serve) as port, registered(port, notes) as one:
            await offered.wait()
            while not one.is_registered:
                await asyncio.sleep(0.01)
            one.taken()
            await asyncio.sleep(0.7)
            assert "hangs" not in str(notes)  # nothing was asked
            one.released()
            while "hangs: no answer in 0.5 s" not in notes[-1]:
                await asyncio.sleep(0.01)

    run(test)
