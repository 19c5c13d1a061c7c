"""Events over bad lines, new sessions and resets: reliable ones once and in order, every gap of the others known.

A board and a host of docs/link.md in virtual time; what the program was told is compared with what the board has done.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from talking_board import COUNT, World, noise

from microrpc.errors import OutcomeUnknownError
from microrpc.host.copies import copy_to
from microrpc.wire.datatypes import CPU, DataType, Tensor

INT = b"\0" + struct.pack("<q", 5)
FEW = 4
SEEDS = [*range(FEW), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(FEW, 100))]
LINES = {
    "bit errors 1e-5": {"bit_errors": 1e-5},
    "bit errors 1e-4": {"bit_errors": 1e-4},
    "bytes dropped 1e-4": {"drops": 1e-4},
    "both": {"bit_errors": 1e-4, "drops": 1e-4},
}


class Story:
    """A program that calls, copies and listens for ten seconds, while the board sends some 600 events."""

    def __init__(self, seed: int, strike: Callable[[Story], None] = lambda story: None) -> None:
        self.random = random.Random(seed)
        self.world = World(baud=115_200)
        self.answered = self.maybe_run = 0
        self.calls_before = 0  # of boards that are no more
        self.strike = strike

    def run(self, line: dict[str, float], seed: int) -> None:
        world = self.world
        world.look_up("count")
        world.listen(0.3)
        world.damage = noise(seed, **line)
        start = world.now
        for _ in range(300):
            world.at(start + self.random.uniform(0, 10), self.emit)
        while world.now < start + 10:
            try:
                self.step()
            except OutcomeUnknownError as error:
                self.maybe_run += error.may_have_run
            self.strike(self)
        world.damage = lambda data, to_board: data
        for _ in range(2):
            world.listen(1.5)

    def emit(self) -> None:
        for _ in range(self.random.randrange(3)):
            self.world.board.emit(b"plain", b"\x0c\x14\0" + bytes(20))
        self.world.board.emit(b"reliable", INT, reliable=True)

    def step(self) -> None:
        world, what = self.world, self.random.randrange(4)
        if what == 0:
            world.listen(self.random.uniform(0, 0.5))
        elif what == 1:
            world.listen(1.0, until_event=True)
        elif what == 2:
            data = self.random.randbytes(self.random.randrange(1, 2000))
            tensor = Tensor(64, CPU, DataType.parse("uint8"), (len(data),))
            world.run(copy_to(world.requests, memoryview(data), tensor))
            assert world.board.memory[64 : 64 + len(data)] == data
        else:
            world.call(COUNT)
            self.answered += 1

    def check(self) -> None:
        """Reliable events once and in order, of the last boot all; plain ones with every gap, the last one too."""
        board, sink = self.world.board, self.world.sink
        by_boot: dict[int, list[int]] = {boot: [] for boot in board.accepted}
        for boot, number in sink.reliable():
            by_boot[boot].append(number)
        assert [boot for boot, _ in sink.reliable()] == sorted(boot for boot, _ in sink.reliable())
        for numbers in by_boot.values():
            assert numbers == list(range(len(numbers))), "lost, doubled or out of order"
        assert by_boot[board.boot] == board.accepted[board.boot]
        expected: dict[int, int] = dict.fromkeys(board.made, 0)
        for event in sink.plain():
            number = event.number if event.is_gap else event.number - event.missed
            assert number == expected[event.boot], "a gap of another size"
            expected[event.boot] = number + event.missed + (not event.is_gap)
        assert expected[board.boot] == board.made[board.boot], "the last ones are not known to be lost"
        assert self.answered <= self.calls_before + board.calls <= self.answered + self.maybe_run


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("line", LINES)
def test_on_a_bad_line_reliable_events_come_once_and_every_gap_is_known(line: str, seed: int) -> None:
    story = Story(seed)
    story.run(LINES[line], seed)
    story.check()
    assert len(story.world.sink.reliable()) > 200
    assert story.answered == story.world.board.calls > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("line", LINES)
def test_over_new_sessions_too(line: str, seed: int) -> None:
    def doubt(story: Story) -> None:
        if story.random.random() < 0.2:
            story.world.connection.trust.doubt = "a test"

    story = Story(seed, doubt)
    story.run(LINES[line], seed)
    story.check()
    assert story.world.connection.stats.sessions > 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("line", LINES)
def test_over_resets_too_seen_and_unseen(line: str, seed: int) -> None:
    def reset(story: Story) -> None:
        if story.random.random() < 0.1:
            board = story.world.board
            story.calls_before, board.calls = story.calls_before + board.calls, 0
            board.reset()
            if story.random.random() < 0.5:
                board.output.clear()

    story = Story(seed, reset)
    story.run(LINES[line], seed)
    story.world.connection.trust.is_untold = False
    story.check()
    assert story.world.connection.stats.resets > 0
