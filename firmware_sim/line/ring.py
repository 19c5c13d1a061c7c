"""The ring where a board's serial driver keeps what arrives while its processor is busy."""

from __future__ import annotations

from firmware_sim.board.parts import split_frames

_STOP_FRACTION = 0.75  # how full it is when flow control stops the host,
_GO_ON_FRACTION = 0.25  # and when it lets the host go on


class Ring:
    """Holds at most `size_bytes`; what does not fit is lost."""

    def __init__(self, size_bytes: int) -> None:
        self.high_water_bytes = 0
        """The most that it held, a byte that was taken at once too."""
        self.bytes_overrun = 0
        """How many were lost."""
        self._size_bytes = size_bytes
        self._stop_bytes = max(1, int(size_bytes * _STOP_FRACTION))
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def put(self, data: bytes) -> None:
        """Keep what there is room for."""
        kept = data[: self._size_bytes - len(self._data)]
        self.bytes_overrun += len(data) - len(kept)
        self._data += kept
        self.note(len(self._data))

    def note(self, size_bytes: int) -> None:
        """Take note of so many bytes in it."""
        self.high_water_bytes = max(self.high_water_bytes, size_bytes)

    def take_frame(self) -> bytes:
        """Take what there is before the next start of a frame."""
        return self.take(len(next(split_frames(bytes(self._data)))))

    def take(self, size_bytes: int | None = None) -> bytes:
        """Take the oldest bytes, all of them where no number is given."""
        data = bytes(self._data[:size_bytes])
        del self._data[: len(data)]
        return data

    @property
    def is_nearly_full(self) -> bool:
        """Whether the host must stop."""
        return len(self._data) >= self._stop_bytes

    @property
    def is_nearly_empty(self) -> bool:
        """Whether the host may go on."""
        return len(self._data) <= int(self._size_bytes * _GO_ON_FRACTION)

    @property
    def bytes_to_stop(self) -> int:
        """After how many more bytes the host must stop, 1 or more."""
        return max(1, self._stop_bytes - len(self._data))
