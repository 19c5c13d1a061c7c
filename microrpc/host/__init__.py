"""The host's side of a connection, sans I/O: times come in, bytes and events go out."""

from microrpc._names import moved

# The module microrpc.host of 0.4.
__getattr__ = moved(
    __name__,
    {
        "microrpc.host.job": "Progress",
        "microrpc.wire.names": "MAX_PACKET_SIZE_FUNCTION MODULE_GET_FUNCTION SYSTEM_LIBRARY_FUNCTION",
    },
)
