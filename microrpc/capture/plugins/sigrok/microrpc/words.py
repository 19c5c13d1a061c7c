"""What a frame says, in words (docs/protocol.md 2, 3 and docs/link.md 2, 7 to 9)."""

import re
import struct
import zlib

from .values import (
    BYTES,
    FLOAT,
    FUNCTION,
    HANDLE,
    INT,
    STR,
    Malformed,
    quoted,
    read_blob,
    read_result,
    read_sequence,
    read_tensor,
    say,
    say_all,
    say_tensor,
    text_of,
)

LOG = "LOG"
_DAMAGED = "damaged"
_MOST_NAMES = 1024
_MOST_SEQS = 64
_MOST_VALUES = 8  # of an event
_MOST_EVENT_BYTES = 4096 + 255
_MOST_DESCRIPTION = 160
_HEAD = struct.Struct("<HB")
_U64 = struct.Struct("<Q")
_EVENT = struct.Struct("<IBIB")
_INIT, _REPLY, _TERMINATE, _LOG, _NORMAL = 0, 1, 2, 3, 0x10
_REQUEST, _LINK_REPLY, _NAK, _NEWS, _ACK, _STATE, _CANCEL, _PROGRESS, _KEEP_ALIVE = range(0x20, 0x29)
_CALL_FUNC, _RETURN, _EXCEPTION, _FROM_REMOTE, _TO_REMOTE, _COPY_ACK, _GET_GLOBAL_FUNC = range(3, 10)
_CODES = {
    9: "GetGlobalFunc",
    10: "FreeHandle",
    11: "DevSetDevice",
    12: "DevGetAttr",
    13: "DevAllocData",
    14: "DevFreeData",
    15: "DevStreamSync",
    16: "CopyAmongRemote",
    17: "DevAllocDataWithScope",
    18: "DevCreateStream",
    19: "DevFreeStream",
    20: "DevSetStream",
    21: "DevGetCurrentStream",
}
_WRITE, _READ, _CALL = 1, 2, 3
_REPLIES = {1: "DONE", 2: "DATA", 3: "FORGOTTEN"}
_FEATURES = ((1, "events"), (2, "reliable"), (4, "progress"), (8, "cancel"), (16, "describe"), (32, "memory"))
_LEVELS = {"D": "debug", "I": "info", "W": "warning", "E": "error"}
_NOTHING = (None, 0, (), "")  # what asks for nothing that an answer depends on
_UNKNOWN = "{} bytes that nobody knows"
_LOG_LINE = re.compile(r"\[([DIWE]) (?:([0-9]{4})\.([0-9]{6})|----\.------)\] ")


class Words:
    """Both directions of a line: what a frame means depends on what was asked, and on names that were looked up."""

    def __init__(self):
        self._names = {}
        self._asked = None  # the session and the request of the stock protocol that is unanswered
        self._link_session = None  # that of the seqs
        self._by_seq = {}
        self._request = None  # what the packet at hand asks for: its code, handle, values and function's name
        self._answered = None  # what it answers
        self._known = None  # what it repeats

    def explain(self, payload, to_board):
        """Give the kind of a message and what it says, whatever it is."""
        if len(payload) < _HEAD.size:
            return "?", "too short for a message"
        session, kind = _HEAD.unpack_from(payload)
        body = payload[_HEAD.size :]
        if kind in (_INIT, _REPLY, _TERMINATE):
            return self._session(session, kind, body, to_board)
        if kind == _LOG:
            return LOG, _log(text_of(body))
        if kind == _NORMAL:
            return self._normal(session, body[8:], to_board) if len(body) >= 8 else ("?", "too short for a packet")
        if not _REQUEST <= kind <= _KEEP_ALIVE:
            return "type 0x{:02x}".format(kind), "{} bytes".format(len(body))
        if len(payload) < 9 or zlib.crc32(payload[:-4]) != struct.unpack("<I", payload[-4:])[0]:
            is_event = kind in (_NEWS, _ACK, _STATE)
            return _DAMAGED, "crc32, or lengths that do not add up" if is_event else "crc32"
        if kind in (_NEWS, _ACK, _STATE):
            try:
                return _event(kind, body[:-4])
            except struct.error:
                return _DAMAGED, "crc32, or lengths that do not add up"
        seq = struct.unpack_from("<H", body)[0]
        if kind == (_REQUEST if to_board else _LINK_REPLY):
            return self._paired(session, kind, seq, body[2:-4])
        return self._link(kind, seq, body[2:-4])

    def _normal(self, session, packet, to_board):
        """Explain a packet; one from the board answers the last request, once."""
        asked = self._asked
        self._answered = asked[1] if asked and not to_board and asked[0] == session else None
        kind, meaning = self._packet(packet)
        if to_board and self._request is not None:
            self._asked = None if kind == "Shutdown" else (session, self._request)
        elif not to_board and kind in ("Return", "Exception", "CopyAck"):
            self._asked = None
        return kind, meaning

    def _paired(self, session, kind, seq, content):
        """Explain a request of the link, or the reply that has its seq."""
        if session != self._link_session:
            self._link_session = session
            self._by_seq.clear()
        asked = self._by_seq.get(seq)
        if kind == _LINK_REPLY:
            self._answered = asked
            return self._link(kind, seq, content)
        self._known = asked
        told = self._link(kind, seq, content)
        self._known = None
        if asked is None:
            if len(self._by_seq) >= _MOST_SEQS:
                del self._by_seq[next(iter(self._by_seq))]
            self._by_seq[seq] = self._request or _NOTHING
        return told

    def _session(self, session, kind, body, to_board):
        name = {_INIT: "INIT", _REPLY: "REPLY", _TERMINATE: "TERMINATE"}[kind]
        right = b"" if kind == _TERMINATE else b"\x01"
        if body != right or (kind == _INIT and session > 0xFF):
            rest = say(BYTES, body) if body else "nothing"
            return name, "none that is to be taken: session 0x{:04x}, then {}".format(session, rest)
        if kind == _INIT:
            return name, "open a session; my nonce is 0x{:02x}".format(session)
        if kind == _REPLY:
            if not to_board:
                self._forget()
            return name, "session 0x{:04x}; my nonce is 0x{:02x}".format(session, session >> 8)
        if not to_board:
            self._forget()
        if session:
            return name, "session 0x{:04x} is over".format(session)
        if to_board:
            return name, "any session there was is over"
        self._names.clear()
        return name, "I have booted"

    def _forget(self):
        self._asked = None
        self._by_seq.clear()

    def _link(self, kind, seq, content):
        self._request = None
        number = " #{}".format(seq)
        if kind == _PROGRESS and len(content) == 8:
            return "PROGRESS", "{} of {}".format(*struct.unpack("<II", content)) + number
        if kind in (_CANCEL, _PROGRESS, _KEEP_ALIVE):
            name = {_CANCEL: "CANCEL", _PROGRESS: "PROGRESS", _KEEP_ALIVE: "KEEP_ALIVE"}[kind]
            if content:
                return name, "none that is to be taken: {} bytes".format(len(content)) + number
            return name, "is anybody there?" if kind == _KEEP_ALIVE else "end" + number
        if kind == _NAK:
            return "NAK", "something was damaged; I wait for" + number
        if not content:
            return "?", "it does not say what it is" + number
        code, body = content[0], content[1:]
        if code == 0:
            name, meaning = self._packet(body)
        elif kind == _LINK_REPLY:
            name = _REPLIES.get(code, "kind {}".format(code))
            meaning = "" if name in ("DONE", "FORGOTTEN") and not body else _UNKNOWN.format(len(body))
            if name == "DATA":
                meaning = "{} bytes".format(len(body))
        elif code == _CALL:
            name, meaning = self._packet(body)
            name, meaning = "CALL", meaning if name == "CallFunc" else name + " " + meaning
        elif code == _WRITE:
            name, meaning = "WRITE", "too short for an address"
            if len(body) >= 8:
                meaning = "{} bytes to 0x{:x}".format(len(body) - 8, _U64.unpack_from(body)[0])
        elif code == _READ:
            name, meaning = "READ", "of {} bytes, which are not an address and a size".format(len(body))
            if len(body) == 12:
                address, size = struct.unpack("<QI", body)
                meaning = "{} bytes at 0x{:x}".format(size, address)
        else:
            name, meaning = "kind {}".format(code), _UNKNOWN.format(len(body))
        return name, (meaning + number).lstrip()

    # --- packets --------------------------------------------------------------------------------------

    def _packet(self, body):
        self._request = None
        try:
            return self._read_packet(body)
        except Malformed as error:
            return "?", str(error)
        except struct.error:
            return "?", "a packet that breaks off"

    def _read_packet(self, body):
        code = struct.unpack_from("<i", body)[0]
        if code == _COPY_ACK:
            return "CopyAck", "{} bytes".format(len(body) - 4)
        if code == 1:
            _check_end(4, body)
            self._request = _NOTHING
            return "Shutdown", ""
        if code == 2:
            _, at = read_blob(body, 4)
            _check_end(read_sequence(body, at)[1], body)
            self._request = _NOTHING
            return "InitServer", ""
        if code in (_FROM_REMOTE, _TO_REMOTE):
            tensor, at = read_tensor(body, 4)
            if code == _TO_REMOTE:
                data, end = read_blob(body, at)
                size, name, verb = len(data), "CopyToRemote", "to"
            else:
                size, end, name, verb = _U64.unpack_from(body, at)[0], at + 8, "CopyFromRemote", "of"
            _check_end(end, body)
            self._request = _NOTHING
            return name, "{} bytes {} {} +{}".format(size, verb, say_tensor(tensor), tensor.offset)
        if code < _CALL_FUNC:
            raise Malformed("the unknown packet code {}".format(code))
        handle = _U64.unpack_from(body, 4)[0] if code == _CALL_FUNC else 0
        values, end = read_sequence(body, 12 if code == _CALL_FUNC else 4)
        _check_end(end, body)
        if code == _RETURN:
            if any(kind in (9, FUNCTION) for kind, _ in values):
                raise Malformed("a Return with a handle that goes from client to server only")
            return "Return", self._returned(values)
        if code == _EXCEPTION:
            if [kind for kind, _ in values] != [STR]:
                raise Malformed("an Exception that is not one Str")
            return "Exception", say_all(values)
        name = self._names.get(handle, "") if code == _CALL_FUNC else ""
        if code == _GET_GLOBAL_FUNC:
            name = _first_text(values)
        if self._known is not None:
            name = self._known[3]
        self._request = code, handle, values, name
        if code == _CALL_FUNC:
            return "CallFunc", "{}({})".format(name or "0x{:x}".format(handle), say_all(values))
        return _CODES.get(code, "code {}".format(code)), say_all(values)

    def _returned(self, values):
        """Give what was returned; where it is a function that was looked up, note its name."""
        asked, handle, args, name = self._answered or _NOTHING
        try:
            if asked is None or (asked != _CALL_FUNC and len(values) != 1):
                return say_all(values) or "no value at all"
            kind, value = read_result(values) if asked == _CALL_FUNC else values[0]
        except Malformed:
            return say_all(values) or "no value at all"
        if asked == _CALL_FUNC:
            if name == "microrpc.memory" and kind == BYTES and len(value) >= 24:
                heap, used, largest = struct.unpack_from("<III", value)
                return "{} of {} bytes used, {} at once".format(used, heap, largest)
            if name == "microrpc.describe" and kind == BYTES:
                return "{} bytes, {}".format(len(value), quoted(text_of(value[:_MOST_DESCRIPTION])))
            if kind in (FUNCTION, HANDLE) and value:
                self._learn(value, _first_text(args) or (name or "0x{:x}".format(handle)) + "()")
        elif kind == HANDLE and asked == _GET_GLOBAL_FUNC:
            told = _looked_up(name, value)
            if told is not None:
                return told
            if name and value:
                self._learn(value, name)
        return say(kind, value)

    def _learn(self, handle, name):
        if handle not in self._names and len(self._names) >= _MOST_NAMES:
            del self._names[next(iter(self._names))]
        self._names[handle] = name


def _first_text(values):
    return next((text for code, text in values if code == STR and text), "")


def _check_end(end, body):
    if end != len(body):
        raise Malformed("{} bytes are left over".format(len(body) - end))


def _looked_up(name, handle):
    """Give what the handle means that a look-up of `name` gave; None where it is a function's."""
    if name == "microrpc.link":
        requests, packet, window = handle >> 8 & 0xFF, handle >> 16 & 0xFFFFFF, handle >> 40 & 0xFFFFFF
        if handle & 0xFF != 1 or not 1 <= requests <= 32 or packet <= 18:
            return "a link that nobody knows, 0x{:x}".format(handle) if handle else "no link"
        return "a link: {} requests, {} bytes, messages of {}".format(requests, window, packet)
    if name == "microrpc.features":
        is_known = handle & 0xFF == 1
        known, timeout_ms, description = handle >> 8 & 0x3F, handle >> 16 & 0xFFFF, handle >> 32 & 0xFFFFFFFF
        if handle and not (is_known and (known or timeout_ms or description)):
            return "no feature that is known, 0x{:x}".format(handle)
        told = [", ".join(word for bit, word in _FEATURES if known & bit) or "no features"]
        told += ["a host is gone after {} ms".format(timeout_ms)] * bool(timeout_ms)
        told += ["description 0x{:08x}".format(description)] * bool(description)
        return "; ".join(told)
    return None


def _log(text):
    """Give a line of the log, with its level and its time where it has them (docs/device.md 5)."""
    found = _LOG_LINE.match(text)
    if found is None:
        return quoted(text)
    letter, seconds, micros = found.groups()
    if seconds and int(seconds + micros) >= 1 << 32:
        return quoted(text)
    time = " at {:.6f} s".format(int(seconds + micros) / 1e6) if seconds else ""
    return "{}{}: {}".format(_LEVELS[letter], time, quoted(text[found.end() :]))


# --- events (docs/link.md 8) --------------------------------------------------------------------------


def _event(kind, body):
    """Give the kind of an EVENT, EVENT_ACK or EVENT_STATE, and what it says."""
    if kind == _ACK:
        wanted, credit, flags = struct.unpack("<IHB", body)
        lost = "; send again what was lost" if flags & 1 else ""
        return "EVENT_ACK", "{} bytes of events may come, reliable ones from #{} on{}".format(credit, wanted, lost)
    if kind == _STATE:
        return "EVENT_STATE", "boot 0x{:08x}; next is #{}, of reliable ones #{}".format(*struct.unpack("<III", body))
    number, flags, time_us, size = _EVENT.unpack_from(body)
    at = _EVENT.size + size
    if at > len(body) or len(body) > _MOST_EVENT_BYTES:
        raise struct.error
    name = body[_EVENT.size : at].decode("utf-8", "replace")
    values = []
    while at < len(body):
        value, at = _event_value(body, at)
        values.append(value)
    shown = [say(*value) for value in values[:_MOST_VALUES]]
    if len(values) > len(shown):
        shown.append("and {} more".format(len(values) - len(shown)))
    told = "#{} {}({}) at {:.6f} s".format(number, quoted(name), ", ".join(shown), time_us / 1e6)
    return "EVENT", "reliable " + told if flags & 1 else told


def _event_value(body, at):
    code, at = body[at], at + 1
    if code in (INT, FLOAT):
        return (code, struct.unpack_from("<q" if code == INT else "<d", body, at)[0]), at + 8
    end = at + 2 + struct.unpack_from("<H", body, at)[0]
    if code not in (STR, BYTES) or end > len(body):
        raise struct.error
    data = body[at + 2 : end]
    return (code, data.decode("utf-8", "surrogateescape") if code == STR else data), end
