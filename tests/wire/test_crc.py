"""Every engine computes the crc of docs/protocol.md 1, and the fastest there is is taken."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

import crcmod
import crcmod.crcmod
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_crc import slow_crc

from microrpc.wire import crc


def load_copy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crc_copy", crc.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["crc_copy"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["crc_copy"]
    return module


ENGINES = [engine for engine in (crc.crc16, crc.crc16_crcmod, crc.crc16_fastcrc) if engine is not None]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_crc_engine_gives_the_check_value(engine: Callable[..., int]) -> None:
    assert engine(b"123456789") == 0x29B1 == slow_crc(b"123456789")
    assert engine(b"") == 0xFFFF


@pytest.mark.parametrize("engine", ENGINES)
@given(head=st.binary(max_size=80), tail=st.binary(max_size=80))
def test_every_crc_engine_continues_where_the_crc_before_ended(
    engine: Callable[..., int], head: bytes, tail: bytes
) -> None:
    assert engine(tail, engine(head)) == engine(head + tail) == slow_crc(head + tail)


def test_the_fast_engine_is_taken_when_it_is_installed() -> None:
    fast = crc.crc16_fastcrc
    assert crc.crc16 is (fast or crc.crc16_crcmod)
    name = crc.CRC_ENGINE
    assert name == ("fastcrc" if fast else "crcmod")


def test_without_fastcrc_crcmod_is_taken_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastcrc.crc16", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = load_copy()
    assert module.CRC_ENGINE == "crcmod"
    assert module.crc16_fastcrc is None
    assert module.crc16(b"123456789") == 0x29B1


def test_without_any_compiled_engine_a_warning_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastcrc.crc16", None)
    monkeypatch.setattr(crcmod.crcmod, "_usingExtension", False)
    monkeypatch.setattr(crcmod, "mkCrcFun", lambda *_, **__: slow_crc)
    with pytest.warns(RuntimeWarning, match=r"install microrpc\[fast\]") as caught:
        module = load_copy()
    assert len(caught) == 1
    assert module.crc16(b"123456789") == 0x29B1
