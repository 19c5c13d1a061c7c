"""Runs in MicroPython: a device with the demonstration functions on a line that another program holds in its hands.

On stdin come, each behind its size (u32), the options of a device in JSON, and then what it is to receive; an empty one
ends it, and the next options may come. What the device says to each goes to stdout, in the same way. With the option
`evaluates` it has one function more, `evaluate`, which gives what a text in Python is.
"""

import gc
import io
import json
import struct
import sys

import demo
import microrpc_device
import microrpc_parts


class Line(io.IOBase):
    """The UART of the device."""

    def __init__(self):
        self.said = b""

    def ioctl(self, request, argument):
        """Nothing ever waits."""
        return 0

    def write(self, data):
        """Keep what is said."""
        self.said += data
        return len(data)

    def read(self, count):
        """Give nothing."""


class Clock:
    """One that stands still."""

    def ticks_us(self):
        """Give the time."""
        return 0

    def ticks_diff(self, end, start):
        """Give the time between two times."""
        return end - start

    def sleep_ms(self, milliseconds):
        """Do not sleep."""


class Os:
    """What gives the seed."""

    def __init__(self, seed):
        self.urandom = lambda count: seed[:count]


def read(count):
    """Give bytes of stdin."""
    data = b""
    while len(data) < count:
        data += sys.stdin.buffer.read(count - len(data))
    return data


def take():
    """Give what stands behind its size."""
    return read(struct.unpack("<I", read(4))[0])


def serve():
    """Serve one device."""
    options = json.loads(take())
    microrpc_device.os = Os(struct.pack("<I", options.pop("nonce")))
    evaluates = options.pop("evaluates")
    line = Line()
    device = microrpc_device.Device(line, **options)
    demo.install(device)
    if evaluates:
        names = {"device": device, "sys": sys, "gc": gc}
        device.function("text: str -> any", name="evaluate")(lambda text: eval(text, names))
    wire = b"\0"
    while wire:
        sys.stdout.buffer.write(struct.pack("<I", len(line.said)) + line.said)
        line.said = b""
        wire = take()
        device.receive(wire)


microrpc_device.time = microrpc_parts.time = demo.time = Clock()
while True:
    serve()
    gc.collect()
