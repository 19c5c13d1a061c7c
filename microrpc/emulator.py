"""The old name of `microrpc.firmware.emulator`, for one release."""

from microrpc._moved import moved

__getattr__ = moved(__name__, "microrpc.firmware.emulator")
