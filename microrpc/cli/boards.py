"""`microrpc boards`: the board profiles there are."""

from __future__ import annotations

import dataclasses

from microrpc.cli.common import JsonOption, print_json, reporting, say_columns


def boards(as_json: JsonOption = False) -> None:
    """List the board profiles that --board takes."""
    with reporting(as_json=as_json):
        from microrpc.boards import profiles

        found = list(profiles().values())
        if as_json:
            print_json({"boards": [dataclasses.asdict(board) for board in found]})
            return
        say_columns(
            ("PROFILE", "BAUD", "BUFFER", "HEAP", "DESCRIPTION"),
            [
                (board.name, str(board.baud), str(board.packet_size_bytes), str(board.heap_bytes), board.description)
                for board in found
            ],
        )
