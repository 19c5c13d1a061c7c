"""The port of a board that was flashed is waited for: it is that one, or the one that appears, or an error tells."""

from __future__ import annotations

import dataclasses

import pytest
from serial.tools.list_ports_common import ListPortInfo

from microrpc.boards import booting
from microrpc.boards.booting import BootedPort
from microrpc.boards.catalogue import profile
from microrpc.errors import HandshakeTimeoutError, PortError, PortLostError, PortNotFoundError

PICO = dataclasses.replace(profile("rpi_pico"), power_up_s=0.05)


def plugged(name: str, location: str = "1-4:1.0", usb: tuple[int, int] = (0x2E8A, 0x000A)) -> ListPortInfo:
    port = ListPortInfo(name)
    (port.vid, port.pid), port.location, port.serial_number = usb, location, None
    return port


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> list[ListPortInfo]:
    """Those that there are. Nothing is waited for longer than a moment."""
    there: list[ListPortInfo] = []
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: list(there))
    monkeypatch.setattr(booting, "BACK_S", 0.2)
    return there


def test_a_port_that_stays_away_is_told_with_how_long_it_was_waited_for(ports: list[ListPortInfo]) -> None:
    ports.append(plugged("/dev/ttyACM0"))
    booted = BootedPort(PICO, "/dev/ttyACM0")
    ports.clear()
    with pytest.raises(PortNotFoundError) as caught:
        booted.look(str)
    assert str(caught.value) == (
        "/dev/ttyACM0 (USB 2e8a:000a, at 1-4:1.0) went away and was not back within 0.25 s: there is no serial port "
        "at all. Check the cable and the power; else the program that it was given does not start"
    )


def test_a_port_whose_board_does_not_answer_is_tried_until_the_time_is_over(ports: list[ListPortInfo]) -> None:
    ports.append(plugged("/dev/ttyACM0"))
    tries: list[str] = []

    def answer(name: str) -> str:
        tries.append(name)
        if len(tries) == 1:
            raise PortLostError(name, "it resets once more")
        raise HandshakeTimeoutError("silent")

    with pytest.raises(HandshakeTimeoutError, match="silent"):
        BootedPort(PICO, "/dev/ttyACM0").look(answer)
    assert len(tries) > 1
    assert set(tries) == {"/dev/ttyACM0"}


def test_without_a_port_it_is_the_one_that_has_appeared(ports: list[ListPortInfo]) -> None:
    ports.append(plugged("/dev/ttyACM0"))
    booted = BootedPort(PICO, None)
    assert booted.can_be_known
    assert booted.look(str) is None
    ports.append(plugged("/dev/ttyACM1", "1-5:1.0"))
    assert booted.look(str) == "/dev/ttyACM1"
    ports.append(plugged("/dev/ttyACM2", "1-6:1.0"))
    with pytest.raises(PortError, match="2 ports may be rpi_pico"):
        booted.look(str)


def test_a_board_that_has_neither_a_port_nor_usb_ids_cannot_be_known(ports: list[ListPortInfo]) -> None:
    assert not BootedPort(profile("loopback"), None).can_be_known
