"""A board's place at a tracker: it is offered under a key, taken, and offered again (docs/tvm_farm.md).

`RegistrationState` knows what is said when: bytes and times go in, bytes and the time to wake come out. `Registration`
is its connection: it lasts as long as the gateway, whatever becomes of the tracker.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NoReturn

from microrpc.errors import ProtocolError, RequestError, printable, reason_of
from microrpc.gateway.tvm.resolving import Resolver
from microrpc.wire.checks import check_whole, show
from microrpc.wire.tvm.tracker import MessageReader, encode_magic, get_pending_matchkeys, put, update_info

POLL_S = 2.0
"""How often a tracker is asked whether somebody has got the board."""
GONE_S = 6.0
"""How long who has got the board may take to connect: after that it is offered anew, under another matchkey."""
CONNECT_S = 5.0
"""How long a connection may take to come about."""
REPLY_S = 10.0
"""How long a tracker may take for the answer to anything that is said here: it has nothing to wait for."""
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 30.0
"""How long it is at most until the next attempt: doubled with each that fails, from the first to the last."""

_MOST_CHARACTERS = 200  # of a key
_CHUNK_BYTES = 4096


def check_key(key: str) -> str:
    """Give the key `key` of a board: what a stock client and a stock tracker can find it by.

    Raises RequestError for one with a colon, at which trackers and their tools cut, or a blank, at which servers do.
    """
    if not key or len(key) > _MOST_CHARACTERS or not key.isprintable() or " " in key or ":" in key:
        raise RequestError(
            f"a key is 1 to {_MOST_CHARACTERS} characters without colons and blanks (at which trackers and servers "
            f"cut it), not {show(key)}: give another with --key"
        )
    return key


class TrackerError(Exception):
    """The tracker does not do what it should; the text says what. The connection is given up, and made anew."""


class RegistrationState:
    """What is said to a tracker, and when. One object for the life of a board: connections come and go.

    key: what clients ask for. port: where they connect. address: how they reach this computer; None has the tracker
    take the address that it sees. Times are of any clock that only goes forward, in seconds.
    """

    def __init__(self, key: str, port: int, address: str | None, chance: random.Random) -> None:
        self.key = check_key(key)
        self.port = check_whole(port, "the port that clients connect to", 1, 65535)
        self.address = address
        self.matchkey = ""
        """What a client must know to be let in; "" while nobody is expected."""
        self.wakes_at: float | None = None
        """When `tick` has something to do; None where only bytes bring it on."""
        self.is_registered = False
        """Whether the tracker of this connection knows the board."""
        self._chance = chance
        self._is_taken = False
        self._output = bytearray()
        self._begin()

    def _begin(self) -> None:
        self._reader = MessageReader()
        self._is_tracker = False
        self._on_reply: Callable[[object, float], None] | None = None
        self._since = 0.0
        self._gone_since: float | None = None
        self._offers_next = False

    def take(self) -> bytes:
        """Give what is to be sent now."""
        data, self._output = bytes(self._output), bytearray()
        return data

    # --- the connection ---------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """A connection is there: say the magic, and nothing more before it comes back."""
        self._begin()
        self._output = bytearray(encode_magic())
        self._since, self.wakes_at = now, now + REPLY_S

    def lost(self) -> None:
        """The connection is gone, and what was offered on it. Who was sent here may still come: the matchkey holds."""
        self.is_registered = False
        self.wakes_at = None
        self._output.clear()
        self._begin()

    def has_lasted(self, now: float) -> bool:
        """Whether this connection is a good one: the board is registered, and has been for the time of a poll."""
        return self.is_registered and now - self._since >= POLL_S

    def feed(self, data: bytes, now: float) -> None:
        """Take what the tracker said. Raises ProtocolError and TrackerError where the connection is of no use."""
        for message in self._reader.feed(data):
            on_reply, self._on_reply, self.wakes_at = self._on_reply, None, None
            if on_reply is None:
                raise TrackerError(f"said {show(message)}, which nobody asked for")
            on_reply(message, now)
        if self._reader.has_magic and not self._is_tracker:
            self._is_tracker = True
            self._ask(update_info(self.key, self.address, self.port), self._on_known, now)

    def tick(self, now: float) -> None:
        """Do what is due. Raises TrackerError where an answer is overdue."""
        if self.wakes_at is None or now < self.wakes_at:
            return
        self.wakes_at = None
        if self._on_reply is not None or not self.is_registered:
            raise TrackerError(f"hangs: no answer in {REPLY_S:g} s")
        self._ask(get_pending_matchkeys(), self._on_pending, now)

    # --- the session ------------------------------------------------------------------------------

    def taken(self) -> None:
        """A session began. Until it is over the tracker is told nothing, and its matchkey is worth nothing."""
        self._is_taken = True
        self.matchkey = ""
        self._gone_since = None
        if self._on_reply is None:
            self.wakes_at = None

    def released(self, now: float) -> None:
        """The session is over: offer the board again."""
        was_taken, self._is_taken = self._is_taken, False
        if was_taken and self.is_registered:
            self._offer(now)

    # --- requests and replies ---------------------------------------------------------------------

    def _ask(self, message: bytes, on_reply: Callable[[object, float], None], now: float) -> None:
        self._output += message
        self._on_reply, self.wakes_at = on_reply, now + REPLY_S

    def _offer(self, now: float) -> None:
        """Offer the board under a new matchkey, when what was asked before is answered."""
        if self._on_reply is not None:
            self._offers_next = True
            return
        self._offers_next, self._gone_since = False, None
        self.matchkey = f"{self.key}:{self._chance.random()}"
        self._ask(put(self.key, self.port, self.matchkey, self.address), self._on_offered, now)

    def _on_known(self, reply: object, now: float) -> None:
        _expect_done(reply, "the board's name")
        self.is_registered = True
        self._go_on(now, must_offer=True)

    def _on_offered(self, reply: object, now: float) -> None:
        _expect_done(reply, "an offer of the board")
        self._go_on(now)

    def _on_pending(self, reply: object, now: float) -> None:
        if not isinstance(reply, list):
            raise TrackerError(f"answered {show(reply)} to the question for the matchkeys: no list")
        if self.matchkey in reply:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = now
        overdue = self._gone_since is not None and now - self._gone_since >= GONE_S
        self._go_on(now, must_offer=overdue)

    def _go_on(self, now: float, *, must_offer: bool = False) -> None:
        """Say the next thing after a reply: nothing in a session, else an offer, or a question after a while."""
        if self._is_taken:
            return
        if must_offer or self._offers_next:
            self._offer(now)
        else:
            self.wakes_at = now + POLL_S


def _expect_done(reply: object, what: str) -> None:
    if reply != 0 or isinstance(reply, bool):
        raise TrackerError(f"refused {what}: it answered {show(reply)}")


class Retries:
    """How long it is until the next attempt: doubled from one to the next, and never the same for many boards."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._most_s = FIRST_RETRY_S

    def next_s(self) -> float:
        """Give how many seconds to wait: half of the time there is at most, or more."""
        most_s, self._most_s = self._most_s, min(2 * self._most_s, LAST_RETRY_S)
        return most_s * self._chance.uniform(0.5, 1.0)

    def begin(self) -> None:
        """All was well: the next wait is a short one."""
        self._most_s = FIRST_RETRY_S


class Registration:
    """One board at one tracker: `run` keeps it there, and the gateway tells when a session begins and ends.

    tracker: its host and port. key, port, address: as of `RegistrationState`. on_note: told in a line what goes wrong,
    and that it goes on; once, not with each attempt. Raises RequestError for a key that trackers cannot take.
    """

    def __init__(
        self,
        tracker: tuple[str, int],
        *,
        key: str,
        port: int,
        address: str | None,
        on_note: Callable[[str], None],
        chance: random.Random | None = None,
    ) -> None:
        self._tracker = tracker
        self._resolver = Resolver(tracker[0])
        chance = chance if chance is not None else random.SystemRandom()
        self._state = RegistrationState(key, port, address, chance)
        self._retries = Retries(chance)
        self._on_note = on_note
        self._trouble: str | None = None  # what was told last: "" where all is well, None before the first attempt
        self._writer: asyncio.StreamWriter | None = None
        self._alarm: asyncio.Timeout | None = None

    @property
    def matchkey(self) -> str:
        """What a client must know to be let in; "" while none is expected: in a session, and before the first offer."""
        return self._state.matchkey

    @property
    def is_registered(self) -> bool:
        """Whether the tracker knows the board at this moment, as far as it is known here."""
        return self._state.is_registered

    def taken(self) -> None:
        """A session began: the matchkey is used up."""
        self._state.taken()
        self._say()

    def released(self) -> None:
        """The session is over: the board is offered again, under a new matchkey."""
        self._state.released(asyncio.get_running_loop().time())
        self._say()

    async def run(self) -> NoReturn:
        """Keep the board registered until this task is cancelled, which withdraws it."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._stay_connected()
            except (OSError, UnicodeError, ProtocolError, TrackerError) as error:  # UnicodeError: of a host's name
                self._note_trouble(_describe(error))
            if self._state.has_lasted(loop.time()):
                self._retries.begin()
            self._state.lost()
            await asyncio.sleep(self._retries.next_s())

    async def _stay_connected(self) -> NoReturn:
        """Connect, register, and answer for the board. Raises what ended it."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await self._connect()
        except TimeoutError:
            raise TrackerError(f"does not answer: no connection in {CONNECT_S:g} s") from None
        self._writer = writer
        loop = asyncio.get_running_loop()
        try:
            self._state.connected(loop.time())
            while True:
                self._say()
                data = await self._receive(reader)
                if data == b"":
                    raise TrackerError("closed the connection")
                now = loop.time()
                self._state.feed(data or b"", now)
                self._state.tick(now)
                self._note_success(now)
        finally:
            self._writer = None
            writer.transport.abort()  # not one byte more to a tracker that hangs

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the tracker, at the first of its addresses that answers. Raises OSError, UnicodeError."""
        failure = OSError("its name has no address")
        for address in await self._resolver.resolve():
            try:
                return await asyncio.open_connection(address, self._tracker[1])
            except OSError as error:
                failure = error
        raise failure

    async def _receive(self, reader: asyncio.StreamReader) -> bytes | None:
        """Give what arrives next, b"" at the end; None where there is something to do before."""
        try:
            async with asyncio.timeout_at(self._state.wakes_at) as self._alarm:
                return await reader.read(_CHUNK_BYTES)
        except TimeoutError:
            return None
        finally:
            self._alarm = None

    def _say(self) -> None:
        """Send what is to be sent: at most one question at a time, so that nothing heaps up."""
        data = self._state.take()
        if data and self._writer is not None:
            self._writer.write(data)
        if self._alarm is not None and not self._alarm.expired():
            self._alarm.reschedule(self._state.wakes_at)

    def _note_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            host, port = self._tracker
            self._on_note(f"{self._state.key}: the tracker at {host}:{port} {text}; it is tried again and again")

    def _note_success(self, now: float) -> None:
        """Tell that the board is registered: after trouble, when that has lasted."""
        if self._trouble != "" and self._state.is_registered and (self._trouble is None or self._state.has_lasted(now)):
            self._trouble = ""
            host, port = self._tracker
            self._on_note(f"{self._state.key}: registered at the tracker at {host}:{port}")


def _describe(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be reached: {printable(reason_of(error))}"
    return str(error.reason) if isinstance(error, ProtocolError) else str(error)
