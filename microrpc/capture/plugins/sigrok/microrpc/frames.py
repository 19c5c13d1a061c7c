"""Frames of one direction of the line, byte by byte, with where they begin and end (docs/protocol.md 1)."""

import binascii

FRAME, DAMAGE, TEXT, NOISE = "frame", "damage", "text", "noise"

_MOST_PAYLOAD_BYTES = 1 << 20  # what hosts take
_MOST_RUN_BYTES = 4096
_PAUSE_BYTES = 20  # after so much silence, in bytes, what is outside of frames is told
_START = b"\xff\xfd"
_HUNT, _LENGTH, _PAYLOAD, _CRC = "no packet", "length", "payload", "crc"
# Bell, backspace, white space, the ESC of ANSI escapes, what is printable, and whatever is in UTF-8.
_TEXT_BYTES = bytes(list(range(0x07, 0x0E)) + [0x1B] + list(range(0x20, 0x7F)) + list(range(0x80, 0xF5)))
_CONTINUATION = bytes(range(0x80, 0xC0))


class Deframer:
    """One direction: bytes in, with their first and last sample; out come (what, first, last, data).

    data: the payload of a FRAME, the bytes of TEXT or NOISE, what happened in words for a DAMAGE.
    """

    def __init__(self):
        self._count = 0  # bytes so far
        self._half = None  # where an FF began whose other half is still to come
        self._run, self._places = bytearray(), []  # bytes outside of frames, and their samples
        self._idle = 0
        self._begin(None, 0)
        self._field = _HUNT

    def feed(self, byte, first, last):
        """Take a byte; give what it completes."""
        found = []
        self._idle = 0
        self._count += 1
        half, self._half = self._half, None
        if half is not None and byte == _START[1]:
            if self._field is not _HUNT:
                found.append(self._damaged(half, "short packet: the sender restarted " + self._where()))
            found += self._told()
            self._begin(half, self._count - 2)
        elif self._field is _HUNT:
            self._hunt(byte, first, last, half)
        elif half is None and byte == 0xFF:
            self._half = first
        elif half is None or byte == 0xFF:
            self._take(b"\xff\xff" if half is not None else bytes((byte,)), byte, last, found)
        elif byte == 0xFE:
            if self._field is not _CRC:
                self._raw += b"\xff\xfe"
        else:
            what = "invalid escape: FF {:02X} at byte {}, {}".format(byte, self._count - 2, self._where())
            found.append(self._damaged(last, what))
        if byte == 0x0A or len(self._run) >= _MOST_RUN_BYTES:
            found += self._told()
        return found

    def pause(self):
        """Take note of a silence as long as a byte; give what is thereby known to be complete."""
        self._idle += 1
        return self._told() if self._idle == _PAUSE_BYTES else []

    def _begin(self, first, offset):
        self._first = first
        self._offset = offset
        self._raw = bytearray(_START)  # what the crc is over
        self._enter(_LENGTH, 4)

    def _enter(self, field, size):
        self._field = field
        self._size = size
        self._got = bytearray()

    def _where(self):
        missing = self._size - len(self._got)
        return "before its {} was complete (bytes missing: {})".format(self._field, missing)

    def _damaged(self, last, what):
        self._field = _HUNT
        return DAMAGE, self._first, last, what

    def _hunt(self, byte, first, last, half):
        if half is not None and byte != 0xFE:
            self._run.append(0xFF)
            self._places.append((half, first))
        if byte == 0xFF:
            self._half = first
        elif byte != 0xFE:
            self._run.append(byte)
            self._places.append((first, last))

    def _take(self, wire, byte, last, found):
        self._got.append(byte)
        if self._field is not _CRC:
            self._raw += wire
        if len(self._got) < self._size:
            return
        if self._field is _LENGTH:
            size = int.from_bytes(self._got, "little")
            if size > _MOST_PAYLOAD_BYTES:
                what = "too long: it announces {} bytes, and {} are accepted".format(size, _MOST_PAYLOAD_BYTES)
                found.append(self._damaged(last, what))
                return
            self._enter(_PAYLOAD, size)
            if size:
                return
        if self._field is _PAYLOAD:
            self._payload = bytes(self._got)
            self._enter(_CRC, 2)
            return
        sent, right = int.from_bytes(self._got, "little"), binascii.crc_hqx(bytes(self._raw), 0xFFFF)
        if sent == right:
            found.append((FRAME, self._first, last, self._payload))
            self._field = _HUNT
        else:
            what = "bad crc: it carries 0x{:04X}, but its bytes give 0x{:04X}".format(sent, right)
            found.append(self._damaged(last, what))

    def _told(self):
        """Give the lines of what stood outside of frames, and forget them."""
        found, at = [], 0
        for line in bytes(self._run).splitlines(True):
            what = TEXT if is_text(line) else NOISE
            found.append((what, self._places[at][0], self._places[at + len(line) - 1][1], line))
            at += len(line)
        self._run, self._places = bytearray(), []
        return found


def is_text(data):
    """Whether nothing in `data` tells that it is no text (docs/protocol.md 7)."""
    if data.translate(None, _TEXT_BYTES):
        return False
    whole = data.lstrip(_CONTINUATION)
    if len(data) - len(whole) > 3:
        return False
    for cut in range(4):  # the last character may be cut
        try:
            whole[: len(whole) - cut].decode()
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                return False
        else:
            return True
    return False
