"""The library for Arduino as its package index wants it, and what it knows of the cores (firmware/ports/arduino)."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tomllib

import needs
import pytest

from microrpc.firmware.project import firmware_directory

LIBRARY = firmware_directory() / "ports" / "arduino"

# --- the library, as arduino-lint wants it --------------------------------------------------------

CATEGORIES = {
    *("Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage"),
    *("Data Processing", "Other"),
}
ARCHITECTURES = {
    *("avr", "megaavr", "sam", "samd", "mbed", "mbed_edge", "mbed_nano", "mbed_nicla", "mbed_portenta"),
    *("mbed_rp2040", "mbed_giga", "mbed_opta", "renesas", "renesas_portenta", "renesas_uno", "esp32", "esp8266"),
    *("nrf52", "rp2040", "stm32", "spresense"),
}
"""Those of cores that boards managers offer under these names."""
FIELDS = {
    *("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"),
    *("depends", "dot_a_linkage", "includes", "precompiled", "ldflags"),
}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The library as users get it."""
    directory = tmp_path_factory.mktemp("libraries")
    command = [sys.executable, LIBRARY / "layout.py", directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return pathlib.Path(done.stdout.strip())


def _properties(library: pathlib.Path) -> dict[str, str]:
    lines = (library / "library.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_properties_are_those_that_the_index_of_libraries_takes(laid_out: pathlib.Path) -> None:
    properties = _properties(laid_out)
    assert set(properties) <= FIELDS
    assert all(value and value == value.strip() for value in properties.values())
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,15}", properties["name"])
    assert not properties["name"].lower().startswith("arduino")
    assert "library" not in properties["name"].lower()
    assert re.fullmatch(r"https?://[\w.-]+\.\w+/\S*", properties["url"])
    assert properties["category"] in CATEGORIES
    assert set(properties["architectures"].split(",")) <= ARCHITECTURES
    assert "avr" in properties["architectures"].split(",")
    assert properties["paragraph"] != properties["sentence"]
    assert not properties["paragraph"].startswith(properties["sentence"])


def test_the_version_is_that_of_the_package(laid_out: pathlib.Path) -> None:
    with (pathlib.Path(__file__).parent.parent.parent / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert _properties(laid_out)["version"] == version


def test_the_files_lie_where_the_specification_of_libraries_has_them(laid_out: pathlib.Path) -> None:
    properties = _properties(laid_out)
    top = {path.name for path in laid_out.iterdir()}
    assert top == {"LICENSE", "README.md", "examples", "keywords.txt", "library.properties", "src"}
    assert laid_out.name == properties["name"]
    for header in (f"{properties['name']}.h", *properties["includes"].split(",")):
        assert (laid_out / "src" / header).is_file()
    for path in laid_out.rglob("*"):
        assert not path.is_symlink()
        assert path.suffix in {"", ".c", ".h", ".ino", ".md", ".txt", ".properties"}, path
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", path.name)
    examples = [path for path in (laid_out / "examples").iterdir() if path.is_dir()]
    assert len(examples) == 4
    for example in examples:
        assert (example / f"{example.name}.ino").is_file()


def test_the_keywords_are_names_of_the_library_a_tab_and_what_they_are(laid_out: pathlib.Path) -> None:
    code = "".join(path.read_text() for path in (laid_out / "src").glob("*.h"))
    lines = (laid_out / "keywords.txt").read_text().splitlines()
    assert len(lines) > 10
    for line in lines:
        name, kind = line.split("\t")
        assert kind in {"KEYWORD1", "KEYWORD2", "LITERAL1"}
        assert re.search(rf"\b{name}\b", code) or (laid_out / "src" / f"{name}.h").is_file(), name


# --- what the serial ports of the cores keep ------------------------------------------------------


@pytest.mark.parametrize(
    ("core", "macros", "ring_bytes"),
    [
        ("avr", ("ARDUINO_ARCH_AVR", "SERIAL_RX_BUFFER_SIZE=64"), 63),
        ("stm32", ("ARDUINO_ARCH_STM32", "SERIAL_RX_BUFFER_SIZE=64"), 63),
        ("arduino-pico", ("ARDUINO_ARCH_RP2040", "SERIAL_BUFFER_SIZE=64"), 31),
        ("mbed on an RP2040", ("ARDUINO_ARCH_MBED", "ARDUINO_ARCH_RP2040", "SERIAL_BUFFER_SIZE=64"), 255),
        ("mbed", ("ARDUINO_ARCH_MBED", "SERIAL_BUFFER_SIZE=64"), 255),
        ("samd", ("ARDUINO_ARCH_SAMD", "SERIAL_BUFFER_SIZE=256"), 255),
        ("Adafruit's samd", ("ARDUINO_ARCH_SAMD", "SERIAL_BUFFER_SIZE=350"), 349),
        ("nrf52", ("ARDUINO_ARCH_NRF52", "SERIAL_BUFFER_SIZE=64"), 63),
        ("an avr with little RAM", ("ARDUINO_ARCH_AVR", "SERIAL_RX_BUFFER_SIZE=16"), 15),
        ("an older samd", ("ARDUINO_ARCH_SAMD", "SERIAL_BUFFER_SIZE=64"), 63),
        ("sam", ("ARDUINO_ARCH_SAM", "SERIAL_BUFFER_SIZE=128"), 127),
        ("renesas", ("ARDUINO_ARCH_RENESAS", "SERIAL_BUFFER_SIZE=512"), 511),
        ("esp32", ("ARDUINO_ARCH_ESP32",), 256),
        ("esp8266", ("ARDUINO_ARCH_ESP8266",), 255),
        ("one that nobody knows", (), 63),
        ("what the author says", ("ARDUINO_ARCH_ESP32", "MICRORPC_RING_BYTES=1024"), 1024),
    ],
)
def test_the_ring_is_what_the_serial_port_of_the_core_keeps(
    tmp_path: pathlib.Path, core: str, macros: tuple[str, ...], ring_bytes: int
) -> None:
    needs.program("g++")
    program = tmp_path / "ring.cpp"
    program.write_text(f'#include "microrpc_ring.h"\nstatic_assert(MICRORPC_RING_BYTES == {ring_bytes}, "{core}");\n')
    defines = [f"-D{macro}" for macro in macros]
    command = ["g++", "-std=c++11", "-fsyntax-only", *defines, f"-I{LIBRARY / 'src'}", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
