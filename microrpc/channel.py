"""The old name of what is in `microrpc.ports`, which still works.

Ports are opened in `microrpc.ports.opening` (serial ports, and URLs of pyserial) and `microrpc.ports.sockets`; a serial
port is set up in `microrpc.ports.tty`. Latency is asked for there where `connect`, a profile or a command says so: with
`low_latency=True` the flag ASYNC_LOW_LATENCY of Linux, through pyserial (docs/boards.md).
"""

from microrpc._names import moved

__getattr__ = moved(
    __name__,
    {
        "microrpc.ports.channel": "Channel SerialChannel monotonic",
        "microrpc.ports.fd": "FdChannel",
        "microrpc.ports.opening": "open_serial",
        "microrpc.ports.pyserial": "PyserialChannel",
        "microrpc.ports.sockets": "open_tcp",
    },
)
