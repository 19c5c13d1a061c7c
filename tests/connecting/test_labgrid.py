"""The driver for labgrid, in a farm on this computer: coordinator, exporter, and two places with simulated boards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import needs
import pytest
from commands import run
from processes import first_line, serve

from firmware_sim.running.server import PtyServer
from firmware_sim.running.simulate import simulate
from microrpc.boards.catalogue import profile
from microrpc.connecting.blocking import connect

pytestmark = pytest.mark.tools

DEADLINE_S = 30.0
GUIDE = (Path(__file__).parent.parent.parent / "docs" / "lab.md").read_text(encoding="utf-8")
PLACES = {"tcp-board": "raw", "pty-board": "rfc2217"}

USE = """
import sys
import numpy as np
from labgrid import Environment
target = Environment(sys.argv[1]).get_target("main")
driver = target.get_driver("MicrorpcDriver")
assert driver.call("add", 2, 3) == 5
data = np.random.default_rng(1).integers(0, 256, 65536, dtype="uint8")
assert (driver.board.array(data).numpy() == data).all()
assert "add" in [function.name for function in driver.functions()]
board = driver.board
target.deactivate(driver)
print(driver.get_export_vars()["port"], driver.get_export_vars()["baud"], board.name)
assert not board.pump.is_listening and board.pump.closed
target.activate(driver)
assert driver.call("add", 2, 4) == 6
"""


@dataclass
class Farm:
    """What runs on this computer: the programs of labgrid, and where their coordinator is."""

    bin: Path
    folder: Path
    environment: dict[str, str]

    def client(self, *args: str, user: str = "dev") -> subprocess.CompletedProcess[str]:
        """Run labgrid-client to its end."""
        environment = self.environment | {"LG_USERNAME": user}
        return subprocess.run(
            [self.bin / "labgrid-client", *args],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=False,
        )

    def run(self, *args: str, **files: str) -> subprocess.CompletedProcess[str]:
        """Run Python with labgrid, in the farm's folder."""
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text, encoding="utf-8")
        return subprocess.run(
            [self.bin / "python", *args],
            capture_output=True,
            text=True,
            timeout=100,
            env=self.environment,
            cwd=self.folder,
            check=False,
        )

    def write_environment(self, place: str, keys: str = "{}") -> str:
        """Write the file of an environment with one place; give its name."""
        name = f"{place}.yaml"
        target = f"{{resources: {{RemotePlace: {{name: {place}}}}}, drivers: {{MicrorpcDriver: {keys}}}}}"
        (self.folder / name).write_text(
            f"targets: {{main: {target}}}\n"
            f'imports: [microrpc.labgrid]\noptions: {{coordinator_address: "{self.environment["LG_COORDINATOR"]}"}}\n',
            encoding="utf-8",
        )
        return name

    @contextlib.contextmanager
    def acquired(self, place: str) -> Iterator[None]:
        """Have the place, and give it back."""
        got = self.client("-p", place, "acquire")
        assert got.returncode == 0, got.stdout + got.stderr
        try:
            yield
        finally:
            self.client("-p", place, "release")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(log: Path, *command: str | Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a group of processes of its own, which ends with the block: the exporter starts others."""
    with log.open("wb") as out:  # the coordinator keeps its places in the directory where it is
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=log.parent, start_new_session=True)
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Two places: one is `microrpc sim --tcp`, raw; the other a serial port that ser2net serves by RFC 2217."""
    binaries = Path(needs.tools()).parent
    needs.file("/usr/sbin/ser2net", "ser2net")
    folder, coordinator = tmp_path_factory.mktemp("farm"), f"127.0.0.1:{free_port()}"
    # Other plugins of pytest would want their say.
    environment = os.environ | {"LG_COORDINATOR": coordinator, "LG_HOSTNAME": "localhost", "LG_USERNAME": "dev"}
    environment["PATH"] = f"{environment['PATH']}:/usr/sbin"
    tcp = free_port()
    with (
        serve("--tcp", f"127.0.0.1:{tcp}") as sim,
        PtyServer(simulate(profile("loopback"))) as server,
        running(folder / "coordinator", binaries / "labgrid-coordinator", "-l", coordinator, env=environment),
    ):
        first_line(sim)
        (exported,) = re.findall(r"```yaml\n(## exporter\.yaml\n.*?)```", GUIDE, flags=re.DOTALL)
        exported = exported.replace("host: lab, port: 3001", f"host: 127.0.0.1, port: {tcp}")
        exported = exported.replace("/dev/boards/pico-1", server.port)
        (folder / "exporter.yaml").write_text(exported.replace("desk-1", "tcp-board").replace("desk-2", "pty-board"))
        exporter = [binaries / "labgrid-exporter", "-c", coordinator, "-n", "exp1", "--hostname", "127.0.0.1"]
        made = Farm(binaries, folder, environment)
        with running(folder / "exporter", *exporter, folder / "exporter.yaml", env=environment):
            wait_for_resources(made)
            for place in PLACES:
                for args in (["create"], ["add-match", f"exp1/{place}/NetworkSerialPort"]):
                    did = made.client("-p", place, *args)
                    assert did.returncode == 0, did.stdout + did.stderr
            yield made


def wait_for_resources(farm: Farm) -> None:
    until = time.monotonic() + DEADLINE_S
    while (listed := farm.client("resources")).stdout.count("NetworkSerialPort") < len(PLACES):
        if time.monotonic() > until:
            logs = "".join((farm.folder / name).read_text() for name in ("coordinator", "exporter"))
            pytest.fail(f"the exporter's resources did not come: {listed.stdout}{listed.stderr}\n{logs}")


# --- places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_was_acquired_gives_its_board(farm: Farm, place: str) -> None:
    environment = farm.write_environment(place)
    with farm.acquired(place):
        used = farm.run("use.py", environment, use=USE)
        assert used.returncode == 0, used.stderr
        scheme = {"raw": r"socket://127\.0\.0\.1:\d+", "rfc2217": r"rfc2217://127\.0\.0\.1:\d+\?\S+"}[PLACES[place]]
        assert re.fullmatch(rf"({scheme}) 115200 \1\n", used.stdout), used.stdout
        other = farm.client("-p", place, "acquire", user="somebody")
        assert other.returncode == 1
        assert "already acquired" in other.stdout + other.stderr
    again = farm.client("-p", place, "acquire", user="somebody")
    assert again.returncode == 0, again.stderr
    assert farm.client("-p", place, "release", user="somebody").returncode == 0


def test_a_place_that_was_not_acquired_is_one_clear_error(farm: Farm) -> None:
    used = farm.run("use.py", farm.write_environment("tcp-board"), use=USE)
    assert used.returncode != 0
    assert "place tcp-board is not acquired" in used.stderr


def test_both_places_at_once(farm: Farm) -> None:
    source = """
import sys
from labgrid import Environment
drivers = [Environment(name).get_target("main").get_driver("MicrorpcDriver") for name in sys.argv[1:]]
for number in range(20):
    for driver in drivers:
        assert driver.call("add", 2, number) == 2 + number
for driver in drivers:  # what a busy computer answers late may be sent again: that is no damage, and none of these
    stats = driver.board.stats
    print(stats.sessions, stats.resets, stats.repeats, stats.frames_damaged, stats.bytes_skipped)
"""
    names = [farm.write_environment(place) for place in PLACES]
    with farm.acquired("tcp-board"), farm.acquired("pty-board"):
        used = farm.run("both.py", *names, both=source)
    assert (used.returncode, used.stdout) == (0, "1 0 0 0 0\n" * 2), used.stderr


def test_a_place_that_is_released_in_mid_use_ends_the_call_that_goes_on(farm: Farm) -> None:
    source = """
import subprocess, sys
from labgrid import Environment
driver = Environment(sys.argv[1]).get_target("main").get_driver("MicrorpcDriver")
driver.call("add", 2, 3)
subprocess.run([sys.argv[2], "-p", "pty-board", "release"], check=True, capture_output=True)
for number in range(10**6):
    driver.call("add", 2, number)
"""
    environment = farm.write_environment("pty-board")
    with farm.acquired("pty-board"):
        used = farm.run("mid.py", environment, str(farm.bin / "labgrid-client"), mid=source)
    assert used.returncode == 1
    assert re.match(r"microrpc\.errors\.PortLostError: rfc2217://\S+ went away", used.stderr.splitlines()[-1]), (
        used.stderr
    )


def test_the_keys_of_the_environment(farm: Farm) -> None:
    source = """
import sys
from labgrid import Environment
driver = Environment(sys.argv[1]).get_target("main").get_driver("MicrorpcDriver")
board = driver.board
assert board.link is None
assert board.stats.to_board.baud == 57600
assert board.operations._requests.call_s == 7
driver.call("add", 2, 3)
"""
    keys = "{profile: rpi_pico, baud: 57600, call_timeout_s: 7, link: false, release: true, capture: kept.pcapng}"
    with farm.acquired("tcp-board"):
        used = farm.run("keys.py", farm.write_environment("tcp-board", keys), keys=source)
        assert used.returncode == 0, used.stderr
        assert (farm.folder / "kept.pcapng").read_bytes().startswith(b"\x0a\x0d\x0d\x0a")
        for keys, told in (
            ("{profile: nothing}", "no board profile 'nothing'"),
            ("{link: 1}", "must be <class 'bool'>"),
        ):
            wrong = farm.run("keys.py", farm.write_environment("tcp-board", keys))
            assert wrong.returncode != 0
            assert told in wrong.stderr


# --- ports of this computer -----------------------------------------------------------------------------

LOCAL = "targets: {{main: {{resources: {resources}, drivers: {drivers}}}}}\nimports: [microrpc.labgrid]\n"


def run_here(folder: Path, resources: str, drivers: str, source: str) -> subprocess.CompletedProcess[str]:
    """Run a script with an environment without any coordinator."""
    (folder / "local.yaml").write_text(LOCAL.format(resources=resources, drivers=drivers), encoding="utf-8")
    source = f"from labgrid import Environment\ntarget = Environment('local.yaml').get_target('main')\n{source}"
    return subprocess.run(
        [needs.tools(), "-c", source], capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )


def test_a_serial_port_of_this_computer_is_opened_anew_with_its_speed(tmp_path: Path) -> None:
    source = """
driver = target.get_driver("MicrorpcDriver")
for number in range(3):
    assert driver.call("add", 2, number) == 2 + number
    print(driver.url, driver.board.stats.to_board.baud, driver.board.name)
    target.deactivate(driver)
    target.activate(driver)
"""
    with PtyServer(simulate(profile("loopback"))) as server:
        ran = run_here(
            tmp_path, f"{{RawSerialPort: {{port: {server.path}, speed: 57600}}}}", "{MicrorpcDriver: {}}", source
        )
    assert (ran.returncode, ran.stdout) == (0, f"{server.path} 57600 {server.path}\n" * 3), ran.stderr


def test_a_capture_goes_on_where_the_driver_is_activated_again(tmp_path: Path) -> None:
    source = """
driver = target.get_driver("MicrorpcDriver")
for number in range(2):
    driver.call("add", 2, number)
    target.deactivate(driver)
    target.activate(driver)
"""
    with PtyServer(simulate(profile("loopback"))) as server:
        port = f"{{RawSerialPort: {{port: {server.path}}}}}"
        ran = run_here(tmp_path, port, "{MicrorpcDriver: {capture: kept.pcapng}}", source)
    assert ran.returncode == 0, ran.stderr
    said = run("decode", tmp_path / "kept.pcapng", "--kind", "CALL").out
    assert [number in said for number in ("add(2, 0)", "add(2, 1)")] == [True, True]


def test_reset_is_asked_for_and_a_port_without_modem_lines_says_that_it_has_none(tmp_path: Path) -> None:
    source = """
driver = target.get_driver("MicrorpcDriver")
driver.call("add", 2, 3)
"""
    with PtyServer(simulate(profile("loopback"))) as server:
        port, resets = f"{{RawSerialPort: {{port: {server.path}}}}}", server.device.stats.resets
        ran = run_here(tmp_path, port, "{MicrorpcDriver: {reset: true}}", source)
        assert (ran.returncode, server.device.stats.resets) == (1, resets), ran.stderr
        assert "reset" in ran.stderr.splitlines()[-1]


def test_with_reconnect_a_board_whose_port_goes_is_there_again(tmp_path: Path) -> None:
    source = """
driver = target.get_driver("MicrorpcDriver")
print(driver.call("add", 2, 3), flush=True)
input()
while True:
    try:
        print(driver.call("add", 2, 4), flush=True)
        break
    except microrpc.errors.MicroRpcError as error:
        print(type(error).__name__, flush=True)
"""
    link = tmp_path / "board"
    (tmp_path / "local.yaml").write_text(
        LOCAL.format(resources=f"{{RawSerialPort: {{port: {link}}}}}", drivers="{MicrorpcDriver: {reconnect: true}}"),
        encoding="utf-8",
    )
    code = "import microrpc\nfrom labgrid import Environment\ntarget = Environment('local.yaml').get_target('main')\n"
    with contextlib.ExitStack() as stack:
        server = PtyServer(simulate(profile("loopback")), link=link)
        server.start()
        script = stack.enter_context(
            subprocess.Popen(
                [needs.tools(), "-c", code + source],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                text=True,
            )
        )
        assert script.stdout is not None
        first = script.stdout.readline()
        server.close()
        with PtyServer(simulate(profile("loopback")), link=link):
            out, errors = script.communicate("\n", timeout=60)
    assert (script.returncode, first) == (0, "5\n"), errors
    assert out.splitlines()[-1] == "6"


def test_two_drivers_on_one_port_are_one_clear_error(tmp_path: Path) -> None:
    with PtyServer(simulate(profile("loopback"))) as server:
        drivers = "[MicrorpcDriver: {name: one}, MicrorpcDriver: {name: two}]"
        source = "for name in ('one', 'two'): target.get_driver('MicrorpcDriver', name=name)"
        ran = run_here(tmp_path, f"{{RawSerialPort: {{port: {server.path}}}}}", drivers, source)
    assert ran.returncode == 1
    assert "is in use by this very program" in ran.stderr.splitlines()[-1]


def test_a_protocol_that_there_is_not_is_one_clear_error(tmp_path: Path) -> None:
    port = "{NetworkSerialPort: {host: 127.0.0.1, port: 1, protocol: telnet}}"
    ran = run_here(tmp_path, port, "{MicrorpcDriver: {}}", "target.get_driver('MicrorpcDriver')")
    assert ran.returncode == 1
    assert "the port's protocol is 'telnet', not raw or rfc2217" in ran.stderr.splitlines()[-1]


# --- the guide ----------------------------------------------------------------------------------------


def test_the_test_of_the_guide_runs_and_is_a_step_of_a_report(farm: Farm) -> None:
    (environment,) = re.findall(r"```yaml\n(# env\.yaml\n.*?)```", GUIDE, flags=re.DOTALL)
    (example,) = re.findall(r"```python\n(def test_add.*?)```", GUIDE, flags=re.DOTALL)
    environment = environment.replace("desk-1", "pty-board").replace("lab:20408", farm.environment["LG_COORDINATOR"])
    environment = environment.replace("profile: nucleo_f746zg", "")
    example += "\n\ndef test_board(board):\n    assert board.name.startswith('rfc2217://')\n"
    (farm.folder / "env.yaml").write_text(environment, encoding="utf-8")
    options = ["-p", "no:pytest_embedded", "-p", "no:cacheprovider", "--rootdir=.", "-vv", "--lg-env", "env.yaml"]
    with farm.acquired("pty-board"):
        ran = farm.run("-m", "pytest", *options, "--lg-log", "logs", "test_place.py", test_place=example)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "2 passed" in ran.stdout
    ran = farm.run("-m", "pytest", *options, "test_place.py")
    assert ran.returncode != 0
    assert "place pty-board is not acquired" in ran.stdout + ran.stderr


# --- the fixtures of the plugin -----------------------------------------------------------------------


def run_tests(folder: Path, drivers: str, ports: list[str], source: str, *options: str) -> str:
    """Run tests with targets "main" and "other" on these ports of this computer, no coordinator; give what was told."""
    targets = (
        f"  {name}: {{resources: {{RawSerialPort: {{port: {port}}}}}, drivers: {drivers}}}\n"
        for name, port in zip(("main", "other"), ports, strict=False)
    )
    (folder / "local.yaml").write_text(f"targets:\n{''.join(targets)}imports: [microrpc.labgrid]\n", encoding="utf-8")
    (folder / "test_it.py").write_text(f"import pytest\n{source}", encoding="utf-8")
    command = [
        needs.tools(),
        "-m",
        "pytest",
        "-p",
        "no:pytest_embedded",
        "-p",
        "no:cacheprovider",
        "--rootdir=.",
        "-rs",
    ]
    ran = subprocess.run(
        [*command, "--lg-env", "local.yaml", *options],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        check=False,
    )
    return ran.stdout + ran.stderr


def test_the_board_of_a_test_is_that_of_the_environment_and_one_connection_serves_all(tmp_path: Path) -> None:
    source = """
@pytest.mark.parametrize("number", range(3))
def test_calls(board, number): assert board.function("add")(2, number) == 2 + number
def test_is_the_driver(board, target): assert target.get_driver("MicrorpcDriver").board is board
def test_closes(board): board.close()
def test_after_it(board): assert board.function("add")(2, 3) == 5 and board.stats.sessions == 1
def test_deactivates(board, target): target.deactivate(target.get_driver("MicrorpcDriver"))
@pytest.mark.hardware
def test_is_hardware(board): assert board.function("add")(2, 4) == 6
def test_fails(board):
    board.function("add")(40, 2)
    assert 0
@pytest.mark.microrpc_board(profile="rpi_pico")
def test_profile(board): assert 0
@pytest.mark.microrpc_board(flash=True)
def test_flash(board): assert 0
@pytest.mark.microrpc_board(count=2)
def test_two(boards): assert 0
def test_sim(sim_board): assert 0
"""
    with PtyServer(simulate(profile("loopback"))) as server:
        out = run_tests(
            tmp_path, "{MicrorpcDriver: {profile: nucleo_f746zg}}", [server.path], source, "--microrpc-capture=c"
        )
        assert "1 failed, 8 passed, 4 skipped" in out, out
    port = f"labgrid://{tmp_path}/local.yaml#main"
    assert f"microrpc: nucleo_f746zg on {port}" in out
    for reason in (
        "needs the board rpi_pico, and this is nucleo_f746zg",
        "needs firmware (flash=), which on a board of labgrid's is the business of labgrid's drivers",
        f"needs 2 boards, and there is 1: {port}. Give each a target with a MicrorpcDriver",
        "needs the simulator: sim_board",
    ):
        assert reason in out
    assert "add(40, 2)" in out
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["test_it.py.test_fails.pcapng"]


def test_two_targets_are_two_boards(tmp_path: Path) -> None:
    source = """
@pytest.mark.microrpc_board(count=2)
def test_two(boards): print(*(board.name for board in boards))
def test_one(board): assert board.function("add")(2, 4) == 6
"""
    with PtyServer(simulate(profile("loopback"))) as one, PtyServer(simulate(profile("loopback"))) as other:
        out = run_tests(tmp_path, "[MicrorpcDriver: {name: rpc}]", [one.path, other.path], source, "-s")
        assert "2 passed" in out, out
        assert f"{one.path} {other.path}" in out
        assert f"local.yaml#main/rpc, labgrid://{tmp_path}/local.yaml#other/rpc" in out
        out = run_tests(
            tmp_path, "{MicrorpcDriver: {}}", [one.path], "def test(board): pass", f"--microrpc-port={other.path}"
        )
    assert "1 passed" in out, out
    assert f"microrpc: {other.path}\n" in out


def test_an_environment_without_our_driver_simulates_boards_and_says_so(tmp_path: Path) -> None:
    source = """
def test(board): assert board.name == 'sim://loopback'
def test_sim(sim_board): pass
def test_none(): pass
"""
    reason = "no target of labgrid's environment has a MicrorpcDriver"
    out = run_tests(tmp_path, "{}", ["/dev/null"], source)
    assert "3 passed" in out, out
    assert out.count(reason) == 2
    assert f"\nmicrorpc: simulated boards: {reason}\n" in out
    assert f"\nmicrorpc: 2 tests ran on simulated boards: {reason}\n" in out
    out = run_tests(tmp_path, "{}", ["/dev/null"], source, "--microrpc-require")
    assert "2 passed, 1 error" in out, out
    assert f"needs a board, and {reason} (--microrpc-require)" in out
    assert reason not in run_tests(tmp_path, "{}", ["/dev/null"], source, "--microrpc-port=sim://loopback")


def test_what_labgrid_boards_cannot_have_ends_pytest_at_its_start(tmp_path: Path) -> None:
    out = run_tests(tmp_path, "{MicrorpcDriver: {}}", ["/dev/null"], "def test(board): pass", "--microrpc-flash")
    assert "ERROR: --microrpc-flash: what is put on a board of labgrid's, its own drivers put there" in out


def test_the_settings_of_ser2net_in_the_guide_serve_a_board(tmp_path: Path) -> None:
    needs.file("/usr/sbin/ser2net", "ser2net")
    (settings,) = re.findall(r"```yaml\n(# /etc/ser2net\.yaml\n.*?)```", GUIDE, flags=re.DOTALL)
    number = free_port()
    with PtyServer(simulate(profile("loopback"))) as server:
        settings = settings.replace("0.0.0.0,3001", f"127.0.0.1,{number}").replace("/dev/boards/nucleo-1", server.port)
        (tmp_path / "ser2net.yaml").write_text(settings)
        command = ["/usr/sbin/ser2net", "-d", "-n", "-c", tmp_path / "ser2net.yaml"]
        with (
            running(tmp_path / "log", *command, env=dict(os.environ)),
            connect(f"socket://127.0.0.1:{listening(number)}") as board,
        ):
            assert board.function("add")(2, 3) == 5


def listening(number: int) -> int:
    """Wait until somebody listens there: nobody is connected to, for one client is all that there may be."""
    until = time.monotonic() + DEADLINE_S
    while f":{number:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text():
        assert time.monotonic() < until, "ser2net did not begin to listen"
        time.sleep(0.02)
    return number


# --- without labgrid ----------------------------------------------------------------------------------


def test_without_labgrid_the_error_names_it() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import microrpc.labgrid"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.endswith("labgrid is not installed here: pip install 'microrpc[labgrid]'\n")
