"""`python -m benchmarks` runs and prints every row; how fast anything is, is not asserted."""

import contextlib
import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks import devices, host_cpu, noise, pacing, ser2net
from benchmarks.ceilings import over_the_link, stop_and_wait
from benchmarks.modes import LINE_MODES, MODES
from benchmarks.noise import QUICK, Outcome, Size
from benchmarks.peers import compare
from benchmarks.peers.environment import PACKAGES, MissingError, Package, prepare
from microrpc.client.remote import RemoteArray
from microrpc.connecting.blocking import connect
from microrpc.errors import FirmwareError, PortError

pytestmark = pytest.mark.long  # two runs of all sections, in each process that has some of these tests

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def has_commit(commit: str) -> bool:
    """Whether this is a clone of the repository that goes back to `commit`."""
    command = ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    return bool(shutil.which("git")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


SIZES = (16, 64, 256, 2048, 8192)
CODEC = [
    f"{direction}, {content}, {size} B"
    for direction in ("encode", "decode")
    for content in ("random", "all 0xFF", "zeros")
    for size in SIZES
]
CALLS = {"ping-pong, 1 B, reader sleeps": "us", "ping-pong, 1 B, reader spins": "us"}
for mode in MODES:
    CALLS |= {f"empty call, {mode}": "us"}
    CALLS |= {f"call / ping-pong, {mode}, reader {does}": "times" for does in ("sleeps", "spins")}
HAS_ZIG = importlib.util.find_spec("ziglang") is not None
CORE = "core alone, Cortex-M3"
RUNNING = devices.QUICK_DEVICES if HAS_ZIG else devices.QUICK_DEVICES[:1]
NOT_RUNNING = () if HAS_ZIG else (*devices.QUICK_DEVICES[1:], CORE)
DEVICE_CALLS = [f"{name}: empty call, {mode}" for name in RUNNING for mode in ("link", "robust")]
DEVICE_COPIES = [f"{name}: copy 16 KiB {way} the board, link" for name in RUNNING for way in ("to", "from")]
DEVICE_SIZES = [f"{name}: {memory}" for name in RUNNING[1:] for memory in ("flash", "RAM")]
DEVICE_SIZES += [f"{CORE}, {how} the link: flash" for how in ("with", "without") if HAS_ZIG]
LINES = [mode.name for mode in LINE_MODES]
COPIES = [f"copy 256 KiB {way} the board, {size} KiB packets" for way in ("to", "from") for size in (2, 8)]
VIRTUAL = [f"a minute of line{what}" for what in ("", ", FTDI adapter", ", stock firmware")]
TIMED = {
    **dict.fromkeys(CODEC, "MB/s"),
    **CALLS,
    **dict.fromkeys(COPIES, "MB/s"),
    **dict.fromkeys(VIRTUAL, "times"),
    **dict.fromkeys(DEVICE_CALLS, "us"),
    **dict.fromkeys(DEVICE_COPIES, "KB/s"),
    "call: 16 B echo, no protocol": "us",
    **{f"call: microrpc, {mode}": "us" for mode in MODES},
}
RANGED = {
    "8 boards at 115200 baud": "% of line",
    "4 boards at 115200 baud, 1 process of hosts": "% of line",
    "8 boards at 115200 baud, 2 processes of hosts": "% of line",
    "raw write": "% of line",
    **{f"{mode}, 2048 B packets, {way} the board": "% of line" for mode in LINES for way in ("to", "from")},
    **{f"{mode}, {name}": "% of clean" for mode in MODES for name in noise.NOISES},
}
TALKERS = ("microrpc, virtual time", "microrpc, paced line")
TIMED |= {f"call beside events: {title}": "times" for title in TALKERS}
for title, ways in zip(TALKERS, (("to", "from"), ("to",)), strict=True):
    RANGED |= {f"copy 16 KiB {way} the board beside events: {title}": "% of what is left" for way in ways}
EVENTS_MISSING = "events: pw_rpc 0.0.24, paced line"
STEPS = [
    f"Python calls of add(2, 3), {who}, {where} the link" for who in ("blocking", "asyncio") for where in ("off", "on")
]
HAS_OLD = has_commit(host_cpu.OLD_COMMIT)
HOST_CPU = {"host CPU of a call, on the link / off it": "times"}
for work in host_cpu.WORKS.values():
    for where in ("off", "on"):
        row = f"host CPU of {work.title}, {where} the link"
        HOST_CPU |= {row: work.unit}
        HOST_CPU |= {f"{row}, 0.4.0": work.unit, f"{row} / 0.4.0": "times"} if HAS_OLD else {}
TIMED |= HOST_CPU
CAPTURED = [f"captured copy {way} the board, {size} KiB packets, pty" for way in ("to", "from") for size in (2, 8)]
CAPTURED += [
    f"captured copy {way} the board, {size} KiB packets, no pause, pty" for way in ("to", "from") for size in (2, 8)
]
CAPTURED += [f"captured copy {way} the board, 2 KiB packets, {pacing.BAUD} baud" for way in ("to", "from")]
CAPTURED += [f"written down, {size} KiB packets, pty" for size in (2, 8)]
WATCHED = ("a capture of both sides", "a board that speaks")
MONITOR = {"monitor: frames put in words": "frames/s"}
for watched in WATCHED:
    MONITOR |= {
        f"monitor, {watched}: frames shown": "%",
        f"monitor, {watched}: CPU": "us/frame",
        f"monitor, {watched}: a key is answered": "ms",
    }
MONITOR_WORK = [f"monitor, {watched}: work until a key is answered" for watched in WATCHED]
HAS_TSHARK = shutil.which("tshark") is not None
DISSECTED = ["tshark without the dissector", "tshark with it", "tshark with it, two passes"] if HAS_TSHARK else []
HAS_SER2NET = bool(shutil.which("ser2net") or shutil.which("/usr/sbin/ser2net"))
CHARDELAYS = ("as it is", "chardelay: false")
THROUGH_SER2NET = [f"through ser2net, {how}, {what}" for how in ("raw", "RFC 2217") for what in CHARDELAYS]
SER2NET = [f"call {where}" for where in ("on the pty itself", *THROUGH_SER2NET)] if HAS_SER2NET else []
PEER_CODEC = [f"codec: microrpc, {size} B" for size in (64, 256, 2048)]
MISSING = [package.title for package in PACKAGES]
COUNT = (
    len(TIMED)
    + len(STEPS)
    + (not HAS_OLD)
    + len(RANGED)
    + len(PEER_CODEC)
    + len(CAPTURED)
    + len(MONITOR)
    + len(MONITOR_WORK)
    + (len(DISSECTED) or 1)
    + (len(SER2NET) or 1)
    + len(MISSING)
    + 2  # the peer with events, and TVM
    + len(DEVICE_SIZES)
    + len(NOT_RUNNING)
)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Run everything once; give a directory with what was printed and the JSON."""
    directory = tmp_path_factory.mktemp("benchmarks")
    paths = ["--json", str(directory / "rows.json"), "--peers-venv", str(directory / "no-peers")]
    paths += ["--tvm-python", str(directory / "no-tvm")]
    result = run("benchmarks", "--quick", *paths)
    assert result.returncode == 0, result.stderr
    (directory / "output").write_text(result.stdout)
    return directory


@pytest.fixture(scope="module")
def output(results: pathlib.Path) -> str:
    return (results / "output").read_text()


@pytest.fixture(scope="module")
def rows(results: pathlib.Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((results / "rows.json").read_text())["rows"]
    return found


def test_it_says_what_ran_and_prints_one_table(output: str) -> None:
    lines = output.splitlines()
    assert re.search(r"cores; crc: (fastcrc|crcmod)$", lines[0])
    assert lines[1].split() == ["measured", "median", "unit", "spread", "remark"]
    assert len(lines) == 3 + COUNT + 1


@pytest.mark.parametrize(("name", "unit"), TIMED.items())
def test_every_timed_row_is_there_with_a_number_and_its_unit(output: str, name: str, unit: str) -> None:
    rows = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    assert len(rows) == 1
    assert re.match(rf"{re.escape(name)} +[\d,]+\.\d+ +{unit} ", rows[0])
    assert re.search(r"(min|p10) [\d,.]+, p90 [\d,.]+", rows[0])


@pytest.mark.parametrize(("name", "unit"), RANGED.items())
def test_every_share_is_there_with_its_range(output: str, name: str, unit: str) -> None:
    rows = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    assert len(rows) == 1
    assert re.match(rf"{re.escape(name)} +[\d.]+ +{unit} +least [\d.]+, most [\d.]+ ", rows[0])


@pytest.mark.parametrize(("name", "unit"), MONITOR.items())
def test_the_monitor_is_measured_with_what_it_showed(output: str, name: str, unit: str) -> None:
    rows = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    assert len(rows) == 1
    assert re.match(rf"{re.escape(name)} +[1-9][\d,.]* +{unit} ", rows[0])


@pytest.mark.parametrize("name", MONITOR_WORK)
def test_the_monitor_is_measured_with_the_work_before_an_answer(output: str, name: str) -> None:
    rows = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    assert len(rows) == 1
    assert re.match(rf"{re.escape(name)} +\d+ +ms +p90 \d+, worst \d+ ", rows[0])


@pytest.mark.parametrize("name", DISSECTED)
def test_the_dissector_is_measured_by_seconds_of_tshark(output: str, name: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{name}  "))
    assert re.match(rf"{re.escape(name)} +\d+\.\d +s +[\d.]+ to [\d.]+ ", row)


@pytest.mark.skipif(HAS_TSHARK, reason="tshark is there")
def test_without_tshark_it_is_said_what_brings_it(output: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith("Wireshark  "))
    assert "needs tshark: apt-get install --no-install-recommends tshark" in row


@pytest.mark.parametrize("name", SER2NET)
def test_calls_through_ser2net_are_measured_beside_those_on_the_pty(output: str, name: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{name}  "))
    assert re.match(rf"{re.escape(name)} +[\d.]+ +ms +p10 [\d.]+, p90 [\d.]+ +[\d.]+ times that on the pty$", row)


def test_without_ser2net_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (row,) = ser2net.measure(quick=True)
    assert row[:2] == ("ser2net", "missing")
    assert row.remark == "needs ser2net: apt-get install --no-install-recommends ser2net"


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_of_a_call_are_there_with_their_bound(output: str, name: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{name}  "))
    assert re.fullmatch(rf"{re.escape(name)} +\d+ +calls +at most \d+; \d+ modules, \d+ changes between them", row)


@pytest.mark.parametrize("name", CAPTURED)
def test_what_a_capture_costs_is_there(output: str, name: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{name}  "))
    value = r"\d+\.\d\d +times" if "no pause" in name else r"(?:[+-][\d.]+ +%|\d+ +MB/s)"
    assert re.match(rf"{re.escape(name)} +{value} ", row)


@pytest.mark.parametrize("name", CODEC)
def test_codec_rows_give_frames_a_second(output: str, name: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{name}  "))
    assert re.search(r"[\d,]+ frames/s$", row)


@pytest.mark.parametrize("name", DEVICE_SIZES)
def test_sizes_are_there_in_bytes(output: str, name: str) -> None:
    rows = [line for line in output.splitlines() if line.startswith(f"{name}  ")]
    assert len(rows) == 1
    assert re.match(rf"{re.escape(name)} +[1-9][\d,]+ +B ", rows[0])


@pytest.mark.parametrize("title", [*MISSING, EVENTS_MISSING])
def test_a_peer_that_is_not_installed_is_said_to_be_missing(output: str, title: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith(f"{title}  "))
    assert re.search(r" missing +not installed, and --quick installs nothing$", row)


def test_without_tvm_it_is_said_to_be_missing_and_how_to_get_it(output: str) -> None:
    row = next(line for line in output.splitlines() if line.startswith("TVM  "))
    assert re.search(r" missing .*no-tvm is no interpreter; `make bench ARGS=tvm` installs it$", row)


def test_the_json_has_every_row_with_what_the_plots_need(rows: list[dict[str, Any]]) -> None:
    assert len(rows) == COUNT
    kinds = {row["raw"].get("kind") for row in rows}
    assert kinds >= {"line-rate", "noise", "peer-call", "latency", "raw"}


def test_nothing_is_beyond_its_ceiling(rows: list[dict[str, Any]]) -> None:
    raws = [row["raw"] for row in rows if row["raw"].get("kind") == "line-rate"]
    assert raws
    for raw in raws:
        # A quick run copies little: random bytes may have fewer escapes than most, and the last ones count for much.
        assert 0 < max(raw["efficiencies"]) <= raw["ceiling"] + 2


def test_the_plots_are_drawn_and_are_the_same_again(results: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is in the extra bench")
    program = (
        "import json, pathlib, sys; from benchmarks.plots import draw;"
        "draw(json.loads(pathlib.Path(sys.argv[1]).read_text())['rows'], pathlib.Path(sys.argv[2]))"
    )
    for directory in ("one", "another"):
        command = [sys.executable, "-c", program, str(results / "rows.json"), str(tmp_path / directory)]
        subprocess.run(command, cwd=ROOT, timeout=60, check=True)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["efficiency.svg", "goodput.svg", "latency.svg"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "another" / name).read_bytes()


def test_the_table_of_the_devices_has_every_device(results: pathlib.Path) -> None:
    result = run("benchmarks.devices", str(results / "rows.json"))
    assert result.returncode == 0, result.stderr
    rows = {line.split(" | ")[0].strip("| `"): line for line in result.stdout.splitlines()[2:]}
    cores = ["the core alone on a Cortex-M3, with the link", "the core alone on a Cortex-M3, without the link"]
    assert list(rows) == [*RUNNING, *(cores if HAS_ZIG else [])]
    assert {line.count("|") for line in rows.values()} == {8}
    assert re.fullmatch(r"\| `simulator` \|  \|  (\| [\d,]+ ){4}\|", rows["simulator"])


def test_the_table_of_the_devices_is_put_into_the_guide_and_keeps_what_was_not_measured() -> None:
    guide = devices.GUIDE.read_text(encoding="utf-8")
    raw = [{"kind": "device", "device": "posix", "figure": figure, "value": 7} for figure in ("flash", "RAM", "to")]
    new = devices.written(guide, devices.markdown(raw))
    changed = [line for line in new.splitlines() if line not in guide.splitlines()]
    assert changed == ["| `posix` | 7 | 7 |  |  | 7 |  |"]
    old_line = next(line for line in guide.splitlines() if line.startswith("| `posix` | "))
    assert new.replace(changed[0], old_line) == guide
    with pytest.raises(ValueError, match=r"firmware\.md has no table that begins with \| board \| flash, bytes \|"):
        devices.written("", devices.markdown(raw))


def test_one_section_can_be_chosen() -> None:
    result = run("benchmarks", "--quick", "virtual-time")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3 + len(VIRTUAL) + 1


def test_an_unknown_section_is_refused_with_those_that_there_are() -> None:
    result = run("benchmarks", "--quick", "codecs")
    assert result.returncode == 2
    assert "there is no section codecs; there are codec, steps, calls," in result.stderr


# --- the arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ceiling", "direction", "data_bytes", "line_bytes"),
    [
        (stop_and_wait, "to", 1985, (1985 + 8 + 3 + 8 + 52 + 1987 / 256, 31)),
        (stop_and_wait, "from", 1985, (71, 1985 + 8 + 3 + 8 + 4 + 1987 / 256)),
        (over_the_link, "to", 2030, (2030 + 8 + 18 + 2036 / 256,)),
        (over_the_link, "from", 2030, (2030 + 8 + 10 + 2036 / 256,)),
    ],
)
def test_a_ceiling_is_what_the_bytes_of_a_block_take(
    ceiling: Any, direction: str, data_bytes: int, line_bytes: tuple[float, ...]
) -> None:
    found = ceiling(2048, direction)
    assert found.data_bytes == data_bytes
    assert found.line_bytes == pytest.approx(line_bytes)
    assert found.percent == pytest.approx(100 * data_bytes / sum(line_bytes))


# --- the judge of the noise is judged ---------------------------------------------------------------

SHORT = Size(copy_bytes=32768, calls=20, limit_s=100)


def test_a_clean_line_loses_nothing() -> None:
    outcome = noise.replay("robust", "clean line", 1, SHORT)
    assert (outcome.pieces, outcome.calls, outcome.copied_bytes) == (2, 20, 32768)
    assert (outcome.lost, outcome.duplicated, outcome.wrong, outcome.resets, outcome.struck) == (0, 0, 0, 0, 0)
    assert outcome.goodput > 0.8 * 921600 / 10 / 2


def test_the_same_seed_gives_the_same_outcome() -> None:
    outcome = noise.replay("robust", "bit errors 1e-5", 3, QUICK)
    assert outcome.struck > 0
    assert outcome == noise.replay("robust", "bit errors 1e-5", 3, QUICK)


@pytest.mark.parametrize("name", noise.NOISES)
def test_the_link_loses_nothing(name: str) -> None:
    outcome = noise.replay("link", name, 0, QUICK)
    assert (outcome.pieces, outcome.calls) == (2, 50)
    assert (outcome.lost, outcome.duplicated, outcome.wrong, outcome.resets) == (0, 0, 0, 0)


def test_noise_loses_requests_and_the_program_hears_of_it() -> None:
    outcome = noise.replay("stock", "bit errors 1e-4", 0, QUICK)
    assert outcome.lost > 0
    assert outcome.resets > 0
    assert (outcome.duplicated, outcome.wrong) == (0, 0)


def test_wrong_data_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RemoteArray, "numpy", lambda array: np.zeros(array.shape, np.uint8))
    assert noise.replay("robust", "clean line", 0, SHORT).wrong == 2


def test_a_wrong_value_and_a_second_execution_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(program: Any) -> int:
        program._executions += 2
        return int(program._executions)

    monkeypatch.setattr(noise._Program, "count", count)
    outcome = noise.replay("robust", "clean line", 0, SHORT)
    assert (outcome.duplicated, outcome.wrong) == (20, 20)


def test_outcomes_add_up() -> None:
    assert Outcome(lost=1, copied_bytes=10, copying_s=2.0) + Outcome(lost=2, copied_bytes=20, copying_s=4.0) == Outcome(
        lost=3, copied_bytes=30, copying_s=6.0
    )


# --- the host alone ---------------------------------------------------------------------------------


def test_a_ratio_is_that_of_blocks_side_by_side_and_says_what_it_may_be() -> None:
    work = host_cpu.Work("a thing", "us", 1, (0.8, 0.6), 1.7)
    times = {
        "off": {"new": [1.0, 2.0, 3.0], "0.4.0": [2.0, 2.0, 2.0]},
        "on": {"new": [3.0, 6.0, 3.0], "0.4.0": [6.0, 6.0, 6.0]},
    }
    rows = {row.name.removeprefix("host CPU of a thing, "): row for row in host_cpu._rows(work, times, "new")}
    assert {name: row.value for name, row in rows.items()} == {
        "off the link": "2.00",
        "off the link, 0.4.0": "2.00",
        "off the link / 0.4.0": "1.00",
        "on the link": "3.00",
        "on the link, 0.4.0": "6.00",
        "on the link / 0.4.0": "0.50",
        "on the link / off it": "3.00",
    }
    assert rows["off the link / 0.4.0"].remark == "at most 0.8; 3 blocks"
    assert rows["on the link / 0.4.0"].remark == "at most 0.6; 3 blocks"
    assert rows["on the link / off it"].remark == "at most 1.7; 3 blocks"


def test_where_the_old_version_is_not_to_be_had_this_one_is_measured_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(host_cpu, "_BUILD", tmp_path)
    monkeypatch.setattr(host_cpu, "OLD_COMMIT", "0" * 40)
    rows = list(host_cpu.measure(quick=True))
    assert rows[0][:2] == ("host CPU of 0.4.0", "missing")
    assert rows[0].remark.startswith("commit 0000000 is not in this copy of the project (")
    assert {row.name for row in rows[1:]} == {name for name in HOST_CPU if "0.4.0" not in name}


def test_without_git_the_old_version_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(host_cpu, "_BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(host_cpu.MissingError, match=r"^git is not installed$"):
        host_cpu.old_version()


# --- devices that are not there ---------------------------------------------------------------------


def test_a_device_without_its_emulator_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "QUICK_DEVICES", ("qemu_mps2_an385",))
    monkeypatch.setattr(devices, "_core_rows", lambda quick: iter(()))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (row,) = devices.measure(quick=True)
    assert row[:4] == ("qemu_mps2_an385", "missing", "", "")
    assert row.remark.startswith("qemu_mps2_an385 runs in qemu-system-arm, which is not installed: apt-get install ")


def test_without_a_compiler_a_device_and_the_core_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "QUICK_DEVICES", ("posix",))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = list(devices.measure(quick=True))
    assert [row[:2] for row in rows] == [("posix", "missing"), (CORE, "missing")]
    assert rows[0].remark.startswith("building firmware needs a compiler: pip install 'microrpc[firmware]'")
    assert rows[1].remark == "the Python package ziglang is not installed"


@pytest.mark.parametrize("error", [FirmwareError("the compiler says"), PortError("gone", "it ended at once")])
def test_a_device_that_cannot_be_started_is_reported(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def start(name: str, stack: contextlib.ExitStack) -> devices._Device:
        raise error

    monkeypatch.setattr(devices, "QUICK_DEVICES", ("posix",))
    monkeypatch.setattr(devices, "_start", start)
    monkeypatch.setattr(devices, "_core_rows", lambda quick: iter(()))
    (row,) = devices.measure(quick=True)
    assert row[:5] == ("posix", "failed", "", "", str(error))


def test_a_device_that_fails_is_reported_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(name: str, stack: contextlib.ExitStack) -> devices._Device:
        return (
            devices._Device("gone", partial(connect, "/dev/nowhere"), None)
            if name == "posix"
            else really_start(name, stack)
        )

    really_start = devices._start
    monkeypatch.setattr(devices, "_start", start)
    monkeypatch.setattr(devices, "_core_rows", lambda quick: iter(()))
    rows = list(devices.measure(quick=True))
    assert [row.value for row in rows if row.name == "posix"] == ["failed"]
    assert len(rows) == 1 + 4


# --- peers that do not behave ------------------------------------------------------------------------


def contender(program: str) -> compare._Contender:
    command = (sys.executable, "-c", program)
    return compare._Contender("a peer", "a", command, lambda: contextlib.nullcontext("/dev/null"))


def test_a_peer_that_hangs_is_ended_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "_CALLS_S", 0.3)
    monkeypatch.setattr(compare, "_DEADLINE_S", 0.3)
    hangs = contender("import time; time.sleep(60)")
    (row,) = compare._call_rows([hangs], rounds=1, blocks=1)
    assert row[:2] == ("call: a peer", "failed")
    assert row.remark.startswith("hangs: ended after")
    with pytest.raises(compare._FailedError, match="hangs"):
        hangs.run("codec")


def test_a_peer_that_fails_is_reported_with_its_last_words() -> None:
    fails = contender("raise ValueError('no such port')")
    (row,) = compare._call_rows([fails], rounds=1, blocks=1)
    assert (row.value, row.remark) == ("failed", "failed: ValueError: no such port")
    with pytest.raises(compare._FailedError, match=r"^failed: ValueError: no such port$"):
        fails.run("codec")


def test_a_peer_that_cannot_be_installed_is_missing_with_the_reason(tmp_path: pathlib.Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'ERROR: no such package' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(MissingError, match=r"^cannot be installed: no such package$"):
        prepare(Package("none", "None", "none", ("none",)), tmp_path, may_install=True)
