"""What the fuzzer found, said to a board whose int and size_t have 16 bits: it answers what one of 64 bits answers.

No compiler of such a CPU has sanitizers. So the corpus is replayed: the seeds, or that of a longer run in the directory
MICRORPC_FUZZ_CORPUS. Both boards have their heap at the same address modulo 2^30, and nothing else may differ.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import select
import struct
import subprocess
import time
import tty
from collections.abc import Iterator

import needs
import pytest
from c_board import FIRMWARE, SWITCHED_ON, compile_c
from fuzz_seeds import seeds

from microrpc.firmware.build import Compiler, Firmware
from microrpc.firmware.emulator import Emulator, build_to_run
from microrpc.firmware.project import read_project
from microrpc.wire.frames import FrameDecoder, FrameEncoder
from microrpc.wire.session import MessageType, encode_message

CORPUS = "MICRORPC_FUZZ_CORPUS"
HEAP_64, HEAP_16 = 0x40001400, 0x1400
WANTS_MORE = 3  # of record.c: the input wants what a line cannot do
LAST_NONCE = 0x55
DEADLINE_S = 30.0
LAST_WORDS = FrameEncoder().encode(encode_message(LAST_NONCE, MessageType.START_SESSION_INIT, b"\x01"))


@dataclasses.dataclass(frozen=True)
class Programs:
    """What says an input, and who answers it."""

    record: pathlib.Path
    answer: pathlib.Path
    avr: Firmware


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    needs.program("gcc")
    needs.program("avr-gcc", "gcc-avr")
    needs.program("qemu-system-avr", "qemu-system-misc")
    folder = tmp_path_factory.mktemp("replay")
    tests = FIRMWARE / "tests"
    flags = (*SWITCHED_ON, f"-I{tests}", "-O1")
    compile_c(tests / "replay/record.c", tests / "fuzz.c", *flags, "-o", folder / "record", compiler=("gcc",))
    compile_c(tests / "replay/board.c", *flags, "-o", folder / "answer", compiler=("gcc",))
    avr = build_to_run(read_project(tests / "replay/port.toml", FIRMWARE, "replay"), compiler=Compiler.GCC)
    return Programs(folder / "record", folder / "answer", avr)


def said(programs: Programs, data: bytes, heap: int) -> bytes | None:
    """What the fuzzer says to a board with its heap there."""
    done = subprocess.run([programs.record, hex(heap)], input=data, capture_output=True, timeout=20, check=False)
    assert done.returncode in (0, WANTS_MORE)
    return done.stdout + LAST_WORDS if done.returncode == 0 else None


def answered_by_64(programs: Programs, stimulus: bytes) -> bytes:
    return subprocess.run([programs.answer], input=stimulus, capture_output=True, timeout=20, check=True).stdout


def is_last(frame: object) -> bool:
    return isinstance(frame, bytes) and frame[:1] == bytes([LAST_NONCE]) and frame[2:3] == b"\x01"


def answered_by_16(programs: Programs, stimulus: bytes) -> bytes:
    emulation = programs.avr.project.emulation
    assert emulation is not None
    emulation = dataclasses.replace(emulation, args=("-bios", str(programs.avr.elf)))
    decoder, heard = FrameDecoder(1 << 16), b""
    with Emulator("avr", programs.avr.elf, emulation) as emulator:
        line = os.open(emulator.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(line)
        try:
            end = time.monotonic() + DEADLINE_S
            while time.monotonic() < end:
                readable, writable, _ = select.select([line], [line] if stimulus else [], [], 1.0)
                if writable:
                    stimulus = stimulus[os.write(line, stimulus[:256]) :]
                if readable:
                    heard += (new := os.read(line, 4096))
                    if any(map(is_last, decoder.feed(new))):
                        return heard
        finally:
            os.close(line)
    raise AssertionError(f"the board with 16 bits says no more: {heard[-200:].hex()}")


# --- what may differ -----------------------------------------------------------------------------


def messages(heard: bytes) -> list[bytes]:
    """Whole frames, from the first handshake on: whether a host hears the boot is chance."""
    frames = [frame for frame in FrameDecoder(1 << 16).feed(heard) if isinstance(frame, bytes)]
    first = next(number for number, frame in enumerate(frames) if frame[2] == MessageType.START_SESSION_REPLY)
    return frames[first:]


def have_same_text(wide: bytes, narrow: bytes) -> bool:
    """Whether two exceptions with numbers in hex are the same, but for addresses and how many digits those have."""
    texts = [frame[frame.rfind(b"\0") + 1 :] for frame in (wide, narrow)]
    numbers = [[int(number, 16) for number in re.findall(rb"0x([0-9a-f]+)", text)] for text in texts]
    rests = [re.sub(rb"0x[0-9a-f]+", b"0x", text) for text in texts]
    return wide[:3] == narrow[:3] and rests[0] == rests[1] and all(map(are_same_number, *numbers))


def are_same_number(one: int, other: int) -> bool:
    return one == other or is_moved(one, other)


def is_moved(one: int, other: int) -> bool:
    """Whether both are as far from the heap of theirs, wherever that is."""
    return (one - other) % 2**64 == HEAP_64 - HEAP_16


def are_same(wide: bytes, narrow: bytes) -> bool:
    """Whether two payloads are the same, but for addresses in the heap, and floats of 4 bytes."""
    if wide[2] >= MessageType.LINK_REQUEST:  # behind them is their crc32, which the decoder of the link checks
        wide, narrow = wide[:-4], narrow[:-4]
    if b"0x" in wide and b"0x" in narrow:
        return have_same_text(wide, narrow)
    if len(wide) != len(narrow):
        return False
    at = 0
    while at < len(wide):
        if wide[at] == narrow[at]:
            at += 1
            continue
        for begin in range(max(at - 7, 0), at + 1):
            one, other = wide[begin : begin + 8], narrow[begin : begin + 8]
            if len(one) == 8 and (is_address(one, other) or is_float(one, other)):
                at = begin + 8
                break
        else:
            return False
    return True


def is_address(one: bytes, other: bytes) -> bool:
    return is_moved(int.from_bytes(one, "little"), int.from_bytes(other, "little"))


def is_float(one: bytes, other: bytes) -> bool:
    (exact,), (near,) = struct.unpack("<d", one), struct.unpack("<d", other)
    return bool(exact == near or abs(exact - near) <= 2**-22 * abs(exact))


# --- the corpus ----------------------------------------------------------------------------------


def corpus() -> Iterator[tuple[str, bytes]]:
    if (folder := os.environ.get(CORPUS)) is not None:
        yield from ((path.name, path.read_bytes()) for path in sorted(pathlib.Path(folder).iterdir()))
        return
    yield from ((f"seed {number}", data) for number, data in enumerate(seeds()) if number % 4 == 0)


@pytest.mark.long
@pytest.mark.timeout(0 if CORPUS in os.environ else 400)
def test_a_board_of_16_bits_answers_what_one_of_64_answers(programs: Programs) -> None:
    compared = heard = 0
    for name, data in corpus():
        wide_said, narrow_said = said(programs, data, HEAP_64), said(programs, data, HEAP_16)
        if wide_said is None or narrow_said is None:
            continue
        wide = messages(answered_by_64(programs, wide_said))
        narrow = messages(answered_by_16(programs, narrow_said))
        assert len(wide) == len(narrow), f"{name}: {data.hex()}"
        for one, other in zip(wide, narrow, strict=True):
            assert are_same(one, other), f"{name}: {data.hex()}\n64: {one.hex()}\n16: {other.hex()}"
        compared += 1
        heard += len(wide)
    print(f"{compared} inputs, {heard} messages")
    assert compared > 20
    assert heard > 3 * compared
