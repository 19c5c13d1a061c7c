"""The blocking client is what the script makes of asyncio's."""

from __future__ import annotations

import inspect
import re

import pytest

from dev import generate
from microrpc.client.aio.board import AsyncBoard
from microrpc.client.aio.events import AsyncEvents
from microrpc.client.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule, AsyncRemoteStream
from microrpc.client.board import Board
from microrpc.client.events import Events
from microrpc.client.remote import RemoteArray, RemoteFunction, RemoteModule, RemoteStream

TWINS: list[tuple[type, type]] = [
    (AsyncBoard, Board),
    (AsyncEvents, Events),
    (AsyncRemoteArray, RemoteArray),
    (AsyncRemoteFunction, RemoteFunction),
    (AsyncRemoteModule, RemoteModule),
    (AsyncRemoteStream, RemoteStream),
]


@pytest.mark.parametrize("name", generate.FILES)
def test_the_blocking_client_is_up_to_date(name: str) -> None:
    checked_in = (generate.CLIENT / name).read_text(encoding="utf-8")
    assert checked_in == generate.generate(name), "run `make generate`, and commit what it writes"


@pytest.mark.parametrize("name", generate.FILES)
def test_nothing_in_it_speaks_of_waiting_in_an_event_loop(name: str) -> None:
    text = generate.generate(name)
    assert re.findall(r"\basync\w*|\bawait\w*|\bAsync\w+|event loop|[Cc]ancelled", text.partition("\n")[2]) == []


def test_a_sentence_that_is_gone_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(generate.SENTENCES, "remote.py", (("nobody wrote this", ""),))
    with pytest.raises(ValueError, match=r"remote\.py has 0 times, not once: 'nobody wrote this'"):
        generate.generate("remote.py")


@pytest.mark.parametrize(("theirs", "ours"), TWINS, ids=lambda kind: kind.__name__)
def test_both_clients_have_the_same_methods_and_whole_docstrings(theirs: type, ours: type) -> None:
    def public(kind: type) -> dict[str, object]:
        return {name: value for name, value in vars(kind).items() if not name.startswith("_") or name == "__call__"}

    assert public(theirs).keys() == public(ours).keys()
    for kind in (theirs, ours):
        for name, value in public(kind).items():
            if callable(value) or isinstance(value, property):
                described = inspect.getdoc(value)
                assert described, f"{kind.__name__}.{name}"
                assert not described.startswith("See "), f"{kind.__name__}.{name}"
