"""What the Tab key offers. tests/cli/test_shells.py presses it in real shells."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import microrpc.ports.usb
from microrpc.boards.catalogue import profiles
from microrpc.cli import completing
from microrpc.errors import ProfileError
from microrpc.firmware.project import emulated_names, port_names


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        SimpleNamespace(device="/dev/ttyACM0", description="Pico (CDC): it's"),
        SimpleNamespace(device="/dev/ttyUSB1", description=None),
    ]
    monkeypatch.setattr(microrpc.ports.usb, "serial_ports", lambda: found)


def words(offer: completing.Offer) -> list[str]:
    return [word for word, _ in offer]


def test_ports_are_those_that_are_plugged_in_and_boards_that_need_none() -> None:
    assert completing.ports("/dev/") == [("/dev/ttyACM0", "Pico  CDC   it s"), ("/dev/ttyUSB1", "")]
    assert words(completing.ports("")) == ["/dev/ttyACM0", "/dev/ttyUSB1", "sim://", "qemu://", "emulated://"]
    assert words(completing.ports("/tmp/")) == words(completing.ports("socket://")) == []


def test_boards_that_are_simulated_and_emulated_are_named_as_soon_as_one_is_typed() -> None:
    for begun in ("s", "sim:", "sim://"):
        assert words(completing.ports(begun)) == ["sim://", *(f"sim://{name}" for name in profiles())]
    assert words(completing.ports("sim://nucleo_f7")) == ["sim://nucleo_f746zg"]
    qemu = [f"qemu://{name.removeprefix('qemu_')}" for name in emulated_names() if name.startswith("qemu_")]
    assert words(completing.ports("q")) == words(completing.ports("qemu://")) == qemu
    others = [f"emulated://{name}" for name in emulated_names() if not name.startswith("qemu_")]
    assert words(completing.ports("emu")) == others


def test_boards_and_firmware_are_completed_by_name() -> None:
    assert words(completing.boards("arduino_")) == [name for name in profiles() if name.startswith("arduino_")]
    assert words(completing.firmware("qemu_")) == [name for name in port_names() if name.startswith("qemu_")]
    assert words(completing.ports_and_boards("/dev/ttyA")) == ["/dev/ttyACM0"]
    assert words(completing.ports_and_boards("arduino_d")) == ["arduino_due"]


def test_what_cannot_be_found_out_is_not_offered_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[str]:
        raise ProfileError("no profiles")

    monkeypatch.setattr("microrpc.boards.catalogue.names", refuse)
    assert completing.boards("a") == []
    context = SimpleNamespace(params={"port": "sim://nosuch"})
    assert completing.functions(context, "") == []  # type: ignore[arg-type]


def test_functions_of_a_simulated_board_are_known_without_having_asked_one() -> None:
    context = SimpleNamespace(params={"port": "sim://nucleo_f746zg"})
    offer = completing.functions(context, "rev")  # type: ignore[arg-type]
    assert words(offer) == ["reverse"]
    assert completing.functions(SimpleNamespace(params={"port": "/dev/ttyACM0"}), "") == []  # type: ignore[arg-type]
    assert completing.functions(SimpleNamespace(params={}), "") == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bashs", "users", "had"),
    [
        (["info", "sim", ":", "//x"], ["info", "sim://x"], "sim:"),
        (["info", "sim", ":"], ["info", "sim:"], "sim:"),
        (["info", "si"], ["info", "si"], ""),
        (["call", "sim", ":", "//", "rev"], ["call", "sim://", "rev"], ""),
        (["info", "socket", ":", "//h", ":", "99"], ["info", "socket://h:99"], "socket://h:"),
        (["info", "--board", "=", "ard"], ["info", "--board", "ard"], ""),
        (["info", "--board", "="], ["info", "--board", ""], ""),
        (["call", "sim", ":", "//", "f", "a", "=", "b"], ["call", "sim://", "f", "a", "=", "b"], ""),
        (["info", "sim://x"], ["info", "sim://x"], ""),  # who has taken the colon out of COMP_WORDBREAKS
        ([":"], [":"], ""),
        (["info", ""], ["info", ""], ""),
    ],
)
def test_words_that_bash_has_cut_are_joined(bashs: list[str], users: list[str], had: str) -> None:
    assert completing.joined(bashs, len(bashs) - 1) == (users, had)
    assert completing.joined([*bashs, "behind", "it"], len(bashs) - 1) == (users, had)


@pytest.mark.parametrize("shell", ["complete_zsh", "complete_fish", "", None])
def test_other_shells_get_what_typer_says(shell: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"COMP_WORDS": "microrpc sim : //", "COMP_CWORD": "3"} | (
        {} if shell is None else {"_MICRORPC_COMPLETE": shell}
    )
    before = dict(environ)
    with completing.in_bash(environ):
        print("sim://x")
    assert (environ, capsys.readouterr().out) == (before, "sim://x\n")


def test_bash_gets_what_is_left_of_its_own_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    environ = {"_MICRORPC_COMPLETE": "complete_bash", "COMP_WORDS": "microrpc\ninfo\nsim\n:\n//n", "COMP_CWORD": "4"}
    with contextlib.suppress(SystemExit), completing.in_bash(environ):
        print("sim://nucleo_f746zg")
        sys.exit(0)  # as typer does
    assert (environ["COMP_WORDS"], environ["COMP_CWORD"]) == ("microrpc info sim://n", "2")
    assert out.getvalue() == "//nucleo_f746zg\n"


def test_a_quote_that_is_open_keeps_its_words() -> None:
    environ = {"_MICRORPC_COMPLETE": "complete_bash", "COMP_WORDS": "microrpc\ninfo\n'sim://n", "COMP_CWORD": "2"}
    with completing.in_bash(environ):
        pass
    assert environ["COMP_WORDS"] == "microrpc info sim://n"


def test_completing_loads_neither_the_simulator_nor_numpy_where_it_offers_ports() -> None:
    program = (
        "import sys; from microrpc.cli import completing; completing.ports('/dev/'); completing.boards('a');"
        "print(sorted({'numpy', 'firmware_sim', 'microrpc.client', 'microrpc.firmware'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert ran.stdout == "[]\n", Path.cwd()
