from __future__ import annotations

import pytest
from serial.tools.list_ports_common import ListPortInfo

from microrpc.boards.catalogue import profile, profiles
from microrpc.boards.finding import boards_behind, find_port
from microrpc.errors import PortError, PortNotFoundError
from microrpc.ports.usb import UsbId, serial_ports, usb_id


def port(device: str, ids: str = "", serial_number: str | None = None, location: str | None = None) -> ListPortInfo:
    info = ListPortInfo(device)
    if ids:
        info.vid, info.pid = (int(part, 16) for part in ids.split(":"))
    info.serial_number, info.location = serial_number, location
    return info


PLAIN = port("/dev/ttyS0")
NUCLEO = port("/dev/ttyACM0", "0483:374b", "066F", "1-2:1.2")
NUCLEO_2 = port("/dev/ttyACM1", "0483:374b", "0670", "1-3:1.2")
DUE = port("/dev/ttyACM2", "2341:003d")


def test_the_ports_come_in_the_order_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "serial.tools.list_ports.comports", lambda: iter([PLAIN, NUCLEO_2, port("/dev/ttyACM10"), NUCLEO])
    )
    assert [one.device for one in serial_ports()] == ["/dev/ttyACM0", "/dev/ttyACM1", "/dev/ttyACM10", "/dev/ttyS0"]


def test_a_port_has_the_id_of_its_usb_device_if_it_is_one() -> None:
    assert usb_id(NUCLEO) == UsbId(0x0483, 0x374B)
    assert usb_id(PLAIN) is None


def test_all_boards_that_have_an_id_are_named() -> None:
    known = profiles().values()
    assert boards_behind(NUCLEO, known) == ["nucleo_f746zg", "nucleo_l4r5zi", "stm32f746g_disco"]
    assert boards_behind(DUE, known) == ["arduino_due"]
    assert boards_behind(PLAIN, known) == []
    assert boards_behind(port("/dev/ttyUSB0", "0403:6001"), known) == []


def test_the_one_port_of_a_board_is_found() -> None:
    assert find_port(profile("nucleo_f746zg"), [PLAIN, NUCLEO, DUE]) == "/dev/ttyACM0"
    assert find_port(profile("arduino_due"), [PLAIN, NUCLEO, DUE]) == "/dev/ttyACM2"
    assert find_port(profile("arduino_due"), [port("COM3", "2a03:003d")]) == "COM3", "any of its ids will do"


def test_the_ports_of_this_computer_are_looked_at_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: [DUE])
    assert find_port(profile("arduino_due")) == "/dev/ttyACM2"


def test_a_board_that_is_not_there_is_told_with_its_ids_and_what_is_there() -> None:
    with pytest.raises(PortNotFoundError) as caught:
        find_port(profile("arduino_due"), [PLAIN, NUCLEO])
    assert str(caught.value) == (
        "no arduino_due is plugged in: no port has the USB id 2341:003d or 2a03:003d; the ports there are: "
        "/dev/ttyS0 (no USB device), /dev/ttyACM0 (0483:374b, serial number 066F, at 1-2:1.2). "
        "Check the cable, or name the port"
    )
    with pytest.raises(PortNotFoundError, match="there is no serial port at all"):
        find_port(profile("arduino_due"), [])


def test_two_ports_are_listed_and_one_is_to_be_named() -> None:
    with pytest.raises(PortError) as caught:
        find_port(profile("nucleo_l4r5zi"), [NUCLEO, PLAIN, NUCLEO_2])
    assert type(caught.value) is PortError
    assert str(caught.value) == (
        "2 ports may be nucleo_l4r5zi, by the USB id 0483:374b or 0483:3752: "
        "/dev/ttyACM0 (0483:374b, serial number 066F, at 1-2:1.2), "
        "/dev/ttyACM1 (0483:374b, serial number 0670, at 1-3:1.2). Name the one you mean"
    )


def test_the_serial_ports_of_one_debug_probe_are_told_apart_by_their_place() -> None:
    vcoms = [port(f"/dev/ttyACM{n}", "1366:1055", "960", f"1-2:1.{2 * n}") for n in range(3)]
    with pytest.raises(
        PortError, match=r"3 ports may be nrf5340dk.*at 1-2:1\.0.*at 1-2:1\.2.*at 1-2:1\.4.*Name the one"
    ):
        find_port(profile("nrf5340dk"), vcoms)


def test_a_profile_without_ids_cannot_be_found() -> None:
    with pytest.raises(PortError, match="'loopback' has no USB ids to look for: name the port"):
        find_port(profile("loopback"), [NUCLEO])
