"""The simulated board of one test, whose line is listened to."""

from __future__ import annotations

from firmware_sim.line.faults import Fault, Faults
from firmware_sim.running.loopback import LineChannel
from firmware_sim.running.simulate import SimBoard
from microrpc.boards.catalogue import profile
from microrpc.client.board import Board
from microrpc.connecting.address import DEFAULT_PROFILE
from microrpc.connecting.blocking import open_board
from microrpc.connecting.wrap import Tap, TappedChannel
from pytest_microrpc.listening import Listener
from pytest_microrpc.setups import Setup
from pytest_microrpc.story import SimStory
from pytest_microrpc.telling import Telling
from pytest_microrpc.wishes import Wishes


class _ListenedChannel(TappedChannel, LineChannel):
    """A host's end that notes what passes; that is all it adds."""

    def __init__(self, channel: LineChannel, tap: Tap) -> None:
        super().__init__(channel, tap)
        self.line = channel.line


class _ListenedBoard(SimBoard):
    """A simulated board that notes what passes through any of its ports, and which faults a test injects."""

    tap: Listener
    injected: list[Fault]

    def open_channel(self) -> LineChannel:
        """See `SimBoard.open_channel`."""
        channel = super().open_channel()
        channel.tell_faults(self.tap.comment)
        self.tap.port_opened(channel.now())
        return _ListenedChannel(channel, self.tap)

    def inject(self, *faults: Fault) -> None:
        """See `SimBoard.inject`."""
        super().inject(*faults)
        self.injected += faults


def make_sim_boards(setup: Setup, wishes: Wishes) -> list[tuple[SimBoard, Telling]]:
    """Make the boards that a test wishes, and what is told of them, which begins now."""
    return [_make_sim_board(setup, wishes, number) for number in range(wishes.count)]


def _make_sim_board(setup: Setup, wishes: Wishes, number: int) -> tuple[SimBoard, Telling]:
    chosen = wishes.board or setup.board or profile(DEFAULT_PROFILE)
    fault_seed = wishes.fault_seed or 0 if setup.fault_seed is None else setup.fault_seed
    sim = _ListenedBoard(
        chosen,
        firmware=wishes.firmware or setup.firmware,
        uart=wishes.uart,
        faults=Faults(wishes.faults, _seed(fault_seed, number)),
        seed=_seed(wishes.seed or 0, number),
    )
    name = f"{sim.name} #{number + 1}" if wishes.count > 1 else sim.name
    listener = Listener(name, captures=setup.captures is not None)
    listener.begin()
    sim.tap = listener
    sim.injected = list(wishes.faults)
    for name, function in wishes.functions.items():
        sim.function(function, name=name)
    story = SimStory(listener.name, listener.trace, sim.now(), sim, sim.injected, fault_seed)
    seeds = (("seed", wishes.seed or 0), *((("fault_seed", fault_seed),) if wishes.faults else ()))
    firmware = f"simulated, {wishes.firmware or setup.firmware}"
    return sim, Telling(story, listener, chosen.name, firmware, seeds)


def open_sim_board(sim: SimBoard, wishes: Wishes, number: int) -> Board:
    """Connect to it as `microrpc.connect` would, but with nonces that are the same each time."""
    return open_board(sim.open_channel(), sim.profile.timeouts, seed=_seed(wishes.seed or 0, number))


def _seed(seed: int, number: int) -> int:
    """Give the seed of one of several boards: what is random differs between them, and is the same each time."""
    return (seed + number) % 2**63 if number else seed
