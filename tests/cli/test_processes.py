"""The command line as a shell runs it: processes, pipes and signals."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from processes import first_line, run, serve


def test_the_demonstration_in_a_pipe_is_plain_text_and_exits_with_0() -> None:
    result = run("demo")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert "\r" not in result.stdout
    assert not any(line != line.rstrip() for line in result.stdout.splitlines())
    assert result.stdout.splitlines()[-1].startswith("all ")


def test_a_simulated_board_serves_one_process_after_another(tmp_path: Path) -> None:
    link, data = tmp_path / "board", tmp_path / "data"
    data.write_bytes(bytes(range(256)) * 20)
    with serve("--link", link, "--board", "nucleo_f746zg") as server:
        assert first_line(server) == str(link)
        info = run("info", link)
        assert (info.returncode, info.stderr) == (0, "")
        assert run("call", link, "add", "-2", "3").stdout == "1\n"
        put = run("put", link, data)
        address, size, _ = put.stdout.split()
        get = run("get", link, address, size, tmp_path / "back")
        assert get.returncode == 0
        assert (tmp_path / "back").read_bytes() == data.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_simulated_board_and_removes_its_link(tmp_path: Path, number: signal.Signals) -> None:
    link = tmp_path / "board"
    with serve("--link", link) as server:
        assert first_line(server) == str(link)
        assert link.is_symlink()
        server.send_signal(number)
        assert server.wait(timeout=10) == 0
        assert not link.is_symlink()


def test_a_file_in_the_place_of_the_link_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "board"
    link.write_text("precious")
    result = run("sim", "--link", link)
    assert (result.returncode, result.stdout) == (3, "")
    assert "is no link" in result.stderr
    assert link.read_text() == "precious"


def test_an_error_is_one_line_on_stderr() -> None:
    result = run("call", "sim://", "fail")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: fail: this function always fails\n"
