"""`microrpc sim` as a shell runs it: on TCP, in real time, with faults."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from commands import run
from processes import first_line, serve

import microrpc

ROOT = Path(__file__).parent.parent.parent


def test_a_board_on_a_tcp_port_is_used_from_another_process() -> None:
    with serve("--tcp", "127.0.0.1:0") as server:
        path = first_line(server)
        assert path.startswith("socket://127.0.0.1:")
        assert run("call", path, "add", "2", "3").out == "5\n"
        assert run("call", path, "add", "3", "4").out == "7\n"


def test_a_port_number_alone_listens_on_the_loopback_interface() -> None:
    with serve("--tcp", "0") as server:
        assert first_line(server).startswith("socket://127.0.0.1:")


def test_listening_for_the_whole_network_is_warned_of(capfd: pytest.CaptureFixture[str]) -> None:
    with serve("--tcp", "0.0.0.0:0") as server:
        assert first_line(server).startswith("socket://0.0.0.0:")
    assert "warning: whoever reaches 0.0.0.0" in capfd.readouterr().err


def test_in_real_time_a_copy_takes_as_long_as_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8
    with serve("--real-time", "--board", "arduino_due", "--link", tmp_path / "board") as server:
        path = first_line(server)
        with microrpc.connect(path, board="arduino_due") as board:
            array = board.empty((len(data),), "uint8")
            start = time.monotonic()
            array.write(memoryview(data))
            assert time.monotonic() - start >= len(data) * 10 / 115200


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """Give the profile `loopback`, but for how long a board that hangs is waited for."""
    path = tmp_path / "impatient.toml"
    text = (
        (ROOT / "boards/loopback.toml")
        .read_text()
        .replace("start_s = 5.0", "start_s = 0.6")
        .replace("retry_s = 2.0", "retry_s = 0.2")
    )
    path.write_text(text.replace('name = "loopback"', 'name = "impatient"'))
    return path


def test_faults_strike_and_are_announced(tmp_path: Path, capfd: pytest.CaptureFixture[str], impatient: Path) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text('seed = 3\n[[fault]]\nkind = "reset"\nfunction = "mul"\n')
    with serve("--faults", faults, "--fault", 'kind = "wedge", function = "reverse"') as server:
        path = first_line(server)
        reset = run("call", path, "mul", "2", "3")
        assert reset.code == 4
        assert "the board was reset" in reset.err
        assert run("call", path, "mul", "2", "3").out == "6\n"
        hung = run("call", path, "reverse", "x", "--timeout", "0.2", "--board-file", impatient)
        assert hung.code == 4
        assert "no reply of CallFunc within 0.2 s" in hung.err
    announced = capfd.readouterr().err
    assert "--fault-seed 3" in announced
    assert 'kind = "wedge", function = "reverse"' in announced


def test_stock_firmware_can_be_chosen(impatient: Path) -> None:
    with serve("--firmware", "stock") as server:
        path = first_line(server)
        failed = run("call", path, "fail_silent")
        assert failed.code == 1
        with microrpc.connect(path) as board:
            board.close(shutdown=True)
        deaf = run("info", path, "--timeout", "0.2", "--board-file", impatient)
        assert deaf.code == 4
        assert "reset it" in deaf.err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("--tcp", "nonsense"), 2, "write HOST:PORT"),
        (("--tcp", "127.0.0.1:99999"), 3, "from 0 to 65535"),
        (("--tcp", "0", "--link", "board"), 2, "give one of them"),
        (("--firmware", "vintage"), 2, "must be robust or stock"),
        (("--fault-seed", "3"), 5, "there are no faults to seed"),
        (("--fault", "flip"), 5, 'write it as in: kind = "flip"'),
        (("--fault", 'kind = "flop"'), 5, "kind: must be one of flip, drop"),
        (("--fault", 'kind = "flip", rate = 2'), 5, "rate must be from 0 to 1"),
        (("--faults", "missing.toml"), 6, "missing.toml: cannot be read"),
    ],
)
def test_a_wrong_option_is_one_clear_error(args: tuple[str, ...], code: int, text: str) -> None:
    result = run("sim", *args)
    assert (result.code, result.out) == (code, "")
    assert text in result.err
    assert result.err.startswith("error: ")
    assert len(result.err.splitlines()) == 1
