"""The least that a round trip over a pty costs: `python -m benchmarks.echo` sends back what it reads."""

from __future__ import annotations

import os
import tty

from benchmarks.processes import exit_with_stdin


def main() -> None:
    board_fd, host_fd = os.openpty()
    tty.setraw(host_fd)
    exit_with_stdin()
    print(os.ttyname(host_fd), flush=True)
    while True:
        os.write(board_fd, os.read(board_fd, 4096))


if __name__ == "__main__":
    main()
