"""What a server tells of its functions (docs/description.md): bytes written by hand, and signatures of annotations."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest

from firmware_sim.board.device import Device
from microrpc.errors import RequestError
from microrpc.serve.description import Description, doc_of, serve_description, signature_of
from microrpc.serve.local import FunctionError, LocalSession, Module
from microrpc.wire.datatypes import FunctionHandle, ModuleHandle, OpaqueHandle
from microrpc.wire.packets import CallFunc, PacketCode, RemoteException, Return, Syscall

Array = np.ndarray[Any, Any]


# --- signatures -------------------------------------------------------------------------------


def plain(a, b=2, *more):  # type: ignore[no-untyped-def]  # the point
    """Take anything."""


def numbers(a: int, b: float, c: bool) -> float: ...  # type: ignore[empty-body]


def texts(text: str, data: bytes = b"x") -> None: ...


def handles(one: OpaqueHandle, two: FunctionHandle, three: ModuleHandle, four: Callable[..., int]) -> Module: ...  # type: ignore[empty-body]


def arrays(
    x: Annotated[Array, "float32[n, 3]"], y: Array, z: Annotated[int, "int(0..7) [mV]"] = 5
) -> Annotated[float, "float [V]"]: ...  # type: ignore[empty-body]


def defaults(
    a: int = -1, b: float = 2.5, c: str = 'say "x"', d: bool = True, e: Any = None, f: float = float("inf"), g: Any = ()
) -> None: ...


def half(a: int, b, *more: str, keyword: int = 3, **rest: int) -> int | None: ...  # type: ignore[no-untyped-def]


def unknown(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "signature"),
    [
        (plain, ""),
        (lambda: None, ""),
        (numbers, "a: int, b: float, c: bool -> float"),
        (texts, "text: str, data: bytes = None -> None"),
        (handles, "one: handle, two: function, three: module, four: function -> module"),
        (arrays, "x: float32[n, 3], y: any[...], z: int(0..7) [mV] = 5 -> float [V]"),
        (
            defaults,
            "a: int = -1, b: float = 2.5, c: str = \"say 'x'\", d: bool = True, e: any = None, f: float = None, "
            "g: any = None -> None",
        ),
        (half, "a: int, b: any, *more: str -> any"),
        (unknown, ""),
        (functools.partial(numbers, 1), "b: float, c: bool -> float"),
        (max, ""),
        (Device.take_output, "self: any -> bytes"),
        (Device().take_output, "-> bytes"),
    ],
)
def test_a_signature_is_made_of_annotations(function: Callable[..., Any], signature: str) -> None:
    assert signature_of(function) == signature


def test_the_doc_is_the_first_paragraph_of_the_docstring_in_one_line() -> None:
    def several() -> None:
        """Do one thing,
        and another.

        This is more than a host shows in a table.
        """

    assert doc_of(several) == "Do one thing, and another."
    assert doc_of(plain) == "Take anything."
    assert doc_of(numbers) == ""
    assert doc_of(functools.partial(plain, 1)) == ""


# --- the bytes --------------------------------------------------------------------------------


def scale(x: Any, factor: Any) -> None:
    """Multiply a tensor in place."""


WHOLE = (
    b"microrpc\t1\t7b33b7f5\t138\tlab\tblink\t1.2\n"
    b"scale\tx: float32[n], factor: float -> None\tMultiply a tensor in place.\n"
    b"plain\t\t\n"
    b"odd name\ta: int\tone two\n"
    b"extra\t\tA global one.\n"
)
"""That of the library in C, firmware/tests/test_describe.c."""


def whole_session() -> LocalSession:
    library = Module()
    library.function(scale, signature="x: float32[n], factor: float -> None")
    library["plain"] = lambda: None
    library.function(lambda: None, name="odd\tname", signature="a:\tint", doc="one\ntwo")
    functions = Module({"runtime.SystemLib": lambda: library, "microrpc.crc32": max})
    functions.function(max, name="extra", doc="A global one.")
    return LocalSession(functions, system_library=library)


def test_a_description_is_these_bytes() -> None:
    description = Description(whole_session(), board_name="lab", firmware_name="blink", firmware_version="1.2")
    assert bytes(description) == WHOLE
    assert description.hash == 0x7B33B7F5 == zlib.crc32(WHOLE.split(b"138\t")[1])


def test_a_description_of_nothing_has_a_head() -> None:
    assert bytes(Description(LocalSession())) == b"microrpc\t1\tc187b0ca\t3\t\t\t\n"
    assert bytes(Description(LocalSession(), firmware_version="8554")) == b"microrpc\t1\t00000d23\t7\t\t\t8554\n"


def test_what_cannot_stand_in_a_line_is_told_as_a_space_and_what_is_no_text_as_a_question_mark() -> None:
    functions = {"a\0b\nc\td": max, "\udcff\u20ac": max}
    body = bytes(Description(LocalSession(functions), board_name="\n")).split(b"\t", 4)[4]
    assert body == b" \t\t\na b c d\t\t" + doc_of(max).encode() + b"\n?\xe2\x82\xac\t\t" + doc_of(max).encode() + b"\n"


def test_a_page_begins_anywhere_and_ends_where_the_room_does() -> None:
    description = Description(whole_session(), board_name="lab", firmware_name="blink", firmware_version="1.2")
    for offset in range(len(WHOLE) + 2):
        assert description.page(offset, 50) == WHOLE[offset : offset + 50]
    assert description.page(-1, 50) == b""
    assert description.page(1 << 40, 0) == b""
    assert description.page(len(WHOLE) - 31, 31) == WHOLE[-31:]
    for offset, room_bytes in ((0, 31), (len(WHOLE) - 31, 30), (len(WHOLE) - 1, 0)):
        with pytest.raises(FunctionError, match="the result is too long"):
            description.page(offset, room_bytes)


def test_a_function_that_is_added_replaced_or_removed_changes_the_description() -> None:
    functions = Module()
    description = Description(LocalSession(functions))

    def lines() -> list[str]:
        return bytes(description).decode().split("\n")[1:-1]

    functions.function(plain, name="f", signature="-> None")
    assert lines() == ["f\t-> None\tTake anything."]
    functions["f"] = numbers
    assert lines() == ["f\ta: int, b: float, c: bool -> float\t"]
    functions["g"] = plain
    before = description.hash
    assert lines()[1:] == ["g\t\tTake anything."]
    del functions["f"]
    assert lines() == ["g\t\tTake anything."]
    assert description.hash != before


# --- a server ---------------------------------------------------------------------------------


def test_a_server_describes_itself_in_pages() -> None:
    session = LocalSession(Module({f"function_{index}": texts for index in range(200)}))
    served = serve_description(session, board_name="lab")
    reply = session.serve(Syscall(PacketCode.GET_GLOBAL_FUNC, ("microrpc.describe",)))
    assert isinstance(reply, Return)
    (handle,) = reply.values
    assert isinstance(handle, OpaqueHandle)
    whole, pages = b"", 0
    while True:
        reply = session.serve(CallFunc(handle, (len(whole),)))
        assert isinstance(reply, Return)
        page = reply.values[1]
        assert isinstance(page, bytes)
        if not page:
            break
        whole, pages = whole + page, pages + 1
    assert whole == bytes(served)
    assert whole.count(b"\n") == 201
    assert pages > 1
    assert session.serve(CallFunc(handle, ("x",))) == RemoteException("argument 0: Int expected")
    assert session.serve(CallFunc(handle, ())) == RemoteException("argument 0: Int expected")


def test_a_server_whose_functions_are_no_module_cannot_be_given_one_more() -> None:
    with pytest.raises(RequestError, match="is a Module, not a dict"):
        serve_description(LocalSession({}))
