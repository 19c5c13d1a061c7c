"""The decoder for sigrok: run in here on a stub of `sigrokdecode`, and in sigrok-cli on files that are made here."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import golden
from processes import computed_s

from microrpc.capture.words import DAMAGED, NOISE, FrameReader
from microrpc.errors import printable

FOLDER = Path(__file__).parent.parent / "microrpc" / "capture" / "plugins" / "sigrok"
_STILL_S = 10.0  # who has not computed for so long, on however busy a computer, waits
PAUSE_BYTES = 20
"""After so much silence the decoder tells what stands outside of frames."""

Chunk = tuple[bool, bytes]
"""Whether it went to the board, and its bytes."""


def load_decoder() -> Any:
    """Give the class `Decoder`, on a stub that notes what it puts out."""
    stub = types.ModuleType("sigrokdecode")
    stub.OUTPUT_ANN, stub.OUTPUT_BINARY = "annotation", "binary"  # type: ignore[attr-defined]

    class Decoder:
        options: Any = ()

        def register(self, kind: str) -> str:
            return kind

        def put(self, first: int, last: int, output: str, data: Any) -> None:
            self.out.append((output, first, last, *data))

    stub.Decoder = Decoder  # type: ignore[attr-defined]
    path = FOLDER / "microrpc" / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        "decoder_of_sigrok", path, submodule_search_locations=[str(path.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sigrokdecode"], sys.modules[spec.name] = stub, module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["sigrokdecode"]
    return module.Decoder


class Stubbed:
    """A decoder at work: `out` is what it put out."""

    def __init__(self, board: str = "rx") -> None:
        self.decoder = load_decoder()()
        self.decoder.options = {"board": board}
        self.decoder.out = self.out = []
        self.decoder.reset()
        self.decoder.start()
        self._lines = {True: 1 if board == "rx" else 0, False: 0 if board == "rx" else 1}
        self._at = 0

    def feed(self, to_board: bool, data: bytes, *, pause_bytes: int = PAUSE_BYTES) -> list[tuple[str, str]]:
        """Put bytes on a line, each of which takes ten samples, and then silence; give the annotations that come."""
        before = len(self.out)
        line = self._lines[to_board]
        for byte in data:
            self.decoder.decode(self._at, self._at + 10, ["STARTBIT", line, 0])
            self.decoder.decode(self._at + 1, self._at + 9, ["DATA", line, (byte, [])])
            self._at += 10
        for _ in range(pause_bytes):
            self.decoder.decode(self._at, self._at + 10, ["IDLE", line, 0])
            self._at += 10
        return annotations(self.out[before:])


CLASSES = ("to-board", "from-board", "log", "text", "noise", "damage", "line")


def annotations(out: Sequence[Any]) -> list[tuple[str, str]]:
    """Give the class and the longest text of each annotation."""
    return [(CLASSES[one[3]], one[4][0]) for one in out if one[0] == "annotation"]


def expected(chunks: Iterable[Chunk]) -> Iterator[list[tuple[str, str]]]:
    """Give what the decoder should say to each chunk, by our own reader of frames."""
    reader = FrameReader()
    for to_board, data in chunks:
        found = []
        for frame in reader.read(0.0, to_board, data):
            side = " (to the board)" if to_board else " (from the board)"
            if frame.payload and frame.kind != "text":
                row = "to-board" if to_board else "log" if frame.kind == "LOG" else "from-board"
                session = int.from_bytes(frame.payload[:2], "little")
                side = f" ({frame.size_bytes} B, session 0x{session:04x})"
            elif frame.kind == DAMAGED:
                row = "damage"
            else:
                row = frame.kind
            meaning = f"{frame.size_bytes} bytes outside of any frame" if frame.kind == NOISE else frame.meaning
            found.append((row, printable(f"{frame.kind} {meaning}".rstrip() if meaning else frame.kind) + side))
        yield found


def recording(name: str) -> list[Chunk]:
    """Give the bursts of a golden recording."""
    return [(burst.dir == "host", burst.data) for burst in golden.load(name)]


# --- files for sigrok-cli -----------------------------------------------------------------------------


def samples(chunks: Iterable[Chunk], *, baud: int = 115200, rate_hz: int = 1_000_000, swapped: bool = False) -> bytes:
    """Give what a logic analyser samples of two lines: a byte each, bit 0 is what the board drives."""
    gap = round((PAUSE_BYTES + 3) * 10 * rate_hz / baud)
    parts = [b"\3" * gap]
    levels = {}
    for to_board in (False, True):
        other = 2 if to_board == swapped else 1  # the line that rests
        levels[to_board] = bytes((other, 3))
    for to_board, data in chunks:
        wire = bytearray()
        edge = 0
        for index, byte in enumerate(data):
            bits = (byte | 0x100) << 1
            for bit in range(10):
                end = round((index * 10 + bit + 1) * rate_hz / baud)
                wire += levels[to_board][bits >> bit & 1 : (bits >> bit & 1) + 1] * (end - edge)
                edge = end
        parts += [bytes(wire), b"\3" * gap]
    return b"".join(parts)


def write_sr(path: Path, data: bytes, rate_hz: int = 1_000_000) -> None:
    """Write samples of the channels rx and tx as a session of sigrok."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("version", "2")
        file.writestr(
            "metadata",
            "[global]\nsigrok version=0.5.2\n\n[device 1]\ncapturefile=logic-1\ntotal probes=2\n"
            f"samplerate={rate_hz} Hz\ntotal analog=0\nprobe1=rx\nprobe2=tx\nunitsize=1\n",
        )
        file.writestr("logic-1-1", data)


def run_cli(*args: str, data_home: Path) -> str:
    """Run sigrok-cli with the decoders below `data_home`; give what it prints. It must have nothing to complain of."""
    ran = _run_cli(args, data_home)
    assert ran.stderr.decode() == ""
    return ran.stdout.decode(errors="surrogateescape")


def told(file: Path, home: Path, uart: str = "rx=rx:tx=tx", board: str = "rx") -> list[str]:
    """Give the class and the texts of each annotation that sigrok-cli shows of a file, in its order.

    Classes are told only by a sigrok that says much of itself, too; an exception in a decoder is among that, and no
    more: the exit code is 0.
    """
    stack = f"uart:baudrate=115200:{uart},microrpc:board={board}"
    ran = _run_cli(("-l", "4", "-i", str(file), "-P", stack, "-A", "microrpc"), home)
    assert b"Traceback" not in ran.stderr
    assert b"rror:" not in ran.stderr
    return re.findall(r"^\d+-\d+ microrpc-1: (.*)$", ran.stdout.decode(), flags=re.MULTILINE)


def as_told(chunks: Iterable[Chunk]) -> list[str]:
    """Give what `told` should give, by our own reader of frames."""
    lines = []
    for row, text in (one for found in expected(chunks) for one in found):
        kind = text.partition(" ")[0]
        lines.append(f'{row}: "{text}" "{text.rpartition(" (")[0]}" "{kind}" "{kind[0]}"')
    return lines


def _run_cli(args: Sequence[str], data_home: Path) -> subprocess.CompletedProcess[bytes]:
    environ = {**os.environ, "XDG_DATA_HOME": str(data_home)}
    for _ in range(3):  # its threads miss each other's wake-up once in hundreds of starts, and then wait for ever
        process = subprocess.Popen(["sigrok-cli", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)
        if (said := _hear(process)) is not None:
            assert process.returncode == 0, said[1]
            return subprocess.CompletedProcess(process.args, process.returncode, *said)
    raise AssertionError("sigrok-cli stood still three times in a row")


def _hear(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes] | None:
    """Give what a process says until it ends; None where it stands still, which ends it."""
    before_s = -1.0
    while True:
        try:
            return process.communicate(timeout=_STILL_S)
        except subprocess.TimeoutExpired:
            if (now_s := computed_s(process)) == before_s:
                process.kill()
                process.communicate()
                return None
            before_s = now_s
