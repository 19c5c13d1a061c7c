"""What a monitor knows of a line: its newest rows, and figures of all that crossed it.

watch = Watch()
for packet in packets:
    watch.take(packet)
print(watch.counts, watch.rates.lately(now_s), watch.round_trips.median_and_worst())
"""

from __future__ import annotations

from dataclasses import dataclass

from microrpc.capture.messages import Message
from microrpc.capture.pcapng import Packet
from microrpc.capture.rates import Rates, RoundTrips
from microrpc.capture.records import NOISE, TEXT, Record, RecordReader
from microrpc.capture.rows import MOST_ROWS, NOTE, PART, Family, Row, Rows

LEFT_OUT = "came too fast to be shown"
"""Said of a number of packets."""


@dataclass(slots=True)
class Counts:
    """How many there were of what is worth a look.

    repeated: frames that the link said again; damaged: those that are none, or say nothing that is known; text, noise:
    lines and runs beside frames; left_out: packets that came faster than they could be shown.
    """

    repeated: int = 0
    damaged: int = 0
    text: int = 0
    noise: int = 0
    left_out: int = 0


class RowReader:
    """Makes rows of packets; each line (interface) is read by itself."""

    def __init__(self) -> None:
        self._records: dict[str, RecordReader] = {}
        self._serial = 0

    def read(self, packet: Packet) -> list[Row]:
        """Give the rows of what ends in `packet`; one of the kind `PART` or `NOTE` where nothing does."""
        to_board = bool(packet.to_board)
        reader = self._records.get(packet.interface)
        if reader is None:
            reader = self._records[packet.interface] = RecordReader()
        records = reader.read(packet.number, packet.time_ns, to_board, packet.data)
        if not records:
            records = [Record(packet.number, packet.time_ns, to_board, b"", _unfinished(packet.data))]
        first = self._serial + 1
        self._serial += len(records)
        return [Row(serial, packet, record) for serial, record in enumerate(records, first)]


def _unfinished(data: bytes) -> Message:
    return Message(PART, problem=f"{len(data)} bytes of a frame that has not ended yet") if data else Message(NOTE)


class Watch:
    """One line, watched. rows: the newest; counts, rates and round_trips: of all since it was made or cleared."""

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self.rows = Rows(most_rows)
        self.rates = Rates()
        self.round_trips = RoundTrips()
        self.counts = Counts()
        self.first_ns = 0
        """When the first packet passed, in ns since 1970; 0 before it."""
        self._reader = RowReader()

    def take(self, packet: Packet) -> None:
        """Take the next packet of the line."""
        self.first_ns = self.first_ns or packet.time_ns
        frames = 0
        for row in self._reader.read(packet):
            self.rows.add(row)
            frames += self._count(row)
        self.rates.note(packet.time_ns / 1e9, len(packet.data), frames, to_board=bool(packet.to_board))

    def leave_out(self, packets: int) -> None:
        """Take note of packets that passed and were not taken."""
        self.counts.left_out += packets

    def clear(self) -> None:
        """Forget rows and figures; names of functions stay known."""
        self.rows.clear()
        self.rates.clear()
        self.round_trips.clear()
        self.counts = Counts()
        self.first_ns = 0

    def _count(self, row: Row) -> int:
        """Count a row; give how many frames it is."""
        counts, record = self.counts, row.record
        if row.kind == TEXT:
            counts.text += 1
            return 0
        if row.kind == NOISE:
            counts.noise += 1
            return 0
        if row.kind in (PART, NOTE):
            return 0
        counts.damaged += row.family is Family.DAMAGE and row.kind != "NAK"
        counts.repeated += record.is_retransmission
        if record.is_answer and record.request is not None:
            self.round_trips.note((record.time_ns - record.request.time_ns) / 1e9)
        return 1
