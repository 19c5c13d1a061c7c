"""What the demonstration shows of a board that speaks for itself: what it can do, what happens, how far it has come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from microrpc.errors import ArgumentError, CallCancelledError
from microrpc.wire.features import Feature

if TYPE_CHECKING:
    from microrpc.cli.demo.screen import Screen
    from microrpc.client.board import Board

_WAIT_S = 10.0
_STEPS, _STEP_US = 5, 1000
_LONG_STEPS, _LONG_STEP_US = 1000, 10_000


def show_description(board: Board, screen: Screen) -> None:
    """Show who the board is, what it can do, and that a call which does not fit is not sent."""
    if not _has(board, Feature.DESCRIBE):
        screen.row("identity", "this firmware tells nothing of itself")
        return
    screen.check("identity", str(board.identity), board.identity is not None)
    told = {function.name: str(function) for function in board.functions()}
    fadd = told.get("fadd", "no fadd")
    screen.check("functions", f"{len(told)}, such as {fadd}", "fadd" in told, is_brief=True)
    try:
        shown, holds = f"no error, but {board.f.scale_f32(2, 0.5)!r}", False
    except ArgumentError as error:
        shown, holds = "; ".join(str(error).split("; ")[:1]), "nothing was sent" in str(error)
    screen.check("f.scale_f32(2, 0.5)", f"not sent: {shown}" if holds else shown, holds)


def show_events(board: Board, screen: Screen) -> None:
    """Show an event."""
    from microrpc.cli.literals import format_value

    if not _has(board, Feature.EVENTS):
        screen.row("events", "this firmware sends none")
        return
    if (told := {function.name for function in board.functions()}) and "emit" not in told:
        screen.row("events", "none of this firmware's functions sends one when it is asked to")
        return
    with board.events("sample", timeout_s=_WAIT_S) as events:
        board.poll(0.1)  # until the board knows that somebody listens
        board.function("emit")("sample", 1, 4, 0)
        event = next(events, None)
    values = () if event is None else event.values
    shown = " ".join(map(format_value, values)) or "(nothing)"
    screen.check('an event, "sample"', shown, values == (0, b"\0\1\2\3"))


def show_long_calls(board: Board, screen: Screen) -> None:
    """Show how far a function has come, and that one is cancelled on the board."""
    if not _has(board, Feature.PROGRESS):
        screen.row("progress", "no function of this firmware tells any")
        return
    work, told = board.function("work"), []
    work(_STEPS, _STEP_US, on_progress=lambda done, total: told.append((done, total)))
    shown = ", ".join(str(done) for done, _ in told) or "nothing"
    screen.check("progress of work(5, 1000)", f"{shown} of {_STEPS}", (_STEPS, _STEPS) in told)
    if not told:
        return
    has_begun = threading.Event()
    call = work.start(_LONG_STEPS, _LONG_STEP_US, on_progress=lambda done, total: has_begun.set())
    has_begun.wait(_WAIT_S)
    call.cancel()
    try:
        shown, holds = f"not cancelled: {call.result(_WAIT_S)!r}", False
    except CallCancelledError as error:
        shown, holds = f"CallCancelledError, {str(error).rpartition(', and ')[2]}", has_begun.is_set()
    screen.check("cancelled after a step", shown, holds)


def _has(board: Board, feature: Feature) -> bool:
    return feature in board.operations.connection.features.known
