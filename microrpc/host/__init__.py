"""The host's side of a connection, sans I/O: times come in, bytes and events go out."""

from microrpc._moved import moved

# The module microrpc.host of 0.4.
__getattr__ = moved(__name__, "microrpc.host.requests", "microrpc.wire.names")
