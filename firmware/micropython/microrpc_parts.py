"""What microrpc_device.py is made of: frames, packets, signatures, tensors, and the memory that hosts allocate."""

import binascii
import struct
import time
from array import array

BASE, STATIC, SYSTEM_LIBRARY = 0x20000000, 1 << 63, 1 << 63 | 2 << 32  # of addresses; of handles of functions
DATA, ARRAY, OBJECT = range(3)  # what a block of memory holds
FORMATS = {"int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B", "uint16": "H", "uint32": "I"}
FORMATS.update({"uint64": "Q", "float32": "f", "float64": "d", "bool": "B"})
_DTYPES = ("int", "uint", "float", "handle", "bfloat", "", "bool")  # by their codes
_BITS = ((8, 16, 32, 64), (1, 8, 16, 32, 64), (16, 32, 64), (), (16,), (), (8,))  # of those that functions take
_KINDS = {"float": "Float", "str": "Str", "bytes": "Bytes", "module": "Module", "any": "", "handle": "", "function": ""}
_RANDOM = {"bool": (0x01010101, 0), "float16": (0x03FF03FF, 0x3C003C00)}  # the bits of a word that are kept, and set
_RANDOM.update({"float32": (0x7FFFFF, 0x3F800000), "float64": (0xFFFFF, 0x3FF00000)})
_VALUES = {0: "q", 1: "q", 2: "d", 3: "Q", 5: "8s", 6: "ii", 9: "Q", 10: "Q"}
SYSCALLS = ([11], [3, 0], [6], [6, 0], [6, 0, 0, 5], [6, 3], [6, 3], [7, 7, 3], [7, 11], [6], [6, 3], [6, 3])
_CRCS = array("H", [(x << 12 ^ x << 5 ^ x) & 0xFFFF for x in [byte ^ byte >> 4 for byte in range(256)]])


def crc16(crc, data, table=_CRCS):
    """Go on with a crc of frames."""
    for byte in data:
        crc = (crc & 255) << 8 ^ table[crc >> 8 ^ byte]
    return crc


def crc32(data):
    """Give the crc of the link, and of descriptions."""
    return binascii.crc32(data) & 0xFFFFFFFF


class Failure(Exception):  # noqa: N818  it is what a function of the user's raises
    """Raised by a function that fails: the host is told the text as it is."""


def check(is_good, text="malformed packet"):
    """Raise Failure where something is not so."""
    if not is_good:
        raise Failure(text)


def packet(code, kinds, form="", *values):
    """Give a packet with a sequence of these type codes, of which the values are packed as `form`."""
    return struct.pack(f"<{len(kinds) + 2}i{form}", code, len(kinds), *kinds, *values)


def exception(error):
    """Give an Exception: the text of a Failure, or that of another error behind its name."""
    text = (str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}").encode()
    return packet(5, (11,), "Q", len(text)) + text


def line(fields):
    """Give a line of the description (description 2)."""
    return ("\t".join([field.replace("\t", " ").replace("\n", " ") for field in fields]) + "\n").encode()


class Tensor:
    """Elements in the board's memory: `data` is a memoryview of their bytes, `shape` a tuple, `dtype` as "float32".

    tensor[i] is an element, counted through all dimensions, and len(tensor) how many there are.
    """

    def __init__(self, data, shape, dtype, address):
        self.data, self.shape, self.dtype, self.address = data, shape, dtype, address
        self._format = FORMATS.get(dtype.split("x")[0], "1s")  # bytes, where Python has no such number
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


def take(arguments, *kinds):
    """Give as many arguments as there are kinds, as these."""
    for index, kind in enumerate(kinds):
        good = not kind or (index < len(arguments) and _fits(arguments[index], kind))
        check(good, f"argument {index}: {kind} expected")
    return [float(value) if kind == "Float" else value for value, kind in zip(arguments, kinds)]  # noqa: B905


class Kinds:
    """The kinds of a function's parameters, how many of them must be there, and that of any more or None."""

    def __init__(self, signature):
        self._kinds, self._least, self._more = [], 0, None if signature else ""
        if signature and "->" not in signature:
            raise ValueError(f"{signature!r} is no signature, as 'x: float32[n], factor: float -> None' is")
        for part in "".join(signature.split('"')[::2]).rsplit("->", 1)[0].split(","):
            name, colon, rest = [text.strip() for text in part.partition(":")]
            word = rest.replace("[", " ").replace("(", " ").replace("=", " ").split(" ")[0]
            kind = _KINDS.get(word, "Int")
            if rest[len(word) :].startswith("["):
                kind = "Tensor" if word == "any" else word
            if name.startswith("*"):
                self._more = kind
            elif colon:  # else it is in the brackets of the last one
                self._kinds.append(kind)
                self._least += "=" not in rest
        if self._more is None and self._kinds and not any(self._kinds):  # it looks at them itself
            self._more = ""

    def take(self, arguments):
        """Give the arguments that the function gets."""
        more = [] if self._more is None else [self._more] * (len(arguments) - len(self._kinds))
        return take(arguments, *(self._kinds[: max(len(arguments), self._least)] + more))


def size_of(shape, size):
    """Give the bytes of a tensor whose elements have `size`; 2^32 - 1 if it is that or more."""
    for extent in shape:
        size = min(size * extent, 0xFFFFFFFF)
    return size


def alignment_of(dtype):
    """Give that of a new tensor's memory."""
    alignment = 8
    while 8 * alignment < dtype[1] * dtype[2]:
        alignment *= 2
    return alignment


def dtype_of(index, dtype, address):
    """Give the name of the dtype of argument `index`, a tensor, at an address that must fit it."""
    code, bits, lanes = dtype
    good = code < 7 and bits in _BITS[code] and lanes and (bits > 1 or lanes == 1)
    check(good, f"argument {index}: the dtype is not supported")
    check(not address % ((bits + 7) // 8), f"argument {index}: the tensor is not aligned")
    return ("bool" if bits == 1 or code == 6 else _DTYPES[code] + str(bits)) + (f"x{lanes}" if lanes > 1 else "")


def encoded(value):
    """Give the type code and the bytes of a number, a text, or bytes."""
    if isinstance(value, (int, bool)):  # MicroPython's bool is no int
        check(-STATIC <= value < STATIC, "an int does not fit 64 bits")
        return 0, struct.pack("<q", value)
    if isinstance(value, float):
        return 2, struct.pack("<d", value)
    check(isinstance(value, (str, bytes, bytearray, memoryview)), f"a {type(value).__name__} cannot be told")
    return (11, value.encode()) if isinstance(value, str) else (12, bytes(value))


def result(value):
    """Give the Return of a call: the type code, and the value; a tuple is both, of handles."""
    if value is None:
        return packet(4, (0, 4), "q", 4)
    if isinstance(value, tuple):
        check(len(value) == 2 and value[0] in (3, 9, 10), "a tuple cannot be told, but (3, 9 or 10, handle)")
        return packet(4, (0, 3), "qQ", *value)
    if isinstance(value, Tensor):
        code, bits = "iuf".find(value.dtype.replace("b", "u")[0]), 1 if value.dtype == "bool" else 8 * value.itemsize
        head = struct.pack("<qQiiiBBH", 13, value.address, 1, 0, len(value.shape), code, bits, 1)
        return packet(4, (0, 7, 3)) + head + struct.pack(f"<{len(value.shape)}qQQ", *(value.shape + (0, value.address)))
    kind, data = encoded(value)
    return packet(4, (0, kind), "q", kind) + (struct.pack("<Q", len(data)) if kind > 2 else b"") + data


class Cursor:
    """Reads a packet; every length in it is compared with what is there."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, size):
        """Give the next bytes."""
        at, self.at = self.at, self.at + size
        check(self.at <= len(self.data))
        return self.data[at : self.at]

    def unpack(self, form):
        """Give the next numbers."""
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def blob(self):
        """Give the bytes behind a u64, which is their number."""
        return self.take(*self.unpack("Q"))

    def tensor(self):
        """Give the address, the size, the shape, (dtype code, bits, lanes) and the device."""
        address, kind, number, count = self.unpack("QiiI")
        dtype, shape = self.unpack("BBH"), struct.unpack(f"<{count}q", self.take(8 * count))
        check(kind < 128 and not any(extent < 0 for extent in shape))  # there is no session mask
        size = size_of(shape, (dtype[1] * dtype[2] + 7) // 8)
        return address + self.unpack("Q")[0] & 0xFFFFFFFFFFFFFFFF, size, shape, dtype, (kind, number)

    def value(self, code):
        """Give the next value, of this type code."""
        if code in (4, 7):
            return None if code == 4 else self.tensor()
        if code in (11, 12):
            data = bytes(self.blob())
            return data.split(b"\0")[0] if code == 11 else data
        check(code in _VALUES)
        value = self.unpack(_VALUES[code])
        check(code != 6 or value[0] < 128)
        return value if code == 6 else value[0]

    def values(self):
        """Give a sequence: the type codes, and the values."""
        count = self.unpack("I")[0]
        codes = struct.unpack(f"<{count}I", self.take(4 * count))
        return list(codes), [self.value(code) for code in codes]


class Heap:
    """The memory that hosts allocate, first fit: blocks of (offset, size, kind, object), in their order."""

    def __init__(self, size):
        self.memory, self.size, self.blocks, self.most_used, self.largest = memoryview(bytearray(size)), size, [], 0, 0

    def used(self):
        """Give how many bytes are used, with 8 for each block."""
        return sum(8 + block[1] for block in self.blocks)

    def alloc(self, size, alignment, kind, thing=None):
        """Give the address of a new block of zeros; `largest` is what there is room for, where that fails."""
        good = size >= 0 and 0 < alignment <= 1 << 30 and not alignment & (alignment - 1)
        check(good, f"cannot allocate {size} bytes aligned to {alignment}")
        limit, start, self.largest = self.size - 8 * (len(self.blocks) + 1), 0, 0
        if limit >= (sum(self.blocks[-1][:2]) if self.blocks else 0):
            for index, block in enumerate(self.blocks + [(limit, 0)]):
                offset, length = start + -(BASE + start) % alignment, size or 1
                if offset + length <= block[0]:
                    self.blocks.insert(index, (offset, length, kind, thing))
                    self.most_used = max(self.most_used, self.used())
                    for at in range(offset, offset + size, 64):
                        end = min(at + 64, offset + size)
                        self.memory[at:end] = bytes(end - at)
                    return BASE + offset
                self.largest, start = max(self.largest, block[0] - offset), block[0] + block[1]
        raise Failure(f"out of memory: {size} bytes asked for, the largest free block has {self.largest}")

    def report(self):
        """Give the memory report (device 4)."""
        try:
            self.alloc(1 << 62, 8, DATA)  # never there: so it looks at every gap
        except Failure:
            return struct.pack("<6I", self.size, self.used(), self.largest, self.most_used, 0, 0)

    def find(self, address):
        """Give the last block that begins at an address or before it, or None."""
        return ([None] + [block for block in self.blocks if block[0] <= address - BASE < 1 << 32])[-1]

    def begin(self, address, kind):
        """Give the block of a kind that begins at an address, or None."""
        block = self.find(address)
        return block if block and block[0] == address - BASE and block[2] == kind else None

    def release(self, address, kind):
        """Free a block; give whether there is one."""
        block = self.begin(address, kind)
        if block:
            self.blocks.remove(block)
        return block is not None

    def view(self, address, size):
        """Give bytes that are inside a block."""
        block, at = self.find(address), address - BASE
        good = block and block[2] != OBJECT and at + size <= block[0] + block[1]
        check(good, f"{size} bytes at 0x{address:x} are not inside an allocated block")
        return self.memory[at : at + size]


def event_body(number, time_us, name, values):
    """Give an event as it is sent, but for the message around it (link 8)."""
    known = name.encode()
    check(len(known) < 256, "the name of an event has at most 255 bytes")
    body = struct.pack("<IBIB", number, 0, time_us, len(known)) + known
    for value in values:
        kind, data = encoded(value)
        body += bytes((kind,)) + (struct.pack("<H", len(data) & 0xFFFF) if kind > 2 else b"") + data
    return body


class Frames:
    """Cuts payloads of frames from bytes (protocol 1); tells of them, of damage, and of what is too large."""

    def __init__(self, most_bytes, on_message, on_damage, on_refusal):
        self._on_message, self._on_damage, self._on_refusal = on_message, on_damage, on_refusal
        self._buffer, self._is_escaped = memoryview(bytearray(most_bytes + 6)), False
        self._got, self._end, self._total, self._crc = -1, 0, 0, 0

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
                    self._on_damage()
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
            self._crc = crc16(self._crc, raw)
        self._buffer[self._got : self._got + len(run)] = run
        self._got += len(run)
        if self._got < self._end:
            return
        if not self._total:
            size, most = struct.unpack_from("<I", self._buffer)[0], len(self._buffer) - 6
            self._total, self._end = size + 6, size + 4 if size else 6
            if size > most:
                self._damaged()
                self._on_refusal(f"a frame was refused: it announces {size} bytes, and {most} are accepted", None)
        elif self._end < self._total:
            self._end = self._total
        elif struct.unpack_from("<H", self._buffer, self._total - 2)[0] != self._crc:
            self._damaged()
        else:
            self._got = -1
            self._on_message(self._buffer[4 : self._total - 2])

    def _damaged(self):
        self._got = -1
        self._on_damage()


def frame_of(payload):
    """Give a frame without its first two bytes."""
    body = (struct.pack("<I", len(payload)) + payload).replace(b"\xff", b"\xff\xff")
    return body + struct.pack("<H", crc16(0x2042, body)).replace(b"\xff", b"\xff\xff")


def random_fill(tensor, words):
    """Fill a tensor at random; `words` were drawn before, and given is how many are then (device 4)."""
    kept, fixed = _RANDOM.get(tensor.dtype.split("x")[0], (0xFFFFFFFF, 0))
    data, is_double = tensor.data, kept == 0xFFFFF
    for at in range(0, len(data), 4):
        words = words + 1 & 0xFFFFFFFF
        z = words * 0x9E3779B9 & 0xFFFFFFFF
        z = (z ^ z >> 16) * 0x21F0AAAD & 0xFFFFFFFF
        z = (z ^ z >> 15) * 0x735A2D97 & 0xFFFFFFFF
        z ^= z >> 15
        data[at : at + 4] = struct.pack("<I", z if is_double and not at % 8 else z & kept | fixed)[: len(data) - at]
    return words


def read_evaluator(given):
    """Give the name of what is to be timed, of what prepares it, and six numbers (protocol 6)."""
    last = [at for at in (7, 9, 10) if at < len(given) and isinstance(given[at], str)] + [11]
    _, name, _, _, *numbers, prepare = take(given, *(["Module", "Str"] + ["Int"] * (last[0] - 2) + ["Str"]))
    if last[0] == 9:  # before there was the fourth one
        numbers.insert(3, 100)
    numbers += [100, 0, 1][len(numbers) - 3 :]
    return name, prepare, [max(number, 0) for number in numbers[:6]]


def time_calls(call, prepare, count, repeat, least_ms, most_zeros, cooldown_ms, period):
    """Give the mean time of a call, `repeat` times, as f64 in seconds."""
    times = []
    while len(times) < repeat:
        if prepare:
            prepare()
        taken_us, zeros, is_long = 0, 0, False
        while not is_long:
            if taken_us:
                count = int(max(1000 * least_ms / taken_us * count + 1, 1.618 * count))
            start_us = time.ticks_us()
            for _ in range(count):
                call()
            taken_us = time.ticks_diff(time.ticks_us(), start_us)
            zeros += not taken_us
            is_long = taken_us >= 1000 * least_ms or zeros >= most_zeros
        if not len(times) % (period or 1):
            time.sleep_ms(cooldown_ms)
        times.append(taken_us / count / 1000000)
    return struct.pack(f"<{repeat}d", *times)
