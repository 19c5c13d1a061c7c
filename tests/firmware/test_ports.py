"""The ports that a computer can run: the process, the Arduino library and the Zephyr sample on stubs; and the ring."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import tty
from unittest.mock import Mock

import needs
import numpy as np
import pytest
from apis import Api
from c_board import SWITCHED_ON
from on_stubs import compile_strictly, serving

import microrpc
from microrpc.errors import RemoteError, RequestTooLargeError
from microrpc.firmware.new import new_project
from microrpc.host.events import Event
from microrpc.wire.events import EventAck, EventMessage, decode_event_news, encode_event_ack
from microrpc.wire.frames import FrameDecoder, FrameEncoder
from microrpc.wire.link import encode_link_message
from microrpc.wire.session import MessageType, encode_message

ROOT = pathlib.Path(__file__).parent.parent.parent
FIRMWARE = ROOT / "firmware"
ARDUINO = ("-DARDUINO=10819", '-DARDUINO_BOARD="STUB"')
"""What Arduino's tools define."""
COMPILERS = (("gcc", "g++"), ("clang", "clang++"))

LONGEST_TEXT = 117 - 28
"""What a call with one text has room for with 128 bytes: the rest is code, handle, count, type and length."""


@pytest.fixture(params=COMPILERS, ids=[c for c, _ in COMPILERS])
def compilers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Compilers of C and of C++."""
    c, cxx = request.param
    needs.program(c)
    needs.program(cxx)
    return c, cxx


@pytest.fixture
def compiler(compilers: tuple[str, str]) -> str:
    """A compiler of C."""
    return compilers[0]


# --- examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "values", "told"),
    [
        ("arduino/examples/Events/Events.ino", (480, "A0"), "7 480\n"),
        ("arduino/examples/Interrupt/Interrupt.ino", (3, 0), "3 us; 0 were lost in the ring\n"),
        ("common/examples/sensor.c", (480, "A0"), "7 480 A0\n"),
    ],
)
def test_the_python_beside_an_example_takes_its_events_and_a_gap(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    example: str,
    values: tuple[int | str, ...],
    told: str,
) -> None:
    text = (FIRMWARE / "ports" / example).read_text()
    lines = re.findall(r"^(?://| \*)     (.*)$", text, flags=re.MULTILINE)
    (name,) = re.findall(r'microrpc_event\(device, "(\w+)"|device\.event\("(\w+)"', text)
    board = Mock(**{"events.return_value": [Event(1, "", missed=2), Event(3, "".join(name), values, time_us=7)]})
    monkeypatch.setattr(microrpc, "connect", Mock(return_value=board))
    exec("\n".join(lines), {})
    assert capsys.readouterr().out == told
    board.events.assert_called_once_with("".join(name))


# --- Arduino --------------------------------------------------------------------------------------


def _lay_out(directory: pathlib.Path) -> pathlib.Path:
    command = [sys.executable, FIRMWARE / "ports" / "arduino" / "layout.py", directory]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    return pathlib.Path(run.stdout.strip())


def _build_example(directory: pathlib.Path, name: str, compilers: tuple[str, str]) -> pathlib.Path:
    library = _lay_out(directory)
    return _build_sketch(directory, library / "examples" / name / f"{name}.ino", library / "src", compilers)


def _build_sketch(
    directory: pathlib.Path, sketch: pathlib.Path, library: pathlib.Path, compilers: tuple[str, str], *defines: str
) -> pathlib.Path:
    c, cxx = compilers
    objects = []
    for source in library.glob("*.c"):
        objects.append(directory / f"{source.stem}.o")
        compile_strictly(c, "-std=c99", *ARDUINO, *defines, "-c", source, "-o", objects[-1])
    stub = FIRMWARE / "tests" / "arduino_stub"
    includes = (*ARDUINO, *defines, f"-I{stub}", f"-I{library}", "-include", "Arduino.h")
    sources = ("-x", "c++", sketch, stub / "Arduino.cpp", "-x", "none", *objects)
    compile_strictly(cxx, "-std=c++11", *includes, *sources, "-o", directory / "sketch")
    return directory / "sketch"


def test_arduino_add(tmp_path: pathlib.Path, compilers: tuple[str, str]) -> None:
    with serving(_build_example(tmp_path, "Add", compilers)) as board:
        assert board.function("add")(2, 3) == 5
        assert board.link is not None
        assert (board.link.packet_bytes, board.link.window_bytes) == (512, 63)


def test_arduino_sensor(tmp_path: pathlib.Path, compilers: tuple[str, str]) -> None:
    with serving(_build_example(tmp_path, "Sensor", compilers)) as board:
        samples = board.function("sample")(10, 100)
        before = samples.numpy()
        board.function("scale")(samples, 0.5)
        np.testing.assert_array_equal(samples.numpy(), before / 2)
        assert len(set(before.tolist())) > 1
        with pytest.raises(RemoteError, match="want 1 to 1000 samples"):
            board.function("sample")(0, 100)


WATCHED = """
#include <MicroRPCDevice.h>

static unsigned fed;

static void feed() { fed++; }

static void count_fed(microrpc_call_t *call) { microrpc_return_int(call, fed); }

static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(count_fed)};
static MicroRPCDevice<16384> device(Serial, functions);

void setup() {
    device.begin(7);
    device.onIdle(feed);
    device.log(MICRORPC_LOG_WARNING, "ready");
}

void loop() { device.poll(); }
"""


def test_a_sketch_feeds_its_watchdog_while_it_waits(tmp_path: pathlib.Path, compilers: tuple[str, str]) -> None:
    sketch = tmp_path / "watched.ino"
    sketch.write_text(WATCHED)
    library = _lay_out(tmp_path) / "src"
    with serving(_build_sketch(tmp_path, sketch, library, compilers, "-DMICRORPC_HOOKS=1")) as board:
        count_fed = board.function("count_fed")
        assert count_fed() == 0
        board.time_evaluator("count_fed", number=3, repeat=5)()
        assert count_fed() == 5


def _hear_event(port: int) -> EventMessage:
    """Begin a session at a port, ask for events, and give the first one that comes."""
    encoder, decoder = FrameEncoder(), FrameDecoder(1 << 16)
    os.write(port, encoder.encode(encode_message(0x11, MessageType.START_SESSION_INIT, b"\x01")))
    while select.select([port], [], [], 20)[0]:
        for payload in decoder.feed(os.read(port, 4096)):
            if isinstance(payload, bytes) and payload[2] == MessageType.START_SESSION_REPLY:
                session_id = int.from_bytes(payload[:2], "little")
                os.write(port, encoder.encode(encode_event_ack(session_id, EventAck(0, 4096, False))))
            news = decode_event_news(payload) if isinstance(payload, bytes) else None
            if isinstance(news, EventMessage):
                return news
    raise AssertionError("no event came")


@pytest.mark.parametrize(
    ("name", "event", "types"), [("Events", "sample", (int, str)), ("Interrupt", "pulse", (int, int))]
)
def test_arduino_events(
    tmp_path: pathlib.Path, compilers: tuple[str, str], name: str, event: str, types: tuple[type, ...]
) -> None:
    program = _build_example(tmp_path, name, compilers)
    master, slave = pty.openpty()
    tty.setraw(slave)
    with subprocess.Popen([program], stdin=master, stdout=master) as process:
        try:
            heard = _hear_event(slave)
        finally:
            process.kill()
            os.close(master)
            os.close(slave)
    assert (heard.name, heard.is_reliable, tuple(map(type, heard.values))) == (event, False, types)
    assert heard.time_us > 0


SKETCH = """
#include <MicroRPCDevice.h>
#include <microrpc_model.h>
static void f(microrpc_call_t *) {}
static const microrpc_function_t functions[] = {MICRORPC_FUNCTION(f)};
static MicroRPCDevice<8192> device(Serial, functions);
static uint8_t ring[256];
static const microrpc_model_t *const models[] = {nullptr};
static void onSession(bool) {}
void setup() {
    const microrpc_value_t values[] = {microrpc_value_float(0.5), microrpc_value_bytes("x", 1)};
    device.keepEvents(ring);
    device.serveModels(models);
    device.onSession(onSession, 1000);
    device.begin(1);
    device.event("one", microrpc_value_int(1));
    device.eventReliable("one", microrpc_value_int(1));
    device.eventReliable("two", values);
}
void loop() { device.poll(); }
"""


def test_a_sketch_can_have_all_that_the_library_has(tmp_path: pathlib.Path, compilers: tuple[str, str]) -> None:
    sketch = tmp_path / "all.ino"
    sketch.write_text(SKETCH)
    _build_sketch(tmp_path, sketch, _lay_out(tmp_path) / "src", compilers, *SWITCHED_ON)


def test_a_new_sketch_is_compiled_and_its_function_called(tmp_path: pathlib.Path, compilers: tuple[str, str]) -> None:
    directory = tmp_path / "my_sketch"
    new_project(directory, "arduino")
    program = _build_sketch(tmp_path, directory / "my_sketch.ino", directory / "src", compilers)
    with serving(program) as board:
        assert board.function("add")(2, 3) == 5


def test_the_arduino_library_is_laid_out_anew_but_over_nothing_else(tmp_path: pathlib.Path) -> None:
    library = _lay_out(tmp_path)
    (library / "src" / "old.c").write_text("")
    assert _lay_out(tmp_path) == library
    assert not (library / "src" / "old.c").exists()
    (library / "library.properties").unlink()
    command = [sys.executable, FIRMWARE / "ports" / "arduino" / "layout.py", tmp_path]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (1, f"error: {library} exists and is no Arduino library\n")


# --- the ring -------------------------------------------------------------------------------------

RING_TEST = r"""
#include <assert.h>
#include <string.h>

#define RING_BYTES 8
#include "ring.h"

static ring_t ring;

static void put(const char *text) {
    for (; *text; text++) ring_put(&ring, (uint8_t)*text);
}

static void take(const char *text) {
    uint8_t bytes[100];
    size_t size = ring_take(&ring, bytes, sizeof bytes);
    assert(size == strlen(text) && memcmp(bytes, text, size) == 0);
}

static void check(void) {
    assert(ring_is_idle(&ring) && !ring_take_loss(&ring));
    put("12345678");
    assert(!ring_is_idle(&ring) && !ring_take_loss(&ring));
    take("12345678");
    assert(ring_is_idle(&ring));

    put("12345678lost"); /* told behind what came before, and before what comes after */
    assert(!ring_take_loss(&ring));
    take("12345678");
    put("abc");
    take("");
    assert(ring_take_loss(&ring) && !ring_take_loss(&ring));
    take("abc");
    assert(ring_is_idle(&ring));

    ring_lose(&ring); /* with nothing around it, it is no idle ring */
    assert(!ring_is_idle(&ring) && ring_take_loss(&ring) && ring_is_idle(&ring));

    put("12345678x"); /* of two losses the last counts */
    uint8_t byte;
    assert(ring_take(&ring, &byte, 1) == 1 && byte == '1');
    put("9y");
    take("23456789");
    assert(ring_take_loss(&ring) && !ring_take_loss(&ring) && ring_is_idle(&ring));
}

int main(void) {
    check();
    ring.put = ring.taken = ring.lost_at = 0xFFFFFFFDu; /* the indices wrap */
    ring.losses = ring.told = 0xFFFFFFFFu;
    check();
    return 0;
}
"""


def test_the_ring_tells_losses_where_they_were(tmp_path: pathlib.Path, compiler: str) -> None:
    (tmp_path / "ring.c").write_text(RING_TEST)
    compile_strictly(compiler, "-std=c99", "-Iports/common", tmp_path / "ring.c", "-o", tmp_path / "ring")
    run = subprocess.run([tmp_path / "ring"], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


INTERRUPTED_RING_TEST = r"""
#include <assert.h>
#include <string.h>

static void before_load(void);
#define RING_BYTES 256
#include "ring.h"

static ring_t ring;
static int loads, interrupt_at;

/* The UART's interrupt comes just before the main loop reads an index, and reports an overrun with its byte. */
static void before_load(void) {
    if (++loads != interrupt_at) return;
    ring_lose(&ring);
    ring_put(&ring, 'x');
}

int main(void) {
    for (int at = 1; at <= 12; at++) {
        char taken[64] = "";
        unsigned losses = 0;
        memset(&ring, 0, sizeof ring);
        interrupt_at = 0;
        for (char byte = 'a'; byte < 'k'; byte++) ring_put(&ring, (uint8_t)byte);
        loads = 0;
        interrupt_at = at;
        for (int turn = 0; turn < 8; turn++) {
            uint8_t bytes[16];
            size_t size = ring_take(&ring, bytes, sizeof bytes);
            assert(strlen(taken) + size < sizeof taken);
            strncat(taken, (char *)bytes, size);
            if (ring_take_loss(&ring)) {
                losses++;
                strcat(taken, "!");
            }
        }
        assert(losses == 1 && ring_is_idle(&ring) && !strcmp(taken, "abcdefghij!x"));
    }
    return 0;
}
"""


def test_an_interrupt_at_any_moment_loses_nothing_of_the_ring(tmp_path: pathlib.Path, compiler: str) -> None:
    load = "uint32_t value = *(const volatile uint32_t *)word;"
    header = (FIRMWARE / "ports/common/ring.h").read_text()
    assert load in header
    (tmp_path / "ring.h").write_text(header.replace(load, f"before_load(); {load}"))
    (tmp_path / "test.c").write_text(INTERRUPTED_RING_TEST)
    compile_strictly(compiler, "-std=c99", tmp_path / "test.c", "-o", tmp_path / "test")
    run = subprocess.run([tmp_path / "test"], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


# --- the process ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def process_port(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    compiler = COMPILERS[0][0]
    needs.program(compiler)
    program = tmp_path_factory.mktemp("posix") / "board"
    core = sorted((FIRMWARE / "src").glob("*.c"))
    sources = ("ports/posix/main.c", "demo/demo.c", *core)
    compile_strictly(compiler, "-std=c99", *SWITCHED_ON, "-Iinclude", "-Idemo", *sources, "-o", program)
    return program


def test_the_process_takes_a_silent_host_for_gone_until_it_speaks(process_port: pathlib.Path) -> None:
    command = [process_port, "--host-timeout-ms", "200", "--nonce", "1"]  # which makes the session 0x2111
    encoder = FrameEncoder()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = os.open(process.stdout.readline().split()[1], os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(port, encoder.encode(encode_message(0x11, MessageType.START_SESSION_INIT, b"\x01")))
            assert process.stderr.readline() == "the host is there\n"
            assert process.stderr.readline() == "the host is gone\n"
            os.write(port, encoder.encode(encode_link_message(0x2111, MessageType.LINK_KEEP_ALIVE, 0)))
            assert process.stderr.readline() == "the host is there\n"
        finally:
            process.kill()
            os.close(port)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--speed", "1"], "unknown option --speed"),
        (["--nonce"], "--nonce needs a number"),
        (["--nonce", "256"], "--nonce must be a number from 0 to 255, not 256"),
        (["--nonce", "-1"], "--nonce must be a number from 0 to 255, not -1"),
        (["--nonce", "1x"], "--nonce must be a number from 0 to 255, not 1x"),
        (["--packet-bytes", "127"], "--packet-bytes must be a number from 128 to 16777215, not 127"),
    ],
)
def test_wrong_arguments_of_the_process(process_port: pathlib.Path, words: list[str], complaint: str) -> None:
    run = subprocess.run([process_port, *words], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"error: {complaint}")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("link", [True, False])
def test_a_process_of_the_smallest_buffer_takes_what_fits_and_is_sent_nothing_larger(
    api: Api, process_port: pathlib.Path, link: bool
) -> None:
    """Over the link its limit is known, and without it is asked for before the first request of more than 117 bytes."""
    with subprocess.Popen([process_port, "--packet-bytes", "128"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            path = process.stdout.readline().split()[1]
            for size in (
                70,
                LONGEST_TEXT - 1,
                LONGEST_TEXT,
                LONGEST_TEXT + 1,
                2 * LONGEST_TEXT,
            ):  # the first larger request
                with api.connect(path, link=link) as board:
                    echo = board.function("echo_str")
                    assert (board.link is not None) is link
                    if size <= LONGEST_TEXT:
                        assert echo("x" * size) == "x" * size
                    else:
                        with pytest.raises(
                            RequestTooLargeError, match=r"echo_str is a packet of .* the board takes 117"
                        ):
                            echo("x" * size)
                    assert echo("y") == "y"
                    assert board.stats.repeats == 0
            with api.connect(path, link=link) as board:
                timing = board.time_evaluator("add", number=2, repeat=3)  # the first request, in the form that fits
                assert len(timing(2, 3).results) == 3
                with pytest.raises(RequestTooLargeError, match="add is a packet of 124 bytes, and the board takes 117"):
                    board.function("add")(*range(9))
                assert board.function("add")(2, 3) == 5
                assert board.stats.repeats == 0
        finally:
            process.kill()


def test_the_process_serves_one_client_after_another_and_ends_when_told(process_port: pathlib.Path) -> None:
    command = [process_port, "--packet-bytes", "512", "--ring-bytes", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        word, path = process.stdout.readline().split()
        assert word == "port:"
        for _ in range(2):
            with microrpc.connect(path) as board:
                assert board.function("add")(2, 3) == 5
                assert board.link is not None
                assert (board.link.packet_bytes, board.link.window_bytes) == (512, 1000)
        process.terminate()
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
