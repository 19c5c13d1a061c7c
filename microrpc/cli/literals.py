"""Values as they are written on the command line, and shown by it.

    3  -2  0xff          an integer             "any text"  word  str:123     a text
    2.5  1e3  inf  nan   a float                bytes:0a0bff                  bytes, in hex
    true  false  none                           @FILE.npy  @FILE              a tensor: the file, copied to the board
                                                tensor:float32[4,4]           a tensor of zeros
                                                addr:0x20000000:float32[4,4]  a tensor that lies on the board

Reading a literal opens no port, so a mistake in one costs nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import typer

from microrpc.boards.files import read_whole, replacing
from microrpc.client.remote import RemoteArray, RemoteFunction, RemoteModule
from microrpc.errors import ArgumentError, UnsupportedValueError, counted, reason_of
from microrpc.wire.checks import show
from microrpc.wire.datatypes import CPU, DataType, Device, OpaqueHandle, Tensor, UInt
from microrpc.wire.parameters import ScalarType, Signature, TensorType

Array = np.ndarray[Any, Any]
"""A numpy array of any dtype and shape."""

_INT = re.compile(r"[+-]?[0-9]+|[+-]?0[xX][0-9a-fA-F]+")
_FLOAT = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?|[+-]?inf|nan")
_TENSOR = re.compile(r"([a-z0-9_]+)\[([0-9, ]*)\]")
_HOW_ARRAYS = "An array is written @FILE.npy, tensor:float32[4] (zeros), or addr:ADDRESS:float32[4]"
_WORDS = {"true": True, "false": False, "none": None}
_SHOWN_ELEMENTS = 6
_MOST_BYTES = 2**30  # more than any microcontroller has, and less than this computer
_LARGE_BYTES = 2**26  # of a file that is mapped into memory and not read
_MOST_DIMENSIONS = 31  # what every numpy has, and one more for lanes
_NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class OnBoard:
    """Memory that lies on the board already, at `address`: an array of `shape` and `dtype`."""

    address: int
    dtype: DataType
    shape: tuple[int, ...]


Literal = bool | int | float | str | bytes | None | OnBoard | Array
"""What can be written as an argument of a call."""


def parse_literal(text: str) -> Literal:
    """Give the value that `text` stands for; arrays are what is to be copied to the board.

    Raises typer.BadParameter, which says what is wrong.
    """
    prefix, colon, rest = text.partition(":")
    match prefix if colon else "":
        case "str":
            return rest
        case "bytes":
            return _parse_bytes(rest)
        case "tensor":
            dtype, shape = parse_type(rest)
            try:
                return np.zeros(shape, dtype.numpy)
            except (ValueError, MemoryError) as error:
                raise typer.BadParameter(f"{text}: no such tensor can be made here: {error}") from None
        case "addr":
            address, _, described = rest.partition(":")
            return OnBoard(parse_address(address), *parse_type(described))
    if text.startswith("@"):
        return read_array(Path(text[1:]))
    if text.startswith('"'):
        return _parse_quoted(text)
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _parse_int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.startswith("--"):
        raise typer.BadParameter(f"there is no option {text}; if it is a text for the board, write str:{text}")
    return text


def as_declared(signature: Signature, name: str, texts: Sequence[str], literals: Sequence[Literal]) -> list[Literal]:
    """Give what is passed to the function `name` for arguments that were written as `texts`, and read as `literals`.

    A number or a word is a text where one is wanted, and an integer an address. Raises ArgumentError, which says how
    arrays are written where one is missing.
    """
    parameters = list(signature.parameters)
    passed: list[Literal] = []
    for index, (text, literal) in enumerate(zip(texts, literals, strict=True)):
        parameter = parameters[min(index, len(parameters) - 1)] if parameters else None
        wanted = parameter.type if parameter is not None else None
        is_plain = literal is None or isinstance(literal, bool | int | float)
        if isinstance(wanted, ScalarType) and wanted.name == "str" and is_plain:
            literal = text
        elif isinstance(wanted, ScalarType) and wanted.name == "handle" and type(literal) is int:
            literal = OpaqueHandle(literal)
        passed.append(literal)
    try:
        signature.check([_as_value(literal) for literal in passed], name)
    except ArgumentError as error:
        wants_array = any(isinstance(parameter.type, TensorType) for parameter in parameters)
        if wants_array and not any(isinstance(literal, OnBoard | np.ndarray) for literal in literals):
            raise ArgumentError(f"{error}. {_HOW_ARRAYS}") from None
        raise
    return passed


def _as_value(literal: Literal) -> Any:
    """Give what stands for a literal among the values of a call, before an array has an address."""
    if isinstance(literal, OnBoard):
        return Tensor(literal.address, CPU, literal.dtype, literal.shape)
    if isinstance(literal, np.ndarray):
        return Tensor(0, CPU, DataType.from_numpy(literal.dtype), literal.shape)
    return literal


def _parse_int(text: str) -> int:
    try:
        return int(text, 16 if "x" in text.lower() else 10)
    except ValueError:  # Python reads no number of more than 4300 digits
        raise typer.BadParameter(f"a number of {len(text)} digits is more than any board takes") from None


def _parse_bytes(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise typer.BadParameter(f"bytes:{digits}: two hex digits a byte, for example bytes:0a0bff") from None


def _parse_quoted(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, str):
        raise typer.BadParameter(
            f"{text}: a text in quotes ends in a quote and is written as in JSON; or write str:..."
        )
    return value


def parse_address(text: str) -> int:
    """Give the address that `text`, decimal or hex, stands for. Raises typer.BadParameter."""
    try:
        address = int(text, 0)
    except ValueError:
        address = -1
    if not 0 <= address < 2**64:
        raise typer.BadParameter(f"{show(text)} is not an address: write it as `microrpc put` shows it, as 0x20000000")
    return address


def parse_type(text: str) -> tuple[DataType, tuple[int, ...]]:
    """Give data type and shape of "float32[4,4]". Raises typer.BadParameter."""
    match = _TENSOR.fullmatch(text)
    if not match:
        raise typer.BadParameter(f"{text!r} is not a data type and a shape: write for example float32[4,4]")
    return parse_dtype(match[1]), parse_shape(match[2])


def parse_dtype(text: str) -> DataType:
    """Give the data type called `text`. Raises typer.BadParameter where there is none, or numpy has none."""
    try:
        dtype = DataType.parse(text)
        _ = dtype.numpy
    except UnsupportedValueError as error:
        raise typer.BadParameter(f"{error}; write for example float32 or int8") from None
    return dtype


def parse_shape(text: str) -> tuple[int, ...]:
    """Give the shape that "4,4" stands for; "" is that of a scalar. Raises typer.BadParameter."""
    sizes = [size.strip() for size in text.split(",")] if text.strip() else []
    if not all(size.isascii() and size.isdigit() for size in sizes):
        raise typer.BadParameter(f"{text!r} is not a shape: write for example 4,4")
    return tuple(_parse_int(size) for size in sizes)


def read_array(
    path: Path, dtype: DataType | None = None, shape: tuple[int, ...] | None = None, *, maps_large: bool = False
) -> Array:
    """Read a file: a .npy with its own data type and shape, any other as bytes, or as `dtype` and `shape` say.

    maps_large: of a .npy of more than 64 MiB only what is used is read, when it is. Raises typer.BadParameter where it
    cannot be read, or is not of that size.
    """
    try:
        if path.suffix == ".npy":
            if dtype is not None or shape is not None:
                raise typer.BadParameter(f"{path} knows its data type and shape: leave --dtype and --shape out")
            with path.open("rb") as file:
                size_bytes = path.stat().st_size
                return load_npy(file, size_bytes, path if maps_large and size_bytes > _LARGE_BYTES else None)
        data = read_whole(path, _MOST_BYTES)
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {reason_of(error)}") from error
    except UnsupportedValueError as error:
        raise typer.BadParameter(f"{path}: {error}") from None
    except (ValueError, EOFError) as error:
        raise typer.BadParameter(f"{path} is not a .npy file that numpy reads: {error}") from None
    except MemoryError:
        raise typer.BadParameter(f"{path} is larger than the memory that there is") from None
    return as_array(data, dtype, shape, str(path))


def load_npy(file: IO[bytes], size_bytes: int, mapped: Path | None = None) -> Array:
    """Read a .npy file of that size, whose header is compared with it before anything is allocated.

    mapped: its path, where it is to be mapped into memory instead. Raises OSError, ValueError, EOFError and MemoryError
    as numpy does, UnsupportedValueError for a dtype of no board.
    """
    version = np.lib.format.read_magic(file)
    if version not in _NPY_HEADERS:
        raise ValueError(f"its format has the version {version[0]}.{version[1]}")
    try:
        shape, _, dtype = _NPY_HEADERS[version](file)
    except Exception as error:  # it is read as Python, whose parser raises other errors of a few hundred brackets
        raise ValueError(f"its header cannot be read ({type(error).__name__})") from None
    DataType.from_numpy(dtype)
    if any(isinstance(size, bool) for size in shape):  # which are ints for who reads the header, and not for numpy
        raise ValueError(f"its header tells of the shape {shape}")
    wanted = math.prod(shape) * dtype.itemsize
    there = size_bytes - file.tell()
    if min(shape, default=0) < 0 or wanted > there:
        raise ValueError(f"its header tells of {show(wanted)} bytes, and {there} are there")
    if mapped is not None and wanted:
        return np.lib.format.open_memmap(mapped, mode="r")
    file.seek(0)
    loaded: Array = np.lib.format.read_array(file, allow_pickle=False)
    return loaded


def write_array(path: Path, array: Array, *, as_npy: bool = False) -> None:
    """Replace a file: by a .npy where it is called so or `as_npy`, else by the array's bytes. Raises WriteError."""
    with replacing(path) as file:
        if as_npy or path.suffix == ".npy":
            # Not the file itself: numpy would write past Python, and its errors name no reason.
            np.save(SimpleNamespace(write=file.write), array)
        else:
            file.write(array.tobytes())


def as_array(data: bytes, dtype: DataType | None, shape: tuple[int, ...] | None, what: str) -> Array:
    """Give `data` (called `what`) as an array of `dtype` (uint8) and `shape` (flat). Raises typer.BadParameter."""
    dtype = dtype or DataType.parse("uint8")
    if shape is None:
        shape = (len(data) // dtype.itemsize_bytes,)
    check_size(len(data), dtype, shape, what)
    element = dtype.numpy
    return np.frombuffer(data, element.base).reshape(*shape, *element.shape)


def check_size(size_bytes: int, dtype: DataType, shape: tuple[int, ...], what: str) -> None:
    """Raise typer.BadParameter where `dtype` and `shape` have not `size_bytes`, which are those of `what`."""
    wanted = math.prod(shape) * dtype.itemsize_bytes
    if wanted != size_bytes:
        kind = describe_type(dtype, shape)
        raise typer.BadParameter(f"{what} has {counted(size_bytes, 'byte')}, and {kind} has {show(wanted)}")
    if len(shape) > _MOST_DIMENSIONS:
        raise typer.BadParameter(f"{what}: numpy has no array of {len(shape)} dimensions")


# --- shown --------------------------------------------------------------------------------------


def describe_type(dtype: object, shape: tuple[int, ...]) -> str:
    """Give "float32[4,4]", as `parse_type` reads it."""
    return f"{dtype}[{','.join(map(str, shape))}]"


def summarize(array: Array) -> str:
    """Give an array's first elements, least, greatest and mean, in one line."""
    flat = array.reshape(-1)
    if not flat.size:
        return "empty"
    shown = " ".join(format_number(element) for element in flat[:_SHOWN_ELEMENTS].tolist())
    more = " ..." if flat.size > _SHOWN_ELEMENTS else ""
    least, greatest = format_number(flat.min().item()), format_number(flat.max().item())
    with np.errstate(over="ignore", invalid="ignore"):
        mean = format_number(float(flat.mean(dtype=np.float64)))
    return f"{shown}{more}  (min {least}, max {greatest}, mean {mean})"


def format_number(number: Any) -> str:
    """Give a number in few digits."""
    return f"{number:.6g}" if isinstance(number, float) else str(number).lower()


def type_name(value: Any) -> str:
    """Give the name of a result's type, as --json has it."""
    names: tuple[tuple[type, str], ...] = (
        (type(None), "none"),
        (UInt, "uint"),
        (OpaqueHandle, "handle"),
        (int, "int"),
        (float, "float"),
        (str, "str"),
        (bytes, "bytes"),
        (DataType, "dtype"),
        (Device, "device"),
        (RemoteArray, "array"),
        (RemoteFunction, "function"),
        (RemoteModule, "module"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def format_value(value: Any) -> str:
    """Give a result as plain text: a literal where there is one for it."""
    match value:
        case None:
            return "none"
        case bytes():
            return f"bytes:{value.hex()}"
        case OpaqueHandle():
            return f"0x{int(value):x}"
        case RemoteFunction() | RemoteModule():
            return f"a {type_name(value)} on the board"
        case Device():
            return f"device {value.type},{value.id}"
    return str(value)


def to_json(value: Any) -> Any:
    """Give a result, or an array, as JSON has it: bytes in hex, and "inf", "nan" as texts."""
    match value:
        case np.ndarray():
            return to_json(value.tolist())
        case list():
            return [to_json(element) for element in value]
        case float() if not math.isfinite(value):
            return str(value)
        case bytes():
            return value.hex()
        case None | bool() | int() | float() | str():
            return value
        case RemoteFunction() | RemoteModule():
            return None
    return format_value(value)
