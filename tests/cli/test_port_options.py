"""The options of a port, as every command takes them that opens one."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.ports.opening import open_serial
from microrpc.ports.options import PortOptions


@pytest.mark.parametrize("command", ["info", "call", "put", "get", "reset", "share"])
def test_every_command_that_opens_a_port_has_them(command: str) -> None:
    shown = run(command, "--help").out
    for option in ("--dtr / --no-dtr", "--rts / --no-rts", "--hang-up / --no-hang-up", "--low-latency"):
        assert option in shown


def test_they_reach_the_port_and_what_is_not_said_is_the_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def note(port: str, **settings: object) -> object:
        seen.append(settings["options"])
        return open_serial(port, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("microrpc.connecting.openers.serial.open_serial", note)
    mine = tmp_path / "mine.toml"
    mine.write_text(
        'name = "mine"\ndescription = "x"\nbaud = 9600\npacket_size_bytes = 2048\nheap_bytes = 1\nhang_up = false\n'
    )
    with PtyServer(simulate(profile("loopback"))) as server:
        assert run("call", server.path, "add", "2", "3", "--no-dtr", "--low-latency").out == "5\n"
        assert run("call", server.path, "add", "2", "3", "--board-file", str(mine), "--rts").out == "5\n"
        assert run("reset", server.path, "--memory", "--no-hang-up").out.endswith("has freed 0 bytes\n")
    assert seen == [
        PortOptions(dtr=False, low_latency=True),
        PortOptions(rts=True, hang_up=False),
        PortOptions(hang_up=False),
    ]
