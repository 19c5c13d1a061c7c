"""The list of a project's models, and what becomes of its port.toml."""

from __future__ import annotations

import pathlib
import re

import needs
import pytest

import microrpc
from microrpc.errors import FirmwareError
from microrpc.firmware.emulator import build_to_run, start_firmware
from microrpc.firmware.models import LIST_FILE, add_model, content_hash, listed_models
from microrpc.firmware.new import new_project
from microrpc.firmware.project import load_project
from microrpc.wire.model import decode_model
from microrpc.wire.names import MODELS_FUNCTION

MODEL = """\
#include "microrpc_model.h"
static const char *run(const microrpc_model_t *model, const void *const *in, void *const *out,
                       microrpc_model_run_t *run) {{
    (void)model, (void)in, (void)out, (void)run;
    return "not today";
}}
const microrpc_model_t model_{name} = {{.name = "{name}", .run = run}};
"""


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    new_project(tmp_path / "project", "posix")
    return tmp_path / "project"


def add(project: pathlib.Path, name: str) -> int:
    return add_model(project, name, {f"model_{name}.c": MODEL.format(name=name)})


def test_models_have_the_numbers_in_which_they_were_added(project: pathlib.Path) -> None:
    assert [add(project, name) for name in ("b", "a", "b")] == [0, 1, 0]
    assert listed_models(project) == ["b", "a"]
    text = (project / LIST_FILE).read_text()
    assert text.index("&model_b,") < text.index("&model_a,")


def test_a_project_serves_its_models(project: pathlib.Path) -> None:
    needs.zig()
    for name in ("first", "second"):
        add(project, name)
    with start_firmware(build_to_run(load_project(project))) as emulator, microrpc.connect(emulator.port) as board:
        tables = [decode_model(board.function(MODELS_FUNCTION)(number, 0)) for number in range(2)]
        assert [table.name for table in tables] == ["first", "second"]
        assert board.function(MODELS_FUNCTION)(2, 0) is None
        with pytest.raises(microrpc.RemoteError, match="not today"):
            board.function("microrpc.model.run")(0)


def test_a_project_without_models_is_built_as_ever_and_with_none_where_it_serves_them(project: pathlib.Path) -> None:
    needs.zig()
    without = build_to_run(load_project(project)).sizes.flash_bytes
    firmware = build_to_run(load_project(project), defines=("MICRORPC_MODELS=1",))
    assert firmware.sizes.flash_bytes > without
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as board:
        assert board.function(MODELS_FUNCTION)(0, 0) is None
        with pytest.raises(microrpc.RemoteError, match="there is no such model: there are 0"):
            board.function("microrpc.model.run")(0)


def test_port_toml_gets_the_define_once(project: pathlib.Path) -> None:
    before = load_project(project).defines
    for name in ("a", "b"):
        add(project, name)
    assert load_project(project).defines == ("MICRORPC_MODELS=1", *before)


@pytest.mark.parametrize("line", ["", "defines = []\n", 'defines=[\n    "MICRORPC_LINK=0",\n]\n'])
def test_port_toml_gets_it_however_it_is_written(project: pathlib.Path, line: str) -> None:
    file = project / "port.toml"
    text = file.read_text()
    begin = text.index("defines = ")
    file.write_text(text[:begin] + line + text[text.index("\n", begin) + 1 :])
    before = load_project(project).defines
    add(project, "a")
    assert load_project(project).defines == ("MICRORPC_MODELS=1", *before)


def test_models_that_are_left_out_on_purpose_are_not_switched_on(project: pathlib.Path) -> None:
    file = project / "port.toml"
    file.write_text(file.read_text().replace('"MICRORPC_DESCRIBE=1"', '"MICRORPC_MODELS=0"'))
    with pytest.raises(FirmwareError, match=r"port.toml: build.defines: MICRORPC_MODELS=0 leaves models out"):
        add(project, "a")
    assert not (project / "model_a.c").exists()


def test_a_list_of_the_users_own_is_left_alone(project: pathlib.Path) -> None:
    with (project / "functions.c").open("a") as file:
        file.write("const microrpc_model_t *const board_models[] = {&mine};\n")
    with pytest.raises(FirmwareError, match=r"functions.c: has a board_models of its own: take it out, or add"):
        add(project, "a")
    assert not (project / LIST_FILE).exists()


@pytest.mark.parametrize("name", ["", "2nd", "a b", "m\u00e4h", "a-b", "a" * 49])
def test_a_name_that_c_has_not_is_refused(project: pathlib.Path, name: str) -> None:
    with pytest.raises(FirmwareError, match="a model cannot be called"):
        add_model(project, name, {})


def test_what_is_no_project_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FirmwareError, match=r"has no port.toml: `microrpc firmware new` makes"):
        add(tmp_path, "a")


def test_a_file_that_cannot_be_written_is_told(project: pathlib.Path) -> None:
    (project / "model_a.c").mkdir()
    with pytest.raises(FirmwareError, match="cannot be written: Is a directory"):
        add(project, "a")


def test_a_hash_is_that_of_all_texts() -> None:
    assert content_hash("a", "b") == content_hash("a", "b")
    assert len({content_hash(*texts) for texts in (("a", "b"), ("b", "a"), ("ab",), ("a",), ())}) == 5
    assert content_hash("a") < 1 << 64


def test_the_model_of_the_guide_smooths(project: pathlib.Path) -> None:
    needs.zig()
    guide = (pathlib.Path(__file__).parent.parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```c\n(.*?)```", guide, flags=re.DOTALL)
    (project / "filter.c").write_text(source)
    firmware = build_to_run(load_project(project), defines=("MICRORPC_MODELS=1",))
    with start_firmware(firmware) as emulator, microrpc.connect(emulator.port) as board:
        model = board.model()
        assert model([4, 8, 12]).tolist() == [2, 4, 6]
        assert model.layer_outputs([1, 2, 3])["smooth"].tolist() == [1, 2, 3]
