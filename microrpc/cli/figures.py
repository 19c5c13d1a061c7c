"""The statistics of a connection, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from microrpc.cli.common import format_size, format_time
from microrpc.errors import counted

if TYPE_CHECKING:
    from microrpc.host.stats import CopyStats, Stats
    from microrpc.wire.memory import BoardMemory


def describe_copy(copies: CopyStats, stats: Stats) -> str:
    """Give one line on a copy: how much, how fast, and what went wrong on the line, if anything did."""
    troubles = [
        f"{what}: {count}"
        for what, count in (
            ("sent again", stats.retransmissions),
            ("sent again after doubt", stats.repeats),
            ("frames that came damaged", stats.frames_damaged),
        )
        if count
    ]
    text = f"{counted(copies.size_bytes, 'byte')} in {format_time(copies.seconds)}{_rate(copies)}"
    return "; ".join([text, *([", ".join(troubles)] if troubles else [])])


def _rate(copies: CopyStats) -> str:
    goodput_bytes_s, efficiency = copies.goodput_bytes_s, copies.efficiency
    text = f": {format_size(goodput_bytes_s)}/s" if copies.size_bytes and goodput_bytes_s is not None else ""
    # What is faster than its baud rate is no UART: the rate says nothing about it.
    return f"{text}, {efficiency:.0%} of {copies.baud} baud" if text and efficiency and efficiency <= 1 else text


def stats_pairs(stats: Stats) -> list[tuple[str, str]]:
    """Give names and values, for a table."""
    pairs = []
    if stats.frames_sent:
        damaged = f"{stats.frames_damaged} came damaged"
        pairs = [
            ("frames", f"{stats.frames_sent} sent, {stats.frames_received} received, {damaged}"),
            ("sent again", f"{stats.retransmissions} by the link, {stats.repeats} after doubt"),
        ]
    skipped = f", {stats.bytes_skipped} of them outside of frames" if stats.bytes_skipped else ""
    pairs.append(("bytes", f"{stats.bytes_sent} sent, {stats.bytes_received} received{skipped}"))
    if stats.round_trip_s is not None:
        least, most = (format_time(seconds or 0.0) for seconds in (stats.round_trip_min_s, stats.round_trip_max_s))
        answered = f"answered in {format_time(stats.round_trip_s)} (median; {least} to {most})"
        pairs.append(("requests", f"{stats.requests}, {answered}"))
    for name, copies in (("copies to the board", stats.to_board), ("copies from the board", stats.from_board)):
        if copies.size_bytes:
            pairs.append(
                (name, f"{counted(copies.size_bytes, 'byte')} in {format_time(copies.seconds)}{_rate(copies)}")
            )
    return pairs


def memory_pairs(memory: BoardMemory | None) -> list[tuple[str, str]]:
    """Give names and values, for a table; none where the board does not tell, or knows nothing of its stack."""
    if memory is None:
        return []
    heap = f"{memory.used_bytes} of {memory.heap_bytes} bytes used, {memory.most_used_bytes} at most"
    pairs = [("heap", f"{heap}; the largest free block has {memory.largest_free_bytes}")]
    if memory.stack_bytes is not None:
        pairs.append(("stack", f"{memory.most_stack_bytes} of {memory.stack_bytes} bytes used at most"))
    return pairs
