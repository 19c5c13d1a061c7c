"""The old name of `microrpc.gateway.unix`, for one release."""

from microrpc._moved import moved

__getattr__ = moved(__name__, "microrpc.gateway.unix")
