"""What models a board's firmware has: tables read page by page, whatever the board says (docs/using_models.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import microrpc
from firmware_sim.board.demo_models import MLP, QUANTISED
from firmware_sim.board.model import SimModel
from firmware_sim.running.simulate import SimBoard
from microrpc.client.board import Board
from microrpc.errors import BoardResetError, FeatureMissingError, ProtocolError, RemoteError, RequestError
from microrpc.host.operation import Operation
from microrpc.serve.local import FunctionError
from microrpc.wire.model import MOST_TABLE_BYTES, ModelTable, encode_model
from microrpc.wire.session import Timeouts

PROFILE = microrpc.profile("loopback")
Pages = Callable[[int, int], Any]


def make(pages: Pages | None = None, **options: Any) -> tuple[Board, SimBoard, list[tuple[int, int]]]:
    """A board whose `microrpc.models` is `pages`, and what it was asked for."""
    sim = SimBoard(PROFILE, **options)
    asked: list[tuple[int, int]] = []
    if pages is not None:

        def tell(model: int, offset: int) -> Any:
            asked.append((model, offset))
            return pages(model, offset)

        sim.device.functions["microrpc.models"] = tell
    return microrpc.open_board(sim.open_channel(), Timeouts()), sim, asked


def paged(data: bytes, page_bytes: int) -> Pages:
    return lambda model, offset: data[offset : offset + page_bytes] if model == 0 else None


@pytest.mark.parametrize("page_bytes", [32, 33, 64, 10_000])
def test_a_table_is_read_page_by_page_up_to_one_that_no_board_would_send_but_at_the_end(page_bytes: int) -> None:
    data = encode_model(MLP.table)
    assert len(data) == 189
    board, _, asked = make(paged(data, page_bytes))
    assert board.models() == [MLP.table]
    offsets = [offset for model, offset in asked if model == 0]
    assert (
        offsets
        == {
            32: [0, 32, 64, 96, 128, 160],  # 29 are left
            33: [0, 33, 66, 99, 132, 165],  # 24
            64: [0, 64, 128, 189],
            10_000: [0, 189],
        }[page_bytes]
    )


def test_the_tables_are_asked_for_once_an_epoch() -> None:
    board, sim, asked = make(paged(encode_model(MLP.table), 4096))
    assert board.models() == board.models()
    assert board.model().table == MLP.table
    assert len(asked) == 3
    sim.reset()
    with pytest.raises(BoardResetError):  # the first request may cross the boot
        board.function("add"), board.function("add")
    assert board.models() == [MLP.table]
    assert len(asked) == 6


def test_the_only_model_needs_no_name_and_of_several_the_names_are_told() -> None:
    board, _, _ = make(paged(encode_model(QUANTISED.table), 4096))
    assert board.model().name == board.model("quantised").name == "quantised"
    board, _, _ = make()
    with pytest.raises(RequestError, match="has 2 models: say which by its name: 'mlp', 'quantised'"):
        board.model()
    with pytest.raises(RequestError, match=r"has no model 'mpl'; did you mean 'mlp'\? it has 'mlp', 'quantised'"):
        board.model("mpl")
    with pytest.raises(RequestError, match="has no model 'xxxxxxxxx'; it has 'mlp', 'quantised'"):
        board.model("xxxxxxxxx")
    for name in (5, b"mlp", ""):
        with pytest.raises(RequestError):
            board.model(name)  # type: ignore[arg-type]


def test_two_models_of_one_name_cannot_be_told_apart() -> None:
    board, sim, _ = make()
    sim.device.models[:] = [MLP, MLP]
    with pytest.raises(RequestError, match="has 2 models of the name 'mlp'; it has 'mlp', 'mlp'"):
        board.model("mlp")


def test_firmware_without_models_is_one_error_that_says_what_to_do() -> None:
    board, sim, _ = make()
    sim.device.models.clear()
    assert board.models() == []
    with pytest.raises(FeatureMissingError, match=r"sim://loopback has no models: .*`microrpc tvm build` makes"):
        board.model()


@pytest.mark.parametrize("firmware", ["robust", "stock"])
def test_firmware_that_knows_nothing_of_models_is_the_same_error(firmware: Any) -> None:
    board, sim, _ = make(firmware=firmware)
    sim.device.functions.pop("microrpc.models", None)
    for ask in (board.models, board.model):
        with pytest.raises(FeatureMissingError, match="has no models: its firmware was built without any"):
            ask()
    assert board.function("add")(2, 3) == 5


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        (lambda model, offset: 5, "returned 5, not bytes"),
        (lambda model, offset: "text", "returned 'text', not bytes"),
        (lambda model, offset: None if offset else b"\x01" * 40, "returned None, not bytes"),
        (lambda model, offset: b"", "cannot be read"),
        (lambda model, offset: b"\x02", "of version 2"),
        (paged(encode_model(MLP.table)[:-1], 4096), "it ends at byte"),
        (paged(encode_model(MLP.table) + b"!", 4096), "bytes are left over"),
        (lambda model, offset: b"\x01" * 4096, f"tells more of model 0 than {MOST_TABLE_BYTES} bytes"),
        (lambda model, offset: encode_model(ModelTable("x", model, (), ())) + b"", "more than 256 models"),
    ],
)
def test_what_is_no_table_is_one_error_and_ends(pages: Pages, reason: str) -> None:
    board, _, asked = make(pages)
    with pytest.raises(ProtocolError, match=rf"{reason}.* \(docs/models\.md, section 1\)"):
        board.models()
    assert len(asked) <= 600
    assert board.function("add")(2, 3) == 5


def test_all_tables_together_have_a_bound() -> None:
    large = encode_model(ModelTable("x" * 60_000, 1, (), ()))
    board, _, _ = make(lambda model, offset: large[offset : offset + 4096])
    with pytest.raises(ProtocolError, match=f"more of model 17 and those before it than {MOST_TABLE_BYTES} bytes"):
        board.models()


@pytest.mark.parametrize("kind", ["StaleHandleError", "BoardResetError"])
def test_where_a_server_tells_of_a_reset_all_is_asked_for_anew(kind: str) -> None:
    data = encode_model(MLP.table)
    board, sim, asked = make(paged(data, 4096))
    run, refusals = sim.device.functions["microrpc.model.run"], [f"{kind}: from before a reset"]

    def refuse_once(*args: Any) -> Any:
        if refusals:
            raise FunctionError(refusals.pop())
        return run(*args)

    sim.device.functions["microrpc.model.run"] = refuse_once
    model, x = board.model(), [[1, 2, 3, 4]]
    with pytest.raises(RemoteError, match=kind):
        model(x)
    assert len(asked) == 3
    assert model(x).tolist() == [[2.875, 2.375, -0.375]]
    assert len(asked) == 6
    refusals.append("another error")
    with pytest.raises(RemoteError, match="another error"):
        model(x)
    assert model(x) is not None
    assert len(asked) == 6


def test_other_firmware_of_the_same_shapes_is_never_run_for_the_one_that_was_asked_for() -> None:
    sim = SimBoard(PROFILE)
    sim.device.models[:] = [MLP]
    board = microrpc.open_board(sim.open_channel(), Timeouts(), on_reset=lambda: None)
    model = board.model()
    check, other = model._runner.check, SimModel(dataclasses.replace(MLP.table, hash=2), lambda *args: None)

    def check_and_lose_all() -> Operation[None]:
        yield from check()
        if sim.device.models != [other]:
            sim.device.models[:] = [other]
            sim.reset()
            yield from board.operations.connection.listen(0.3)

    model._runner.check = check_and_lose_all  # type: ignore[method-assign]
    with pytest.raises(BoardResetError):
        model([[1, 2, 3, 4]])
    with pytest.raises(RequestError, match="has other firmware now"):
        model([[1, 2, 3, 4]])


def test_what_was_looked_up_is_given_back_when_the_board_is_closed() -> None:
    board, sim, _ = make()
    board.model("mlp")([[1, 2, 3, 4]])
    assert board.memory().used_bytes > 0
    assert len(board.operations.models.owned) == 2, "microrpc.models and microrpc.model.run"
    board.close()
    board = microrpc.open_board(sim.open_channel(), Timeouts())
    assert board.memory().used_bytes == 0
