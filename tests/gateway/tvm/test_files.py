"""The files of one session: names are keys, and there is an end to what they take."""

from __future__ import annotations

import pytest

from microrpc.gateway.shared import RefusedError
from microrpc.gateway.tvm import files
from microrpc.gateway.tvm.files import Files


def test_a_file_is_kept_under_any_name_replaced_and_forgotten() -> None:
    kept = Files()
    kept.put("/etc/passwd", b"one")
    kept.put("/etc/passwd", b"two")
    kept.put("", b"")
    assert kept.get("/etc/passwd", "download") == b"two"
    assert kept.names() == ["", "/etc/passwd"]
    kept.remove("/etc/passwd")
    kept.remove("never there")
    assert kept.names() == [""]


def test_a_file_that_is_not_there_is_named_with_those_that_are() -> None:
    kept = Files()
    with pytest.raises(RefusedError, match=r"download: this session has no file 'a'.*There is: nothing"):
        kept.get("a", "download")
    kept.put("b", b"")
    with pytest.raises(RefusedError, match=r"There is: 'b'"):
        kept.get("a", "download")


def test_what_the_files_take_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILE_BYTES", 10)
    kept = Files()
    kept.put("a", bytes(6))
    with pytest.raises(RefusedError, match=r"'b' has 5 bytes, this session has 6 in other files, and 10 are the most"):
        kept.put("b", bytes(5))
    kept.put("a", bytes(10))  # in the place of what was there
    assert kept.names() == ["a"]


def test_the_number_of_files_and_the_length_of_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_FILES", 2)
    kept = Files()
    kept.put("a", b"")
    kept.put("b", b"")
    with pytest.raises(RefusedError, match="2 files already"):
        kept.put("c", b"")
    kept.put("b", b"1")
    with pytest.raises(RefusedError, match="at most 4096 characters"):
        Files().put("x" * 4097, b"")
