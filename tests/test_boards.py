from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from microrpc import boards
from microrpc.boards import BoardProfile, load_profile, profile, profiles
from microrpc.errors import ProfileError
from microrpc.session import Timeouts

GOOD = """
name = "mine"
description = "My board"
baud = 921600
packet_size_bytes = 8192
heap_bytes = 65536
"""

RAM_BYTES = {
    "nucleo_f746zg": 320 * 1024,
    "nrf5340dk": 512 * 1024,
    "arduino_due": 96 * 1024,
    "rpi_pico": 264 * 1024,
}


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
    assert list(found) == ["arduino_due", "loopback", "nrf5340dk", "nucleo_f746zg", "rpi_pico"]
    for name, board in found.items():
        assert profile(name) is board
        assert board.name == name
        assert board.baud == 115200
        assert board.packet_size_bytes == 2048
        assert board.timeouts == Timeouts(retry_s=2.0, start_s=5.0, call_s=5.0)
        assert board.notes
    for name, ram_bytes in RAM_BYTES.items():
        assert 0 < found[name].heap_bytes + found[name].packet_size_bytes < ram_bytes
        assert found[name].mcu


def test_profiles_gives_a_dictionary_of_ones_own() -> None:
    profiles().clear()
    assert "loopback" in profiles()


def test_profiles_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile("loopback").baud = 1  # type: ignore[misc]


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ProfileError, match=r"no board profile 'nucleo_f746'; did you mean 'nucleo_f746zg'\?.*loopback"):
        profile("nucleo_f746")
    with pytest.raises(ProfileError, match=r"no board profile 'xyz'\. Known: arduino_due, loopback"):
        profile("xyz")


def test_a_wheel_has_its_own_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "microrpc"
    package.mkdir()
    monkeypatch.setattr(boards, "__file__", str(package / "boards.py"))
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
    monkeypatch.setattr(boards, "_bundled_directory", lambda: tmp_path)
    with pytest.raises(ProfileError, match=r"yours\.toml: name: is 'mine', but the file is called 'yours\.toml'"):
        profiles()


def test_the_header_of_loopback_documents_every_key() -> None:
    text = (pathlib.Path(__file__).parent.parent / "boards" / "loopback.toml").read_text()
    header = text[: text.index("\nname =")]
    for key in (*boards._KEYS, *boards._TIMEOUT_KEYS, "[timeouts]"):
        assert re.search(rf"(?<!\w){re.escape(key)}(?!\w)", header), key


def test_a_minimal_profile(tmp_path: pathlib.Path) -> None:
    assert load(tmp_path, GOOD) == BoardProfile(
        name="mine", description="My board", baud=921600, packet_size_bytes=8192, heap_bytes=65536
    )
    assert load_profile(str(tmp_path / "mine.toml")).timeouts == Timeouts()


def test_a_full_profile(tmp_path: pathlib.Path) -> None:
    text = (
        GOOD
        + 'maker = "Me"\nmcu = "6502"\nnotes = """\ntwo\nlines\n"""\n[timeouts]\nstart_retry_s = 1\ncall_s = 0.25\n'
    )
    board = load(tmp_path, text)
    assert (board.maker, board.mcu, board.notes) == ("Me", "6502", "two\nlines")
    assert board.timeouts == Timeouts(retry_s=1.0, start_s=5.0, call_s=0.25)
    assert type(board.timeouts.retry_s) is float


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
