"""What the documents show is run as it is written."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from benchmarks.core_size import documented_ports
from firmware_sim.line.fault_files import load_faults
from firmware_sim.line.faults import (
    BrownOut,
    Burst,
    Delay,
    DelayEvents,
    Double,
    Drop,
    Faults,
    Flip,
    Garbage,
    HoldEvents,
    Insert,
    LoseEvents,
    Reset,
    Stuck,
    Unplug,
    Wedge,
)
from microrpc.firmware.project import load_port

FAULT_KINDS = (
    *(Flip, Drop, Double, Insert, Burst, Stuck, Garbage, Reset, Wedge, BrownOut, Delay, Unplug),
    *(LoseEvents, DelayEvents, HoldEvents),
)
ROOT = pathlib.Path(__file__).parent.parent
GUIDES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "BENCHMARKS.md", ROOT / "CHANGELOG.md", *GUIDES]
SIMULATOR = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("number", "said"), [(0, "5 2.5\n[0. 0. 0. 0. 0. 1. 2. 3.]\n"), (1, "[[ 2.875  2.375 -0.375]]\n")]
)
def test_the_examples_of_the_readme_run(number: int, said: str) -> None:
    """That of TVM runs where TVM is: tests/tvm/test_guides.py."""
    mine = [example for example in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "tvm" not in example]
    assert len(mine) == 2
    run = subprocess.run([sys.executable, "-c", mine[number]], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert run.stderr == ""
    assert run.stdout.startswith(said)


def test_the_readme_tells_of_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", README, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert named == set(project["optional-dependencies"])


@pytest.mark.parametrize(
    "command",
    re.findall(r"^    microrpc ((?:ports|info|functions|call|model|demo) .*?)(?:\s+#.*)?$", README, flags=re.MULTILINE),
)
def test_the_commands_of_the_readme_run(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "microrpc.cli", *command.split()], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_the_figures_of_the_readme_are_those_of_the_documents_that_it_names() -> None:
    rows = re.findall(r"^\| \*\*(.*?)\*\*.*? \| (.*?) \| \[.*?\]\((.*?)(?:#.*?)?\) \|$", README, flags=re.MULTILINE)
    assert len(rows) == 5
    for name, told, place in rows:
        document = " ".join((ROOT / place).read_text(encoding="utf-8").split())
        for number in re.findall(r"\d[\d,]*(?:\.\d+)?", told):
            written = {
                "0": "none",
                "72": "72.0",
                "0.1": "105 ms",
                "15": "bench",
                "1": "1e-4",
                "10,000": "1e-4",
                "4": "1e-6",
            }
            assert written.get(number, number) in document, f"{name}: {number} is not in {place}"
    assert f"{len(FAULT_KINDS)} kinds of fault" in README


def test_the_tables_beside_others_say_the_same_of_which_versions_they_are() -> None:
    longer = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    bench = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"Looked at in 2026, in these versions: (.*?)\. A \*no\*", " ".join(README.split()))
    versions = re.findall(r"\d+\.[\d.]*\d", said)
    assert len(versions) >= 7
    assert [version for version in versions if version not in longer] == []
    for peer in ("pw_rpc 0.0.24", "eRPC 1.14", "smpclient 7.3", "pySerialTransfer 2.6.11"):
        assert peer in bench
        assert peer.split()[1] in versions
    heads = re.findall(r"^\| \| microrpc(?: 0\.10)? (\| pw_rpc .*) \|$", README + "\n" + longer, flags=re.MULTILINE)
    assert len(heads) == 2
    assert heads[0] == heads[1]


def examples(document: str) -> list[Any]:
    """Give every Python block of a document in docs/, each as a parameter with a name."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return [pytest.param(block, id=f"{document} {number}") for number, block in enumerate(blocks, 1)]


@pytest.mark.parametrize(
    "example",
    [
        *examples("asyncio.md"),
        *examples("capture.md"),
        *examples("events.md"),
        *examples("lifetime.md"),
        *examples("models.md"),
        *examples("serving.md"),
        *examples("simulator.md")[1:],
        *examples("using_models.md"),
    ],
)
def test_the_examples_print_what_they_say(example: str, tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-W", "error", "-c", example]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == re.findall(r"^# prints (.*)", example, flags=re.MULTILINE)


@pytest.mark.parametrize("example", examples("functions.md"))
def test_the_examples_of_functions_print_what_they_say_on_a_board_that_tells_of_itself(example: str) -> None:
    telling = "import describing; describing.tell_everywhere()\n"
    example = example.replace("/dev/ttyACM0", "sim://")
    command = [sys.executable, "-W", "error", "-c", telling + example]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT / "tests")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == re.findall(r"^# prints (.*)", example, flags=re.MULTILINE)


def test_the_example_of_the_simulator_runs() -> None:
    example, _ = re.findall(r"```python\n(.*?)```", SIMULATOR, flags=re.DOTALL)
    run = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert run.stderr == ""
    assert re.fullmatch(r"3 1\.\d s\n1 \{'drop': 1\}\nmay have run: True\n", run.stdout), run.stdout


def test_the_file_of_faults_in_the_simulators_guide_is_one(tmp_path: pathlib.Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", SIMULATOR, flags=re.DOTALL)
    (tmp_path / "noise.toml").write_text(text, encoding="utf-8")
    assert load_faults(tmp_path / "noise.toml") == Faults([Flip(rate=1e-5), Reset(function="train", call=2)], seed=7)


def test_the_simulators_guide_has_every_kind_of_fault_with_every_key() -> None:
    table = dict(re.findall(r"^\| (`[a-z`, -]+`) \| (.*?) \|", SIMULATOR, flags=re.MULTILINE))
    documented = {
        kind: set(re.findall(r"`(\w+)`", keys))
        for kinds, keys in table.items()
        for kind in re.findall(r"`(.*?)`", kinds)
    }
    for kind in FAULT_KINDS:
        keys = {field.name for field in dataclasses.fields(kind)} - {"direction"}
        assert documented[kind.kind()] - {"direction"} == keys, kind


def test_the_guide_to_the_device_library_has_the_sizes_of_every_board() -> None:
    guide = (ROOT / "docs" / "firmware.md").read_text(encoding="utf-8")
    assert "<!-- sizes -->" not in guide, "fill it in: python -m benchmarks.devices build/benchmarks.json"
    (table,) = re.findall(r"^(\| board \| flash, bytes .*?\n(?:\|.*\n)+)", guide, flags=re.MULTILINE)
    for name, is_run in documented_ports().items():
        speeds = r"[\d,]+" if is_run else ""
        size = r"[\d,]+" if load_port(name).script is None else ""
        assert re.search(rf"^\| `{name}` (\| {size} ){{2}}(\| {speeds} ){{4}}\|$", table, flags=re.MULTILINE), name


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for document in DOCUMENTS:
        prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_link_to_a_section_finds_it() -> None:
    for document in DOCUMENTS:
        prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target, section in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", prose):
            text = (document.parent / target if target else document).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.*)", text, flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert section in anchors, f"{document.name} links to {target}#{section}"


def test_the_map_has_every_document_and_the_readme_has_the_map() -> None:
    the_map = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    mapped = re.findall(r"^\* \[(.*?)\]\(\1\): ", the_map, flags=re.MULTILINE)
    here = [place for place in mapped if not place.startswith("../")]
    assert sorted([*here, "README.md"]) == [guide.name for guide in GUIDES]
    assert "(docs/README.md)" in README


def test_no_line_of_the_documents_is_longer_than_140_columns() -> None:
    """Rows of tables cannot be wrapped, and the tables of BENCHMARKS.md are what a program printed."""
    for document in [*DOCUMENTS, *(ROOT / "firmware" / "ports").rglob("README.md"), ROOT / "tests/vectors/README.md"]:
        text = document.read_text(encoding="utf-8")
        if document.name == "BENCHMARKS.md":
            text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        long = [line for line in text.splitlines() if len(line) > 140 and not line.startswith("| ")]
        assert long == [], document


def test_every_file_of_ours_that_a_document_names_is_there() -> None:
    folders = "microrpc|firmware_sim|pytest_microrpc|tests|firmware|boards|benchmarks|dev|examples"
    ours = rf"(?<![\w/])(?:{folders})/[\w/]+\.(?:py|c|h|toml|md)\b"
    for document in DOCUMENTS:
        if document.name != "CHANGELOG.md":  # which tells of the past
            named = set(re.findall(ours, document.read_text(encoding="utf-8")))
            assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == [], document


def test_the_map_of_the_rooms_has_every_module() -> None:
    """But for those of the command line, which has one for each family of commands."""
    rooms = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## The way of a byte")[0]
    named = set(re.findall(r"\w+", rooms))
    for package in ("microrpc", "firmware_sim", "pytest_microrpc"):
        paths = [path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")]
        beyond = {"cli", "plugins", "openers"}
        names = {path.stem: path for path in paths if not beyond & set(path.parts) and not path.stem.startswith("__")}
        assert [str(path) for name, path in names.items() if name not in named] == []


def test_every_exception_is_in_the_table_of_errors() -> None:
    import microrpc.errors as errors

    table = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.MicroRpcError):
            assert f"`{name}`" in table or name == "BoardError", name


def test_the_code_cites_sections_that_the_protocol_has() -> None:
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (\d+)\.", protocol, flags=re.MULTILINE))
    for path in [*(ROOT / "microrpc").rglob("*.py"), *(ROOT / "firmware_sim").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        cited = set(re.findall(r"docs/protocol\.md (\d+)", text)) | set(re.findall(r'ProtocolError\("(\d+)"', text))
        assert cited <= sections, path.name
