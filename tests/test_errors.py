"""Errors: each arrives on the other side of a process as it was."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator

import pytest

import microrpc
from microrpc.errors import (
    MicroRpcError,
    OutcomeUnknownError,
    PortError,
    PortLostError,
    PortNotFoundError,
    ProtocolError,
    RemoteError,
    RequestTooLargeError,
    counted,
    printable,
)


def tree(kind: type[MicroRpcError] = MicroRpcError) -> Iterator[type[MicroRpcError]]:
    """Give every class of the tree, without those that tests have made."""
    if kind.__module__.startswith("microrpc"):
        yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def made(kind: type[MicroRpcError]) -> MicroRpcError:
    """Make an error whose fields are none of the defaults."""
    text = "what was wrong: \N{GREEK SMALL LETTER MU}C"
    if issubclass(kind, PortLostError):
        return kind("/dev/ttyACM0", text, may_have_run=True)
    if issubclass(kind, PortError):
        return kind("/dev/ttyACM0", text)
    if issubclass(kind, OutcomeUnknownError):
        return kind(text, may_have_run=False)
    if issubclass(kind, RemoteError):
        return kind(text, function="f", code="CallFunc")
    if issubclass(kind, ProtocolError):
        return kind("3", text)
    if issubclass(kind, RequestTooLargeError):
        return kind(text, size_bytes=5, limit_bytes=3)
    return kind(text)


def pickled(protocol: int) -> Callable[[MicroRpcError], MicroRpcError]:
    return lambda error: pickle.loads(pickle.dumps(error, protocol))


COPIES = {
    **{f"pickle {protocol}": pickled(protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_an_error_keeps_its_class_text_and_fields(kind: type[MicroRpcError], way: str) -> None:
    error = made(kind)
    error.add_note("while the lamp was on")
    seen = COPIES[way](error)
    assert type(seen) is kind
    assert str(seen) == str(error)
    assert seen.args == error.args
    assert vars(seen) == vars(error)
    assert seen.__notes__ == ["while the lamp was on"]


def test_a_copy_of_an_error_is_not_the_error() -> None:
    error = made(RemoteError)
    seen = copy.deepcopy(error)
    seen.add_note("of the copy")
    assert not hasattr(error, "__notes__")


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b[31m\n\xe9\x9b") == "a\\x1b[31m\\n\xe9\\x9b"
    assert printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
    assert str(ProtocolError("3", "\x1b[2J")) == "\\x1b[2J (docs/protocol.md, section 3)"


class LampError(PortError):
    """A user's own, with a constructor of its own."""

    def __init__(self, lamp: int) -> None:
        super().__init__("/dev/ttyACM0", f"lamp {lamp} is off")
        self.lamp = lamp


def test_one_thing_is_no_plural() -> None:
    assert [counted(count, "byte") for count in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]


def test_a_users_own_class_of_the_tree_survives_too() -> None:
    seen = pickled(2)(LampError(7))
    assert (type(seen), str(seen), vars(seen)) == (LampError, "lamp 7 is off", {"port": "/dev/ttyACM0", "lamp": 7})


def test_a_pool_gets_the_error_of_its_worker(tmp_path: object) -> None:
    port = f"{tmp_path}/no-such-port"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        waiting = pool.apply_async(microrpc.connect, [port])
        with pytest.raises(PortNotFoundError, match="no-such-port") as caught:
            waiting.get(30)
    assert caught.value.port == port
