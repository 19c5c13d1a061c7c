"""A serial port of this computer as pyserial opens it, set up as frames need it and kept from other programs."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

import serial

from microrpc.ports.holders import is_our_pty, is_pty
from microrpc.ports.options import PortOptions
from microrpc.wire.uart import FlowControl

log = logging.getLogger("microrpc.ports")
"""Told what is odd about a port: who else has it, which settings it does not take."""


class Tty(serial.Serial):
    """pyserial's port: 8N1, raw, kept from a second opener; what arrived before it was opened is kept.

    `baud` is in bits a second. `reads_block`: a read waits for the first byte, so that an empty one means "gone".
    Raises what pyserial does: SerialException, ValueError, OSError, termios.error.
    """

    def __init__(
        self, port: str, *, baud: int, flow_control: FlowControl, options: PortOptions, reads_block: bool
    ) -> None:
        self._options = options
        self._settings: list[Any] | None = None
        super().__init__(
            baudrate=baud,
            exclusive=True,
            inter_byte_timeout=0 if reads_block else None,  # how to tell pyserial VMIN 1, VTIME 0
            rtscts=flow_control is FlowControl.RTS_CTS,
            xonxoff=flow_control is FlowControl.XON_XOFF,
        )
        if options.dtr is not None:
            self.dtr = options.dtr
        if options.rts is not None:
            self.rts = options.rts
        self.port = port
        self.open()

    def open(self) -> None:
        """Open it; the constructor does."""
        super().open()
        try:
            if os.name == "posix":
                self._claim()
            elif self._options.hang_up is not None:
                log.warning("%s: this system always drops DTR and RTS when a port is closed", self.port)
            if self._options.low_latency is not None:
                self._set_latency(self._options.low_latency)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it, and let others have it. Closing twice is fine."""
        self.let_others_in()
        self.drop()

    def let_others_in(self) -> None:
        """End what `open` did so that others are refused; it is closed next."""
        if self._settings is not None and self.is_open:
            with contextlib.suppress(OSError, ImportError):  # nothing is imported when Python itself ends
                import fcntl
                import termios

                fcntl.ioctl(self.fileno(), termios.TIOCNXCL)

    def drop(self) -> None:
        """Close the descriptor, and do nothing to the port: it may be the one of the process that this is a fork of."""
        self._settings = None
        super().close()

    def renew(self) -> None:
        """Set the port as it was when it was opened, where another program changed it since; a warning tells so.

        What fails here shows in the read or write that comes next.
        """
        if self._settings is None:  # Windows, where no other program can
            return
        import termios

        with contextlib.suppress(OSError, ValueError, termios.error, serial.SerialException):
            if termios.tcgetattr(self.fileno()) != self._settings:
                log.warning("%s: another program changed the settings of this port; they are set again", self.port)
                termios.tcsetattr(self.fileno(), termios.TCSANOW, self._settings)
            if not hasattr(termios, f"B{self.baudrate}"):  # termios does not tell one such rate from another
                self._reconfigure_port()

    def _reset_input_buffer(self) -> None:
        """Do nothing; called by open(). What is there may be the boot message of the board."""

    def _reconfigure_port(self, *args: Any, **kwargs: Any) -> None:
        if os.name == "posix":
            import fcntl
            import termios

            assert self.fd is not None  # pyserial has just opened it
            # pyserial does this first, too: nothing of a port that somebody else has is changed.
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            settings = termios.tcgetattr(self.fd)
            # pyserial leaves these as they are. With BRKINT a break throws away what waits, in both directions.
            settings[0] &= ~(termios.BRKINT | termios.IXANY)
            if self._options.hang_up is not None:
                settings[2] = settings[2] | termios.HUPCL if self._options.hang_up else settings[2] & ~termios.HUPCL
            termios.tcsetattr(self.fd, termios.TCSANOW, settings)
        super()._reconfigure_port(*args, **kwargs)  # type: ignore[misc]  # types-pyserial has no private names

    def _claim(self) -> None:
        """Have the system refuse whoever opens the port now: the lock stops only those who ask for it.

        It lasts as long as anybody has the port open. So not on a pty that outlives this program: were this one killed,
        nobody could open it any more.
        """
        import fcntl
        import termios

        self._settings = termios.tcgetattr(self.fileno())
        port = str(self.port)
        if not is_pty(port) or is_our_pty(port):
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.fileno(), termios.TIOCEXCL)

    def _set_latency(self, low: bool) -> None:
        try:
            self.set_low_latency_mode(low)
        except (AttributeError, NotImplementedError, OSError, ValueError):  # no such method, system, driver
            log.warning(
                "%s: low_latency cannot be set: this system, or the port's driver, has no such thing", self.port
            )
