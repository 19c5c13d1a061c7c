"""Verified copies: by the board's checksum, and by reading again where it has none."""

from __future__ import annotations

import gc
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apis import Api
from commands import change_board, run, run_json

import firmware_sim.board.runtime
import microrpc
from firmware_sim.board.device import Device
from firmware_sim.running.loopback import LoopbackChannel
from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.errors import BoardResetError, ProtocolError, RemoteError, VerifyError
from microrpc.serve.local import FunctionError
from microrpc.wire.packets import CallFunc, CopyFromRemote, Request
from microrpc.wire.session import Timeouts

FUNCTION = "microrpc.crc32"
FIRMWARES = ["robust", "stock"]


def make(api: Api, firmware: str = "robust", **options: Any) -> tuple[Any, Device]:
    device = Device(firmware=firmware, heap_bytes=512 * 1024)  # type: ignore[arg-type]
    return api.open_board(LoopbackChannel(device), Timeouts(), **options), device


def spoil(device: Device, offset: int) -> None:
    """Flip a bit in the one block of the heap that is taken."""
    (address,) = device.memory.blocks
    device.memory.view(address + offset, 1)[0] ^= 0x10


class Requests:
    """What a board is asked."""

    def __init__(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Request] = []
        session = device._session
        serve = session.begin

        def note(request: Request) -> Any:
            self.seen.append(request)
            return serve(request)

        monkeypatch.setattr(session, "begin", note)

    def count(self, kind: type[Request]) -> int:
        return sum(isinstance(request, kind) for request in self.seen)


# --- what is right ------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("size", [0, 1, 5, 100_000])
def test_copies_of_any_size_are_verified(api: Api, firmware: str, size: int) -> None:
    board, _ = make(api, firmware)
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    with board.array(data, verify=True) as array:
        assert np.array_equal(array.numpy(verify=True), data)
        array.write(data[::-1], verify=True)
        assert np.array_equal(array.numpy(verify=True), data[::-1])


@pytest.mark.parametrize("firmware", FIRMWARES)
@pytest.mark.parametrize("dtype", ["float32", "int16x4", "bool", "bfloat16", "float64"])
def test_copies_of_any_type_are_verified(api: Api, firmware: str, dtype: str) -> None:
    board, _ = make(api, firmware)
    array = board.empty((3, 2), dtype)
    array.write(np.ones_like(array.numpy()), verify=True)
    assert np.array_equal(array.numpy(verify=True), np.ones_like(array.numpy()))


@pytest.mark.parametrize("link", [True, False])
def test_a_board_with_the_function_computes_and_sends_nothing_back(
    api: Api, link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, device = make(api, link=link)
    array = board.empty(1000, "uint8")
    requests = Requests(device, monkeypatch)
    for _ in range(3):
        array.write(np.arange(1000).astype(np.uint8), verify=True)
    calls = [request for request in requests.seen if isinstance(request, CallFunc) and request.args]
    assert requests.count(CopyFromRemote) == 0
    assert len(calls) == 3
    look_ups = [request for request in requests.seen if FUNCTION in getattr(request, "args", ())]
    assert len(look_ups) == 1


def test_a_stock_board_is_read_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    board, device = make(api, "stock")
    array = board.empty(100, "uint8")
    requests = Requests(device, monkeypatch)
    array.write(np.zeros(100, np.uint8), verify=True)
    assert requests.count(CopyFromRemote) == 1
    array.numpy(verify=True)
    assert requests.count(CopyFromRemote) == 3
    assert requests.count(CallFunc) == 1  # the question for its limit


def test_nothing_is_verified_unasked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    board, device = make(api)
    requests = Requests(device, monkeypatch)
    board.array(np.zeros(100, np.uint8)).numpy()
    assert requests.count(CallFunc) == 0


def test_the_function_takes_any_tensor_and_gives_zlibs_crc32(api: Api) -> None:
    board, _ = make(api)
    text = board.array(np.frombuffer(b"123456789", np.uint8))
    assert board.function(FUNCTION)(text) == 0xCBF43926
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert board.function(FUNCTION)(board.array(values)) == zlib.crc32(values.tobytes())
    assert board.function(FUNCTION)(board.empty(0, "int8")) == 0


def test_a_negative_number_of_c_is_the_same_crc(api: Api) -> None:
    board, device = make(api)
    device.functions[FUNCTION] = lambda array: zlib.crc32(array.tobytes()) - (1 << 32)
    assert board.array(np.arange(10, dtype=np.int8), verify=True).numpy(verify=True).sum() == 45


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [True, False])
def test_a_byte_that_changes_after_the_write_is_noticed_by_its_crc(api: Api, link: bool) -> None:
    board, device = make(api, link=link)
    is_spoiling = True

    def crc32(array: np.ndarray[Any, Any]) -> int:
        if is_spoiling:
            spoil(device, 7)
        return zlib.crc32(array.tobytes())

    device.functions[FUNCTION] = crc32
    data = np.arange(5000).astype(np.uint8)
    wrong = data.copy()
    wrong[7] ^= 0x10
    crcs = rf"its crc32 is 0x{zlib.crc32(data):08x}, and by the board 0x{zlib.crc32(wrong):08x}"
    array = board.empty(5000, "uint8")
    with pytest.raises(VerifyError, match=f"differs from what was sent: {crcs}"):
        array.write(data, verify=True)
    assert np.array_equal(array.numpy(), wrong)
    array.write(data)
    with pytest.raises(VerifyError, match=f"what was received differs from what is in the array: {crcs}"):
        array.numpy(verify=True)
    is_spoiling = False
    array.write(data, verify=True)


def test_a_byte_that_changes_on_a_stock_board_is_found(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    board, device = make(api, "stock")
    array = board.empty(5000, "uint8")
    serve = device._session.begin
    reads = 0

    def spoiling(request: Request) -> Any:
        nonlocal reads
        if isinstance(request, CopyFromRemote):
            reads += 1
            if reads == first_bad:
                spoil(device, 4321)
                spoil(device, 4322)
        return serve(request)

    monkeypatch.setattr(device._session, "begin", spoiling)
    first_bad = 1
    with pytest.raises(VerifyError, match=r"from what was sent: 2 of 5000 bytes, the first at offset 4321$"):
        array.write(np.zeros(5000, np.uint8), verify=True)
    blocks, reads = reads, 0
    first_bad = blocks + 1
    with pytest.raises(VerifyError, match=r"is in the array: 2 of 5000 bytes, the first at offset 4321$"):
        array.numpy(verify=True)
    reads = 0
    first_bad = -1
    array.numpy(verify=True)


def test_an_array_that_cannot_be_verified_is_given_back(api: Api) -> None:
    board, device = make(api)
    device.functions[FUNCTION] = lambda array: 0
    with pytest.raises(VerifyError):
        board.array(np.ones(10, np.int8), verify=True)
    gc.collect()
    board.collect()
    assert device.memory.used_bytes == 0


def test_errors_of_the_function_are_not_taken_for_a_difference(api: Api) -> None:
    board, device = make(api)
    has_text = False

    def crc32(tensor: object) -> str:
        if has_text:
            return "text"
        raise FunctionError("no")

    device.functions[FUNCTION] = crc32
    array = board.empty(10, "int8")
    with pytest.raises(RemoteError, match=rf"{FUNCTION}: no"):
        array.numpy(verify=True)
    has_text = True
    with pytest.raises(ProtocolError, match=rf"{FUNCTION} returned 'text'"):
        array.numpy(verify=True)


def test_after_a_reset_the_function_is_looked_up_again(api: Api) -> None:
    board, device = make(api)
    old = board.array(np.ones(10, np.int8), verify=True)
    del device.functions[FUNCTION]
    device.reset()
    with pytest.raises(BoardResetError):
        old.write(np.ones(10, np.int8), verify=True)
    board.array(np.ones(10, np.int8), verify=True).numpy(verify=True)
    firmware_sim.board.runtime.register_extensions(device._session)
    device.reset()
    with pytest.raises(BoardResetError):
        board.max_packet_bytes()
    board.array(np.ones(10, np.int8), verify=True).numpy(verify=True)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_code_of_the_document_computes_it(tmp_path: Path) -> None:
    text = (Path(microrpc.__file__).parent.parent / "docs" / "copies.md").read_text(encoding="utf-8")
    body = text.partition("    uint32_t crc = ")[2].partition("return ~crc;")[0]
    (tmp_path / "crc.c").write_text(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <string.h>\n"
        "static uint32_t crc32(const uint8_t *data, size_t n) {\n"
        f"uint32_t crc = {body}return ~crc;\n}}\n"
        'int main(int n, char **args) { printf("%u", crc32((const uint8_t *)args[1], strlen(args[1]))); return 0; }\n'
    )
    subprocess.run(["cc", "-Wall", "-Werror", "-o", tmp_path / "crc", tmp_path / "crc.c"], check=True, timeout=60)
    for said in ("", "123456789", "every byte as it was sent"):
        found = subprocess.run([tmp_path / "crc", said], check=True, capture_output=True, timeout=10)
        assert int(found.stdout) == zlib.crc32(said.encode())


# --- the commands -------------------------------------------------------------------------------


def test_put_and_get_verify(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20
    (tmp_path / "data").write_bytes(data)
    with PtyServer(simulate(profile("loopback"))) as server:
        put = run("put", server.path, tmp_path / "data", "--verify")
        assert put.code == 0
        assert put.err.endswith("; verified\n")
        address, size, _ = put.out.split()
        got = run("get", server.path, address, size, tmp_path / "back", "--verify")
        assert (got.code, got.err.endswith("; verified\n")) == (0, True)
        assert (tmp_path / "back").read_bytes() == data
        for verify in ([], ["--verify"]):
            shown = run_json("get", server.path, address, size, tmp_path / "back", *verify)
            assert shown["verified"] is bool(verify)


def test_put_says_what_differs_and_exits_with_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_bytes(b"123456789")
    change_board(monkeypatch, lambda device: device.functions.update({FUNCTION: lambda array: 1}))
    result = run("put", "sim://", tmp_path / "data", "--verify")
    assert (result.code, result.out) == (4, "")
    assert "what is in the array differs from what was sent" in result.err
