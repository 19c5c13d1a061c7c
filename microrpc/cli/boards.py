"""`microrpc boards`: the board profiles there are, and one of them in full."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli import completing
from microrpc.cli.common import (
    BoardFileOption,
    JsonOption,
    find_profile,
    is_terminal,
    print_json,
    reporting,
    say_columns,
    say_pairs,
)
from microrpc.cli.streams import note, say

if TYPE_CHECKING:
    from microrpc.boards.schema import BoardProfile, Reset
    from microrpc.ports.options import PortOptions


def boards(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", autocompletion=completing.boards, show_default=False, help="The one to show in full."
        ),
    ] = None,
    board_file: BoardFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the board profiles that --board takes, or show one.

    With --board-file a profile of your own is checked and shown.
    """
    with reporting(as_json=as_json):
        from microrpc.boards.catalogue import profiles
        from microrpc.firmware.project import has_port

        if name is not None or board_file is not None:
            board = find_profile(name, board_file=board_file)
            if as_json:
                print_json(_to_json(board))
            else:
                _show(board)
            return
        found = list(profiles().values())
        if as_json:
            print_json({"boards": [_to_json(board) for board in found], "user_directory": _own()})
            return
        say_columns(
            ("PROFILE", "BAUD", "BUFFER", "HEAP", "FIRMWARE", "DESCRIPTION"),
            [
                (
                    *(board.name, str(board.baud), str(board.packet_size_bytes), str(board.heap_bytes)),
                    *("yes" if has_port(board.name) else "-", board.description),
                )
                for board in found
            ],
        )
        if is_terminal(sys.stdout):
            note(f"Profiles of your own go into {_own() or 'your home directory, and none is known: set HOME'}")


def _own() -> str | None:
    from microrpc.boards.catalogue import user_directory

    try:
        return str(user_directory())
    except FileNotFoundError:
        return None


def _to_json(board: BoardProfile) -> dict[str, Any]:
    from microrpc.firmware.project import has_port

    usb = [str(usb_id) for usb_id in board.usb]
    return {**dataclasses.asdict(board), "usb": usb, "has_firmware": has_port(board.name)}


def _show(board: BoardProfile) -> None:
    from microrpc.firmware.project import has_port

    times, ring_bytes = board.timeouts, board.receive_ring_bytes
    say_pairs(
        [
            ("name", board.name),
            ("description", board.description),
            ("kind", board.kind),
            ("maker", board.maker or "-"),
            ("microcontroller", board.mcu or "-"),
            ("RAM", f"{board.ram_bytes} bytes" if board.ram_bytes else "-"),
            ("USB ids", ", ".join(map(str, board.usb)) or "-"),
            ("baud", str(board.baud)),
            ("flow control", board.flow_control),
            ("modem lines", _describe_lines(board.port_options)),
            ("receive buffer", f"{board.packet_size_bytes} bytes"),
            ("receive ring", f"{ring_bytes} bytes" if ring_bytes else "not stated: one request at a time"),
            ("simulated heap", f"{board.heap_bytes} bytes"),
            (
                "timeouts",
                f"start retry {times.retry_s:g} s, start {times.start_s:g} s, call {times.call_s:g} s, "
                f"cancel {times.cancel_s:g} s",
            ),
            ("reset", _describe_reset(board.reset)),
            ("power-up", f"{board.power_up_s:g} s at most"),
            ("firmware", f"yes: `microrpc firmware new DIR --board {board.name}`" if has_port(board.name) else "-"),
            ("flashed by", f"{_describe_ways(board)}, {board.flash_s:g} s at most" if board.ways_to_flash else "-"),
        ]
    )
    if board.notes:
        say()
        say(textwrap.indent(board.notes, "  "))


def _describe_lines(options: PortOptions) -> str:
    states = {"DTR": options.dtr, "RTS": options.rts, "hang-up": options.hang_up, "low latency": options.low_latency}
    said = [f"{name} {'on' if state else 'off'}" for name, state in states.items() if state is not None]
    return ", ".join(said) or "as the system has them"


def _describe_ways(board: BoardProfile) -> str:
    own = [shlex.join(board.flash)] if board.flash else []
    return " or ".join([*own, *(way.tool for way in board.flashers)])


def _describe_reset(reset: Reset) -> str:
    steps = []
    for step in reset.sequence:
        lines = (("DTR", step.dtr), ("RTS", step.rts))
        states = [f"{name} {'on' if state else 'off'}" for name, state in lines if state is not None]
        steps.append(" ".join(states) + (f" for {step.wait_s:g} s" if step.wait_s else ""))
    return f"{reset.strategy}: {', '.join(steps)}" if steps else reset.strategy
