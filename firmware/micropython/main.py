"""What this board does: MicroPython runs it at boot. Each function is called from Python on a computer by its name."""

import microrpc_device

device = microrpc_device.Device(name="", firmware="FIRMWARE_NAME", version="0.1")


@device.function("a: int, b: int -> int", doc="The sum of two ints.")
def add(a, b):
    """Give the sum."""
    return a + b


@device.function("x: float32[...], factor: float -> None", doc="Multiply a tensor where it lies.")
def scale(x, factor):
    """Multiply each element."""
    for i in range(len(x)):
        x[i] *= factor


device.run()
