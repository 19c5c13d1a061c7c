"""What a conversation came to: its frames counted, and what went wrong."""

from __future__ import annotations

from microrpc.capture.messages import DAMAGED
from microrpc.capture.records import NOISE, TEXT, Record
from microrpc.errors import counted


def is_wrong(record: Record) -> bool:
    """Whether a record is of something that did not arrive, or is nothing that the protocol has."""
    return record.message.kind in (DAMAGED, NOISE) or bool(record.message.problem)


class Summary:
    """Counts the records of a conversation; each is taken once, in their order."""

    def __init__(self) -> None:
        self.to_board = self.from_board = self.damaged = self.malformed = self.sent_again = self.unanswered = 0
        """Frames to the board and from it, damaged, malformed, sent again by the link; requests without an answer."""
        self.text_bytes = self.noise_bytes = 0
        """Bytes outside of frames."""

    def add(self, record: Record) -> None:
        """Take a record."""
        kind = record.message.kind
        if kind == TEXT:
            self.text_bytes += len(record.payload)
        elif kind == NOISE:
            self.noise_bytes += len(record.payload)
        elif kind == DAMAGED:
            self.damaged += 1
        else:
            self.to_board += record.to_board
            self.from_board += not record.to_board
            self.malformed += bool(record.message.problem)
            self.sent_again += record.is_retransmission
            self.unanswered += record.is_request
            self.unanswered -= record.is_answer

    def words(self) -> str:
        """Tell it in one line; nothing of what there was not."""
        told = [f"{counted(self.to_board, 'frame')} to the board, {self.from_board} from it"]
        for count, what in (
            (self.damaged, "damaged"),
            (self.malformed, "malformed"),
            (self.sent_again, "sent again by the link"),
            (self.unanswered, "unanswered"),
        ):
            told += [f"{count} {what}"] * bool(count)
        for size_bytes, what in ((self.text_bytes, "text"), (self.noise_bytes, "noise")):
            told += [f"{counted(size_bytes, 'byte')} of {what}"] * bool(size_bytes)
        return "; ".join(told)
