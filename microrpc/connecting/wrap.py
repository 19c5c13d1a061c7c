"""What sits between a port and its connection and sees all that passes."""

from __future__ import annotations

from microrpc.capture.trace import Trace
from microrpc.capture.words import Frame
from microrpc.ports.channel import Channel


class RecordingChannel:
    """A channel that notes in `trace` everything that passes."""

    def __init__(self, channel: Channel, trace: Trace | None = None) -> None:
        self.name = channel.name
        self.trace = trace or Trace()
        self._channel = channel

    @property
    def frames(self) -> list[Frame]:
        """See `Trace.frames`."""
        return self.trace.frames

    def now(self) -> float:
        """See `Channel.now`."""
        return self._channel.now()

    def read(self, deadline: float) -> bytes:
        """See `Channel.read`."""
        data = self._channel.read(deadline)
        if data:
            self.trace.note(self.now(), data, to_board=False)
        return data

    def write(self, data: bytes, deadline: float) -> None:
        """See `Channel.write`."""
        self.trace.note(self.now(), data, to_board=True)
        self._channel.write(data, deadline)

    def close(self) -> None:
        """Release the port."""
        self._channel.close()
