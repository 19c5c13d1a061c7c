"""`microrpc info`: what a board is."""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from microrpc.cli.common import (
    BaudOption,
    BoardFileOption,
    BoardOption,
    JsonOption,
    OptionalPortArgument,
    TimeoutOption,
    find_board_port,
    format_time,
    open_board,
    print_json,
    reporting,
    say_pairs,
)
from microrpc.cli.figures import memory_pairs, stats_pairs
from microrpc.cli.functions import identity_pairs, identity_to_json
from microrpc.cli.port_options import with_port_options
from microrpc.errors import FunctionNotFoundError, counted
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions
from microrpc.wire.features import Feature, Features
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES, RANDOM_FILL_FUNCTION, TIME_EVALUATOR_FUNCTION

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile
    from microrpc.client.board import Board
    from microrpc.wire.description import Identity
    from microrpc.wire.link import LinkParameters
    from microrpc.wire.memory import BoardMemory

_ROUND_TRIPS = 25
_OPTIONAL_FUNCTIONS = {
    "time_evaluator": TIME_EVALUATOR_FUNCTION,
    "random_fill": RANDOM_FILL_FUNCTION,
}

_FEATURES = {
    Feature.EVENTS: "events",
    Feature.RELIABLE: "reliable events",
    Feature.PROGRESS: "progress",
    Feature.CANCEL: "cancelling",
    Feature.DESCRIBE: "description",
    Feature.MEMORY: "memory",
}


@with_port_options
def info(
    port: OptionalPortArgument = None,
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: BaudOption = None,
    timeout: TimeoutOption = None,
    as_json: JsonOption = False,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> None:
    """Show what a board can do, and how fast it answers."""
    with reporting(as_json=as_json):
        port, profile = find_board_port(port, board, board_file)
        with open_board(port, board, board_file, baud=baud, timeout_s=timeout, options=options) as opened:
            seen = look_at(opened, port, profile, baud or profile.baud)
        if as_json:
            print_json(seen.as_json)
        else:
            say_pairs(seen.pairs)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a board is: `as_json` for programs, `pairs` of names and values for people."""

    as_json: dict[str, Any]
    pairs: list[tuple[str, str]]


def look_at(board: Board, port: str, profile: BoardProfile, baud: int) -> Seen:
    """Ask an open board what it can do, and measure how fast it answers; `baud` is in bits a second."""
    from microrpc.host.blocks import UNLIMITED

    packet_bytes = board.max_packet_bytes()
    has_library = board.system_library() is not None
    has = {key: board.global_function(name) is not None for key, name in _OPTIONAL_FUNCTIONS.items()}
    identity, told = board.identity, board.functions()
    memory = _memory_of(board)
    round_trip_s = _measure_round_trip(board)
    session_id, link, stats = board.session_id, board.link, board.stats
    features = board.operations.connection.features
    is_limited = packet_bytes != UNLIMITED
    as_json = {
        "port": port,
        "profile": profile.name,
        "baud": baud,
        "identity": identity_to_json(identity),
        "functions": len(told) if identity is not None else None,
        "session_id": session_id,
        "max_packet_bytes": packet_bytes if is_limited else None,
        "receive_buffer_bytes": packet_bytes + MESSAGE_OVERHEAD_BYTES if is_limited else None,
        "link": dataclasses.asdict(link) if link is not None else None,
        "features": [name for feature, name in _FEATURES.items() if feature in features.known],
        "host_timeout_ms": features.host_timeout_ms,
        "round_trip_s": round_trip_s,
        "system_library": has_library,
        **has,
        "memory": dataclasses.asdict(memory) if memory is not None else None,
        "stats": stats.as_dict(),
    }
    limit = f"{packet_bytes} bytes" if is_limited else "unlimited"
    buffer = f" (its receive buffer has {packet_bytes + MESSAGE_OVERHEAD_BYTES})" if is_limited else ""
    pairs = [
        ("port", port),
        ("profile", f"{profile.name}: {profile.description}, {baud} baud"),
        *_identity_pairs(identity, len(told)),
        ("session", f"0x{session_id:04x}" if session_id else "none, this is a plain stream"),
        ("largest packet", limit + buffer),
        ("reliable link", _describe(link, is_stream=not session_id)),
        ("features", _list_features(features)),
        ("round trip", f"{format_time(round_trip_s)} (an empty look-up, median of {_ROUND_TRIPS})"),
        ("system library", _yes(has_library)),
        ("time evaluator", _yes(has["time_evaluator"])),
        ("random_fill", _yes(has["random_fill"])),
        *memory_pairs(memory),
        *stats_pairs(stats),
    ]
    return Seen(as_json, pairs)


def _identity_pairs(identity: Identity | None, count: int) -> list[tuple[str, str]]:
    if identity is None:
        return [("identity", "not told")]
    return [*identity_pairs(identity), ("functions", f"{count} (`microrpc functions` lists them)")]


def _describe(link: LinkParameters | None, *, is_stream: bool) -> str:
    if is_stream:
        return "not seen from here: it is between the board and whoever serves this stream"
    if link is None:
        return "no, the board does not know it"
    return f"yes, {counted(link.window_requests, 'request')} and {link.window_bytes} bytes at once"


def _list_features(features: Features) -> str:
    known = ", ".join(name for feature, name in _FEATURES.items() if feature in features.known) or "none"
    gone = f"; a host that is silent for {features.host_timeout_ms} ms is gone" if features.host_timeout_ms else ""
    return known + gone


def _yes(present: bool) -> str:
    return "yes" if present else "no"


def _memory_of(board: Board) -> BoardMemory | None:
    """Give what the board tells of its memory; None where it tells nothing."""
    try:
        return board.memory()
    except FunctionNotFoundError:
        return None


def _measure_round_trip(board: Board) -> float:
    times = []
    for _ in range(_ROUND_TRIPS):
        start = time.perf_counter()
        board.global_function("-")
        times.append(time.perf_counter() - start)
    return statistics.median(times)
