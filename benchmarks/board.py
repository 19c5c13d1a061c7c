"""A simulated board on a pty, as fast as it can: `python -m benchmarks.board MODE PACKET_BYTES [HEAP_BYTES]`."""

from __future__ import annotations

import sys

from benchmarks.modes import HEAP_BYTES, MODES, board_profile
from benchmarks.processes import exit_with_stdin
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate


def main(mode: str, packet_bytes: int, heap_bytes: int = HEAP_BYTES) -> None:
    board = board_profile(packet_bytes, heap_bytes=heap_bytes)
    server = PtyServer(simulate(board, firmware=MODES[mode].firmware))
    exit_with_stdin(server.close)
    print(server.path, flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
