"""Puts deliberate bugs into the code, one at a time, and tells which of them no test notices: `make mutants`.

`dev/mutants.toml` is the table: for each file the tests that hold it, and its mutants, each an idea, the old text and
the new one. A text must be there exactly once, or the row is stale. Some rows have tests of their own; `equivalent`
says why a mutant changes nothing that a test could see, and then it must survive.

    python -m dev.mutants                  all of them; exits with 1 where one survives, 2 where the table is wrong
    python -m dev.mutants frames crc       those whose file or idea has one of the words

Your files stay as they are: mutants live in copies of the project, as many as run at once. First the tests must pass
without any. A mutant is killed by the first test that fails, or by time: one that takes five times as long as its tests
did, and 20 s more, hangs.

A survivor wants a test that says exactly what it breaks, in the file that mirrors its module, and not a test of the
mutant. To add one, put the bug in the table that you would least like to see come back.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import enum
import itertools
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "dev" / "mutants.toml"

_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
_SLOWER = 5
_MORE_S = 20.0
_BASELINE_S = 600.0
_PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
_FAILED, _INTERRUPTED = 1, 2  # pytest's exit codes; a module that cannot be imported any more is the second
_FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class TableError(Exception):
    """What is wrong with the table, a line for each row."""


@dataclass(frozen=True)
class Mutant:
    """One row of the table. `equivalent` is empty where a test must kill it."""

    file: str
    idea: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

    def __str__(self) -> str:
        return f"{self.file}: {self.idea}"

    def apply(self, text: str) -> str:
        """Give the mutated text. Raises TableError for a stale row."""
        count = text.count(self.old)
        if count != 1:
            raise TableError(f"{self}: its old text is {count} times in the file, not once")
        mutated = text.replace(self.old, self.new)
        try:
            tree, before = ast.parse(mutated), ast.parse(text)
        except SyntaxError as error:
            raise TableError(f"{self}: what comes out is no Python ({error})") from None
        if ast.dump(tree) == ast.dump(before):
            raise TableError(f"{self}: it changes no code")
        return mutated


class Verdict(enum.Enum):
    """What became of a mutant."""

    KILLED = "killed"
    EQUIVALENT = "equivalent"
    SURVIVES = "SURVIVES"
    NOT_EQUIVALENT = "NOT EQUIVALENT"

    @property
    def is_good(self) -> bool:
        return self in (Verdict.KILLED, Verdict.EQUIVALENT)


@dataclass(frozen=True)
class Result:
    """A mutant's verdict, the test that decided it (empty where none did), and how long that took."""

    mutant: Mutant
    verdict: Verdict
    killer: str
    seconds: float


def load(table: Path) -> list[Mutant]:
    """Read the table. Raises TableError."""
    mutants = []
    for file, entry in tomllib.loads(table.read_text(encoding="utf-8")).items():
        for row in entry["mutants"]:
            if unknown := set(row) - {"idea", "old", "new", "tests", "equivalent"}:
                raise TableError(f"{file}: a row has no {', '.join(sorted(unknown))}")
            row = {"tests": entry["tests"], **row}
            mutants.append(Mutant(file=file, **{**row, "tests": tuple(row["tests"])}))
    return mutants


def check(mutants: Iterable[Mutant], root: Path) -> None:
    """Raise TableError for rows that do not fit the files any more, all of them at once."""
    errors = []
    for mutant in mutants:
        path = root / mutant.file
        try:
            mutant.apply(path.read_text(encoding="utf-8") if path.is_file() else "")
        except TableError as error:
            errors.append(str(error))
    if errors:
        raise TableError("\n".join(errors))


class Copy:
    """A copy of the project in which one mutant lives at a time."""

    _stamps = itertools.count(1)

    def __init__(self, root: Path, target: Path) -> None:
        self.root = target
        shutil.copytree(root, target, ignore=_NOT_COPIED)

    @contextlib.contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        path = self.root / mutant.file
        text = path.read_text(encoding="utf-8")
        self._write(path, mutant.apply(text))
        try:
            yield
        finally:
            self._write(path, text)

    def _write(self, path: Path, text: str) -> None:
        """Write it with a time of its own: Python takes compiled code for up to date by time, in seconds, and size."""
        path.write_text(text, encoding="utf-8")
        stamp = 1_000_000_000 + next(self._stamps)
        os.utime(path, (stamp, stamp))

    def run(self, tests: Sequence[str], limit_s: float) -> tuple[int | None, str]:
        """Run tests; give pytest's exit code, None where the time was over, and what it printed."""
        process = subprocess.Popen(
            [sys.executable, *_PYTEST, *tests],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "PYTEST_ADDOPTS": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # so that what the tests started ends with them
        )
        try:
            output, _ = process.communicate(timeout=limit_s)
            return process.returncode, output
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


class Runner:
    """Runs mutants in `workers` copies at once."""

    def __init__(self, root: Path, workers: int) -> None:
        self._root = root
        self._workers = workers
        self._copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        self._baseline_s: dict[tuple[str, ...], float] = {}

    def run(self, mutants: Sequence[Mutant]) -> Iterator[Result]:
        """Give what becomes of the mutants, in their order. Raises TableError where tests fail without any."""
        check(mutants, self._root)
        with tempfile.TemporaryDirectory(prefix="mutants-") as directory, ThreadPoolExecutor(self._workers) as pool:
            for number in range(self._workers):
                self._copies.put(Copy(self._root, Path(directory) / str(number)))
            tests = list(dict.fromkeys(mutant.tests for mutant in mutants))
            try:
                self._baseline_s = dict(zip(tests, pool.map(self._baseline, tests), strict=True))
                yield from pool.map(self._judge, mutants)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Copy]:
        copy = self._copies.get()
        try:
            yield copy
        finally:
            self._copies.put(copy)

    def _baseline(self, tests: tuple[str, ...]) -> float:
        start = time.monotonic()
        with self._copy() as copy:
            code, output = copy.run(tests, _BASELINE_S)
        if code != 0:
            raise TableError(f"{' '.join(tests)} must pass without any mutant:\n{output}")
        return time.monotonic() - start

    def _judge(self, mutant: Mutant) -> Result:
        start = time.monotonic()
        with self._copy() as copy, copy.mutated(mutant):
            code, output = copy.run(mutant.tests, self._baseline_s[mutant.tests] * _SLOWER + _MORE_S)
        seconds = time.monotonic() - start
        if code == 0:
            verdict = Verdict.EQUIVALENT if mutant.equivalent else Verdict.SURVIVES
            return Result(mutant, verdict, "", seconds)
        if code not in (None, _FAILED, _INTERRUPTED):
            raise TableError(f"{mutant}: pytest ended with {code}:\n{output}")
        failure = _FIRST_FAILURE.search(output)
        killer = "it hangs" if code is None else failure[1] if failure else "it cannot be imported"
        return Result(mutant, Verdict.NOT_EQUIVALENT if mutant.equivalent else Verdict.KILLED, killer, seconds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only those whose file or idea has one of them")
    parser.add_argument("-n", "--workers", type=int, default=os.cpu_count() or 1, help="at once (%(default)s)")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--root", type=Path, default=ROOT, help="of the project that is mutated")
    options = parser.parse_args(argv)
    start = time.monotonic()
    try:
        mutants = [
            mutant
            for mutant in load(options.table)
            if not options.words or any(word in str(mutant) for word in options.words)
        ]
        results = []
        for result in Runner(options.root, options.workers).run(mutants):
            results.append(result)
            print(f"{result.verdict.value:10} {result.seconds:5.1f} s  {result.mutant}  {result.killer}", flush=True)
    except TableError as error:
        print(f"{options.table.name} is wrong, or the tests are:\n{error}", file=sys.stderr)
        return 2
    bad = [result for result in results if not result.verdict.is_good]
    for result in bad:
        print(f"\n{result.verdict.value}: {result.mutant}")
        print(f"  old: {result.mutant.old!r}\n  new: {result.mutant.new!r}\n  tests: {' '.join(result.mutant.tests)}")
    counts = ", ".join(f"{sum(result.verdict is verdict for result in results)} {verdict.value}" for verdict in Verdict)
    print(f"\n{len(results)} mutants: {counts}. Took {time.monotonic() - start:.0f} s.")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
