"""A simulated board with functions of your own, as a serial port for other programs, on a line that flips bits.

    python examples/noisy_board.py ./board          # until Ctrl-C
    microrpc functions ./board                      # in another terminal

Without a board the rest of a system can be written and tried with it: what it does is Python here, and C later.
"""

import argparse
import dataclasses
import os
import pathlib
import signal
from typing import Annotated

import numpy as np

import microrpc
from firmware_sim.device import Device, VirtualClock
from firmware_sim.faults import Faults, Flip
from firmware_sim.serve import PtyServer
from firmware_sim.simulate import uart_of
from firmware_sim.uart import Rate, UartLine

Channel = Annotated[int, "int(0..7)"]
Vector = Annotated[np.ndarray, "float32[n]"]


def make_board() -> Device:
    """Give a board with three functions; the types of their arguments and what they do are what it tells of them."""
    device = Device(board_name="my_board", firmware_name="weather", firmware_version="1.2", clock=VirtualClock())
    gains = [1.0] * 8

    @device.function
    def set_gain(channel: Channel, gain: float) -> None:
        """Set the gain of a channel."""
        gains[channel] = gain

    @device.function
    def read_celsius(channel: Channel) -> Annotated[float, "float [degC]"]:
        """Give a channel's temperature."""
        return 21.5 * gains[channel]

    @device.function
    def mean(x: Vector) -> float:
        """Give the mean of all elements."""
        return float(x.mean())

    return device


def main() -> None:
    """Serve the board until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("link", type=pathlib.Path, help="where to put the link to its port")
    parser.add_argument("--baud", type=int, default=921600, help="bits a second (default: %(default)s)")
    parser.add_argument("--flip", type=float, default=1e-4, help="bit error rate, both ways (default: %(default)s)")
    options = parser.parse_args()
    rate = Rate(options.baud)
    uart = dataclasses.replace(uart_of(microrpc.profile("loopback")), to_board=rate, to_host=rate)
    faults = Faults([Flip(rate=options.flip)] if options.flip else [])
    server = PtyServer(UartLine(make_board(), uart, faults))
    server.start()
    try:
        os.symlink(server.path, options.link)
        print(options.link, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        options.link.unlink(missing_ok=True)
        server.close()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # waited for, in all threads
    main()
