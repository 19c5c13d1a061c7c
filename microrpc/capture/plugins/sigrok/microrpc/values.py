"""Values of packets: read, and put in words (docs/protocol.md 3). A value here is a pair: its type code, and itself."""

import binascii
import struct

INT, UINT, FLOAT, HANDLE, NULL, DATA_TYPE, DEVICE, TENSOR = range(8)
MODULE, FUNCTION, STR, BYTES, NDARRAY = 9, 10, 11, 12, 13

_LONGEST_TEXT = 40
_MOST_VALUES = 4096
_MOST_DIMENSIONS = 1024
_NUMBERS = {0: "int", 1: "uint", 2: "float", 3: "handle", 4: "bfloat", 6: "bool"}
_I32, _I64, _U64, _F64 = struct.Struct("<i"), struct.Struct("<q"), struct.Struct("<Q"), struct.Struct("<d")
_DEVICE, _DATA_TYPE, _TENSOR_HEAD = struct.Struct("<ii"), struct.Struct("<BBHi"), struct.Struct("<QiiiBBH")
_WORDS = (UINT, HANDLE, MODULE, FUNCTION)


class Malformed(Exception):
    """The bytes are not what the protocol has."""


class Tensor:
    """A tensor in the board's memory."""

    def __init__(self, address, dtype, shape, offset):
        self.address, self.dtype, self.shape, self.offset = address, dtype, shape, offset


# --- reading ------------------------------------------------------------------------------------------


def read_blob(data, at):
    """Give the bytes after a u64 length at byte `at`, and where they end."""
    size = _U64.unpack_from(data, at)[0]
    if size > len(data) - at - 8:
        raise Malformed("{} bytes are announced at byte {}, and {} are there".format(size, at, len(data) - at - 8))
    return data[at + 8 : at + 8 + size], at + 8 + size


def read_tensor(data, at):
    """Give the tensor at byte `at`, and where it ends."""
    address, device_type, _, dimensions, code, bits, lanes = _TENSOR_HEAD.unpack_from(data, at)
    end = at + 32 + 8 * dimensions
    if not 0 <= dimensions <= _MOST_DIMENSIONS or end > len(data):
        raise Malformed("a tensor of {} dimensions at byte {}".format(dimensions, at))
    numbers = struct.unpack_from("<{}qQ".format(dimensions), data, at + 24)
    if dimensions and min(numbers[:-1]) < 0:
        raise Malformed("a tensor with the extent {} at byte {}".format(min(numbers[:-1]), at))
    _check_device(device_type)
    return Tensor(address, _dtype(code, bits, lanes), numbers[:-1], numbers[-1]), end


def _check_device(device_type):
    if device_type // 128 > 0:
        raise Malformed("a device of another RPC session, of type {}".format(device_type))


def read_sequence(data, at):
    """Give the values of the packed sequence at byte `at`, and where it ends."""
    try:
        count = _I32.unpack_from(data, at)[0]
        at += 4
        if not 0 <= count <= min(_MOST_VALUES, (len(data) - at) // 4):
            raise Malformed("a sequence of {} values".format(count))
        codes = struct.unpack_from("<{}i".format(count), data, at)
        at += 4 * count
        values = []
        for code in codes:
            value, at = _read(code, data, at)
            values.append((code, value))
    except struct.error:
        raise Malformed("a sequence breaks off") from None
    return values, at


def _read(code, data, at):
    if code == INT:
        return _I64.unpack_from(data, at)[0], at + 8
    if code in _WORDS:
        return _U64.unpack_from(data, at)[0], at + 8
    if code == FLOAT:
        return _F64.unpack_from(data, at)[0], at + 8
    if code == NULL:
        return None, at
    if code == DATA_TYPE:
        return _dtype(*_DATA_TYPE.unpack_from(data, at)[:3]), at + 8
    if code == DEVICE:
        device = _DEVICE.unpack_from(data, at)
        _check_device(device[0])
        return device, at + 8
    if code == TENSOR:
        return read_tensor(data, at)
    if code == STR:
        text, at = read_blob(data, at)
        return text.partition(b"\0")[0].decode("utf-8", "surrogateescape"), at
    if code == BYTES:
        return read_blob(data, at)
    raise Malformed("a value of type {}".format(code))


def read_result(values):
    """Give what a function returned: the values of its Return begin with the type code of it."""
    if len(values) in (2, 3) and values[0][0] == INT:
        code, rest = values[0][1], values[1:]
        kinds = [kind for kind, _ in rest]
        if code == NDARRAY and kinds == [TENSOR, HANDLE]:
            return NDARRAY, rest[0][1]
        if kinds == [HANDLE if code in (MODULE, FUNCTION) else code]:
            return code, rest[0][1]
    raise Malformed("a result of another form")


# --- words --------------------------------------------------------------------------------------------


def text_of(data):
    """Give bytes as text; what is no UTF-8 is escaped."""
    text = data.decode("utf-8", "surrogateescape")
    return "".join("\\x{:02x}".format(ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def quoted(text):
    """Give a text in quotes, the beginning of it where it is long."""
    short = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 3] + "..."
    return '"' + short.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') + '"'


def printable(text):
    """Give a text without control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def say(code, value):
    """Give a value in words."""
    if code == NULL:
        return "nothing"
    if code in (FUNCTION, MODULE, HANDLE):
        return {FUNCTION: "function ", MODULE: "module ", HANDLE: ""}[code] + "0x{:x}".format(value)
    if code == NDARRAY:
        return "a new " + say_tensor(value)
    if code == TENSOR:
        return say_tensor(value)
    if code == STR:
        return quoted(value)
    if code == BYTES:
        short = len(value) <= _LONGEST_TEXT // 2
        return "bytes:" + binascii.hexlify(value).decode() if short else "{} bytes".format(len(value))
    if code == DEVICE:
        return "Device(type={}, id={})".format(*value)
    return "UInt({})".format(value) if code == UINT else str(value)


def say_all(values):
    """Give values in words, with commas between them."""
    return ", ".join(say(code, value) for code, value in values)


def say_tensor(tensor):
    """Give a tensor in words."""
    where = " at 0x{:x}".format(tensor.address) if tensor.address else ""
    return "{}[{}]{}".format(tensor.dtype, ",".join(map(str, tensor.shape)), where)


def _dtype(code, bits, lanes):
    if (code, bits, lanes) == (1, 1, 1):
        return "bool"
    if (code, bits, lanes) == (3, 0, 0):
        return "void"
    name = _NUMBERS.get(code, "custom[{}]".format(code)) + str(bits)
    return name if lanes == 1 else "{}x{}".format(name, lanes)
