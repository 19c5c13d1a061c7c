"""The old name of `microrpc.wire.link` and `microrpc.host.link`, for one release."""

from microrpc._moved import moved

__getattr__ = moved(__name__, "microrpc.wire.link", "microrpc.host.link", "microrpc.wire.names")
