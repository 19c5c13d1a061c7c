"""A board in memory whose long functions go on while its host reads."""

from __future__ import annotations

from hand_made_link import CANCEL, KEEP_ALIVE, PROGRESS, REPLY, LinkHand, thrown

from firmware_sim.board.demo import install
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from microrpc.wire.features import Feature


def make(**device_args: object) -> tuple[LinkHand, LoopbackChannel]:
    hand = LinkHand(**device_args)
    install(hand.device)
    hand.open()
    return hand, LoopbackChannel(hand.device)


def test_a_long_function_goes_on_when_its_host_reads_and_may_be_cancelled() -> None:
    hand, channel = make()
    channel.write(hand.call(0, "work", 9, 1_000_000), 1e6)
    for step in (1, 2, 3):
        assert [kind for kind, _ in hand.read(channel.read(1e6))] == [PROGRESS]
        assert channel.now() == step
    channel.write(hand.about(CANCEL, 0), 1e6)
    assert hand.read(channel.read(1e6)) == [thrown(0, "cancelled")]


def test_a_read_that_hears_nothing_ends_with_the_step_that_passes_its_deadline() -> None:
    hand, channel = make(features=Feature.CANCEL)
    channel.write(hand.call(0, "work", 5, 1_000_000), 1e6)
    assert channel.read(2.5) == b""
    assert channel.now() == 3.0
    assert channel.read(2.5) == b""
    assert [kind for kind, _ in hand.read(channel.read(100.0))] == [REPLY]
    assert channel.now() == 5.0
    assert channel.read(100.0) == b""
    assert channel.now() == 100.0


def test_what_is_written_to_a_board_without_cancel_waits_for_the_end_of_the_function() -> None:
    hand, channel = make(features=Feature.PROGRESS)
    channel.write(hand.call(0, "work", 2, 1_000_000), 1e6)
    channel.write(hand.about(KEEP_ALIVE, 0), 1e6)
    assert [kind for kind, _ in hand.read(channel.read(1e6))] == [PROGRESS, PROGRESS, REPLY, KEEP_ALIVE]


def test_a_silent_host_is_gone_while_it_waits() -> None:
    told: list[tuple[float, bool]] = []
    device = Device(host_timeout_ms=500, on_session=lambda begins: told.append((device.clock.now(), begins)))
    hand = LinkHand(device)
    hand.open()
    channel = LoopbackChannel(device)
    assert channel.read(2.0) == b""
    assert channel.now() == 2.0
    assert told == [(0.0, True), (0.5, False)]
