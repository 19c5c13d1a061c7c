"""What boards told is kept in the cache; nothing that is wrong with that reaches a program (docs/functions.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from describing import describe

from microrpc.boards.descriptions import DescriptionCache, cache_for
from microrpc.wire.description import MOST_BYTES

DATA = describe()
HASH = DATA.split(b"\t")[2].decode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MICRORPC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "microrpc"


def test_what_is_kept_is_there_for_the_next_program(cache: Path) -> None:
    DescriptionCache("/dev/ttyACM0").keep(HASH, DATA)
    assert DescriptionCache("COM3").load(HASH) == DATA
    assert (cache / "descriptions" / HASH).read_bytes() == DATA
    assert DescriptionCache("COM3").load("00000000") is None


def test_which_board_was_on_a_port_is_known_without_asking_it(cache: Path) -> None:
    here = DescriptionCache("/dev/ttyACM0")
    assert here.last() is None
    here.note(HASH)
    assert here.last() is None  # noted, and not kept
    here.keep(HASH, DATA)
    last = here.last()
    assert last is not None
    assert last.data == DATA
    assert DescriptionCache("/dev/ttyACM1").last() is None
    assert (cache / "ports" / "%2Fdev%2FttyACM0").read_text() == HASH


def test_a_note_that_says_the_same_is_not_written_again(cache: Path) -> None:
    here = DescriptionCache("COM3")
    here.note(HASH)
    path = cache / "ports" / "COM3"
    os.utime(path, (1, 1))
    here.note(HASH)
    assert path.stat().st_mtime == 1
    here.note("12345678")
    assert path.read_text() == "12345678"


@pytest.mark.parametrize("noted", ["", "../../secret", "0123456", "/etc/passwd", "\xff" * 8])
def test_a_note_that_is_damaged_is_none(cache: Path, noted: str) -> None:
    here = DescriptionCache("COM3")
    here.keep(HASH, DATA)
    here.note(HASH)
    (cache / "ports" / "COM3").write_bytes(noted.encode("latin-1"))
    assert here.last() is None


@pytest.mark.parametrize("data", [b"", b"garbage" * 9, DATA[:-1], describe([])])
def test_a_file_that_is_damaged_is_as_good_as_none(cache: Path, data: bytes) -> None:
    here = DescriptionCache("COM3")
    here.keep(HASH, DATA)
    here.note(HASH)
    (cache / "descriptions" / HASH).write_bytes(data)
    assert here.last() is None


def test_a_file_that_is_too_large_is_not_read(cache: Path) -> None:
    here = DescriptionCache("COM3")
    here.keep(HASH, bytes(2 * MOST_BYTES + 1))
    assert here.load(HASH) is None


def test_a_cache_that_cannot_be_written_or_read_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    here = DescriptionCache("COM3")
    here.keep(HASH, DATA)
    here.note(HASH)
    assert here.load(HASH) is None
    assert here.last() is None
    (tmp_path / "microrpc" / "descriptions" / HASH).mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    here.keep(HASH, DATA)
    assert here.load(HASH) is None


def test_a_port_of_any_name_is_noted_or_not_and_never_an_error(cache: Path) -> None:
    for port in ("sim://\0", "x" * 5000, "tcp://[::1]:5000", ".", "..", "/"):
        DescriptionCache(port).note(HASH)
        DescriptionCache(port).last()
    assert all(path.is_relative_to(cache / "ports") for path in cache.rglob("*") if path.is_file())


def test_what_was_used_least_lately_makes_room(cache: Path) -> None:
    here = DescriptionCache("COM3")
    for number in range(70):
        here.keep(f"{number:08x}", DATA)
        os.utime(cache / "descriptions" / f"{number:08x}", (1000 + number, 1000 + number))
        assert here.load("00000000") == DATA  # used all the time
    names = {path.name for path in (cache / "descriptions").iterdir()}
    assert len(names) == 64
    assert {"00000000", "00000045"} <= names
    assert "00000001" not in names


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_for("COM3") is not None
    monkeypatch.setenv("MICRORPC_CACHE", "off")
    assert cache_for("COM3") is None
