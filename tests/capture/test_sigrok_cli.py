"""The decoder in sigrok-cli, on what a logic analyser would have sampled of the golden recordings."""

from __future__ import annotations

import re
from pathlib import Path

import golden
import needs
import pytest
from commands import run
from sigrok_decoder import CLASSES, Chunk, as_told, expected, recording, run_cli, samples, told, write_sr

from microrpc.cli import sigrok as command

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "sigrok.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data into which the command has installed the decoder."""
    needs.program("sigrok-cli")
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(home))
        command.sigrok(wants_install=True)
    return home


@pytest.mark.tools
def test_sigrok_finds_the_decoder_and_has_its_options_and_rows(data_home: Path) -> None:
    said = run_cli("-P", "microrpc", "--show", data_home=data_home)
    for line in (
        "- board: The line that the board drives ('rx', 'tx', default 'rx')",
        *(f"- {one}: " for one in CLASSES),
    ):
        assert line in said
    assert re.search("^ *microrpc +microrpc and microTVM RPC$", run_cli("-L", data_home=data_home), flags=re.MULTILINE)


LONGEST, ENOUGH = "crt_2k", 200  # its 295 kB take 20 s of a quiet computer: so the first bursts of it


def assert_told_alike(chunks: list[Chunk], home: Path, path: Path) -> None:
    """Hold what sigrok-cli shows of a line to our own reader of frames."""
    write_sr(path, samples(chunks))
    said, right = told(path, home), as_told(chunks)
    assert [_without_reason(line) for line in said] == [_without_reason(line) for line in right]


@pytest.mark.tools
@pytest.mark.parametrize("name", golden.NAMES)
def test_golden_recordings_are_told_as_our_own_decoder_tells_them(name: str, data_home: Path, tmp_path: Path) -> None:
    chunks = recording(name)
    assert_told_alike(chunks[:ENOUGH] if name == LONGEST else chunks, data_home, tmp_path / "line.sr")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_all_of_the_longest_recording_is_told_as_our_own_decoder_tells_it(data_home: Path, tmp_path: Path) -> None:
    assert_told_alike(recording(LONGEST), data_home, tmp_path / "line.sr")


def _without_reason(line: str) -> str:
    """What is wrong with a malformed packet each says in its own words."""
    return re.sub(r': "\? .*', ': "? ...', line)


@pytest.mark.tools
def test_damage_text_and_noise_are_told_as_our_own_decoder_tells_them(data_home: Path, tmp_path: Path) -> None:
    chunks = recording("crt_2k")[:40]
    beside = [(False, b"boot 1.2\r\ncaf\xc3\xa9\n"), (True, b"\0\1\2"), (False, b"> "), (False, b"\xff\x12")]
    for at, one in zip((30, 24, 16, 8), beside, strict=True):
        chunks.insert(at, one)
    flipped = bytearray(chunks[20][1])
    flipped[9] ^= 4
    chunks[20] = (chunks[20][0], bytes(flipped))
    chunks[13] = (chunks[13][0], chunks[13][1][:-5])
    write_sr(tmp_path / "line.sr", samples(chunks))
    said = told(tmp_path / "line.sr", data_home)
    assert said == as_told(chunks)
    assert {line.partition(":")[0] for line in said} == {"to-board", "from-board", "damage", "text", "noise"}


@pytest.mark.tools
def test_of_one_line_alone_its_own_frames_are_told(data_home: Path, tmp_path: Path) -> None:
    chunks = recording("crt_2k")[:40]
    write_sr(tmp_path / "line.sr", samples(chunks))
    for to_board, uart in ((False, "rx=rx"), (True, "tx=tx")):
        one_line = [chunk for chunk in chunks if chunk[0] is to_board]
        assert told(tmp_path / "line.sr", data_home, uart) == as_told(one_line)


@pytest.mark.tools
def test_lines_that_are_swapped_are_set_right_by_the_option_board(data_home: Path, tmp_path: Path) -> None:
    chunks = recording("crt_2k")[:40]
    write_sr(tmp_path / "line.sr", samples(chunks, swapped=True))
    assert told(tmp_path / "line.sr", data_home, board="tx") == as_told(chunks)
    swapped = told(tmp_path / "line.sr", data_home, board="rx")
    assert swapped == as_told([(not to_board, data) for to_board, data in chunks])


@pytest.mark.tools
@pytest.mark.parametrize(("baud", "rate_hz"), [(115200, 345_600), (9600, 100_000), (1_000_000, 12_000_000)])
def test_three_samples_a_bit_are_enough(baud: int, rate_hz: int, data_home: Path, tmp_path: Path) -> None:
    chunks = recording("crt_2k")[:12]
    write_sr(tmp_path / "line.sr", samples(chunks, baud=baud, rate_hz=rate_hz), rate_hz)
    stack = f"uart:baudrate={baud}:rx=rx:tx=tx,microrpc"
    said = run_cli("-i", str(tmp_path / "line.sr"), "-P", stack, "-A", "microrpc", data_home=data_home)
    assert said.splitlines() == [f"microrpc-1: {text}" for found in expected(chunks) for _, text in found]


@pytest.mark.tools
def test_a_wrong_baud_rate_shows_faults_of_the_line(data_home: Path, tmp_path: Path) -> None:
    chunks = recording("crt_2k")[:40]
    write_sr(tmp_path / "line.sr", samples(chunks, baud=57600))
    said = told(tmp_path / "line.sr", data_home)
    assert [line for line in said if line.startswith('line: "UART: the stop bit is 0: is the baud rate right?"')]
    assert not [line for line in said if line.startswith(("to-board", "from-board"))]


@pytest.mark.tools
def test_every_command_of_the_guide_runs(data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = recording("crt_2k")[:60]
    write_sr(tmp_path / "line.sr", samples(chunks))
    (tmp_path / "line.bin").write_bytes(samples(chunks))
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    sigrok-cli (-i .*?)(?:\s+#.*)?$", GUIDE, flags=re.MULTILINE)
    assert len(commands) >= 5
    for line in commands:
        args, _, output = line.partition(" > ")
        said = run_cli(*args.split(), data_home=data_home)
        assert said, line
        if output:
            assert said.encode(errors="surrogateescape") == b"".join(data for to_board, data in chunks if not to_board)
            Path(output).write_bytes(said.encode(errors="surrogateescape"))
    [line] = re.findall(r"`microrpc (decode .*?)`", GUIDE)
    decoded = run(*line.split())
    assert (decoded.code, decoded.err) == (0, "")
    assert len(decoded.out.splitlines()) >= 30
