"""What the demonstration shows of a bad line: calls and a copy while bits flip and the board is reset, none of it lost.

In virtual time and seeded, so that each run is like the last; held against the same program on the same line, clean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from microrpc.cli.capturing import capture
from microrpc.cli.common import format_size, format_time
from microrpc.cli.demo.parts import copied_bytes
from microrpc.errors import BoardResetError, MicroRpcError

if TYPE_CHECKING:
    from firmware_sim.line.faults import Fault
    from firmware_sim.line.settings import Uart
    from microrpc.boards.schema import BoardProfile
    from microrpc.cli.demo.screen import Screen
    from microrpc.client.board import Board

_PACKET_S, _FUNCTION_S = 100e-6, 20e-6  # what a board on a UART takes: of the order of a Cortex-M at 100 MHz
_SEED = 0
_BIT_ERROR_RATE = 1e-4
_CALLS = 500
_MOST_RESETS = 3  # more than were asked for: something is wrong


def line_of(profile: BoardProfile, baud: int) -> Uart:
    """Give the UART of a board at `baud` bits a second, with a processor behind it, and no time to power up."""
    from firmware_sim.line.settings import FirmwareTime, Rate
    from firmware_sim.running.simulate import uart_of

    return dataclasses.replace(
        uart_of(profile),
        to_board=Rate(baud),
        to_host=Rate(baud),
        power_up_s=0.0,
        firmware=FirmwareTime(packet_s=_PACKET_S, function_s=_FUNCTION_S),
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of the program on one line.

    `executed`: how many calls the board executed; `answers`: what the host was told, in order. `wrong_bytes`: of the
    copy. `resets`: how many the host was told of. `struck`: bytes that were damaged, of `crossed`. Times in seconds.
    """

    executed: int
    answers: Sequence[int]
    wrong_bytes: int
    resets: int
    struck: int
    crossed: int
    frames_damaged: int
    sent_again: int
    copy_s: float
    total_s: float


def show_noise(profile: BoardProfile, baud: int, screen: Screen, *, is_other: bool = False) -> dict[str, Any]:
    """Show calls and a copy on a line on which one bit in 10,000 flips, and a reset in mid-copy; give the figures.

    `is_other`: what was shown before is no simulated board, such as an emulated one, whose line is never bad.
    """
    from firmware_sim.line.faults import Flip

    odds = f"1 bit in {round(1 / _BIT_ERROR_RATE):,} flips, one reset"
    screen.section(f"{'A simulated one' if is_other else 'The same'} on a bad line, in virtual time: {odds}")
    try:
        clean = _run(profile, baud)
        noisy = _run(profile, baud, Flip(rate=_BIT_ERROR_RATE), resets_once=True)
    except MicroRpcError as error:
        screen.check("on the bad line", f"{type(error).__name__}: {error}", False, is_brief=True)
        return {}
    size_bytes = copied_bytes(profile)
    screen.row("the line", f"{baud} baud; {noisy.struck} of {noisy.crossed} bytes damaged", is_brief=True)
    answered, wrong = len(noisy.answers), noisy.wrong_bytes
    each_once = noisy.executed == _CALLS and list(noisy.answers) == list(range(1, _CALLS + 1))
    shown = "each executed once, and answered" if each_once else f"{noisy.executed} executed, {answered} answered"
    _check(screen, f"{_CALLS} calls", shown, each_once)
    shown = "every byte as it was sent" if not wrong else f"{wrong} bytes differ"
    _check(screen, f"{size_bytes} bytes there, back", shown, not wrong)
    shown = "BoardResetError in mid-copy; array made again" if noisy.resets == 1 else f"{noisy.resets} were told"
    _check(screen, "the reset", shown, noisy.resets == 1)
    counts = ((_CALLS - answered, _CALLS, "calls"), (wrong, size_bytes, "bytes"))
    lost = [f"{count} of {size} {what}" for count, size, what in counts if count]
    _check(screen, "lost", ", ".join(lost) or "nothing", not lost)
    repeated = f"{noisy.sent_again} sent again; {noisy.frames_damaged} frames came damaged"
    screen.row("repeated", repeated, is_brief=True)
    goodput, clean_goodput = (2 * size_bytes / one.copy_s for one in (noisy, clean))
    speeds = f"{format_size(goodput)}/s, {format_time(noisy.total_s)} in all"
    screen.row(
        "how fast", f"{speeds}; clean {format_size(clean_goodput)}/s, {format_time(clean.total_s)}", is_brief=True
    )
    return {
        "bit_error_rate": _BIT_ERROR_RATE,
        "baud": baud,
        "calls": _CALLS,
        "calls_executed": noisy.executed,
        "bytes_struck": noisy.struck,
        "bytes_crossed": noisy.crossed,
        "frames_damaged": noisy.frames_damaged,
        "sent_again": noisy.sent_again,
        "resets": noisy.resets,
        "goodput_bytes_s": goodput,
        "clean_goodput_bytes_s": clean_goodput,
        "virtual_s": noisy.total_s,
        "clean_virtual_s": clean.total_s,
    }


def _check(screen: Screen, label: str, shown: str, holds: bool) -> None:
    screen.check(label, shown, holds, is_brief=True)


def _run(profile: BoardProfile, baud: int, *noise: Fault, resets_once: bool = False) -> _Outcome:
    """Let a board count calls, copy to it and back, and let it count again, with `noise` from the start."""
    import numpy as np

    from firmware_sim.line.faults import Faults, Reset
    from firmware_sim.running.simulate import SimBoard
    from microrpc.connecting.blocking import open_board

    sim = SimBoard(profile, uart=line_of(profile, baud), faults=Faults(noise, seed=_SEED), seed=_SEED)
    executed = 0

    @sim.function
    def count() -> int:
        nonlocal executed
        executed += 1
        return executed

    sent = np.random.default_rng(_SEED).integers(0, 256, copied_bytes(profile), np.uint8)
    copy_s, back = 0.0, sent

    def copy(board: Board) -> None:
        nonlocal copy_s, back
        begun = sim.now()
        with board.array(sent) as array:
            back = array.numpy()
        copy_s = sim.now() - begun

    answers: list[int] = []

    def call(board: Board) -> None:
        function = board.function("count")
        while len(answers) % (_CALLS // 2) or not answers:
            answers.append(function())

    with open_board(sim.open_channel(), profile.timeouts, seed=_SEED, baud=baud, capture=capture()) as board:
        call(board)
        if resets_once:
            sim.inject(Reset(at_byte=sent.size // 2))
        resets = _until_done(lambda: copy(board))
        answers.append(board.function("count")())
        call(board)
    stats, state = board.stats, sim.state
    return _Outcome(
        executed=executed,
        answers=answers,
        wrong_bytes=int(np.count_nonzero(back != sent)),
        resets=resets,
        struck=sum(state.damaged.values()),
        crossed=state.bytes_to_board + state.bytes_to_host,
        frames_damaged=stats.frames_damaged,
        sent_again=stats.retransmissions + stats.repeats,
        copy_s=copy_s,
        total_s=sim.now(),
    )


def _until_done(step: Callable[[], None]) -> int:
    """Do a step, again where the board was reset meanwhile, as a program does; give how often it was."""
    for resets in range(_MOST_RESETS):
        try:
            step()
        except BoardResetError:
            continue
        return resets
    step()
    return _MOST_RESETS
