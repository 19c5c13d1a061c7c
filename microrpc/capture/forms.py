"""The values of fields as texts, the same in every decoder (`microrpc.capture.fields`).

**Values.** Int and UInt: decimal. Float: the first of %.15g, %.16g and %.17g that reads back the same; inf, -inf, nan.
OpaqueHandle, ModuleHandle, PackedFuncHandle: hex, `0x1f`. Null: `None`. DataType: as TVM spells it (`float32x4`; uint1
is `bool`, handle0x0 `void`, code 6 `bool8`, and an unknown code `custom[7]8`). Device: `1:0`, type and id. Tensor:
`float32[2,3]`, and ` at 0x20000000` where its data is not 0. Str: a text. Bytes: hex, `bytes:0a0b`, up to 20 bytes,
else `300 bytes`.

**Texts.** The first 1024 bytes; what is UTF-8 there, from U+00A0 on or from space to `~`, stays, and each other byte is
`\\xNN` in lower case. A Str ends at its first NUL.
"""

from __future__ import annotations

import math

from microrpc.wire.datatypes import (
    ArrayResult,
    DataType,
    Device,
    FunctionHandle,
    ModuleHandle,
    OpaqueHandle,
    Tensor,
    UInt,
    Value,
)

TYPE_NAMES: dict[type, str] = {
    int: "Int",
    UInt: "UInt",
    float: "Float",
    OpaqueHandle: "OpaqueHandle",
    type(None): "Null",
    DataType: "DataType",
    Device: "Device",
    Tensor: "Tensor",
    ModuleHandle: "ModuleHandle",
    FunctionHandle: "PackedFuncHandle",
    str: "Str",
    bytes: "Bytes",
    ArrayResult: "NDArray",
}
"""What docs/protocol.md 3 calls the type of a value."""
_MOST_TEXT_BYTES = 1024
_MOST_HEX_BYTES = 20


def text_of(data: bytes | str) -> str:
    """Give a text that is safe to print: of bytes, or of what they were decoded to with `surrogateescape`."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    text = data[:_MOST_TEXT_BYTES].decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" or char >= "\xa0" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in char.encode())


def value_of(value: Value | ArrayResult) -> str:
    """Give a value of a packet or an event as a text."""
    match value:
        case None:
            return "None"
        case FunctionHandle() | ModuleHandle() | OpaqueHandle():
            return f"0x{int(value):x}"
        case int():
            return str(int(value))
        case float():
            return float_of(value)
        case str():
            return text_of(value)
        case bytes():
            return f"bytes:{value.hex()}" if len(value) <= _MOST_HEX_BYTES else f"{len(value)} bytes"
        case Device(device_type, device_id):
            return f"{device_type}:{device_id}"
        case ArrayResult(tensor):
            return value_of(tensor)
        case Tensor():
            where = f" at 0x{value.data:x}" if value.data else ""
            return f"{value.dtype}{shape_of(value)}{where}"
    return str(value)


def float_of(value: float) -> str:
    """Give a number in the fewest of 15, 16 or 17 digits that tell it from all others."""
    if math.isnan(value):
        return "nan"
    return next((text for text in (f"{value:.15g}", f"{value:.16g}") if float(text) == value), f"{value:.17g}")


def shape_of(tensor: Tensor) -> str:
    """Give the shape of a tensor: `[2,3]`."""
    return f"[{','.join(map(str, tensor.shape))}]"
