"""docs/troubleshooting.md has every error that opening ends with, as it is printed, and none that there is not."""

from __future__ import annotations

import ast
import errno
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from commands import run, run_on_port
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

import microrpc
from microrpc.errors import MicroRpcError
from microrpc.wire.frames import encode_frame
from microrpc.wire.session import encode_log

ROOT = pathlib.Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PORT = "/dev/ttyACM0"

# --- the page against the code: where the errors of opening are made -----------------------------------

MODULES = (
    *("ports/aio", "ports/channel", "ports/holders", "ports/lost", "ports/opening", "ports/pyserial", "ports/refusal"),
    *("ports/options", "ports/pty", "ports/sockets", "ports/tty", "ports/urls"),
    *("connecting/address", "connecting/aio", "connecting/blocking", "connecting/connection"),
    *("connecting/openers/__init__", "connecting/openers/emulated", "connecting/openers/serial"),
    *("connecting/openers/sim", "connecting/openers/stream", "connecting/labgrid", "connecting/watching"),
    *("boards/catalogue", "boards/finding", "boards/resets", "boards/strategies", "host/diagnosis"),
    *("firmware/emulation", "firmware/emulator", "firmware/emulator_process"),
    *("gateway/unix", "../pytest_microrpc/desk", "../pytest_microrpc/locks", "../pytest_microrpc/setups"),
)
CALLING = (
    "client/refusals",
    "host/board",
    "host/requests",
    "host/trust",
    "serve/memory",
    "wire/checks",
    "wire/parameters",
)
OTHERS = {  # what is no text of an error of opening, by the beginning of its longest part
    "does not seem to support RFC2217",  # pyserial's
    "does not accept parameter change",  # pyserial's
    "the server hung up",  # a reason, of which the caller makes a text
    ": it was reset, its memory is lost",
    ": it is back,",
    "its memory is lost",
    "the name of a board",
    "<Emulator of",
    "it did not print where its port is",  # how the line ends that QEMU is asked for: no user sees it
    "with its port",
    "read -r _; kill",
    # What --verbose says.
    ", sent again by the link:",
    "packets cross it without frames, and are not shown",
    "the board is reset",
    "is reset:",
    "session 0x",
    ": open; board profile",
    # Parts of texts that are there in whole.
    "install what it is built with",
    "; and in",
    "microrpc tvm serve --capture FILE",
    "the baud rate is",
    "they look like those",
    "it looks like one",
    ", serial number",
    "simulated",  # how the report's head tells of the boards
    ", fault seed",
    "without a port a board was named",  # an assertion
    "add yourself to its group with",
    "ls -l",
}
GAP = "\0"
WORDS = 3  # spaces that a text has at least: less is no sentence


def texts_in(path: pathlib.Path) -> Iterator[str]:
    """Give the texts of a module in which there are sentences, what is filled in being a gap."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.add(node.value)  # a docstring
        elif isinstance(node, ast.JoinedStr):
            parts.update(node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces = (piece.value if isinstance(piece, ast.Constant) else GAP for piece in node.values)
            text = "".join(map(str, pieces))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            text = re.sub(r"%[sdr]", GAP, node.value)
        else:
            continue
        if text.count(" ") >= WORDS and not re.search(r"\|.*\||\\", text):  # a pattern is no text
            yield text


def longest_part(text: str) -> str:
    """Give the longest part of a text between gaps, up to what the page cannot quote."""
    parts = (part.strip() for piece in text.split(GAP) for part in piece.split("`"))
    return max(parts, key=len)


def texts_of_opening() -> list[str]:
    return [text for module in MODULES for text in texts_in(ROOT / "microrpc" / f"{module}.py")]


def texts_of_calls() -> list[str]:
    return [text for module in CALLING for text in texts_in(ROOT / "microrpc" / f"{module}.py")]


def plain(text: str) -> str:
    return " ".join(text.split())


def quotes() -> list[str]:
    """Give what the page quotes: spans in the columns of what is printed, and those of several words in the prose."""
    found = []
    for line in GUIDE.splitlines():
        if line.startswith("| "):
            cells = re.split(r" \| ", line.strip("| "))
            is_session = line in section("No session comes about")
            cells = [cells[1] if is_session and len(cells) > 3 else cells[0]]
            found += [span for cell in cells for span in re.findall(r"`(.+?)`", cell)]
        elif not line.startswith("    "):
            found += [span for span in re.findall(r"`(.+?)`", line) if span.count(" ") > WORDS and "..." in span]
    return [quote for quote in found if " " in quote]


def section(title: str) -> str:
    return GUIDE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_page_has_every_text_of_opening() -> None:
    page = plain(GUIDE)
    known = {longest_part(text) for text in texts_of_opening()}
    assert len(known) > 60
    missing = [part for part in known if part[:40] not in page and not any(part.startswith(other) for other in OTHERS)]
    assert sorted(missing) == []


def test_what_the_page_quotes_is_said_by_the_code() -> None:
    said = [plain(text.replace(GAP, " ... ")) for text in [*texts_of_opening(), *texts_of_calls()]]
    unsaid = []
    for quote in quotes():
        for part in re.split(r"\.\.\.|[.:] |/dev/ttyACM0|COM3|\d+", quote):
            words = part.strip(" .,:;()")
            if words.count(" ") >= WORDS and not any(words in text for text in said):
                unsaid.append(words)
    assert len(quotes()) > 70
    assert unsaid == []


def test_what_is_named_as_no_text_of_opening_is_still_there() -> None:
    known = [longest_part(text) for text in texts_of_opening()]
    assert [other for other in OTHERS if not any(part.startswith(other) for part in known)] == []


# --- what is printed against the page --------------------------------------------------------------------


def assert_told(said: str, start: str = "") -> None:
    """Assert that something that the page quotes, and that begins so, is in what was said."""
    said = plain(said)
    patterns = {
        quote: ".*".join(re.escape(part) for part in re.split(r"\.\.\.|/dev/ttyACM0|COM3", quote)) for quote in quotes()
    }
    told = [quote for quote, pattern in patterns.items() if quote.startswith(start) and re.search(pattern, said)]
    telling = [quote for quote in told if quote != "... cannot be opened: ..."]
    assert telling, f"the page does not have:\n{said}"


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ("info /tmp", "/dev/ttyACM0 is not a serial port"),
        ("info socket://no.such.host.invalid:5000", "...: the host ... is not known"),
        ("info socket://127.0.0.1:9", "...: nothing listens there"),
        ("info rfc2217://127.0.0.1:9", "...: nothing answers there"),
        ("info rfc2217://", "...: write ...:"),
        ("info rfc2217://host:99999", "...: a TCP port is"),
        ("info rfc2217://[host:2217", "...: write rfc2217:"),
        ("info socket://here", "...: write ...:"),
        ("info unix:///tmp/no-such-socket", "...: no board is shared there"),
        ("info unix://", "...: the address of a shared board"),
        ("info tvm://127.0.0.1:9?name=x", "...: write tvm:"),
        ("info simm://", "...: nothing opens"),
        ("info sim", "there is no port ...; did you mean ...?"),
        ("info sim:// --board no_such_board", "there is no board profile"),
        ("info sim://arduino_uno --board arduino_mega", "... is the board"),
        ("info --board arduino_uno", "no ... is plugged in"),
        ("info --board netduinoplus2", "the profile ... has no USB ids"),
        ("reset /dev/null --board nucleo_f746zg", "... cannot be reset over its port"),
    ],
)
def test_an_error_is_on_the_page_as_it_is_printed(words: str, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    result = run(*words.split())
    assert result.code in (3, 5), result
    assert_told(result.err, start)


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ({}, "no port and no board"),
        ({"port": "emulated://nothing"}, "...: microrpc has no firmware"),
        ({"port": 5}, "a port is a text"),
        ({"port": "sim://", "timeouts": 3}, "timeouts are several"),
    ],
)
def test_an_error_of_a_program_is_on_the_page(arguments: dict[str, object], start: str) -> None:
    with pytest.raises(MicroRpcError) as caught:
        microrpc.connect(**arguments)  # type: ignore[arg-type]
    assert_told(str(caught.value), start)


@pytest.mark.parametrize(("there", "start"), [(["/dev/ttyS0"], "those there are"), ([], "no serial port is there")])
def test_a_port_that_is_not_there(there: list[str], start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [ListPortInfo(name) for name in there])
    said = run("call", "/dev/no-such-port", "add", "2", "3").err
    assert_told(said, f"there is no port {PORT}: {start}")


def test_a_port_that_only_others_may_open(monkeypatch: pytest.MonkeyPatch, others_port: pathlib.Path) -> None:
    port = others_port

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    assert_told(run("call", port, "add", "2", "3").err, f"{PORT} may not be opened by this user: add yourself")
    monkeypatch.setattr(os, "getgroups", lambda: [port.stat().st_gid])
    assert_told(run("call", port, "add", "2", "3").err, f"{PORT} may not be opened by this user: see")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert_told(run("call", port, "add", "2", "3").err, f"{PORT} may not be opened by this user: not even root")


@pytest.mark.parametrize(
    ("words", "start"),
    [
        ("call sim:// scael 2", "... has no function ...: neither"),
        ("call sim:// iota x", "...: argument 1 (...) is ..., expected ..."),
        ("call sim:// sleep_ms 9000 --timeout 0.2", "no reply of ... within"),
        ("call sim:// iota 1000000", "...: out of memory: ... bytes asked for"),
    ],
)
def test_what_the_first_calls_end_with(words: str, start: str) -> None:
    assert_told(run(*words.split()).err, start)


def test_a_board_that_has_ended_says_why() -> None:
    board = microrpc.connect("sim://")
    board.close()
    with pytest.raises(microrpc.ClosedError) as caught:
        board.function("add")
    assert_told(str(caught.value), "the connection to ... is closed")


def test_a_port_that_another_program_has_or_this_one() -> None:
    master, line = os.openpty()
    port = os.ttyname(line)
    opens = "import fcntl, sys; f = open(sys.argv[1], 'rb', 0); fcntl.flock(f, fcntl.LOCK_EX)"
    holds = f"{opens}; print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        said = run("call", port, "add", "2", "3").err
        holder.communicate("\n", timeout=20)
    assert_told(said, f"{PORT} is in use by ...")
    from microrpc.ports.opening import open_serial

    channel = open_serial(port, baud=115200)
    said = run("call", port, "add", "2", "3").err
    channel.close()
    os.close(line)
    os.close(master)
    assert_told(said, f"{PORT} is in use by this very program")


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        ("Nothing came from it", b""),
        ("It sent ... bytes of text, .... An interpreter", b"\r\n>>> "),
        ("A boot loader talks", b"U-Boot 2024.01\r\nHit any key to stop autoboot\r\n"),
        ("The firmware crashed", b"***** HARD FAULT *****\r\n"),
        ("A console is there", b"login: "),
        ("Other firmware runs there", b"temperature 21.5\r\n"),
        ("Only what was sent came back", None),
        ("The ... that came begin with telnet", b"\xff\xfb\x03\xff\xfd\x01\xff\xfb\x01"),
        ("It sent frames", encode_frame(encode_log("hello"))),
        ("The ... that came ... neither", bytes(range(0x80, 0xC0))),
    ],
)
def test_a_port_that_answers_something_else(start: str, answer: bytes | None) -> None:
    result = run_on_port(answer, "call", "PORT", "add", "2", "3", "--timeout", "0.4")
    assert result.code == 4
    said = result.err
    assert_told(said, start)
    assert_told(said, "no session with the board")
