"""Files of data sets, whatever is in them (docs/using_models.md)."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microrpc.cli.datasets import pick, read_arrays, split_name


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_arrays_are_read_by_their_names(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set.npz", x=np.arange(6).reshape(2, 3), y=np.float32(1.5))
    found = read_arrays(tmp_path / "set.npz")
    assert {name: array.tolist() for name, array in found.items()} == {"x": [[0, 1, 2], [3, 4, 5]], "y": 1.5}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"x.txt": b"text"}, "'x.txt' in it is no array"),
        ({"x.npy": b"text"}, "is not a .npz file that numpy reads"),
        ({"x.npy": npy(np.zeros(3))[:-1]}, "its header tells of 24 bytes, and 23 are there"),
        ({"x.npy": npy(np.zeros(3, complex))}, "has no counterpart on the board"),
        ({"x.npy": npy(np.array([{}], object))}, "has no counterpart on the board"),
        ({"x.npy": npy(np.zeros(3)).replace(b"(3,)", b"(999999999999,)"[:4].ljust(4))}, "is not a .npz file"),
    ],
)
def test_a_file_that_is_none_is_one_error(tmp_path: Path, members: dict[str, bytes], reason: str) -> None:
    with pytest.raises(typer.BadParameter, match=reason):
        read_arrays(archive(tmp_path / "set.npz", members))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    header = npy(np.zeros(3)).replace(b"'shape': (3,), }        ", b"'shape': (1099511627776,),}")
    assert b"1099511627776" in header
    with pytest.raises(typer.BadParameter, match=r"its header .*"):
        read_arrays(archive(tmp_path / "set.npz", {"x.npy": header}))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 400), st.integers(1, 255))
def test_damage_is_one_error_or_none(tmp_path: Path, at: int, flip: int) -> None:
    path = archive(tmp_path / "set.npz", {"x.npy": npy(np.arange(12.0)), "y.npy": npy(np.int8(5))})
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= flip
    path.write_bytes(data)
    with contextlib.suppress(typer.BadParameter):
        read_arrays(path)


def test_the_arrays_of_a_model_are_picked_by_name_or_by_the_word_for_them() -> None:
    a, b = np.zeros(1), np.ones(1)
    assert pick({"x": a, "y": b}, ["x"], "inputs", Path("f")) == {"x": a}
    assert pick({"inputs": a, "x": b}, ["x"], "inputs", Path("f")) == {"x": a}
    with pytest.raises(typer.BadParameter, match="f has nothing, and no 'x', or 'inputs'"):
        pick({}, ["x"], "inputs", Path("f"))
    with pytest.raises(typer.BadParameter, match="f has 'inputs', and no 'x', 'z'"):
        pick({"inputs": a}, ["x", "z"], "inputs", Path("f"))


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("x=y.npy", "x", "y.npy"),
        ("y.npy", "", "y.npy"),
        ("@a=b.npy", "", "@a=b.npy"),
        ("[1]", "", "[1]"),
        ("x=a=b.npy", "x", "a=b.npy"),
    ],
)
def test_a_name_stands_before_an_equals_sign(text: str, name: str, value: str) -> None:
    assert split_name(text) == (name, value)
