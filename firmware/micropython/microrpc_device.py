"""A board with MicroPython, whose functions Python on a computer calls, and whose memory it reads and writes.

    device = microrpc_device.Device()

    @device.function("x: float32[n], factor: float -> None")
    def scale(x, factor):
        for i in range(len(x)):
            x[i] *= factor

    device.run()

For MicroPython 1.20 and later. docs/micropython.md of microrpc tells more; its protocol.md, link.md and
device.md what is done here and why.
"""

import binascii
import os
import select
import struct
import sys
import time
from array import array

_BASE, _STATIC, _SYSTEM_LIBRARY = 0x20000000, 1 << 63, 1 << 63 | 2 << 32  # of addresses; of handles of functions
_DATA, _ARRAY, _OBJECT = range(3)  # what a block of memory holds
_TERMINATE, _LOG, _NORMAL, _REQUEST, _NAK, _EVENT, _EVENT_ACK, _KEEP_ALIVE = 2, 3, 16, 32, 34, 35, 36, 40  # messages
_FORMATS = {"int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B", "uint16": "H", "uint32": "I"}
_FORMATS.update({"uint64": "Q", "float32": "f", "float64": "d", "bool": "B"})
_DTYPES = ("int", "uint", "float", "handle", "bfloat", "", "bool")  # by their codes
_BITS = ((8, 16, 32, 64), (1, 8, 16, 32, 64), (16, 32, 64), (), (16,), (), (8,))  # of those that functions take
_KINDS = {"float": "Float", "str": "Str", "bytes": "Bytes", "module": "Module", "any": "", "handle": "", "function": ""}
_RANDOM = {"bool": (0x01010101, 0), "float16": (0x03FF03FF, 0x3C003C00)}  # the bits of a word that are kept, and set
_RANDOM.update({"float32": (0x7FFFFF, 0x3F800000), "float64": (0xFFFFF, 0x3FF00000)})
_VALUES = {0: "q", 1: "q", 2: "d", 3: "Q", 5: "8s", 6: "ii", 9: "Q", 10: "Q"}
_SYSCALLS = ([11], [3, 0], [6], [6, 0], [6, 0, 0, 5], [6, 3], [6, 3], [7, 7, 3], [7, 11], [6], [6, 3], [6, 3])
_RUNTIME_FUNCTIONS = 9
_CRCS = array("H", [(x << 12 ^ x << 5 ^ x) & 0xFFFF for x in [byte ^ byte >> 4 for byte in range(256)]])


def _crc16(crc, data, crcs=_CRCS):
    for byte in data:
        crc = (crc & 255) << 8 ^ crcs[crc >> 8 ^ byte]
    return crc


def _crc32(data):
    return binascii.crc32(data) & 0xFFFFFFFF


class Failure(Exception):  # noqa: N818  it is what a function of the user's raises
    """Raised by a function that fails: the host is told the text as it is."""


def _check(is_good, text="malformed packet"):
    if not is_good:
        raise Failure(text)


def _packet(code, kinds, form="", *values):
    return struct.pack(f"<{len(kinds) + 2}i{form}", code, len(kinds), *kinds, *values)


def _exception(error):
    text = (str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}").encode()
    return _packet(5, (11,), "Q", len(text)) + text


def _line(fields):
    return ("\t".join([field.replace("\t", " ").replace("\n", " ") for field in fields]) + "\n").encode()


class Tensor:
    """Elements in the board's memory: `data` is a memoryview of their bytes, `shape` a tuple, `dtype` as "float32".

    tensor[i] is an element, counted through all dimensions, and len(tensor) how many there are.
    """

    def __init__(self, data, shape, dtype, address):
        self.data, self.shape, self.dtype, self.address = data, shape, dtype, address
        self._format = _FORMATS.get(dtype.split("x")[0], "1s")  # bytes, where Python has no such number
        self.itemsize = struct.calcsize(self._format)

    def __len__(self):
        return len(self.data) // self.itemsize

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        return struct.unpack_from(self._format, self.data, self.itemsize * index)[0]

    def __setitem__(self, index, value):
        struct.pack_into(self._format, self.data, self.itemsize * index, value)


def _fits(value, kind):
    if isinstance(value, (Tensor, tuple)):
        return kind in ("Tensor", value.dtype) if isinstance(value, Tensor) else kind == "Module" and value[0] == 9
    known = {int: "Int", float: "Float", str: "Str", bytes: "Bytes"}.get(type(value))
    return kind == known or (kind == "Float" and known == "Int")


def _take(arguments, *kinds):
    """Give as many arguments as there are kinds, as these."""
    for index, kind in enumerate(kinds):
        _check(
            not kind or (index < len(arguments) and _fits(arguments[index], kind)), f"argument {index}: {kind} expected"
        )
    return [float(value) if kind == "Float" else value for value, kind in zip(arguments, kinds)]  # noqa: B905


def _read_signature(signature):
    """Give the kinds of the parameters, how many must be there, and the kind of any more, or None."""
    kinds, least, more = [], 0, None
    for part in "".join(signature.split('"')[::2]).rsplit("->", 1)[0].split(","):
        name, colon, rest = [text.strip() for text in part.partition(":")]
        word = rest.replace("[", " ").replace("(", " ").replace("=", " ").split(" ")[0]
        kind = _KINDS.get(word, "Int")
        if rest[len(word) :].startswith("["):
            kind = "Tensor" if word == "any" else word
        if name.startswith("*"):
            more = kind
        elif colon:  # else it is in the brackets of the last one
            kinds.append(kind)
            least += "=" not in rest
    return kinds, least, more


class _Cursor:
    """Reads a packet; every length in it is compared with what is there."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, size):
        at, self.at = self.at, self.at + size
        _check(self.at <= len(self.data))
        return self.data[at : self.at]

    def unpack(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def blob(self):
        return self.take(*self.unpack("Q"))

    def tensor(self):
        """Give the address, the size, the shape, (dtype code, bits, lanes) and the device."""
        address, kind, number, count = self.unpack("QiiI")
        dtype, shape = self.unpack("BBH"), struct.unpack(f"<{count}q", self.take(8 * count))
        _check(kind < 128 and not any(extent < 0 for extent in shape))  # there is no session mask
        size = (dtype[1] * dtype[2] + 7) // 8
        for extent in shape:
            size = min(size * extent, 0xFFFFFFFF)
        return address + self.unpack("Q")[0] & 0xFFFFFFFFFFFFFFFF, size, shape, dtype, (kind, number)

    def value(self, code):
        if code in (4, 7):
            return None if code == 4 else self.tensor()
        if code in (11, 12):
            data = bytes(self.blob())
            return data.split(b"\0")[0] if code == 11 else data
        _check(code in _VALUES)
        value = self.unpack(_VALUES[code])
        _check(code != 6 or value[0] < 128)
        return value if code == 6 else value[0]

    def values(self):
        count = self.unpack("I")[0]
        codes = struct.unpack(f"<{count}I", self.take(4 * count))
        return list(codes), [self.value(code) for code in codes]


class _Heap:
    """The memory that hosts allocate, first fit: blocks of (offset, size, kind, object), in their order."""

    def __init__(self, size):
        self.memory, self.size, self.blocks, self.most_used, self.largest = memoryview(bytearray(size)), size, [], 0, 0

    def used(self):
        return sum(8 + block[1] for block in self.blocks)

    def alloc(self, size, alignment, kind, thing=None):
        good = size >= 0 and 0 < alignment <= 1 << 30 and not alignment & (alignment - 1)
        _check(good, f"cannot allocate {size} bytes aligned to {alignment}")
        limit, start, self.largest = self.size - 8 * (len(self.blocks) + 1), 0, 0
        if limit >= (sum(self.blocks[-1][:2]) if self.blocks else 0):
            for index, block in enumerate(self.blocks + [(limit, 0)]):
                offset, length = start + -(_BASE + start) % alignment, size or 1
                if offset + length <= block[0]:
                    self.blocks.insert(index, (offset, length, kind, thing))
                    self.most_used = max(self.most_used, self.used())
                    for at in range(offset, offset + size, 64):
                        end = min(at + 64, offset + size)
                        self.memory[at:end] = bytes(end - at)
                    return _BASE + offset
                self.largest, start = max(self.largest, block[0] - offset), block[0] + block[1]
        raise Failure(f"out of memory: {size} bytes asked for, the largest free block has {self.largest}")

    def find(self, address):
        """Give the last block that begins at an address or before it, or None."""
        below = [block for block in self.blocks if block[0] <= address - _BASE < 1 << 32]
        return below[-1] if below else None

    def begin(self, address, kind):
        """Give the block of a kind that begins at an address, or None."""
        block = self.find(address)
        return block if block and block[0] == address - _BASE and block[2] == kind else None

    def release(self, address, kind):
        block = self.begin(address, kind)
        if block:
            self.blocks.remove(block)
        return block is not None

    def view(self, address, size):
        block, at = self.find(address), address - _BASE
        good = block and block[2] != _OBJECT and at + size <= block[0] + block[1]
        _check(good, f"{size} bytes at 0x{address:x} are not inside an allocated block")
        return self.memory[at : at + size]


class Device:
    """A board whose functions a host calls, over `uart`, a machine.UART, or the port of the REPL.

    memory_bytes is what hosts may allocate, packet_bytes the largest message, at least 128, and ring_bytes what the
    port takes while a function runs; name, firmware and version are what hosts show.
    """

    def __init__(
        self, uart=None, *, memory_bytes=16384, packet_bytes=1024, ring_bytes=256, name="", firmware="", version=""
    ):
        self._uart, self._heap, self._poll = uart, _Heap(memory_bytes & -8), select.poll()
        self._poll.register(uart or sys.stdin, select.POLLIN)
        self._read, self._write = (uart or sys.stdin.buffer).read, (uart or sys.stdout.buffer).write
        self._identity, self._packet_bytes, self._ring_bytes = (name, firmware, version), packet_bytes, ring_bytes
        self._buffer, self._start, self._is_escaped = memoryview(bytearray(packet_bytes + 6)), b"\xfe\xff\xfd", False
        self._got, self._end, self._total, self._crc, self._used, self._made = -1, 0, 0, 0, 0, []
        seed = os.urandom(4) if hasattr(os, "urandom") else struct.pack("<I", time.time_ns() // 1000 & 0xFFFFFFFF)
        self._nonce, self._boot = seed[0], struct.unpack("<I", seed)[0]
        self._events, self._words, self._ticks, self._us = 0, 0, time.ticks_us(), 0
        self._registries = [], []  # TVM's global one, and its system library: of (name, call, signature, doc)
        self._begin_session(0)
        for known, call in (
            ("runtime.SystemLib", lambda given: (9, _SYSTEM_LIBRARY)),
            ("tvm.rpc.server.ModuleGetFunction", self._get_function),
            ("tvm.rpc.server.GetCRTMaxPacketSize", lambda given: packet_bytes - 11),
            ("tvm.contrib.random.random_fill", self._random_fill),
            ("runtime.RPCTimeEvaluator", self._time_evaluator),
            ("microrpc.crc32", lambda given: _crc32(_take(given, "Tensor")[0].data)),
            ("microrpc.release_all", self._release_all),
            ("microrpc.describe", self._describe),
            ("microrpc.memory", self._memory),
        ):
            self._registries[0].append((known.encode(), call, "", ""))
        self._tell(_TERMINATE)

    def function(self, signature="", *, doc="", name="", is_global=False):
        """Decorate a function that hosts may call; `signature` as in "x: float32[n], factor: float -> None".

        Arguments are checked by it, and those with a default may be missing. is_global: it is in TVM's global registry.
        It gives None, a number, a text, bytes, a tensor, a function, or a tuple of a type code and a handle.
        """
        if callable(signature):
            return self.function()(signature)
        if signature and "->" not in signature:
            raise ValueError(f"{signature!r} is no signature, as 'x: float32[n], factor: float -> None' is")
        kinds, least, more = _read_signature(signature) if signature else ([], 0, "")

        def decorate(function):
            def call(arguments):
                count = len(arguments)
                rest = [] if more is None else [more] * (count - len(kinds))
                return function(*_take(arguments, *kinds[: max(count, least)], *rest))

            known = (name or function.__name__).encode()
            self._registries[not is_global].append((known, call, signature, doc))
            return function

        return decorate

    def tensor(self, shape, dtype="float32"):
        """Give a new tensor of zeros, for a function to return."""
        size = struct.calcsize(_FORMATS[dtype])
        for extent in shape:
            size *= extent
        address = self._heap.alloc(size, 8, _ARRAY)
        self._made.append(address)
        return Tensor(self._heap.view(address, size), tuple(shape), dtype, address)

    def event(self, name, *values):
        """Tell the host of something, with ints, floats, texts and bytes; give whether it wants to know (link 8)."""
        body = struct.pack("<IBIB", self._events, 0, self.now_us(), len(name.encode())) + name.encode()
        for value in values:
            if isinstance(value, (int, float)):
                body += struct.pack("<Bq", 0, value) if isinstance(value, int) else struct.pack("<Bd", 2, value)
            else:
                data = value.encode() if isinstance(value, str) else value
                body += struct.pack("<BH", 11 if isinstance(value, str) else 12, len(data)) + data
        cost = len(body) + 7
        if cost > min(self._packet_bytes, 4096):
            return False
        self._events = self._events + 1 & 0xFFFFFFFF
        is_sent = cost <= self._credit
        if is_sent:
            self._credit -= cost
            self._tell(_EVENT, body)
        return is_sent

    def log(self, text, level="info"):
        """Send a line to the host's log, with the time and a level (debug, info, warning, error), or bare with None."""
        us = self.now_us()
        head = f"[{level[0].upper()} {us // 1000000:04d}.{us % 1000000:06d}] " if level else ""
        self._tell(_LOG, (head + text).encode())

    def now_us(self):
        """Give the board's time in microseconds, modulo 2^32."""
        ticks, before = time.ticks_us(), self._ticks
        self._ticks, self._us = ticks, self._us + time.ticks_diff(ticks, before) & 0xFFFFFFFF
        return self._us

    def poll(self, timeout_ms=0):
        """Serve what has come, or comes within this time; give whether anything came."""
        data, before_us = b"", self.now_us()
        while len(data) < 64 and self._poll.poll(0 if data else timeout_ms):
            data += self._read(1)
        if data[:2] == b"\r\3" and not self._uart and self.now_us() - before_us > 100000:
            raise KeyboardInterrupt  # mpremote stops a program by that, and no host says it
        self.receive(data)
        return bool(data)

    def run(self):
        """Serve for ever; at the port of the REPL until mpremote wants to have it."""
        interrupt = __import__("micropython").kbd_intr if not self._uart else lambda byte: None
        interrupt(-1)  # a byte of 3 is a byte now
        try:
            while True:
                self.poll(1000)
        finally:
            interrupt(3)

    # --- frames (protocol 1) --------------------------------------------------------------------------------------

    def receive(self, data):
        """Take bytes that came over the line."""
        at = 0
        while at < len(data):
            byte, was_escaped = data[at], self._is_escaped
            self._is_escaped, at = byte == 255 and not was_escaped, at + 1
            if self._is_escaped:
                continue
            if was_escaped and byte == 0xFD:  # a frame begins
                was, self._got, self._end, self._total, self._crc = self._got, 0, 4, 0, 0x2042
                if was >= 0:
                    self._complain()
            elif self._got < 0 or (was_escaped and byte < 0xFD):  # nothing of a frame
                self._is_escaped = self._got < 0 and byte == 255
                if byte != 0xFE:
                    self._damaged()
            elif was_escaped:
                self._take(b"\xff" * (byte - 0xFE), bytes((255, byte)))
            else:
                end = min(len(data), at + self._end - self._got - 1)
                escape = data.find(b"\xff", at, end)
                run, at = data[at - 1 : end if escape < 0 else escape], end if escape < 0 else escape
                self._take(run, run)

    def _take(self, run, raw):
        """Take bytes up to `_end` at most: of a frame's length, of its payload, or of its crc."""
        if self._end != self._total:
            self._crc = _crc16(self._crc, raw)
        self._buffer[self._got : self._got + len(run)] = run
        self._got += len(run)
        if self._got < self._end:
            return
        if not self._total:
            size, most = struct.unpack_from("<I", self._buffer)[0], self._packet_bytes
            self._total, self._end = size + 6, size + 4 if size else 6
            if size > most:
                self._damaged()
                self.log(f"a frame was refused: it announces {size} bytes, and {most} are accepted", None)
        elif self._end < self._total:
            self._end = self._total
        elif struct.unpack_from("<H", self._buffer, self._total - 2)[0] != self._crc:
            self._damaged()
        else:
            self._got = -1
            self._take_message(self._buffer[4 : self._total - 2])

    def _damaged(self):
        self._got = -1
        self._complain()

    def _complain(self):
        if self._is_active and not self._has_complained:
            self._has_complained = True
            self._tell(_NAK, struct.pack("<H", self._base))

    # --- messages (protocol 2) ------------------------------------------------------------------------------------

    def _tell(self, kind, body=b""):
        payload = struct.pack("<HB", 0 if kind in (_TERMINATE, _LOG) else self._session, kind) + body
        if kind >= _REQUEST:
            payload += struct.pack("<I", _crc32(payload))
        payload = (struct.pack("<I", len(payload)) + payload).replace(b"\xff", b"\xff\xff")
        crc = struct.pack("<H", _crc16(0x2042, payload)).replace(b"\xff", b"\xff\xff")
        frame, self._start = memoryview(self._start + payload + crc), b"\xff\xfd"
        while frame:
            frame = frame[self._write(frame) or 0 :]

    def _begin_session(self, initiator):
        """Begin the session of a host with this nonce; 0: the last one has ended."""
        self._session, self._is_shut_down, self._credit, self._base, self._done = 0, False, 0, 0, 0
        self._last, self._kept, self._is_active, self._has_complained = -1, b"", False, False
        if initiator:
            self._nonce = ((self._nonce << 5 | self._nonce >> 5) + 1) & 255
            self._session = initiator | self._nonce << 8
            self._tell(1, b"\1")

    def _take_message(self, payload):
        if len(payload) < 3:
            return
        session, kind = struct.unpack_from("<HB", payload)
        if kind == 0 and 0 < session < 256 and payload[3:] == b"\1":
            self._begin_session(session)
        elif kind == _TERMINATE and len(payload) == 3 and session in (0, self._session):
            self._begin_session(0)
        elif kind == _NORMAL and session and session == self._session:
            self._take_packets(_Cursor(payload, 3))
        elif kind in (_REQUEST, _EVENT_ACK, _KEEP_ALIVE) and not self._session:
            self._tell(_TERMINATE)  # the host has missed the boot
        elif kind in (_REQUEST, _EVENT_ACK, _KEEP_ALIVE) and session == self._session:
            size = len(payload)
            fits = size >= 10 and payload[5] < 3 if kind == _REQUEST else size == (14 if kind == _EVENT_ACK else 9)
            if not fits or _crc32(payload[:-4]) != struct.unpack_from("<I", payload, size - 4)[0]:
                self._complain()
                return
            self._has_complained = False
            if kind == _REQUEST:
                self._is_active = True
                self._take_request(*struct.unpack_from("<HB", payload, 3), payload[6:-4], size)
            elif kind == _KEEP_ALIVE:
                self._tell(kind, bytes(payload[3:5]))
            else:
                self._credit = struct.unpack_from("<H", payload, 7)[0]
                self._tell(37, struct.pack("<III", self._boot, self._events, 0))

    def _take_packets(self, cursor):
        while cursor.at < len(cursor.data) and not self._is_shut_down:
            try:
                packet = cursor.blob()
            except Failure:
                packet = b"\0"  # malformed, too
            if packet:
                reply = self._serve(packet, len(cursor.data))
                self._is_shut_down = reply is None
                if reply:
                    self._tell(_NORMAL, struct.pack("<Q", len(reply)) + reply)

    def _take_request(self, seq, kind, body, size):
        """Take a LINK_REQUEST (link 3): kind is 0 PACKET, 1 WRITE, 2 READ."""
        ahead = (seq - self._base + 0x8000 & 0xFFFF) - 0x8000
        is_old = ahead < 0 or self._done >> ahead & 1
        if ahead >= 8 or (not kind and (self._is_shut_down or (is_old and seq != self._last))):
            return
        if ahead and not kind and not is_old:
            self._tell(_NAK, struct.pack("<H", self._base))
            return
        if not is_old:  # noted before it runs: whatever happens meanwhile, it must not run twice
            self._done |= 1 << ahead
            while self._done & 1:
                self._done, self._base = self._done >> 1, self._base + 1 & 0xFFFF
        reply = self._kept
        if kind:
            result, reply = self._copy(kind, is_old, body)
        else:
            if not is_old:
                self._last, self._kept = seq, b""
                reply = self._serve(body, size) or _exception(Failure("malformed packet"))  # no Shutdown here
                self._kept = reply if len(reply) + 10 <= self._packet_bytes else b""
            result = 0 if reply else 3
        self._tell(33, struct.pack("<HB", seq, result) + reply)

    def _copy(self, kind, is_old, body):
        """Give kind and body of the reply to a WRITE or READ."""
        try:
            _check(len(body) == 12 if kind == 2 else len(body) >= 8)
            address, data = struct.unpack_from("<Q", body)[0], body[8:]
            if kind == 2:
                return 2, self._heap.view(address, struct.unpack("<I", data)[0])
            memory = self._heap.view(address, len(data))
            if not is_old:
                memory[:] = data
            return 1, b""
        except Failure as failure:
            return 0, _exception(failure)

    # --- requests (protocol 3, device 2) --------------------------------------------------------------------------

    def _serve(self, packet, size):
        """Give the reply to a packet in a message of `size` bytes, None for a Shutdown."""
        self._used = size + 7 & -8
        try:
            return self._execute(_Cursor(packet))
        except Exception as error:  # whatever a function raises, the host learns of it
            return _exception(error)

    def _execute(self, cursor):
        code = cursor.unpack("i")[0]
        if code == 1 and len(cursor.data) == 4:
            return None
        _check(code > 8 or code in (2, 3, 6, 7))
        tensor = cursor.tensor() if code in (6, 7) else None
        first = cursor.unpack("Q")[0] if code in (3, 6) else cursor.blob() if code in (2, 7) else None
        kinds, values = ([], []) if tensor else cursor.values()
        _check(cursor.at == len(cursor.data))
        handle = None
        if code == 3:
            return self._call(first, kinds, values)
        if code == 6:
            return struct.pack("<i", 8) + self._heap.view(tensor[0], first)
        if code == 7:
            self._heap.view(tensor[0], len(first))[:] = first
        elif code == 2:
            _check(not values, "Server has already been initialized")
            version = bytes(first).split(b"\0")[0]
            _check(version == b"0.8.0", "protocol version mismatch: this device speaks 0.8.0")
        else:
            handle = self._syscall(code, kinds, values)
        return _packet(4, (4,)) if handle is None else _packet(4, (3,), "Q", handle)

    def _syscall(self, code, kinds, values):
        """Give the handle that is the reply, or None."""
        _check(code <= 20, f"unknown packet code {code}")
        fits = kinds == _SYSCALLS[code - 9] or (code == 17 and kinds == [7, 4])
        _check(fits, f"wrong arguments of packet code {code}")
        _check(code not in (11, 12), ("SetDevice" if code == 11 else "GetAttr") + " not supported")
        if code == 9:
            if values[0] == b"microrpc.link":
                return 1 | 8 << 8 | self._packet_bytes << 16 | self._ring_bytes << 40
            if values[0] == b"microrpc.features":  # events, description, memory
                return 1 | 0x31 << 8 | _crc32(self._tell_all()) << 32
            return self._look_up(0, values[0])
        if code == 10:
            handle, kind = values
            is_static = handle >= _STATIC and kind == 10 and self._find(handle)
            is_static = is_static or (kind == 9 and handle == _SYSTEM_LIBRARY)
            is_freed = is_static or self._heap.release(handle, {10: _OBJECT, 13: _ARRAY}.get(kind))
            _check(is_freed, f"no object of type {kind} has the handle 0x{handle:x}")
        elif code == 16:
            _check(values[0][1] == values[1][1], "the tensors have different sizes")
            source = bytes(self._heap.view(*values[0][:2]))
            self._heap.view(*values[1][:2])[:] = source
        else:
            device = values[0][4] if code == 17 else values[0]
            _check(device == (1, 0), f"there is no device {device} here, only the CPU (1, 0)")
            if code == 13:
                return self._heap.alloc(values[1], values[2], _DATA)
            if code == 17:
                _check(values[1] in (None, b"", b"global"), "there is no such memory scope here")
                alignment, bits = 8, values[0][3][1] * values[0][3][2]
                while 8 * alignment < bits:
                    alignment *= 2
                return self._heap.alloc(values[0][1], alignment, _DATA)
            if code == 14:
                is_freed = self._heap.release(values[1], _DATA)
                _check(is_freed, f"cannot free 0x{values[1]:x}: no block begins there")
        return 0 if code == 18 else None

    # --- calls (device 4) -----------------------------------------------------------------------------------------

    def _look_up(self, registry, name):
        """Give the handle of a function, or 0."""
        names = [known[0] for known in self._registries[registry]]
        return _STATIC + (registry << 32) + names.index(name) if name in names else 0

    def _find(self, handle):
        """Give the function that has a handle, or None."""
        if handle < _STATIC:
            return (self._heap.begin(handle, _OBJECT) or (None,))[-1]
        registry, index = handle - _STATIC >> 32, handle & 0xFFFFFFFF
        known = self._registries[registry] if registry < 2 else ()
        return known[index][1] if index < len(known) else None

    def _argument(self, index, kind, value):
        """Give an argument as functions have it."""
        if kind == 7:
            address, size, shape, (code, bits, lanes), _ = value
            data = self._heap.view(address, size)
            good = code < 7 and bits in _BITS[code] and lanes and (bits > 1 or lanes == 1)
            _check(good, f"argument {index}: the dtype is not supported")
            _check(not address % ((bits + 7) // 8), f"argument {index}: the tensor is not aligned")
            dtype = "bool" if bits == 1 or code == 6 else _DTYPES[code] + str(bits)
            return Tensor(data, shape, dtype + (f"x{lanes}" if lanes > 1 else ""), address)
        if kind in (9, 10):
            good = value == _SYSTEM_LIBRARY if kind == 9 else self._find(value)
            _check(good, f"no function or module has the handle 0x{value:x}; look it up again")
        return str(value, "utf-8") if kind == 11 else value if kind in (0, 2, 4, 12) else (kind, value)

    def _call(self, handle, kinds, values):
        function = self._find(handle)
        _check(function, f"no function or module has the handle 0x{handle:x}; look it up again")
        arguments = [self._argument(index, kind, values[index]) for index, kind in enumerate(kinds)]
        try:
            return self._result(function(arguments))
        finally:
            self._drop()

    def _drop(self):
        """Free the tensors that were made for nothing."""
        while self._made:
            self._heap.release(self._made.pop(), _ARRAY)

    def _result(self, value):
        """Give the Return of a call: the type code, and the value."""
        if value is None:
            return _packet(4, (0, 4), "q", 4)
        if isinstance(value, (int, float)):
            return _packet(4, (0, 0), "qq", 0, value) if isinstance(value, int) else _packet(4, (0, 2), "qd", 2, value)
        if isinstance(value, (str, bytes, bytearray, memoryview)):
            kind, data = (11, value.encode()) if isinstance(value, str) else (12, value)
            return _packet(4, (0, kind), "qQ", kind, len(data)) + data
        if isinstance(value, Tensor):
            if value.address not in self._made:  # it is an argument, or another's
                value, data = self.tensor(value.shape, value.dtype), value.data
                value.data[:] = data
            self._made.remove(value.address)
            code, bits = (
                "iuf".find(value.dtype.replace("b", "u")[0]),
                1 if value.dtype == "bool" else 8 * value.itemsize,
            )
            address, shape = value.address, value.shape
            head = struct.pack("<qQiiiBBH", 13, address, 1, 0, len(shape), code, bits, 1)
            return _packet(4, (0, 7, 3)) + head + struct.pack(f"<{len(shape)}qQQ", *(tuple(shape) + (0, address)))
        if isinstance(value, tuple) or callable(value):
            if callable(value):
                value = 10, self._heap.alloc(64, 8, _OBJECT, lambda given, function=value: function(*given))
            return _packet(4, (0, 3), "qQ", *value)
        raise TypeError(f"a function cannot give a {type(value).__name__}")

    # --- the runtime's functions (device 4) -----------------------------------------------------------------------

    def _get_function(self, given):
        name = _take(given, "Module", "Str")[1]
        handle = self._look_up(1, name.encode())
        return (10, handle) if handle else None

    def _random_fill(self, given):
        tensor = _take(given, "Tensor")[0]
        kept, fixed = _RANDOM.get(tensor.dtype.split("x")[0], (0xFFFFFFFF, 0))
        data, is_double = tensor.data, kept == 0xFFFFF
        for at in range(0, len(data), 4):
            self._words = self._words + 1 & 0xFFFFFFFF
            z = self._words * 0x9E3779B9 & 0xFFFFFFFF
            z = (z ^ z >> 16) * 0x21F0AAAD & 0xFFFFFFFF
            z = (z ^ z >> 15) * 0x735A2D97 & 0xFFFFFFFF
            z ^= z >> 15
            data[at : at + 4] = struct.pack("<I", z if is_double and not at % 8 else z & kept | fixed)[: len(data) - at]

    def _time_evaluator(self, given):
        last = [at for at in (7, 9, 10) if at < len(given) and isinstance(given[at], str)] + [11]
        _, name, _, _, *numbers, prepare = _take(given, "Module", "Str", *["Int"] * (last[0] - 2), "Str")
        if last[0] == 9:  # before there was the fourth one
            numbers.insert(3, 100)
        numbers += [100, 0, 1][len(numbers) - 3 :]
        calls, repeat, least_ms, most_zeros, cooldown_ms, period = [max(number, 0) for number in numbers[:6]]
        timed, before = self._find(self._look_up(1, name.encode())), self._find(self._look_up(0, prepare.encode()))
        is_known = timed and (not prepare or (before and prepare != "microrpc.release_all"))
        _check(is_known, "RPCTimeEvaluator: no function has that name")
        _check(calls and repeat, "RPCTimeEvaluator: number and repeat must be positive")

        def evaluate(*given):
            count, times = calls, []
            _check(8 * repeat <= self._packet_bytes - self._used, "the result is too long")
            for index in range(repeat):
                if before:
                    before(given)
                taken_us = zeros = 0
                while not times[index:]:
                    if taken_us:
                        count = int(max(1000 * least_ms / taken_us * count + 1, 1.618 * count))
                    start_us = time.ticks_us()
                    for _ in range(count):
                        timed(given)
                        self._drop()
                    taken_us = time.ticks_diff(time.ticks_us(), start_us)
                    zeros += not taken_us
                    if taken_us >= 1000 * least_ms or zeros >= most_zeros:
                        times.append(taken_us / count / 1000000)
                if not index % (period or 1):
                    time.sleep_ms(cooldown_ms)
            return struct.pack(f"<{repeat}d", *times)

        return evaluate

    def _release_all(self, given):
        freed = sum(block[1] for block in self._heap.blocks)
        self._heap.blocks.clear()
        return freed

    def _tell_all(self):
        """Give all that the hash of the description is of (description 2)."""
        functions = self._registries[1] + self._registries[0][_RUNTIME_FUNCTIONS:]
        lines = [self._identity] + [(name.decode(), signature, doc) for name, _, signature, doc in functions]
        return b"".join([_line(line) for line in lines])

    def _describe(self, given):
        offset, body, room = _take(given, "Int")[0], self._tell_all(), self._packet_bytes - self._used
        told = f"microrpc\t1\t{_crc32(body):08x}\t{len(body)}\t".encode() + body
        left = told[offset:] if offset >= 0 else b""
        _check(room >= min(len(left), 32), "the result is too long")
        return left[:room]

    def _memory(self, given):
        heap = self._heap
        try:
            heap.alloc(1 << 62, 8, _DATA)  # never there: so it looks at every gap
        except Failure:
            return struct.pack("<6I", heap.size, heap.used(), heap.largest, heap.most_used, 0, 0)
