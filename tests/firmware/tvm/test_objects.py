"""Uploads taken apart: what is taken, and what a hostile one gets."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Sequence

import pytest
from firmware.test_elf import GLOBAL, make_object

from microrpc.errors import FirmwareError
from microrpc.firmware.elf import Machine
from microrpc.firmware.tvm import objects
from microrpc.firmware.tvm.objects import Form, check_machine, kernel_names, read_upload

SOURCE = b"""
int32_t __tvm_ffi_add(void* s, void* a, int32_t n, void* r);
int32_t __tvm_ffi_add(void* s, void* a, int32_t n, void* r) {
  return 0;
}
"""
OBJECT = make_object([("__tvm_ffi_mul", GLOBAL, 1), ("__tvm_ffi__library_ctx", GLOBAL, 1), ("helper", GLOBAL, 1)])


def pack(members: Sequence[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> bytes:
    """Give a tar of `members`, all of the same kind."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.size = len(data) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd"
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def refusal(name: str, data: bytes) -> str:
    """Give the error that an upload gets."""
    with pytest.raises(FirmwareError) as caught:
        read_upload(name, data)
    return str(caught.value)


# --- what is taken ----------------------------------------------------------------------------


def test_an_object_is_told_by_its_bytes_and_not_by_its_name() -> None:
    (part,) = read_upload("whatever", OBJECT)
    assert (part.form, part.kernels, part.machine) == (Form.OBJECT, ("mul",), Machine(40, 32, True))


def test_a_source_has_what_it_defines() -> None:
    (part,) = read_upload("lib0.c", SOURCE)
    assert (part.name, part.form, part.kernels, part.machine) == ("lib0.c", Form.SOURCE, ("add",), None)


@pytest.mark.parametrize(
    "text",
    [
        b"/* int32_t __tvm_ffi_no(void) { } */",
        b"// int32_t __tvm_ffi_no(void) {\n",
        b'const char *t = "__tvm_ffi_no(void) {";',
        b"char c = '\"'; /* __tvm_ffi_no(void) { */",
        b"int32_t __tvm_ffi_no(void *self);",
        b"void f(void) { __tvm_ffi_no(1); }",
        b"void *__tvm_ffi__library_ctx(void) { return 0; }",
    ],
)
def test_what_a_source_only_mentions_is_no_kernel(text: bytes) -> None:
    (part,) = read_upload("lib0.c", text + b"\n" + SOURCE)
    assert part.kernels == ("add",)


def test_a_tar_is_taken_packed_and_unpacked() -> None:
    tar = pack([("lib0.o", OBJECT), ("lib1.c", SOURCE)])
    for data in (tar, gzip.compress(tar)):
        parts = read_upload("tvm_tmp_mod.tar", data)
        assert [part.name for part in parts] == ["lib0.o", "lib1.c"]
        assert kernel_names(parts) == ["mul", "add"]


@pytest.mark.parametrize("name", ["../../etc/lib0.c", "/abs/lib0.c", "C:\\dir\\lib0.c", "a/b/../lib0.c"])
def test_members_are_taken_by_name_and_never_by_path(name: str) -> None:
    (part,) = read_upload("up.tar", pack([(name, SOURCE)]))
    assert part.name == "lib0.c"


def test_folders_of_a_tar_are_passed_over() -> None:
    tar = pack([("lib0.c", SOURCE)])
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    assert len(read_upload("up.tar", folder.tobuf() + tar)) == 1


def test_each_module_has_a_main_and_one_of_them_is_enough() -> None:
    main = SOURCE.replace(b"_add", b"_main")
    parts = read_upload("up.tar", pack([("a.c", SOURCE + main), ("b.c", SOURCE.replace(b"_add", b"_sub") + main)]))
    assert kernel_names(parts) == ["add", "main", "sub"]


# --- what is not ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    assert "lib0.c is no plain file (a link, a device)" in refusal("up.tar", pack([("lib0.c", SOURCE)], kind))


def test_a_bomb_is_not_unpacked() -> None:
    data = gzip.compress(bytes(objects.MOST_UNPACKED_BYTES + 10))
    assert "has more than 33554432 bytes when it is unpacked" in refusal("up.tar", data)


def test_more_members_than_are_taken_are_refused() -> None:
    tar = pack([(f"lib{i}.c", SOURCE.replace(b"add", b"f%d" % i)) for i in range(objects.MOST_MEMBERS + 1)])
    assert "is too large: at most 64 files" in refusal("up.tar", tar)


def test_a_large_member_is_refused() -> None:
    assert "is too large" in refusal("up.tar", pack([("lib0.o", bytes(objects.MOST_MEMBER_BYTES + 1))]))


def test_a_large_source_is_refused() -> None:
    assert "of a C source at most 4194304 are taken" in refusal("x.c", SOURCE + b" " * objects.MOST_SOURCE_BYTES)


def test_two_members_of_one_name_are_refused() -> None:
    assert "has two files called lib0.c" in refusal("up.tar", pack([("a/lib0.c", SOURCE), ("b/lib0.c", SOURCE)]))


def test_a_kernel_in_two_parts_is_refused() -> None:
    assert "add is in a.c and in b.c" in refusal("up.tar", pack([("a.c", SOURCE), ("b.c", SOURCE)]))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.bin", b"\0\1\2", "is neither an object (ELF) nor a C source (.c) nor a tar of them"),
        ("x.tar", b"", "is neither an object"),
        ("x.c", b"\xff\xfe", "is no C source: it is not UTF-8 text, at byte 0"),
        ("x.c", b"int main(void) { return 0; }", "has no kernel that TVM compiled"),
        ("x.tar", b"BZh91AY", "is packed with bzip2"),
        ("x.tar", b"\x1f\x8b garbage", "cannot be unpacked"),
        ("x.tar", gzip.compress(pack([("a.c", SOURCE)]), mtime=0)[:-20], "ends too early"),
        ("x.tar", pack([]) + bytes(10), "is neither an object"),
        ("x.so", make_object([("__tvm_ffi_f", GLOBAL, 1)], kind=3), "is a shared library, and cannot be linked"),
        ("x.exe", make_object([("__tvm_ffi_f", GLOBAL, 1)], kind=2), "is a whole program"),
        ("x.o", make_object([("__tvm_ffi_a b", GLOBAL, 1)]), "has a name that C does not take"),
        ("x.o", make_object([("__tvm_ffi_f\x1b[2J", GLOBAL, 1)]), "\\x1b"),
    ],
)
def test_what_is_no_upload_is_told_in_words(name: str, data: bytes, words: str) -> None:
    assert words in refusal(name, data)


def test_a_damaged_upload_is_read_or_refused_with_one_error() -> None:
    data = pack([("lib0.o", OBJECT), ("lib1.c", SOURCE)])
    refused = 0
    for at in [*range(0, 600, 3), *range(600, len(data), 97)]:
        for value in (0, 0x80, 0xFF):
            try:
                read_upload("up.tar", data[:at] + bytes([value]) + data[at + 1 :])
            except FirmwareError:
                refused += 1
    assert refused > 100


def test_a_chain_of_long_names_is_one_error() -> None:
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 4
    data = (link.tobuf(tarfile.GNU_FORMAT) + b"abc".ljust(512, b"\0")) * 3000
    assert "is no tar, or a damaged one" in refusal("up.tar", data)


def test_an_object_for_another_processor_is_told_before_anything_is_linked() -> None:
    parts = read_upload("lib0.o", OBJECT)
    check_machine(parts, "posix", Machine(40, 32, True))
    with pytest.raises(FirmwareError, match=r"^lib0\.o: is for ARM, 32 bits, little-endian, but posix is x86-64, 64"):
        check_machine(parts, "posix", Machine(62, 64, True))


def test_members_are_bounded_together_and_kernels_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tar = pack([("a.c", SOURCE), ("b.c", SOURCE.replace(b"_add", b"_sub"))])
    monkeypatch.setattr(objects, "MOST_UNPACKED_BYTES", 2 * len(SOURCE))
    assert len(read_upload("up.tar", tar)) == 2
    monkeypatch.setattr(objects, "MOST_KERNELS", 1)
    assert "up.tar: has 2 kernels, at most 1 are taken" in refusal("up.tar", tar)
    monkeypatch.setattr(objects, "MOST_UNPACKED_BYTES", 2 * len(SOURCE) - 1)
    assert "up.tar: is too large" in refusal("up.tar", tar)
