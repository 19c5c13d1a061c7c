"""What a server tells of its functions (docs/description.md): by what their author says, or by their annotations."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import zlib
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import numpy as np

from microrpc.errors import RequestError
from microrpc.serve.local import FunctionError, LocalSession, Module, RemoteCallable
from microrpc.wire.datatypes import FunctionHandle, ModuleHandle, OpaqueHandle
from microrpc.wire.names import (
    CRC32_FUNCTION,
    DESCRIBE_FUNCTION,
    FEATURES_FUNCTION,
    LINK_FUNCTION,
    MAX_PACKET_SIZE_FUNCTION,
    MEMORY_FUNCTION,
    MODEL_LAYER_FUNCTION,
    MODEL_PROFILE_FUNCTION,
    MODEL_RUN_FUNCTION,
    MODELS_FUNCTION,
    MODULE_GET_FUNCTION,
    RANDOM_FILL_FUNCTION,
    RELEASE_FUNCTION,
    SYSTEM_LIBRARY_FUNCTION,
    TIME_EVALUATOR_FUNCTION,
)

LEAST_PAGE_BYTES: Final = 32
"""A page that is not the last one has as much, or there is none."""
_STREAM_PAGE_BYTES = 4096  # where there is no receive buffer that bounds it
_VERSION = "1"
_RUNTIMES_OWN = frozenset(
    (
        *(SYSTEM_LIBRARY_FUNCTION, MODULE_GET_FUNCTION, MAX_PACKET_SIZE_FUNCTION, RANDOM_FILL_FUNCTION),
        *(TIME_EVALUATOR_FUNCTION, CRC32_FUNCTION, RELEASE_FUNCTION, LINK_FUNCTION, FEATURES_FUNCTION),
        *(DESCRIBE_FUNCTION, MEMORY_FUNCTION),
        *(MODELS_FUNCTION, MODEL_RUN_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_LAYER_FUNCTION),
    )
)
_KINDS: tuple[tuple[type, str], ...] = (
    (Module, "module"),
    (ModuleHandle, "module"),
    (FunctionHandle, "function"),
    (OpaqueHandle, "handle"),  # an int, as the others
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (bytes, "bytes"),
    (np.ndarray, "any[...]"),
)
_SEPARATOR = re.compile("[\0\t\n]")


# --- a function -------------------------------------------------------------------------------


def signature_of(function: RemoteCallable) -> str:
    """Make a signature (docs/description.md 3) of the annotations of a function; empty where it has none.

    What `Annotated` adds as a text is the type, with its unit: `Annotated[Array, "float32[n]"]`. What is not
    annotated, or in a way that no type says, is `any`.
    """
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception:  # annotations are looked up where nothing of it may be, and builtins have no signature
        return ""
    parameters = [one for one in signature.parameters.values() if one.kind not in (one.KEYWORD_ONLY, one.VAR_KEYWORD)]
    annotations = [*(parameter.annotation for parameter in parameters), signature.return_annotation]
    if all(annotation is signature.empty for annotation in annotations):
        return ""
    shown = ", ".join(map(_parameter, parameters))
    return f"{shown} -> {_type(annotations[-1])}".lstrip()


def doc_of(function: RemoteCallable) -> str:
    """Give the first paragraph of the docstring of a function as one line; empty where it has none."""
    if not inspect.isroutine(function):  # that of an object is its class's
        return ""
    paragraph = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
    return " ".join(paragraph.split())


def _parameter(parameter: inspect.Parameter) -> str:
    star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
    default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
    return f"{star}{parameter.name}: {_type(parameter.annotation)}{default}"


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        annotation, *more = get_args(annotation)
        said = next((text for text in more if isinstance(text, str)), None)
        return _type(annotation) if said is None else said
    if annotation is None or annotation is types.NoneType:
        return "None"
    kind = annotation if origin is None else origin
    if kind is collections.abc.Callable:
        return "function"
    if not isinstance(kind, type):
        return "any"
    return next((name for known, name in _KINDS if issubclass(kind, known)), "any")


def _default(value: object) -> str:
    """Show a default; what a signature cannot say is None, which is as good: nothing is sent for it."""
    if isinstance(value, str):
        return '"{}"'.format(value.replace('"', "'"))
    is_number = isinstance(value, int) or (isinstance(value, float) and np.isfinite(value))
    return repr(value) if is_number else "None"


def page_of(told: bytes, offset: int, room_bytes: int) -> bytes:
    """Give what is told from `offset` on, as much as there is room for; nothing where that is past its end.

    Raises FunctionError where there is more than that, and room for less than LEAST_PAGE_BYTES.
    """
    left = told[offset:] if offset >= 0 else b""
    if room_bytes < min(len(left), LEAST_PAGE_BYTES):
        raise FunctionError("the result is too long")
    return left[:room_bytes]


# --- all of them ------------------------------------------------------------------------------


class Description:
    """What `session` tells of itself, as it is at the time: functions may be added.

    Functions of the system library are told first, and then those of the registry that are not a runtime's own.
    """

    def __init__(
        self,
        session: LocalSession,
        *,
        board_name: str = "",
        firmware_name: str = "",
        firmware_version: str = "",
    ) -> None:
        self._session = session
        self._identity = (board_name, firmware_name, firmware_version)
        self._known: dict[tuple[int, str], tuple[RemoteCallable, bytes]] = {}

    def __bytes__(self) -> bytes:
        """All of it (docs/description.md 2)."""
        body = self._body()
        return f"microrpc\t{_VERSION}\t{zlib.crc32(body):08x}\t{len(body)}\t".encode() + body

    @property
    def hash(self) -> int:
        """The crc32 by which a host can keep it."""
        return zlib.crc32(self._body())

    def page(self, offset: int, room_bytes: int) -> bytes:
        """Give what is told from `offset` on, as much as there is room for (docs/description.md 1).

        Raises FunctionError where there is more than that, and room for less than LEAST_PAGE_BYTES.
        """
        return page_of(bytes(self), offset, room_bytes)

    def _body(self) -> bytes:
        known, self._known = self._known, {}  # so that it is no longer than the tables
        lines = [_line(self._identity)]
        for registry in (self._session.system_library, self._session.functions):
            for name, function in registry.items():
                if registry is self._session.functions and name in _RUNTIMES_OWN:
                    continue
                told = known.get((id(registry), name))
                if told is None or told[0] is not function:
                    told = (function, _line((name, *_texts(registry, name, function))))
                self._known[id(registry), name] = told
                lines.append(told[1])
        return b"".join(lines)


def _texts(registry: Mapping[str, RemoteCallable], name: str, function: RemoteCallable) -> tuple[str, str]:
    signature, doc = registry.texts_of(name) if isinstance(registry, Module) else (None, None)
    return (
        signature_of(function) if signature is None else signature,
        doc_of(function) if doc is None else doc,
    )


def _line(fields: tuple[str, str, str]) -> bytes:
    return ("\t".join(_SEPARATOR.sub(" ", field) for field in fields) + "\n").encode("utf-8", "replace")


def serve_description(
    session: LocalSession, *, board_name: str = "", firmware_name: str = "", firmware_version: str = ""
) -> Description:
    """Put `microrpc.describe` into the registry of `session`, which must be a `Module`, and give what it serves.

    The three names are its identity (docs/description.md 2). Raises RequestError where the registry is no Module.
    """
    if not isinstance(session.functions, Module):
        kind = type(session.functions).__name__
        raise RequestError(f"what a session serves that describes itself is a Module, not a {kind}: Module(functions)")
    description = Description(
        session, board_name=board_name, firmware_name=firmware_name, firmware_version=firmware_version
    )

    def describe(*arguments: object) -> bytes:
        offset = arguments[0] if arguments else None
        if type(offset) is not int:
            raise FunctionError("argument 0: Int expected")
        return description.page(offset, _STREAM_PAGE_BYTES)

    session.functions[DESCRIBE_FUNCTION] = describe
    return description
