"""Opening a port by its name or URL, as a channel."""

from __future__ import annotations

import logging
import os
import select
import sys

from microrpc.errors import PortError
from microrpc.ports.channel import SerialChannel, port_name
from microrpc.ports.fd import FdChannel
from microrpc.ports.holders import others
from microrpc.ports.options import AS_THE_SYSTEM_DOES, PortOptions
from microrpc.ports.refusal import open_error
from microrpc.ports.sockets import open_tcp
from microrpc.ports.urls import address_in, socket_address
from microrpc.wire.checks import check_baud
from microrpc.wire.uart import FlowControl

# select.poll does not serve serial ports on macOS.
_CAN_POLL = hasattr(select, "poll") and sys.platform != "darwin"

log = logging.getLogger("microrpc.ports")
"""Told what is odd about a port that is opened."""


def open_serial(
    port: str | os.PathLike[str],
    *,
    baud: int,
    timeout_s: float = 5.0,
    flow_control: FlowControl = FlowControl.NONE,
    options: PortOptions = AS_THE_SYSTEM_DOES,
) -> SerialChannel:
    """Open a serial port: 8N1, raw, kept from a second opener, its input kept.

    `port` is a device ("/dev/ttyACM0", "COM3") or a URL that pyserial knows ("rfc2217://host:port");
    "socket://host:port" goes to `open_tcp` with `timeout_s`, which nothing else uses. `baud` is in bits a second.
    `options` are those of its modem lines and its latency. A program that has the port open already without a lock is
    named in a warning of the logger "microrpc.ports".

    Raises PortNotFoundError, PortBusyError, PortPermissionError, or PortError for everything else, such as
    a file that is no serial port or a baud rate that it does not have; RequestError for what is no baud rate, or no
    name of a port.
    """
    baud, port = check_baud(baud), port_name(port)
    if (address := socket_address(port)) is not None:
        return open_tcp(*address, timeout_s)
    if port.lower().startswith("rfc2217://"):
        address_in(port)  # pyserial trips over what is missing
    is_url = "://" in port
    try:
        channel = (_open_url if is_url else _open_tty)(port, baud, flow_control, options)
    except PortError:
        raise
    except Exception as error:  # pyserial: SerialException, ValueError; termios.error derives from Exception only
        raise open_error(port, baud, error) from error
    if not is_url and (names := others(port)):
        log.warning("%s is open in %s, too, which may take the board's answers: close it", port, names)
    return channel


def _open_tty(port: str, baud: int, flow_control: FlowControl, options: PortOptions) -> SerialChannel:
    from microrpc.ports.tty import Tty

    tty = Tty(port, baud=baud, flow_control=flow_control, options=options, reads_block=_CAN_POLL)
    if _CAN_POLL:
        return FdChannel(port, tty.fileno(), tty.drop, end=tty.let_others_in, tty=tty)
    from microrpc.ports.pyserial import PyserialChannel

    return PyserialChannel(port, tty)


def _open_url(url: str, baud: int, flow_control: FlowControl, options: PortOptions) -> SerialChannel:
    from microrpc.ports.pyserial import PyserialChannel, open_url

    if options.hang_up is not None or options.low_latency is not None:
        log.warning("%s: hang_up and low_latency are those of ports of this computer; they have no effect here", url)
    return PyserialChannel(url, open_url(url, baud, flow_control, options))
