"""The logger "microrpc.wire": each frame of a line in words, as it passes."""

from __future__ import annotations

import logging

from microrpc.capture.words import FrameReader

WIRE_LOG = logging.getLogger("microrpc.wire")
"""Says frames in words, at the level DEBUG; a connection looks once, as it is opened, whether somebody listens."""


class WireLog:
    """A tap (`microrpc.connecting.wrap.Tap`) that logs frames of the port `name`, with the time since the first one.

    A record has `port`, and `frame` as `microrpc.capture.words.Frame`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reader = FrameReader()
        self._start_s: float | None = None

    def note(self, time_s: float, data: bytes, *, to_board: bool) -> None:
        """Take bytes that passed at `time_s`, in seconds."""
        if self._start_s is None:
            self._start_s = time_s
        for frame in self._reader.read(time_s, to_board, data):
            more = {"port": self._name, "frame": frame}
            WIRE_LOG.debug("%s %s", self._name, frame.line(self._start_s), extra=more)

    def comment(self, text: str) -> None:
        """Log what the bytes of the line do not say, such as a fault that the simulator made."""
        WIRE_LOG.debug("%s %s", self._name, text)

    def port_lost(self, time_s: float) -> None:
        """Log it."""
        self.comment("the port was lost")

    def port_opened(self, time_s: float) -> None:
        """Log it."""
        self.comment("the port is open")
