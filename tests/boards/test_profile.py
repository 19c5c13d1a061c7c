from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from microrpc.boards import catalogue
from microrpc.boards import schema as profile_schema
from microrpc.boards.catalogue import load_profile, names, profile, profiles, user_directory
from microrpc.boards.flashers import TOOLS
from microrpc.boards.schema import BoardKind, BoardProfile, Reset
from microrpc.boards.strategies import ResetStep, ResetStrategy
from microrpc.errors import ProfileError
from microrpc.ports.usb import UsbId
from microrpc.wire.session import Timeouts
from microrpc.wire.uart import FlowControl

GOOD = """
name = "mine"
description = "My board"
baud = 921600
packet_size_bytes = 8192
heap_bytes = 65536
"""

KIB = 1024

# From data sheets and the boards' own pages, apart from the profiles.
RAM_BYTES = {
    "arduino_due": 96 * KIB,
    "arduino_mega": 8 * KIB,
    "arduino_uno": 2 * KIB,
    "b_u585i_iot02a": 786 * KIB,
    "feather_s2": 320 * KIB,
    "metro_m4": 192 * KIB,
    "microbit": 16 * KIB,
    "mimxrt1050_evk": 512 * KIB,
    "nano33ble": 256 * KIB,
    "netduinoplus2": 128 * KIB,
    "nrf5340dk": 512 * KIB,
    "nucleo_f746zg": 320 * KIB,
    "nucleo_l4r5zi": 640 * KIB,
    "portenta_h7": 512 * KIB,
    "qemu_lm3s6965evb": 64 * KIB,
    "qemu_microbit": 16 * KIB,
    "qemu_mps2_an385": 4096 * KIB,
    "qemu_mps2_an500": 4096 * KIB,
    "qemu_netduinoplus2": 128 * KIB,
    "qemu_riscv32_virt": 16384 * KIB,
    "rp2040": 264 * KIB,
    "rp2040_uart": 264 * KIB,
    "rpi_pico": 264 * KIB,
    "rpi_pico_uart": 264 * KIB,
    "simavr_mega": 8 * KIB,
    "simavr_uno": 2 * KIB,
    "spresense": 1536 * KIB,
    "stm32f746g_disco": 320 * KIB,
}

NO_BOARDS = ("loopback", "micropython", "posix")
BEHIND_AN_ADAPTER = ("netduinoplus2",)  # which has ids of its own

# Boards whose RAM has no room for the 2048 bytes that the others have.
PACKET_BYTES = {"arduino_mega": 512, "arduino_uno": 192, "simavr_mega": 512, "simavr_uno": 192}

# What microTVM looks for in its boards.json of Zephyr and Arduino; it has none for the Metro M4 and for QEMU.
MICROTVM_USB = {
    "arduino_due": "2341:003d",
    "b_u585i_iot02a": "0483:374e",
    "feather_s2": "303a:0002",
    "mimxrt1050_evk": "1366:0105",
    "nano33ble": "2341:805a",
    "nrf5340dk": "1366:1055",
    "nucleo_f746zg": "0483:374b",
    "nucleo_l4r5zi": "0483:374b",
    "portenta_h7": "2341:025b",
    "rpi_pico": "2e8a:000a",
    "spresense": "10c4:ea60",
    "stm32f746g_disco": "0483:374b",
}


@pytest.fixture(autouse=True)
def own_boards(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty user directory in the place of the developer's own."""
    directory = tmp_path / "user_boards"
    monkeypatch.setattr(catalogue, "user_directory", lambda: directory)
    return directory


def load(directory: pathlib.Path, text: str) -> BoardProfile:
    path = directory / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_profile(path)


def refusal(directory: pathlib.Path, text: str) -> str:
    with pytest.raises(ProfileError) as caught:
        load(directory, text)
    message = str(caught.value)
    assert message.startswith(f"{directory / 'mine.toml'}: ")
    return message.removeprefix(f"{directory / 'mine.toml'}: ")


def test_the_bundled_profiles() -> None:
    found = profiles()
    assert list(found) == sorted([*RAM_BYTES, *NO_BOARDS])
    for name, board in found.items():
        assert profile(name) is board
        assert board.name == name
        assert board.baud == 115200
        assert board.flow_control is FlowControl.NONE
        assert board.packet_size_bytes == PACKET_BYTES.get(name, 2048)
        assert board.timeouts == Timeouts(retry_s=2.0, start_s=5.0, call_s=5.0)
        assert board.notes


@pytest.mark.parametrize("name", RAM_BYTES)
def test_a_bundled_board_has_its_memory_and_all_that_is_its_own(name: str) -> None:
    board = profile(name)
    assert board.ram_bytes == RAM_BYTES[name]
    assert board.receive_ring_bytes is not None
    assert board.heap_bytes + board.packet_size_bytes + board.receive_ring_bytes < RAM_BYTES[name]
    assert board.maker
    assert board.mcu
    assert bool(board.usb) is (board.kind is BoardKind.HARDWARE and name not in BEHIND_AN_ADAPTER)


def test_bundled_boards_are_found_by_the_ids_that_microtvm_looks_for() -> None:
    for name, usb_id in MICROTVM_USB.items():
        assert usb_id in [str(one) for one in profile(name).usb]
    assert [str(one) for one in profile("metro_m4").usb] == ["239a:8020"]


def test_the_kinds_of_the_bundled_boards() -> None:
    kinds = {name: board.kind for name, board in profiles().items() if board.kind is not BoardKind.HARDWARE}
    families = ("qemu_", "rp2040", "simavr_")
    emulated = ("micropython", "posix", *(name for name in RAM_BYTES if name.startswith(families)))
    assert kinds == {"loopback": BoardKind.SIMULATED, **dict.fromkeys(emulated, BoardKind.EMULATED)}


def test_which_bundled_boards_can_be_reset_over_their_port() -> None:
    resets = {name: board.reset for name, board in profiles().items() if board.reset != Reset()}
    assert resets == {
        "arduino_due": Reset(
            ResetStrategy.DTR_RTS, (ResetStep(dtr=False, wait_s=0.1), ResetStep(dtr=True, wait_s=0.25))
        ),
        **dict.fromkeys(
            ("arduino_mega", "arduino_uno"),
            Reset(ResetStrategy.DTR_RTS, (ResetStep(dtr=False, wait_s=0.1), ResetStep(dtr=True, wait_s=0.1))),
        ),
        "spresense": Reset(
            ResetStrategy.DTR_RTS,
            (ResetStep(dtr=False, wait_s=0.1), ResetStep(dtr=True, wait_s=0.1), ResetStep(dtr=False)),
        ),
    }


def test_the_ring_of_zephyr_boards_is_that_of_microtvm() -> None:
    for name, board in profiles().items():
        is_zephyr = "Zephyr" in board.notes or name == "loopback"
        assert (board.receive_ring_bytes == board.packet_size_bytes + 100) is is_zephyr, name


# --- the user's own ---------------------------------------------------------------------------


def test_the_users_own_profiles_join_the_bundled_ones_and_come_first(own_boards: pathlib.Path) -> None:
    own_boards.mkdir()
    (own_boards / "mine.toml").write_text(GOOD)
    (own_boards / "loopback.toml").write_text(GOOD.replace('"mine"', '"loopback"'))
    assert list(profiles()) == sorted([*RAM_BYTES, *NO_BOARDS, "mine"])
    assert (
        profile("mine").description
        == profile("loopback").description
        == profiles()["loopback"].description
        == "My board"
    )
    assert profile("arduino_due").maker == "Arduino"
    (own_boards / "mine.toml").write_text(GOOD.replace("921600", "9600"))
    assert profile("mine").baud == 9600


def test_an_invalid_profile_of_the_users_own_names_file_key_and_reason(own_boards: pathlib.Path) -> None:
    own_boards.mkdir()
    (own_boards / "mine.toml").write_text(GOOD.replace("921600", "0"))
    with pytest.raises(ProfileError, match=r"user_boards.mine\.toml: baud: must be from 1 to 2147483647, not 0"):
        profile("mine")
    with pytest.raises(ProfileError, match=r"mine\.toml: baud:"):
        profiles()
    assert profile("loopback").name == "loopback", "the others can still be used by name"
    (own_boards / "other.toml").write_text(GOOD)
    with pytest.raises(ProfileError, match=r"name: is 'mine', but the file is called 'other\.toml'"):
        profile("other")


def test_a_users_directory_that_cannot_be_read_is_an_error_and_one_that_is_not_there_is_none(
    own_boards: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "loopback" in profiles()
    own_boards.touch()
    assert "loopback" in profiles()

    def refuse(path: pathlib.Path) -> list[str]:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(ProfileError) as caught:
        profile("loopback")
    text = "profiles of your own are looked for there, and it cannot be read: Input/output error"
    assert str(caught.value) == f"{own_boards}: {text}"


def test_a_profile_that_is_added_edited_or_removed_while_a_program_runs_is_seen(own_boards: pathlib.Path) -> None:
    assert "mine" not in profiles()
    own_boards.mkdir()
    (own_boards / "mine.toml").write_text(GOOD)
    assert profile("mine").baud == 921600
    (own_boards / "mine.toml").write_text(GOOD.replace("921600", "115200"))
    assert profile("mine").baud == 115200
    (own_boards / "mine.toml").unlink()
    with pytest.raises(ProfileError, match="no board profile 'mine'"):
        profile("mine")


def test_the_bundled_boards_are_listed_once_in_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    profile("loopback")
    monkeypatch.setattr(pathlib.Path, "glob", None)
    assert profile("loopback").name == "loopback"


def test_the_users_directory_is_that_of_the_platform(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("platformdirs.user_config_dir", lambda name, appauthor: str(tmp_path / name))
    assert user_directory() == tmp_path / "microrpc" / "boards"


# --- names and directories --------------------------------------------------------------------


def test_profiles_gives_a_dictionary_of_ones_own() -> None:
    profiles().clear()
    assert "loopback" in profiles()


def test_profiles_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile("loopback").baud = 1  # type: ignore[misc]


def test_an_unknown_name_leads_to_the_one_that_is_meant_or_lists_the_known() -> None:
    with pytest.raises(ProfileError) as caught:
        profile("nucleo_f746")
    assert str(caught.value) == (
        "there is no board profile 'nucleo_f746'; did you mean 'nucleo_f746zg'? "
        f"`microrpc boards` lists all {len(names())}"
    )
    with pytest.raises(ProfileError, match=r"no board profile 'xyz'\. Known: arduino_due, arduino_mega"):
        profile("xyz")


def test_a_directory_of_profiles_that_this_user_may_not_look_into_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(type(pathlib.Path())):  # type: ignore[misc]
        def glob(self, pattern: str) -> object:
            raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(catalogue, "user_directory", lambda: Closed("/root/.config/microrpc/boards"))
    assert profile("loopback").name == "loopback"


def test_a_wheel_has_its_own_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "microrpc"
    package.mkdir()
    monkeypatch.setattr(catalogue, "__file__", str(package / "boards" / "catalogue.py"))
    with pytest.raises(ProfileError, match="no board profiles there: the installation is incomplete"):
        profiles()
    (tmp_path / "boards").mkdir()
    (tmp_path / "boards" / "mine.toml").write_text(GOOD)
    assert list(profiles()) == ["mine"]
    (package / "_boards").mkdir()
    (package / "_boards" / "other.toml").write_text(GOOD.replace("mine", "other"))
    assert list(profiles()) == ["other"]


def test_a_bundled_file_is_called_after_its_board(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yours.toml").write_text(GOOD)
    monkeypatch.setattr(catalogue, "_bundled_directory", lambda: tmp_path)
    with pytest.raises(ProfileError, match=r"yours\.toml: name: is 'mine', but the file is called 'yours\.toml'"):
        profiles()


def test_the_header_of_loopback_documents_every_key() -> None:
    text = (pathlib.Path(__file__).parent.parent.parent / "boards" / "loopback.toml").read_text()
    header = text[: text.index("\nname =")]
    keys = (*profile_schema.KEYS, *profile_schema.TIMEOUT_KEYS, *profile_schema.RESET_KEYS, *profile_schema.STEP_KEYS)
    for key in (*keys, "[timeouts]", "[reset]"):
        assert re.search(rf"(?<!\w){re.escape(key)}(?!\w)", header), key


def test_the_guide_documents_every_key_and_has_the_bundled_boards_as_they_are() -> None:
    guide = (pathlib.Path(__file__).parent.parent.parent / "docs" / "boards.md").read_text(encoding="utf-8")
    for key in (
        *profile_schema.KEYS,
        *profile_schema.TIMEOUT_KEYS,
        *profile_schema.RESET_KEYS,
        *profile_schema.STEP_KEYS,
        *profile_schema.FLASHER_KEYS,
        *(key for tool in TOOLS.values() for key in tool.keys),
    ):
        assert re.search(rf"(?<!\w){key}(?!\w)", guide), key
    rows = {}
    for line in guide[guide.index("## The bundled boards") :].splitlines():
        if line.startswith("| `"):
            name, *facts, sources = [cell.strip(" `") for cell in line.strip("|").split("|")]
            assert sources
            rows[name] = facts
    assert rows == {
        name: [
            board.mcu or "-",
            ", ".join(map(str, board.usb)) or "-",
            f"{board.ram_bytes // KIB} KiB" if board.ram_bytes else "-",
            str(board.receive_ring_bytes),
            board.reset.strategy,
        ]
        for name, board in profiles().items()
    }


def test_a_minimal_profile(tmp_path: pathlib.Path) -> None:
    assert load(tmp_path, GOOD) == BoardProfile(
        name="mine",
        description="My board",
        baud=921600,
        packet_size_bytes=8192,
        receive_ring_bytes=None,
        heap_bytes=65536,
        timeouts=Timeouts(),
        kind=BoardKind.HARDWARE,
        maker=None,
        mcu=None,
        ram_bytes=None,
        usb=(),
        flow_control=FlowControl.NONE,
        reset=Reset(ResetStrategy.NONE, ()),
        power_up_s=1.0,
        notes="",
    )
    assert load_profile(str(tmp_path / "mine.toml")).timeouts == Timeouts()


FULL = """
maker = "Me"
mcu = "6502"
kind = "emulated"
ram_bytes = 65536
usb = ["0483:374b", "1A86:55d4"]
flow_control = "rts-cts"
receive_ring_bytes = 64
power_up_s = 2
notes = '''
two
lines
'''
[timeouts]
start_retry_s = 1
call_s = 0.25
[reset]
strategy = "dtr-rts"
sequence = [{ dtr = true, wait_s = 1 }, { dtr = false }]
"""


def test_a_full_profile(tmp_path: pathlib.Path) -> None:
    board = load(tmp_path, GOOD + FULL)
    assert (board.maker, board.mcu, board.notes) == ("Me", "6502", "two\nlines")
    assert (board.kind, board.flow_control) == (BoardKind.EMULATED, FlowControl.RTS_CTS)
    assert (board.ram_bytes, board.receive_ring_bytes) == (65536, 64)
    assert board.usb == (UsbId(0x0483, 0x374B), UsbId(0x1A86, 0x55D4))
    assert list(map(str, board.usb)) == ["0483:374b", "1a86:55d4"]
    assert board.timeouts == Timeouts(retry_s=1.0, start_s=5.0, call_s=0.25)
    assert type(board.timeouts.retry_s) is type(board.power_up_s) is float
    assert board.reset == Reset(ResetStrategy.DTR_RTS, (ResetStep(dtr=True, wait_s=1.0), ResetStep(dtr=False)))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("baud = 921600", "", "baud: is missing"),
        ('name = "mine"', "", "name: is missing"),
        ("baud =", "buad =", "buad: unknown key; did you mean 'baud'?"),
        ("baud =", "zzz = 1\nbaud =", "zzz: unknown key"),
        ("heap_bytes = 65536", "heap_bytes = 65536\n[timeout]", "timeout: unknown key; did you mean 'timeouts'?"),
        ("921600", '"921600"', "baud: must be a whole number, not a text ('921600')"),
        ("921600", "921600.0", "baud: must be a whole number, not a number (921600.0)"),
        ("921600", "true", "baud: must be a whole number, not true or false (True)"),
        ("921600", "[1]", "baud: must be a whole number, not a list ([1])"),
        ("921600", "0", "baud: must be from 1 to 2147483647, not 0"),
        ("8192", "127", "packet_size_bytes: must be from 128 to 16777216, not 127"),
        ("8192", "16777217", "packet_size_bytes: must be from 128 to 16777216, not 16777217"),
        ("65536", "0", "heap_bytes: must be from 1 to 4294967296, not 0"),
        ('"My board"', "7", "description: must be a text, not a whole number (7)"),
        ('"My board"', '" "', "description: must not be empty"),
        ('"mine"', '"My board"', "name: must be lower case letters, digits and underscores, not 'My board'"),
        ("baud =", 'kind = "fpga"\nbaud =', "kind: must be one of 'hardware', 'emulated', 'simulated', not 'fpga'"),
        ("baud =", "ram_bytes = 0\nbaud =", "ram_bytes: must be from 1 to 1099511627776, not 0"),
        ("baud =", "receive_ring_bytes = 0\nbaud =", "receive_ring_bytes: must be from 1 to 33554432, not 0"),
        ("baud =", "power_up_s = 0\nbaud =", "power_up_s: must be more than 0 and at most 60, not 0"),
        ("baud =", "power_up_s = 61\nbaud =", "power_up_s: must be more than 0 and at most 60, not 61"),
        ("baud =", "usb = 1\nbaud =", "usb: must be a list, not a whole number (1)"),
        (
            "baud =",
            'usb = ["0483:374b", "483:374b"]\nbaud =',
            "usb: must hold ids like '0483:374b' (vendor and product, in hex), not '483:374b'",
        ),
        ("baud =", "usb = [1]\nbaud =", "usb: must hold ids like '0483:374b' (vendor and product, in hex), not 1"),
        (
            "baud =",
            'flow_control = "rts"\nbaud =',
            "flow_control: must be one of 'none', 'rts-cts', 'xon-xoff', not 'rts'; did you mean 'rts-cts'?",
        ),
        (
            "baud =",
            'flow_control = "xon-xoff"\nbaud =',
            "flow_control: 'xon-xoff' would lose every 0x11 and 0x13 of the frames, which are binary: "
            "use 'rts-cts' or 'none'",
        ),
        (
            "baud =",
            "reset = 1\nbaud =",
            "reset: must be a table, not a whole number (1): write [reset] on a line of its own",
        ),
        ('"mine"', '"../x"', "name: must be lower case letters, digits and underscores, not '../x'"),
    ],
)
def test_what_is_refused(tmp_path: pathlib.Path, old: str, new: str, reason: str) -> None:
    assert old in GOOD
    assert refusal(tmp_path, GOOD.replace(old, new)) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("call_s = 0", "timeouts.call_s: must be more than 0 and at most 86400, not 0"),
        ("call_s = -1.5", "timeouts.call_s: must be more than 0 and at most 86400, not -1.5"),
        ("call_s = nan", "timeouts.call_s: must be more than 0 and at most 86400, not nan"),
        ("call_s = inf", "timeouts.call_s: must be more than 0 and at most 86400, not inf"),
        ('call_s = "5"', "timeouts.call_s: must be a number, not a text ('5')"),
        ("call_s = true", "timeouts.call_s: must be a number, not true or false (True)"),
        ("calls = 5", "timeouts.calls: unknown key; did you mean 'call_s'?"),
        (
            "start_retry_s = 6",
            "timeouts.start_retry_s: is 6, more than timeouts.start_s (5): it would never retry",
        ),
    ],
)
def test_timeouts_that_are_refused(tmp_path: pathlib.Path, line: str, reason: str) -> None:
    assert refusal(tmp_path, f"{GOOD}[timeouts]\n{line}\n") == reason


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("", "reset.strategy: is missing"),
        (
            'strategy = "dtr"',
            "reset.strategy: must be one of 'none', 'dtr-rts', 'touch-1200', not 'dtr'; did you mean 'dtr-rts'?",
        ),
        ('strategy = "none"\nsteps = []', "reset.steps: unknown key"),
        (
            'strategy = "touch-1200"\nsequence = []',
            "reset.sequence: belongs to the strategy 'dtr-rts', not to 'touch-1200'",
        ),
        (
            'strategy = "dtr-rts"',
            "reset.sequence: must have steps for 'dtr-rts', for example "
            "sequence = [{ dtr = false, wait_s = 0.1 }, { dtr = true }]",
        ),
        (
            'strategy = "dtr-rts"\nsequence = [1]',
            "reset.sequence[0]: must be a table like { dtr = true, wait_s = 0.1 }, not 1",
        ),
        (
            'strategy = "dtr-rts"\nsequence = [{ dtr = true }, { wait_s = 0.1 }]',
            "reset.sequence[1]: must set dtr or rts, or both",
        ),
        (
            'strategy = "dtr-rts"\nsequence = [{ dtr = 1 }]',
            "reset.sequence[0].dtr: must be true or false, not a whole number (1)",
        ),
        (
            'strategy = "dtr-rts"\nsequence = [{ rts = true, wait_s = 11 }]',
            "reset.sequence[0].wait_s: must be more than 0 and at most 10, not 11",
        ),
        (
            'strategy = "dtr-rts"\nsequence = [{ dts = true }]',
            "reset.sequence[0].dts: unknown key; did you mean 'rts'?",
        ),
    ],
)
def test_resets_that_are_refused(tmp_path: pathlib.Path, lines: str, reason: str) -> None:
    assert refusal(tmp_path, f"{GOOD}[reset]\n{lines}\n") == reason


def test_a_reset_cannot_have_the_line_that_flow_control_has(tmp_path: pathlib.Path) -> None:
    reset = '[reset]\nstrategy = "dtr-rts"\nsequence = [{ dtr = true, rts = true }]\n'
    assert load(tmp_path, GOOD + reset).reset.sequence == (ResetStep(dtr=True, rts=True),)
    reason = "reset.sequence[0].rts: cannot be set, the flow control 'rts-cts' has that line"
    assert refusal(tmp_path, f'{GOOD}flow_control = "rts-cts"\n{reset}') == reason


def test_timeouts_must_be_a_table(tmp_path: pathlib.Path) -> None:
    assert refusal(tmp_path, f"{GOOD}timeouts = 5\n").startswith("timeouts: must be a table")


def test_a_syntax_error_names_its_line(tmp_path: pathlib.Path) -> None:
    message = refusal(tmp_path, 'name = "mine"\nbaud 115200\n')
    assert message.startswith("not valid TOML: ")
    assert "line 2" in message


def test_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.toml: cannot be read: No such file"):
        load_profile(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(ProfileError, match=r"latin\.toml: is not UTF-8 text, at byte 8"):
        load_profile(tmp_path / "latin.toml")
