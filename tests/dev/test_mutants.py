"""The runner of mutants tells those that a test kills from those that none does, on a project of one function."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev import mutants

PROGRAM = "def double(number):\n    if number == 0:\n        return 0\n    return number * 2\n"
TESTS = "from program import double\n\n\ndef test_two_is_doubled():\n    assert double(2) == 4\n"
ROWS = {
    "killed": "idea = 'half', old = '* 2', new = '/ 2'",
    "survivor": "idea = 'cube', old = 'number * 2', new = 'number ** 2'",
    "hanging": "idea = 'for ever', old = 'return number * 2', new = 'while True: pass'",
    "unimportable": "idea = 'another name', old = 'def double', new = 'def twice'",
    "equivalent": "idea = 'nothing', old = 'number == 0', new = 'False', equivalent = '0 * 2 is 0'",
    "not equivalent": "idea = 'halves', old = '* 2', new = '/ 2', equivalent = 'it is not'",
    "stale": "idea = 'gone', old = 'number + 2', new = 'number'",
    "ambiguous": "idea = 'twice there', old = 'return', new = 'yield'",
    "not Python": "idea = 'broken', old = '* 2', new = '* ('",
    "nothing": "idea = 'spaces', old = '* 2', new = '*  2'",
    "misspelt": "idea = 'half', old = '* 2', new = '/ 2', test = []",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take longer than these tests
    root = tmp_path / "project"
    root.mkdir()
    (root / "program.py").write_text(PROGRAM)
    (root / "test_program.py").write_text(TESTS)
    return root


def run(project: Path, *rows: str, words: tuple[str, ...] = ()) -> int:
    table = project.parent / "table.toml"
    lines = ",\n".join(f"{{ {ROWS[row]} }}" for row in rows)
    table.write_text(f'["program.py"]\ntests = ["test_program.py"]\nmutants = [\n{lines}\n]\n')
    return mutants.main([*words, "-n", "1", "--table", str(table), "--root", str(project)])


def test_mutants_are_told_apart_by_whether_a_test_notices_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_text() for path in project.iterdir()}
    assert run(project, "killed", "survivor", "unimportable", "equivalent", "not equivalent") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" ", 1)[0] for line in lines[:5]] == ["killed", "SURVIVES", "killed", "equivalent", "NOT"]
    assert lines[0].endswith("program.py: half  test_program.py::test_two_is_doubled")
    assert lines[6:10] == [
        "SURVIVES: program.py: cube",
        "  old: 'number * 2'",
        "  new: 'number ** 2'",
        "  tests: test_program.py",
    ]
    assert lines[11] == "NOT EQUIVALENT: program.py: halves"
    assert lines[-1].startswith("5 mutants: 2 killed, 1 equivalent, 1 SURVIVES, 1 NOT EQUIVALENT. Took")
    assert {path.name: path.read_text() for path in project.iterdir()} == before


def test_one_that_hangs_is_ended_and_counts_as_killed(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "_SLOWER", 1)
    monkeypatch.setattr(mutants, "_MORE_S", 2.0)
    assert run(project, "survivor", "hanging", words=("for ever", "no such idea")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("program.py: for ever  it hangs")
    assert lines[-1].startswith("1 mutants: 1 killed, 0 equivalent, 0 SURVIVES, 0 NOT EQUIVALENT. Took")


def test_no_mutants_at_all_are_no_success(project: Path) -> None:
    assert run(project, "killed", words=("no such idea",)) == 1


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("stale", "program.py: gone: its old text is 0 times in the file, not once"),
        ("ambiguous", "program.py: twice there: its old text is 2 times in the file, not once"),
        ("not Python", "program.py: broken: what comes out is no Python ("),
        ("nothing", "program.py: spaces: it changes no code"),
        ("misspelt", "program.py: a row has no test"),
    ],
)
def test_a_row_that_does_not_fit_is_told_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], row: str, text: str
) -> None:
    assert run(project, "killed", row) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert text in output.err


def test_tests_that_fail_without_any_mutant_are_an_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "test_program.py").write_text(TESTS.replace("== 4", "== 5"))
    assert run(project, "killed") == 2
    assert "test_program.py must pass without any mutant:\n" in capsys.readouterr().err


@pytest.mark.long
def test_no_row_of_the_real_table_is_stale() -> None:
    rows = mutants.load(mutants.TABLE)
    mutants.check(rows, mutants.ROOT)
    assert len({str(row) for row in rows}) == len(rows)
    for row in rows:
        for test in row.tests:
            assert (mutants.ROOT / test.partition("::")[0]).exists(), f"{row}: there is no {test}"
