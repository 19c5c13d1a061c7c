"""One byte of a conversation is damaged, each byte in turn: what becomes of it (docs/fault_matrix.md).

python tests/fault_matrix.py                        # print the table
python tests/fault_matrix.py --write                # and put it into docs/fault_matrix.md
python tests/fault_matrix.py stock to-board flip 17 # run one position again, and print every byte of it
"""

from __future__ import annotations

import enum
import functools
import itertools
import pathlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from event_judge import Judge

from firmware_sim.board.device import Device, Firmware
from microrpc.client.board import Board
from microrpc.client.remote import RemoteFunction, RemoteHandle
from microrpc.connecting.blocking import open_board
from microrpc.errors import (
    BoardResetError,
    CallTimeoutError,
    DamagedReplyError,
    HandshakeTimeoutError,
    MicroRpcError,
    StaleHandleError,
)
from microrpc.wire.session import Timeouts

T = TypeVar("T")
TIMEOUTS = Timeouts(retry_s=0.5, start_s=5.0, call_s=2.0)
PACKET_SIZE_BYTES = 256
HEAP_BYTES = 1 << 16
HOST_SEED, DEVICE_SEED = 11, 7
STEPS, STEP_S = 40, 0.05  # of a long call: 2 s, where cancelling takes 1 s at most
# More than one block of 193 bytes, with many bytes that must be escaped or look like a start or a no-op.
DATA = np.frombuffer((b"\xff\xfd\xff\xfe\xff\xff\xfd\xfe" + bytes(range(0, 256, 5))) * 5, np.uint8)[:230]
DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "fault_matrix.md"
BEGIN, END = "<!-- the table: python tests/fault_matrix.py --write -->", "<!-- end of the table -->"
PLAIN_CONVERSATIONS = ("robust", "stock", "linked")
EVENTS, CANCELLED = "events", "cancelled"
FIRMWARES = (*PLAIN_CONVERSATIONS, EVENTS, CANCELLED)
"""What is run: one conversation with each firmware, and over the link one with events and one with a cancelled call."""
DIRECTIONS = ("to-board", "to-host")

REPORTS = (CallTimeoutError, DamagedReplyError, BoardResetError, StaleHandleError)
"""The errors that describe a fault with which the connection goes on."""


class Kind(enum.StrEnum):
    """What is done to the byte."""

    FLIP = "flip"
    DROP = "drop"
    DOUBLE = "double"
    INSERT = "insert"
    CUT = "cut-then-reset"
    INTERRUPT = "interrupt"


KINDS = tuple(kind for kind in Kind if kind is not Kind.INTERRUPT)
"""What is done to each conversation; the one with a cancelled call is also interrupted at each byte."""


class Outcome(enum.StrEnum):
    """What became of the conversation."""

    ABSORBED = "absorbed"
    RECOVERED = "recovered"
    REPORTED = "reported"
    RESET_NEEDED = "reset needed"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `position` counts the bytes of `direction` from 0, as they are without it."""

    firmware: str
    direction: str
    kind: Kind
    position: int

    def replay(self) -> str:
        """Give the command that runs it again."""
        return f"python tests/fault_matrix.py {self.firmware} {self.direction} {self.kind} {self.position}"

    def apply(self, byte: int) -> bytes:
        """Give what arrives in place of `byte`."""
        match self.kind:
            case Kind.FLIP:
                return bytes([byte ^ 1 << self.position % 8])
            case Kind.DOUBLE:
                return bytes([byte, byte])
            case Kind.INSERT:
                return bytes([0xFF, byte])
        return b""


class MatrixError(AssertionError):
    """The host did what it must not."""

    def __init__(self, fault: Fault | None, what: str) -> None:
        super().__init__(f"{fault}: {what}\nreplay: {fault.replay() if fault else 'without a fault'}")


class Line:
    """A board in memory, and the line to it as a `microrpc.ports.channel.Channel`, which does one fault, or none.

    It counts how often the board's function "count" ran (`executions`) and how often the program called it (`calls`).
    """

    name = "line"

    def __init__(self, firmware: str, fault: Fault | None = None) -> None:
        self.fault = fault
        self.device = Device(
            firmware=Firmware.STOCK if firmware == "stock" else Firmware.ROBUST,
            link=firmware not in ("robust", "stock"),
            packet_size_bytes=PACKET_SIZE_BYTES,
            heap_bytes=HEAP_BYTES,
            seed=DEVICE_SEED,
        )
        self.device.functions["add"] = lambda a, b: a + b
        self.device.functions["count"] = self._count
        self.device.functions["say"] = self._say
        self.device.functions["work"] = self._work
        self.device.interleaves = True
        self.passed = {direction: bytearray() for direction in DIRECTIONS}  # what was sent, not what arrived
        self.executions = 0
        self.calls = 0
        self.is_traced = False
        self.judge = Judge()
        self.steps_worked = 0
        self.interrupt_after_steps: int | None = None
        self._said = 0
        self._unread = b""

    def _count(self) -> int:
        self.executions += 1
        return self.executions

    def _say(self, is_reliable: int) -> None:
        self.say(is_reliable=bool(is_reliable))

    def say(self, *, is_reliable: bool) -> None:
        """Have the board say something, with bytes that framing cares about."""
        self._said += 1
        values = (self._said, bytes(DATA[: 12 + self._said % 5]))
        accepted = self.device.event("said", *values, reliable=is_reliable)
        self.judge.say(values, reliable=is_reliable, accepted=accepted)

    def _work(self, steps: int) -> Iterator[tuple[int, int]]:
        self.steps_worked = 0
        while self.steps_worked < steps:
            self.device.clock.sleep(STEP_S)
            self.steps_worked += 1
            yield self.steps_worked, steps

    def read(self, deadline: float) -> bytes:
        unread, self._unread = self._unread, b""
        if unread:
            return unread
        while True:
            if self.interrupt_after_steps == self.steps_worked and self.device.is_busy:
                self.interrupt_after_steps = None
                raise KeyboardInterrupt
            if output := self.device.take_output():
                if data := self._pass("to-host", output, lambda data: None):
                    return data
            elif self.device.is_busy and self.now() < deadline:
                self.device.go_on()
            else:
                self.device.clock.sleep(deadline - self.now())
                return b""

    def write(self, data: bytes, deadline: float) -> None:
        self._pass("to-board", data, self.device.receive)

    def now(self) -> float:
        return self.device.clock.now()

    def close(self) -> None:
        """Leave the board as it is: the next connection is to the same one."""

    def _pass(self, direction: str, data: bytes, deliver: Callable[[bytes], None]) -> bytes:
        fault, start = self.fault, len(self.passed[direction])
        self.passed[direction] += data
        at = fault.position - start if fault is not None and fault.direction == direction else -1
        is_hit = fault is not None and 0 <= at < len(data)
        if fault is not None and is_hit:
            if fault.kind is not Kind.INTERRUPT:
                data = data[:at] if fault.kind is Kind.CUT else data[:at] + fault.apply(data[at]) + data[at + 1 :]
            elif direction == "to-board":
                data = data[:at]
            else:
                self._unread = data
        if self.is_traced:
            print(f"{self.now():7.3f} s {direction} {data.hex(' ')}{'  <- the fault' if is_hit else ''}")
        deliver(data)
        if fault is not None and is_hit and fault.kind is Kind.CUT:
            self.judge.on_reset()
            self.device.reset()
        if fault is not None and is_hit and fault.kind is Kind.INTERRUPT:
            raise KeyboardInterrupt
        return data


class Program:
    """What a program does with a board over `line`; every step is held to its result and its deadline."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.board: Board | None = None
        self.free_begins = dict.fromkeys(DIRECTIONS, 0)
        self._count: RemoteFunction
        self._held: list[RemoteHandle] = []  # so that nothing is freed but where the conversation says so

    def connect(self) -> Board:
        """Handshake, unless there is a board."""
        board = self.board
        if board is None:
            board = self.board = self._step(lambda: open_board(self.line, TIMEOUTS, seed=HOST_SEED))
        return board

    def converse(self) -> None:
        """Handshake, unless there is a board; look-ups, calls, alloc, copy to, copy back, free, and a call."""
        board = self.connect()
        add = self._step(lambda: board.function("add"))
        self._held.append(add)
        self._expect("add(20, 22)", self._step(lambda: add(20, 22)), 42)
        self._count = self._step(lambda: board.function("count"))
        self._held.append(self._count)
        self.count()
        array = self._step(lambda: board.empty(DATA.shape, DATA.dtype))
        self._held.append(array)
        self._step(lambda: array.write(DATA))
        self._expect("the copy back", self._step(array.numpy).tolist(), DATA.tolist())
        self.free_begins = {direction: len(passed) for direction, passed in self.line.passed.items()}
        self._step(array.free)
        self.count()

    def count(self) -> None:
        """Call `count()`, as the conversation does last; it tells whether the board is in step."""
        before = self.line.executions
        self.line.calls += 1
        value = self._step(self._count)
        self._expect("count()", value, self.line.executions)
        if value <= before or self.line.executions > self.line.calls:
            raise MatrixError(self.line.fault, f"{self.line.calls} calls were executed {self.line.executions} times")

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            raise MatrixError(self.line.fault, f"{what} gave {found}, not {expected}")

    def _step(self, step: Callable[[], T]) -> T:
        """Take a step. One fault spoils one reply, and asks for one session: the deadlines of both bound it."""
        start = self.line.now()
        try:
            return step()
        finally:
            taken_s = self.line.now() - start
            allowed_s = TIMEOUTS.start_s + (TIMEOUTS.call_s if self.board else 0)
            if taken_s > allowed_s + 1e-6:
                raise MatrixError(self.line.fault, f"a step took {taken_s:g} s where {allowed_s:g} s are allowed")


class EventProgram(Program):
    """A program with a board that says something, asked and unasked."""

    def converse(self) -> None:
        """Handshake and subscribe, unless there is a board; events of both kinds in calls and between them; a call."""
        if self.board is None:
            self.connect().on_event(None, self.line.judge.hear)
        board = self.connect()
        self._step(lambda: board.poll(1.0))
        self.line.say(is_reliable=True)
        self._count = self._step(lambda: board.function("count"))
        say = self._step(lambda: board.function("say"))
        self._held += [self._count, say]
        for is_reliable in (0, 1, 0, 1):
            self.line.say(is_reliable=not is_reliable)
            self._step(lambda is_reliable=is_reliable: say(is_reliable))  # type: ignore[misc]
        self._step(lambda: board.poll(2.0))
        self.count()
        self._expect("what is wrong with the events", dict(self.line.judge.verdict()), {})
        self.free_begins = {direction: len(passed) for direction, passed in self.line.passed.items()}


class CancelledProgram(Program):
    """A program that is interrupted in a long call, and so cancels it."""

    def converse(self) -> None:
        """Handshake, unless there is a board; a long call, which is interrupted in its third step; a call."""
        board = self.connect()
        self._count = self._step(lambda: board.function("count"))
        work = self._step(lambda: board.function("work"))
        self._held += [self._count, work]
        self.line.steps_worked = 0
        self.line.interrupt_after_steps = 3
        try:
            self._step(lambda: work(STEPS))
        except KeyboardInterrupt:
            pass
        else:
            raise MatrixError(self.line.fault, "an interrupted call gave a result")
        self.line.interrupt_after_steps = None
        self.count()
        if self.line.steps_worked >= STEPS:
            raise MatrixError(self.line.fault, "the function that was cancelled ran to its end")
        self.free_begins = {direction: len(passed) for direction, passed in self.line.passed.items()}


def program_of(line: Line, firmware: str) -> Program:
    """Give what is run."""
    return {EVENTS: EventProgram, CANCELLED: CancelledProgram}.get(firmware, Program)(line)


@functools.cache
def undamaged(firmware: str) -> tuple[dict[str, bytes], dict[str, int]]:
    """Give what each side says in the conversation without a fault, and where in that the free begins."""
    program = program_of(Line(firmware), firmware)
    program.converse()
    return {direction: bytes(passed) for direction, passed in program.line.passed.items()}, program.free_begins


def run(fault: Fault, *, is_traced: bool = False) -> Outcome:
    """Run the conversation with one fault in it. Raises MatrixError where the host did what it must not."""
    try:
        return _run(fault, is_traced)
    except MatrixError:
        raise
    except Exception as error:
        raise MatrixError(fault, f"{error!r} reached the program") from error


def _run(fault: Fault, is_traced: bool) -> Outcome:
    said, free_begins = undamaged(fault.firmware)
    line = Line(fault.firmware, fault)
    line.is_traced = is_traced
    program = program_of(line, fault.firmware)
    error = _attempt(program.converse)
    if error is None:
        absorbed = line.passed["to-board"] == said["to-board"]
        outcome = Outcome.ABSORBED if absorbed else Outcome.RECOVERED
        is_free_in_doubt = fault.position >= free_begins[fault.direction] and not is_repaired(fault)
        if line.device.memory.used_bytes and not is_free_in_doubt:
            raise MatrixError(fault, f"{line.device.memory.used_bytes} bytes stay allocated")
        error = _attempt(program.count)
    else:
        outcome = Outcome.REPORTED
        if is_repaired(fault):
            raise MatrixError(fault, f"the link let {error!r} reach the program")
        if isinstance(error, (*REPORTS, KeyboardInterrupt)):
            error = _attempt(program.converse)
        elif not isinstance(error, HandshakeTimeoutError):
            raise MatrixError(fault, f"{error!r} does not describe it")
    if outcome is Outcome.REPORTED and isinstance(error, HandshakeTimeoutError):
        if not line.device.is_dead or "reset" not in str(error):
            raise MatrixError(fault, f"{error!r}, and the board is {'dead' if line.device.is_dead else 'alive'}")
        line.device.reset()
        outcome = Outcome.RESET_NEEDED
        error = _attempt(program.converse)
    if error is not None:
        raise MatrixError(fault, f"{outcome}, and then came {error!r}")
    if is_traced:
        print(f"{fault}: {outcome}")
    return outcome


def is_repaired(fault: Fault) -> bool:
    """Tell whether the program must see nothing of a fault: over the link, of damage (docs/link.md 5)."""
    return fault.firmware not in ("robust", "stock") and fault.kind not in (Kind.CUT, Kind.INTERRUPT)


def _attempt(step: Callable[[], None]) -> MicroRpcError | KeyboardInterrupt | None:
    try:
        step()
    except (MicroRpcError, KeyboardInterrupt) as error:
        return error.with_traceback(None)
    return None


# --- the table --------------------------------------------------------------------------------


ROWS = [
    *itertools.product(FIRMWARES, DIRECTIONS, KINDS),
    *((CANCELLED, direction, Kind.INTERRUPT) for direction in DIRECTIONS),
]


@functools.cache
def tally(firmware: str, direction: str, kind: Kind, step: int = 1) -> Counter[Outcome]:
    """Count the outcomes over all positions of one row of the table, or over every so many."""
    said, _ = undamaged(firmware)
    return Counter(run(Fault(firmware, direction, kind, at)) for at in range(0, len(said[direction]), step))


def table() -> str:
    """Give the table of all rows, as Markdown."""
    lines = [f"| firmware | direction | kind | positions | {' | '.join(Outcome)} |"]
    lines.append("|---|---|---|" + "---:|" * (1 + len(Outcome)))
    for firmware, direction, kind in ROWS:
        outcomes = tally(firmware, direction, kind)
        cells = [firmware, direction.replace("-", " "), kind, outcomes.total(), *(outcomes[o] for o in Outcome)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def documented() -> str:
    """Give the table that docs/fault_matrix.md has."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def write() -> None:
    """Put the table into docs/fault_matrix.md."""
    head, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main(arguments: list[str]) -> None:
    match arguments:
        case []:
            print(table())
        case ["--write"]:
            write()
        case [firmware, direction, kind, position]:
            run(Fault(firmware, direction, Kind(kind), int(position)), is_traced=True)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
