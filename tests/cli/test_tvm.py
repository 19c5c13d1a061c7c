"""`microrpc tvm serve` as a shell runs it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from commands import run
from processes import COMMAND, first_line
from tvm_gateway import Client, RefusedError

LIMIT_S = 30.0


@contextlib.contextmanager
def serve(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run `microrpc tvm serve` on any free port."""
    command = [*COMMAND, "tvm", "serve", "--listen", "0", *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def address_of(line: str) -> tuple[str, int]:
    host, _, port = line.rpartition(":")
    return host, int(port)


def test_a_board_is_served_until_a_signal_and_sessions_are_told_of_where_that_is_wanted() -> None:
    with serve("sim://", "--verbose") as process:
        address = address_of(first_line(process))
        assert address[0] == "127.0.0.1"
        with Client(address, "loopback") as client:
            assert client.call("add", 2, 3) == 5
            client.goodbye()
        with Client(address) as client:
            client.look_up("add")
            began_at = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=LIMIT_S)
            assert client.is_closed()
        assert (process.returncode, out) == (0, "")
        assert time.monotonic() - began_at < LIMIT_S
        opened, in_session, *sessions, closed = err.splitlines()
        assert opened.startswith("sim://: open; board profile loopback")
        assert in_session.startswith("sim://: session 0x")
        assert closed.startswith("sim://: closed; ")
        assert sessions == [
            "sim://: session 1 began",
            "sim://: session 1 is over: it said goodbye",
            "sim://: session 2 began",
            "sim://: session 2 is over: it was ended",
        ]


def test_several_boards_are_told_apart_by_their_keys_and_told_of_as_json() -> None:
    with serve("sim://", "sim://nucleo_f746zg", "--key", "a", "--key", "b", "--json") as process:
        told = json.loads(first_line(process))
        assert told["boards"] == [{"port": "sim://", "key": "a"}, {"port": "sim://nucleo_f746zg", "key": "b"}]
        address = told["host"], told["port"]
        with Client(address, "b") as second, Client(address, "a") as first:
            assert (first.server_key, second.server_key) == ("server:a", "server:b")
            assert first.call("add", 1, 2) == second.call("add", 2, 1) == 3
        process.terminate()
        assert process.wait(LIMIT_S) == 0


def test_nothing_uploaded_is_run_unless_it_is_allowed() -> None:
    with serve("sim://") as process, Client(address_of(first_line(process))) as client:
        client.call("tvm.rpc.server.upload", "m.tar", b"abc")
        with pytest.raises(RefusedError, match="--allow-load"):
            client.call("tvm.rpc.server.load_module", "m.tar")


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (
            ("sim://", "--key", "a", "--key", "b"),
            2,
            "--key: 2 are given, and boards 1: give one for all, or one for each",
        ),
        (("sim://", "--key", "a:b"), 5, "a key is 1 to 200 characters without colons and blanks"),
        (
            ("sim://", "--listen", "here"),
            2,
            "--listen here: write HOST:PORT, or PORT alone, for example 127.0.0.1:9090",
        ),
        (("sim://", "--listen", "127.0.0.1:99999"), 2, "--listen 127.0.0.1:99999: a port is from 0 to 65535"),
        (("sim://", "--tracker", "9190"), 2, "--tracker 9190: write HOST:PORT, for example 127.0.0.1:9190"),
        (("sim://", "--tracker", "here:65536"), 2, "--tracker here:65536: a port is from 0 to 65535"),
        (("sim://", "--address", "here"), 2, "--address: it is what a tracker is told; give --tracker, too"),
        (("sim://", "--timeout", "0"), 2, "--timeout 0: more than 0 seconds"),
        ((), 2, "name a PORT (`microrpc ports` lists them), or the --board to look for"),
        (("/dev/nothing_here",), 3, "/dev/nothing_here"),
        (("sim://", "--listen", "192.0.2.1:9090"), 3, "nothing can listen on 192.0.2.1:9090"),
    ],
)
def test_what_cannot_be_served_is_one_clear_error(args: tuple[str, ...], code: int, text: str) -> None:
    ran = run("tvm", "serve", *args)
    assert (ran.code, ran.out) == (code, "")
    assert text in ran.err


def test_an_address_that_others_reach_is_warned_of() -> None:
    with serve("sim://", "--listen", "0.0.0.0:0") as process:
        assert address_of(first_line(process))[0] == "0.0.0.0"
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
        assert "warning: whoever reaches 0.0.0.0:0 over the network can use the boards" in err
        assert "no password" in err


def test_boards_that_a_tracker_on_another_computer_cannot_hand_out_are_warned_of() -> None:
    with serve("sim://", "--tracker", "192.0.2.1:9190") as process:
        first_line(process)
        process.terminate()
        _, err = process.communicate(timeout=LIMIT_S)
        assert "warning: clients on other computers do not reach 127.0.0.1" in err
        assert process.returncode == 0
