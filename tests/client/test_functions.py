"""What a board tells of itself, as a program sees it: `functions`, `identity`, `board.f` (docs/functions.md)."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import inspect
import pydoc
import rlcompleter
from pathlib import Path
from typing import Any

import describing
import numpy as np
import pytest
from apis import Api, Waiting, by_name

import microrpc
from firmware_sim.line.faults import Direction, Flip
from firmware_sim.running.simulate import SimBoard
from microrpc.errors import (
    ArgumentError,
    BoardResetError,
    CallTimeoutError,
    ClosedError,
    FunctionAttributeError,
    FunctionNotFoundError,
    ProtocolError,
    RemoteError,
    RequestError,
    StaleHandleError,
)
from microrpc.host.described import Store
from microrpc.wire.session import Timeouts

PROFILE = microrpc.profile("loopback")


def make(api: Api, data: bytes | None = None, **options: Any) -> tuple[Any, SimBoard, describing.Telling]:
    """A board that tells of itself, by hand so that its link tells another hash; `tells=False`: one that does not."""
    data = describing.describe() if data is None else data
    page_bytes, tells = options.pop("page_bytes", describing.PAGE_BYTES), options.pop("tells", True)
    link, store = options.pop("link", True), options.pop("store", None)
    sim = SimBoard(options.pop("profile", PROFILE), **options)
    telling = describing.install(sim.device, data, page_bytes=page_bytes)
    if not tells:
        del sim.device.functions["microrpc.describe"]
    board = api.open_board(sim.open_channel(), Timeouts(), link=link)
    inner(board).operations.described.store = store
    return board, sim, telling


def inner(board: Any) -> Any:
    return board.target if isinstance(board, Waiting) else board


# --- reading ------------------------------------------------------------------------------------------


def test_a_board_tells_who_it_is_and_what_it_can_do(api: Api) -> None:
    board, _, telling = make(api)
    told = board.functions()
    assert [(one.name, one.signature, one.doc) for one in told] == list(describing.FUNCTIONS)
    identity = board.identity
    assert (identity.board, identity.firmware, identity.version) == ("lab board", "meter", "1.2")
    assert telling.data.split(b"\t")[2].decode() == identity.hash
    assert telling.offsets == [0]


@pytest.mark.parametrize("page_bytes", [32, 33, 64, 100])
def test_a_description_is_read_page_by_page_up_to_its_end_and_not_further(api: Api, page_bytes: int) -> None:
    board, _, telling = make(api, page_bytes=page_bytes)
    assert len(board.functions()) == len(describing.FUNCTIONS)
    assert telling.offsets == list(range(0, len(telling.data), page_bytes))


def test_a_description_that_ends_with_a_page_is_asked_for_no_more(api: Api) -> None:
    data = describing.describe()
    board, _, telling = make(api, page_bytes=len(data))
    board.functions()
    assert telling.offsets == [0]


def test_it_is_asked_once_and_then_known_without_a_round_trip(api: Api) -> None:
    board, _, telling = make(api)
    board.functions()
    requests = board.stats.requests
    board.functions(), board.identity
    assert dir(inner(board).f) == ["matmul", "odd", "plain", "scale", "sum", "voltage"]
    assert board.stats.requests == requests
    assert telling.offsets == [0]


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_a_board_that_tells_nothing_has_no_functions_and_no_identity_and_works_as_ever(api: Api, firmware: Any) -> None:
    board, _, _ = make(api, tells=False, firmware=firmware)
    assert (board.functions(), board.identity) == ([], None)
    assert dir(inner(board).f) == []
    assert by_name(board, "voltage")(2, 3) == 2003.0
    assert by_name(board, "a.b")() == 7
    with pytest.raises(FunctionNotFoundError, match="check the name's spelling"):
        by_name(board, "scael")(1)
    with pytest.raises(ArgumentError, match="arguments have names where the board tells them, and it does not"):
        by_name(board, "voltage")(channel=1)
    requests = board.stats.requests
    assert board.functions() == []
    assert board.stats.requests == requests


@pytest.mark.parametrize("data", [b"", b"microrpc\t2\tof the future\n" * 3])
def test_nothing_and_another_format_are_a_board_that_tells_nothing(api: Api, data: bytes) -> None:
    board, _, _ = make(api, data)
    assert (board.functions(), board.identity) == ([], None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"something else, of the same name, for 40 bytes", "which is no head"),
        (b"microrpc\t1\t00000000\t9999\tx" * 2, "has not the size and the hash"),
        (b"microrpc\t1\t0", "has not the size and the hash"),
        (describing.describe()[:-1], "has not the size and the hash"),
        (describing.describe()[:-1] + b"!", "has not the size and the hash"),
        (describing.describe([("two", "fields\nand", "")]), "which is not its name"),
    ],
)
def test_what_is_no_description_is_one_error_and_calls_go_on(api: Api, data: bytes, reason: str) -> None:
    board, _, telling = make(api, data)
    with pytest.raises(ProtocolError, match=reason):
        board.functions()
    assert len(telling.offsets) <= 6
    assert board.function("voltage")(2, 3) == 2003.0
    assert inner(board).operations.described.known is None


@pytest.mark.parametrize("value", [5, "text", None])
def test_a_page_that_is_no_bytes_is_one_error(api: Api, value: Any) -> None:
    board, sim, _ = make(api)
    sim.device.functions["microrpc.describe"] = lambda offset: value
    with pytest.raises(ProtocolError, match="not bytes"):
        board.functions()


def test_what_the_function_raises_is_raised(api: Api) -> None:
    board, sim, _ = make(api)
    sim.device.functions["microrpc.describe"] = lambda: None
    with pytest.raises(RemoteError):
        board.functions()


def test_pages_of_a_byte_are_no_way_to_keep_a_host_busy(api: Api) -> None:
    board, _, telling = make(api, page_bytes=1)
    with pytest.raises(ProtocolError, match="3 times"):
        board.functions()
    assert telling.offsets == [0, 0, 0]


def test_a_page_without_end_is_cut_where_the_description_ends(api: Api) -> None:
    board, _, telling = make(api, describing.describe() + b"what is behind it" * 10, page_bytes=1000)
    assert len(board.functions()) == len(describing.FUNCTIONS)
    assert telling.offsets == [0]


def test_other_firmware_between_two_pages_is_read_from_the_beginning(api: Api) -> None:
    board, _, telling = make(api, page_bytes=64)
    old, new = telling.data, describing.describe([describing.SUM], ("lab board", "meter", "2.0"))
    page = telling.page

    def change(offset: int) -> bytes:
        telling.data = old if len(telling.offsets) < 2 else new
        return page(offset)

    telling.device.functions["microrpc.describe"] = change
    assert [one.name for one in board.functions()] == ["sum"]
    assert board.identity.version == "2.0"
    assert telling.offsets.count(0) == 2


@pytest.mark.parametrize("link", [False, True])
def test_a_reset_while_it_is_read_is_told_and_it_is_read_again(api: Api, link: bool) -> None:
    board, sim, telling = make(api, page_bytes=64, link=link)
    page = telling.page

    def reset(offset: int) -> bytes:
        if offset == 64 and telling.offsets.count(64) == 0:
            telling.offsets.append(64)
            sim.reset()
        return page(offset)

    telling.device.functions["microrpc.describe"] = reset
    board.function("voltage")
    with pytest.raises(BoardResetError):
        board.functions()
    assert len(board.functions()) == len(describing.FUNCTIONS)


@pytest.mark.parametrize("link", [False, True])
def test_damage_on_the_line_changes_nothing_of_it(api: Api, link: bool) -> None:
    board, sim, telling = make(api, page_bytes=64, link=link)
    board.function("voltage")
    sim.inject(Flip(at=(200, 450), direction=Direction.TO_HOST))
    assert [one.name for one in board.functions()] == [name for name, _, _ in describing.FUNCTIONS]
    assert len(telling.offsets) >= -(-len(telling.data) // 64)
    assert board.stats.frames_damaged > 0


def test_after_a_reset_with_other_firmware_its_functions_are_others(api: Api) -> None:
    board, sim, telling = make(api)
    board.functions()
    old = board.function("voltage")
    telling.data = describing.describe([("voltage", "channel: str -> float", "")], ("lab board", "meter", "2.0"))
    sim.reset()
    with pytest.raises(BoardResetError):
        old(1)
    with pytest.raises(StaleHandleError):
        old("a")
    assert inner(board).operations.described.known is None
    assert board.function("voltage")(2, 3) == 2003.0  # nothing is known of it now, and nothing is asked
    assert board.identity.version == "2.0"
    with pytest.raises(ArgumentError, match="expected str"):
        board.function("voltage")(2)


def test_after_a_reset_with_the_same_firmware_its_first_page_is_enough(api: Api) -> None:
    board, sim, telling = make(api, page_bytes=64)
    board.functions()
    del telling.offsets[:]
    sim.reset()
    sim.sleep(5.0)
    with pytest.raises(BoardResetError):
        board.functions()
    assert len(board.functions()) == len(describing.FUNCTIONS)
    assert telling.offsets == [0]


# --- what is kept -------------------------------------------------------------------------------------


class Kept:
    """A store in memory."""

    def __init__(self, **files: bytes) -> None:
        self.files = dict(files)
        self.noted: list[str] = []

    def load(self, hash: str) -> bytes | None:
        return self.files.get(hash)

    def keep(self, hash: str, data: bytes) -> None:
        self.files[hash] = data

    def note(self, hash: str) -> None:
        self.noted.append(hash)


def test_a_second_connection_needs_the_first_page_alone(api: Api) -> None:
    store: Store = Kept()
    board, _, telling = make(api, page_bytes=64, store=store)
    board.functions()
    assert store.load(board.identity.hash) == telling.data
    again, _, telling = make(api, page_bytes=64, store=store)
    assert again.functions() == board.functions()
    assert telling.offsets == [0]
    assert store.noted == [board.identity.hash] * 2  # type: ignore[attr-defined]


def test_what_a_link_tells_of_the_hash_makes_even_that_needless(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from microrpc.wire.features import Features

    data = describing.describe()
    hash = data.split(b"\t")[2].decode()
    board, _, telling = make(api, store=Kept(**{hash: data}))
    features = Features(description_hash=int(hash, 16))
    connection = inner(board)._connection
    monkeypatch.setattr(type(connection), "features", features, raising=False)
    board.global_function("-")  # after which all is known that a link tells
    requests = board.stats.requests
    assert len(board.functions()) == len(describing.FUNCTIONS)
    assert board.stats.requests == requests
    assert telling.offsets == []


@pytest.mark.parametrize("damaged", [b"", b"garbage", describing.describe()[:-1], describing.describe([])])
def test_what_is_kept_and_damaged_is_read_again(api: Api, damaged: bytes) -> None:
    hash = describing.describe().split(b"\t")[2].decode()
    store = Kept(**{hash: damaged})
    board, _, _ = make(api, store=store)
    assert len(board.functions()) == len(describing.FUNCTIONS)
    assert store.files[hash] == describing.describe()


@pytest.mark.parametrize("packet_bytes", [512, 2048])
@pytest.mark.parametrize("link", [False, True])
def test_a_hundred_functions_take_little_more_than_their_bytes_on_the_line(
    api: Api, packet_bytes: int, link: bool
) -> None:
    many = [(f"function_{index}", describing.SCALE[1], f"Do what number {index} does.") for index in range(100)]
    data = describing.describe(many)
    profile = dataclasses.replace(PROFILE, baud=115200, packet_size_bytes=packet_bytes)
    board, sim, telling = make(api, data, page_bytes=packet_bytes - 96, profile=profile, link=link)
    board.max_packet_bytes()
    began_at = sim.now()
    assert len(board.functions()) == 100
    assert sim.now() - began_at < 1.3 * len(data) * 10 / 115200
    assert len(telling.offsets) == -(-len(data) // (packet_bytes - 96))


# --- board.f ------------------------------------------------------------------------------------------


def test_functions_are_called_by_their_names_with_defaults_and_names_of_arguments(api: Api) -> None:
    board, _, _ = make(api)
    board.functions()
    assert by_name(board, "voltage")(2) == 2010.0
    assert by_name(board, "voltage")(2, 3) == 2003.0
    assert by_name(board, "voltage")(delay=4, channel=1) == 1004.0
    assert by_name(board, "sum")(1, 2, 3, timeout_s=1.0) == 6
    assert by_name(board, "a.b")() == 7
    x = board.array(np.arange(4, dtype="float32"))
    assert by_name(board, "scale")(x, 2) is None
    assert x.numpy().tolist() == [0, 2, 4, 6]


def test_a_function_called_by_its_name_tells_how_far_it_has_come(api: Api) -> None:
    sim = SimBoard(PROFILE)
    board = api.open_board(sim.open_channel(), Timeouts())
    board.functions()
    told: list[tuple[int, int]] = []
    work = by_name(board, "work")
    assert work(3, step_us=1000, on_progress=lambda done, total: told.append((done, total))) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(RequestError, match="on_progress is a function or None, not 5"):
        work(3, 1000, on_progress=5)


def test_a_function_is_looked_up_once_in_an_epoch_and_given_back_in_the_end(api: Api) -> None:
    board, sim, _ = make(api)
    board.functions()
    voltage = by_name(board, "voltage")
    voltage(1)
    requests = board.stats.requests
    voltage(2), by_name(board, "voltage")(3)
    assert board.stats.requests == requests + 2
    sim.reset()
    with pytest.raises(BoardResetError):
        voltage(1)
    assert voltage(1) == 1010.0
    board.close()
    with pytest.raises(ClosedError):
        voltage(1)


def test_the_blocking_board_is_asked_when_a_name_is_wanted() -> None:
    sim = SimBoard(PROFILE)
    telling = describing.install(sim.device)
    board = microrpc.open_board(sim.open_channel(), Timeouts())
    assert board.f.voltage(1) == 1010.0
    assert telling.offsets == [0]
    assert hasattr(board.f, "scale")
    assert not hasattr(board.f, "scael")
    assert not hasattr(board.f, "__wrapped__")
    assert not hasattr(board.f, "_repr_html_")
    assert board.f._ipython_key_completions_() == [name for name, _, _ in describing.FUNCTIONS]
    assert repr(board.f).splitlines()[0] == "scale(x: float32[n], factor: float) -> None"


def test_an_asyncio_board_knows_no_names_before_it_was_asked_and_calls_all_the_same() -> None:
    async def main() -> None:
        sim = SimBoard(PROFILE)
        describing.install(sim.device)
        channel = microrpc.aio.InMemoryChannel(sim.open_channel())
        async with microrpc.aio.open_board(channel, Timeouts()) as board:
            assert dir(board.f) == []
            assert "was not asked yet" in repr(board.f)
            late = board.f.scael
            with pytest.raises(FunctionNotFoundError, match="did you mean 'scale'"):
                await late()
            assert await board.f.voltage(channel=1) == 1010.0
            assert dir(board.f) == ["matmul", "odd", "plain", "scale", "sum", "voltage"]
            assert inspect.iscoroutinefunction(board.f.voltage)
            assert await asyncio.gather(*(board.f.voltage(n) for n in range(4))) == [10.0, 1010.0, 2010.0, 3010.0]
            identity = await board.identity
            assert identity is not None
            assert identity.firmware == "meter"

    asyncio.run(main())


def test_help_shows_the_signature_with_units_and_the_sentence(api: Api) -> None:
    board, _, _ = make(api)
    board.functions()
    voltage = inner(board).f.voltage
    assert (voltage.__name__, voltage.__qualname__, voltage.__doc__) == ("voltage", "voltage", "Measure a voltage.")
    assert str(inspect.signature(voltage)) == "(channel: int(0..7), delay: uint16 [ms] = 10) -> float [mV]"
    assert inspect.signature(voltage).bind(1).arguments == {"channel": 1}
    text = pydoc.plain(pydoc.render_doc(voltage))
    assert "voltage(channel: int(0..7), delay: uint16 [ms] = 10) -> float [mV]\n    Measure a voltage." in text
    odd = inner(board).f.odd
    assert "which is not checked: whatever the firmware says" in odd.__doc__
    assert str(inspect.signature(odd)) == "(*args)"
    assert str(inspect.signature(inner(board).f.sum)) == "(*values: int) -> int"


def test_the_prompt_of_python_completes_the_names() -> None:
    sim = SimBoard(PROFILE)
    describing.install(sim.device)
    with microrpc.open_board(sim.open_channel(), Timeouts()) as board:
        matches = rlcompleter.Completer({"board": board}).attr_matches("board.f.s")
        assert sorted(match.rstrip("()") for match in matches) == ["board.f.scale", "board.f.sum"]


@pytest.mark.parametrize("use_jedi", [False, True])
def test_ipython_completes_the_names(use_jedi: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    completing = pytest.importorskip("IPython.core.completer").provisionalcompleter
    shell.Completer.use_jedi = use_jedi
    sim = SimBoard(PROFILE)
    describing.install(sim.device)
    with microrpc.open_board(sim.open_channel(), Timeouts()) as board, completing():
        shell.user_ns["board"] = board
        names = [found.text.rpartition(".")[2] for found in shell.Completer.completions("board.f.s", 9)]
        keys = [found.text for found in shell.Completer.completions('board.f["a', 10)]
    assert sorted(names) == ["scale", "sum"]
    assert "a.b" in "".join(keys)


def test_a_name_that_does_not_exist_is_an_error_with_the_one_that_was_meant(api: Api) -> None:
    board, _, _ = make(api)
    board.functions()
    requests = board.stats.requests
    with pytest.raises(FunctionAttributeError) as caught:
        getattr(inner(board).f, "scael")  # noqa: B009
    assert str(caught.value) == (
        "sim://loopback tells of no function 'scael'; did you mean 'scale'? "
        "It tells of 7 functions (`board.functions()`)"
    )
    assert isinstance(caught.value, FunctionNotFoundError)
    assert isinstance(caught.value, AttributeError)
    with pytest.raises(FunctionNotFoundError, match=r"no function 'q'\. It tells of 7"):
        inner(board).f["q"]
    assert board.stats.requests == requests
    with pytest.raises(RequestError, match="the name of a function is a str"):
        inner(board).f[5]
    with pytest.raises(AttributeError, match=r"board\.f\['_x'\]"):
        getattr(inner(board).f, "_x")  # noqa: B009


def test_a_look_up_in_vain_has_the_hint_where_the_functions_are_known(api: Api) -> None:
    board, _, _ = make(api)
    with pytest.raises(FunctionNotFoundError, match="check the name's spelling"):
        board.function("scael")
    board.functions()
    with pytest.raises(FunctionNotFoundError, match=r"did you mean 'scale'\? It tells of 7 functions"):
        board.function("scael")


def test_one_function_is_called_one(api: Api) -> None:
    board, _, _ = make(api, describing.describe([describing.SUM]))
    board.functions()
    with pytest.raises(FunctionNotFoundError, match="It tells of one function "):
        inner(board).f["q"]


def test_wrong_arguments_are_refused_before_anything_is_sent(api: Api) -> None:
    board, _, _ = make(api)
    looked_up = board.function("voltage")
    board.functions()
    sent = board.stats.bytes_sent
    for call in (looked_up, by_name(board, "voltage")):
        with pytest.raises(ArgumentError) as caught:
            call(8)
        assert str(caught.value) == (
            "voltage: argument 1 (channel) is 8, expected int(0..7); nothing was sent. "
            "Its signature: voltage(channel: int(0..7), delay: uint16 [ms] = 10) -> float [mV]"
        )
    with pytest.raises(ArgumentError, match="no argument is called chanel; did you mean 'channel'"):
        by_name(board, "voltage")(chanel=1)
    with pytest.raises(ArgumentError, match="which is not on the board"):
        by_name(board, "scale")(np.zeros(3), 1.0)
    assert board.stats.bytes_sent == sent


def test_arrays_are_held_against_dtype_rank_and_extents(api: Api) -> None:
    board, _, _ = make(api)
    board.functions()
    a, b, c = (board.empty(shape, "float32") for shape in ((2, 3), (3, 4), (2, 4)))
    assert by_name(board, "matmul")(a, b, c) is None
    for args, reason in (
        ((a, c, c), r"argument 2 \(b\) is an array float32\[2, 4\], .* with k = 3, as in a"),
        ((board.empty(3, "float32"), b, c), r"is an array float32\[3\], expected float32\[n, k\]"),
        ((board.empty((2, 3), "int8"), b, c), r"is an array int8\[2, 3\], expected float32\[n, k\]"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            by_name(board, "matmul")(*args)


def test_arrays_of_another_board_and_freed_ones_are_refused_as_ever(api: Api) -> None:
    board, _, _ = make(api)
    other, _, _ = make(api)
    board.functions()
    with pytest.raises(RequestError, match="belongs to another board"):
        by_name(board, "scale")(other.array([1.0]), 2.0)
    x = board.array(np.zeros(3, "float32"))
    x.free()
    with pytest.raises(StaleHandleError):
        by_name(board, "scale")(x, 2.0)


def test_an_integer_is_sent_as_a_float_where_one_is_wanted(api: Api) -> None:
    got: list[Any] = []
    board, sim, _ = make(api, describing.describe([("f", "x: float -> None", "")]))
    sim.device.system_library["f"] = got.append
    looked_up = board.function("f")
    looked_up(2)
    board.functions()
    looked_up(2), by_name(board, "f")(np.float32(3))
    assert [(type(value), value) for value in got] == [(int, 2), (float, 2.0), (float, 3.0)]


def test_a_function_of_a_module_and_one_that_was_given_are_not_checked(api: Api) -> None:
    board, _, _ = make(api)
    board.functions()
    library = board.system_library()
    assert library.find("odd")(1, 2) == 2
    with pytest.raises(RemoteError):
        library.find("voltage")()


def test_the_time_that_a_call_may_take_is_its_own(api: Api) -> None:
    board, _, _ = make(api, describing.describe([("sleep_ms", "ms: int [ms] -> int", "")]))
    board.functions()
    with pytest.raises(CallTimeoutError, match=r"within 0\.5 s"):
        by_name(board, "sleep_ms")(2000, timeout_s=0.5)
    with pytest.raises(RequestError, match="timeout_s is a number of seconds"):
        by_name(board, "sleep_ms")(2000, timeout_s=-1)


def test_the_functions_of_a_board_are_not_copied(api: Api) -> None:
    board, _, _ = make(api)
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(inner(board).f)
