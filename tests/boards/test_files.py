"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from microrpc.boards.catalogue import load_profile
from microrpc.boards.files import WriteError, check_writable, is_own_output, read_whole, replacing
from microrpc.errors import ProfileError, reason_of


def write(path: Path, *, is_executable: bool = False, fail: type[BaseException] | None = None) -> None:
    with replacing(path, is_executable=is_executable) as file:
        file.write(b"new")
        if fail is not None:
            raise fail


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_is_made_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "data")
        write(tmp_path / "program", is_executable=True)
    finally:
        os.umask(before)
    assert (tmp_path / "data").read_bytes() == b"new"
    assert (mode_of(tmp_path / "data"), mode_of(tmp_path / "program")) == (0o640, 0o750)


def test_an_old_file_is_replaced_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"old and longer")
    path.chmod(0o604)
    write(path)
    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o604)
    assert list(tmp_path.iterdir()) == [path]


def test_a_program_can_be_run_whatever_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.touch(0o644)
    write(path, is_executable=True)
    assert mode_of(path) == 0o755


def test_whoever_reads_the_old_file_meanwhile_reads_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with replacing(path) as file:
            file.write(b"new")
            file.flush()
            assert path.read_bytes() == b"old"
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
@pytest.mark.parametrize("was_there", [True, False])
def test_what_goes_wrong_meanwhile_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException], was_there: bool
) -> None:
    path = tmp_path / "data"
    if was_there:
        path.write_bytes(b"old")
    with pytest.raises(error):
        write(path, fail=error)
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == ([(path, b"old")] if was_there else [])


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"old")
    program = f"""
import resource
from pathlib import Path
from microrpc.boards.files import WriteError, replacing

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with replacing(Path({str(path)!r})) as file:
        file.write(bytes(100_000))
except WriteError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.stdout, ran.stderr) == (f"cannot write {path}: File too large\n", "")
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(path, b"old")]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_only_at_the_end_leaves_the_old_file(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(WriteError, match="data: No space left on device"):
        write(path)
    assert [(each, each.read_bytes()) for each in tmp_path.iterdir()] == [(path, b"old")]


def test_a_file_system_that_cannot_sync_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail)
    write(tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"new"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link, dangling = tmp_path / "far" / "data", tmp_path / "link", tmp_path / "dangling"
    target.write_bytes(b"old")
    link.symlink_to("far/data")
    dangling.symlink_to("far/other")
    write(link)
    write(dangling)
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert target.read_bytes() == (tmp_path / "far" / "other").read_bytes() == b"new"


def test_a_pipe_is_written_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(path)
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_device_is_named() -> None:
    with pytest.raises(WriteError, match=r"^cannot write /dev/full: No space left on device$"):
        write(Path("/dev/full"))


def test_stdout_is_gone_on_with_wherever_it_leads(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from microrpc.boards.files import is_own_output, replacing

print("before")
assert is_own_output(Path(sys.argv[1]))
with replacing(Path(sys.argv[1])) as file:
    file.write(b"data\\n")
print("after")
"""
    for name in ("/dev/stdout", str(tmp_path / "out")):
        with (tmp_path / "out").open("wb") as out:
            subprocess.run([sys.executable, "-c", program, name], stdout=out, timeout=30, check=True)
        assert (tmp_path / "out").read_bytes() == b"before\ndata\nafter\n"
    assert not is_own_output(tmp_path / "out")
    assert not is_own_output(tmp_path / "none")


def test_what_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    cases = {
        tmp_path: "it is a directory",
        tmp_path / "none" / "data": f"there is no directory {tmp_path}/none",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / ("x" * 300): "File name too long",
    }
    for path, reason in cases.items():
        for attempt in (check_writable, write):
            with pytest.raises(WriteError) as caught:
                attempt(path)
            assert str(caught.value) == f"cannot write {path}: {reason}"
    check_writable(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_directory_or_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data"
    path.touch()
    denied: list[Path] = []
    monkeypatch.setattr(os, "access", lambda where, mode: Path(where) not in denied)  # root may do anything
    check_writable(path)
    for where, reason in (
        (tmp_path, f"no new file can be made in {tmp_path}: Permission denied"),
        (path, "Permission"),
    ):
        denied[:] = [where]
        with pytest.raises(WriteError, match=reason):
            write(path)


def test_an_error_without_a_number_says_something_all_the_same() -> None:
    assert reason_of(OSError("40 requested and 8 written")) == "40 requested and 8 written"
    assert reason_of(OSError()) == "OSError"
    assert reason_of(OSError(28, "No space left on device", "name")) == "No space left on device"


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 5])
def test_a_file_is_read_up_to_its_end_or_the_limit(size: int, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(size))
    assert read_whole(path, size) == bytes(size)
    if size:
        with pytest.raises(OSError, match=f"it has more than {size - 1} bytes"):
            read_whole(path, size - 1)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a file without an end")
def test_a_file_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(ProfileError, match=r"^/dev/zero: cannot be read: it has more than 1048576 bytes$"):
        load_profile("/dev/zero")
