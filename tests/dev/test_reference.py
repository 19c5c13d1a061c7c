"""Every public name is in the reference (`make docs`), and described there."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
from pdoc import doc, doc_ast

from dev import reference


@pytest.fixture(scope="module", autouse=True)
def _forget_syntax_trees() -> Iterator[None]:
    """Have pdoc forget what it keeps of each source: garbage collections of all tests that follow would walk that."""
    yield
    for kept in vars(doc_ast).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()


def told_of(holder: doc.Namespace[object]) -> Iterator[str]:
    """Give the signatures and types of all that is shown; a warning of pdoc is where it cannot."""
    for member in holder.own_members if isinstance(holder, doc.Class) else holder.members.values():
        if isinstance(member, doc.Function):
            yield str(member.signature)
        elif isinstance(member, doc.Variable):
            yield member.annotation_str
        elif isinstance(member, doc.Class):
            yield from told_of(member)


@pytest.mark.filterwarnings(r"ignore:.* for microrpc\.wire\.crc\.crc16_crcmod:UserWarning")  # crcmod's own types
@pytest.mark.parametrize("module", reference.modules())
def test_the_reference_says_what_every_name_is(module: str) -> None:
    page = reference.page(module)
    assert page.docstring
    assert list(reference.undescribed(page)) == []
    assert "<unable" not in "".join(told_of(page))


@pytest.mark.parametrize("package", ["microrpc", "microrpc.aio", "microrpc.boards", "firmware_sim.faults"])
def test_the_reference_has_every_name_that_a_package_gives(package: str) -> None:
    page = reference.page(package)
    modules = {module.fullname.rpartition(".")[2] for module in page.submodules}
    assert {*page.members, *modules} == set(importlib.import_module(package).__all__)
    assert {name for name, member in page.members.items() if member.kind == "variable"} <= {"CPU"}
