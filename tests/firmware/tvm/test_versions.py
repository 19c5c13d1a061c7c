"""A wrong pair of tvm and its interface is one clear error, before either is imported."""

from __future__ import annotations

import importlib.metadata
import pathlib
import sys
import tomllib

import pytest

from microrpc.errors import FirmwareError
from microrpc.firmware.tvm.versions import PAIRS, Pair, check_versions, requirements_of

ROOT = pathlib.Path(__file__).parents[3]


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Have only these packages installed; `tvm` and `ffi` are their names."""
    packages = {f"apache-{'tvm-ffi' if name == 'ffi' else name}": version for name, version in versions.items()}

    def version(package: str) -> str:
        try:
            return packages[package]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(package) from None

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_pairs_that_work_are_given_back(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    install(monkeypatch, tvm=pair.tvm, ffi=pair.ffi)
    assert check_versions() == pair


def test_another_build_of_a_release_takes_the_same_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tvm="0.27.0", ffi="0.1.14.post1")
    assert check_versions() == Pair("0.27.0", "0.1.14.post1")


@pytest.mark.parametrize(
    ("versions", "error"),
    [
        (
            {},
            "apache-tvm is not installed: pip install 'microrpc[tvm]', "
            "or pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1",
        ),
        (
            {"tvm": "0.27.0.post1", "ffi": "0.1.15.post2"},
            "apache-tvm 0.27.0.post1 does not work with apache-tvm-ffi 0.1.15.post2, which is installed, "
            "but with 0.1.14.post1: pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1",
        ),
        (
            {"tvm": "0.25.0.post1", "ffi": "0.1.14.post1"},
            "apache-tvm 0.25.0.post1 does not work with apache-tvm-ffi 0.1.14.post1, which is installed, "
            "but with 0.1.12: pip install apache-tvm==0.25.0 apache-tvm-ffi==0.1.12",
        ),
        (
            {"tvm": "0.26.0"},
            "apache-tvm 0.26.0 needs apache-tvm-ffi 0.1.14.post1, which is not installed: "
            "pip install apache-tvm==0.26.0 apache-tvm-ffi==0.1.14.post1",
        ),
        (
            {"tvm": "0.2.7", "ffi": "0.1.14.post1"},
            "apache-tvm 0.2.7 is none of those that microrpc was tested with (0.27, 0.26, 0.25): "
            "pip install apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1",
        ),
    ],
    ids=["nothing", "newest interface", "0.25", "no interface", "unknown"],
)
def test_what_does_not_work_says_what_is_there_and_what_installs_the_right_one(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], error: str
) -> None:
    install(monkeypatch, **versions)
    with pytest.raises(FirmwareError) as caught:
        check_versions()
    assert str(caught.value) == error


def test_neither_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm", None)
    monkeypatch.setitem(sys.modules, "tvm_ffi", None)
    install(monkeypatch, tvm="0.27.0.post1", ffi="0.1.14.post1")
    assert check_versions() == PAIRS[0]


def test_the_extra_brings_the_newest_pair() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pinned = {requirement for requirement in extras["tvm"] if "==" in requirement}
    assert pinned == {f"apache-tvm=={PAIRS[0].tvm}", f"apache-tvm-ffi=={PAIRS[0].ffi}"}


def test_the_requirements_of_a_release_are_what_pip_takes() -> None:
    assert requirements_of("0.25") == "apache-tvm==0.25.0 apache-tvm-ffi==0.1.12"
    with pytest.raises(
        FirmwareError, match=r"TVM 0.2 is none of those that microrpc was tested with: 0.27, 0.26, 0.25"
    ):
        requirements_of("0.2")
