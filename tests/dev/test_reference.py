"""Every public name is in the reference (`make docs`), and described there."""

from __future__ import annotations

import importlib

import pytest

from dev import reference


@pytest.mark.parametrize("module", reference.modules())
def test_the_reference_says_what_every_name_is(module: str) -> None:
    page = reference.page(module)
    assert page.docstring
    assert list(reference.undescribed(page)) == []


@pytest.mark.parametrize("package", ["microrpc", "microrpc.aio", "microrpc.boards", "firmware_sim.faults"])
def test_the_reference_has_every_name_that_a_package_gives(package: str) -> None:
    page = reference.page(package)
    modules = {module.fullname.rpartition(".")[2] for module in page.submodules}
    assert {*page.members, *modules} == set(importlib.import_module(package).__all__)
    assert {name for name, member in page.members.items() if member.kind == "variable"} <= {"CPU"}
