"""Building firmware, once: what was built before from the same sources in the same way is taken from the cache."""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from microrpc.boards import places
from microrpc.boards.tables import did_you_mean
from microrpc.errors import FirmwareError, reason_of
from microrpc.firmware import c_library
from microrpc.firmware.arduino import ALWAYS, find_builder, prepare_sketch
from microrpc.firmware.elf import Sizes, read_sizes
from microrpc.firmware.images import ImageFormat
from microrpc.firmware.project import Project, check_define
from microrpc.firmware.running import run

log = logging.getLogger("microrpc.firmware")
"""The logger `microrpc.firmware`: told before a build, which can take seconds."""

_BUILD_S = 600.0  # a compiler that takes longer hangs
_KEEP_S = 14 * 86400.0  # builds that nobody used for so long are removed
_GCC_PACKAGES = {
    "arm-none-eabi-": "gcc-arm-none-eabi",
    "avr-": "gcc-avr",
    "riscv64-unknown-elf-": "gcc-riscv64-unknown-elf",
}
_KEPT_SUFFIXES = {".elf", *(f".{form}" for form in ImageFormat)}
_DEFAULT = re.compile(rb"#ifndef (\w+)\n#define \1 ")  # what a definition can change
# What a compiler may read: sources, and whatever they include.
_SUFFIXES = (
    *(".ino", ".pde", ".c", ".cc", ".cpp", ".cxx", ".s", ".S", ".ld"),
    *(".h", ".hh", ".hpp", ".hxx", ".inc", ".inl", ".ipp", ".tpp", ".def"),
)
_TEMPORARY = ".building-"
_DISK_IS_FULL = ("NoSpaceLeft", "No space left on device")  # as zig says it, hundreds of times, and the others
_MOST_LINES = 40  # of a compiler's output in an error


class Compiler(enum.StrEnum):
    """What builds it."""

    ZIG = "zig"
    """The one in the package `ziglang`, which `pip install 'microrpc[firmware]'` brings."""
    GCC = "gcc"
    """The one in the path, with the prefix that the project names."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """What was built: an ELF file; or a script, which runs as it is."""

    project: Project
    """What it was built from."""
    elf: pathlib.Path
    """The file, in the cache; or where nothing is compiled, the script."""
    sizes: Sizes
    """What it takes of flash and RAM, in bytes."""
    compiler: str
    """With its version; empty where nothing is compiled."""
    is_new: bool
    """Whether it was built now, and not before."""


def build(
    project: Project,
    *,
    compiler: Compiler = Compiler.ZIG,
    defines: Sequence[str] = (),
    more: Mapping[str, bytes] | None = None,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
    is_told: bool = True,
) -> Firmware:
    """Build `project`; `defines` are like "NAME=VALUE", and go before those of the project. Raises FirmwareError.

    A name that `defines` has and no source reads is an error, too, but for those of the compiler's own headers.
    more: sources and objects besides, by the name of the file, which only this build sees. timeout_s: how long the
    compiler may take, ten minutes where nothing is said. stop: is set by another thread to have it ended, which is an
    error, too. is_told: whether the log tells of a build. Any number of processes may do so at once.
    """
    _check_takes(project, compiler)
    if project.script is not None:
        return _script(project, project.script, defines)
    more = more or {}
    if project.sketch and more:
        raise FirmwareError(f"{project.name} is a sketch, which Arduino's tools build: nothing can be added to it")
    all_defines = (*project.defines, *map(check_define, defines))
    by_name = {define.partition("=")[0]: define for define in all_defines}
    tool = find_compiler(project, compiler)
    sources = project.source_files()
    if compiler is Compiler.ZIG:
        sources += [source for source in c_library.sources_for_zig(project) if source not in sources]
    flags = [*_flags(project, compiler), *(f"-D{define}" for define in by_name.values())]
    last_flags = list(_last_flags(project, compiler))
    if compiler is Compiler.GCC and project.target:
        patience_s = _BUILD_S if timeout_s is None else timeout_s
        last_flags = c_library.without_what_gcc_lacks(project, tool.command, last_flags, patience_s, stop)
    contents = _read(project, sources, flags)
    for name in (define.partition("=")[0] for define in defines):
        _check_is_read(name, contents, project)
    key = _key([*tool.command, *flags, *sources, *last_flags, tool.version], {**contents, **more})
    directory = cache_directory()
    elf = directory / f"{project.name}-{key}.elf"
    sizes = _kept_sizes(elf)
    is_new = sizes is None
    if is_new:
        log.log(logging.INFO if is_told else logging.DEBUG, "building %s with %s ...", project.name, tool.version)

        def prepare(made_in: pathlib.Path) -> tuple[list[str], pathlib.Path]:
            if project.sketch:
                return prepare_sketch(project, tool.command[0], tuple(by_name.values()), made_in)
            result = made_in / "firmware.elf"
            besides = [str(made_in / name) for name in more]
            return [*tool.command, *flags, *sources, *besides, *last_flags, "-o", str(result)], result

        try:
            _make(project, prepare, more, elf, timeout_s, stop)
        except FirmwareError as error:
            is_gcc = compiler is Compiler.GCC
            hint = c_library.hint_for_gcc(project, tool.command, str(error)) if is_gcc else ""
            raise FirmwareError(f"{error}{hint}") from error
        _remove_old(directory)
    return Firmware(project, elf, sizes or read_sizes(elf), tool.version, is_new)


def _script(project: Project, script: str, defines: Sequence[str]) -> Firmware:
    """Give what runs as it is. Raises FirmwareError."""
    if defines:
        raise FirmwareError(f"{project.name} is a file for MicroPython, and not compiled: nothing can be defined")
    path = project.root / script
    if not path.is_file():
        raise FirmwareError(f"{project.file}: build.script: there is no {path}")
    return Firmware(project, path, Sizes(0, 0, 0), "", is_new=False)


def cache_directory() -> pathlib.Path:
    """Where builds are kept, `~/.cache/microrpc/firmware` on Linux; it need not exist. Raises FirmwareError."""
    try:
        return places.cache_directory("firmware")
    except FileNotFoundError as error:
        raise FirmwareError(f"there is no place to keep what is built: {reason_of(error)}") from error


# --- compilers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tool:
    """A compiler that is there: the `command` that every build begins with, and the `version` that it says it has."""

    command: tuple[str, ...]
    version: str


def check_buildable(project: Project, compiler: Compiler) -> None:
    """See that what builds `project` is there. Raises FirmwareError, which says what to install."""
    _check_takes(project, compiler)
    if project.script is None:
        find_compiler(project, compiler)


def _check_takes(project: Project, compiler: Compiler) -> None:
    if compiler is Compiler.GCC and (project.sketch or project.script):
        what = "a sketch, which Arduino's own tools build" if project.sketch else "a script, which nothing compiles"
        raise FirmwareError(f"{project.name} is {what}: leave --compiler out")


def find_compiler(project: Project, compiler: Compiler) -> Tool:
    """Find what builds `project`. Raises FirmwareError, which says what to install.

    Arduino's own tools build a sketch, and no other compiler does.
    """
    _check_takes(project, compiler)
    if project.sketch:
        builder, version = find_builder(project)
        return Tool((builder,), version)
    return _find_gcc(project) if compiler is Compiler.GCC else _find_zig()


def _find_zig() -> Tool:
    if importlib.util.find_spec("ziglang") is None:
        raise FirmwareError(
            "building firmware needs a compiler: pip install 'microrpc[firmware]' brings one (or --compiler gcc)"
        )
    return Tool((sys.executable, "-m", "ziglang", "cc"), f"zig {importlib.metadata.version('ziglang')}")


def _find_gcc(project: Project) -> Tool:
    if project.gcc is None and project.target:
        raise FirmwareError(f"{project.name} cannot be built with gcc: {project.file} has no [build.gcc]")
    prefix = project.gcc.prefix if project.gcc is not None else ""
    found = shutil.which(f"{prefix}gcc")
    if found is None:
        package = _GCC_PACKAGES.get(prefix, f"{prefix}gcc" if prefix else "gcc")
        raise FirmwareError(f"there is no {prefix}gcc: apt-get install --no-install-recommends {package}")
    first_line = run([found, "--version"], None, _BUILD_S).stdout.partition("\n")[0]
    return Tool((found,), first_line.strip())


def _flags(project: Project, compiler: Compiler) -> Iterator[str]:
    if project.sketch:
        yield from (project.sketch, project.fqbn, *ALWAYS, *project.flags)
        return
    yield from project.common.all
    if project.target:
        yield from project.common.freestanding
    if compiler is Compiler.GCC:
        yield from project.gcc.flags if project.gcc is not None else ()
    else:
        if project.target:
            yield from ("-target", project.target)
        if project.cpu:
            yield f"-mcpu={project.cpu}"
        elif not project.target:
            yield "-mcpu=baseline"  # not what this computer has besides: others may share the cache
        yield from project.common.zig
    yield from project.flags
    own = c_library.headers_for_zig(project) if compiler is Compiler.ZIG else ()
    yield from (f"-I{include}" for include in (*project.includes, *own))
    if project.linker_script:
        yield from ("-T", project.linker_script)


def _last_flags(project: Project, compiler: Compiler) -> Iterator[str]:
    """Give what must stand after the sources: libraries. zig has those of a board's target in it."""
    if compiler is Compiler.GCC or not project.target:
        yield from (f"-l{name}" for name in project.libraries)
    if compiler is Compiler.GCC and project.target:
        yield from project.common.gcc_freestanding


# --- the cache ------------------------------------------------------------------------------------


def _read(project: Project, sources: Sequence[str], flags: Sequence[str]) -> dict[str, bytes]:
    """Read all that the result depends on: the sources, and whatever they may include."""
    files = {*sources, *_sources_below(project.root)}
    for flag in flags:
        if flag.startswith("-I") and not (folder := (project.root / flag[2:]).resolve()).is_relative_to(project.root):
            files |= {str(folder / name) for name in _sources_below(folder)}
    contents = {}
    for name in sorted(files):
        try:
            contents[name] = (project.root / name).read_bytes()
        except OSError as error:
            raise FirmwareError(f"{project.root / name}: cannot be read: {error.strerror}") from error
    return contents


def _check_is_read(name: str, contents: Mapping[str, bytes], project: Project) -> None:
    """Refuse a definition that changes nothing, since it is misspelt. Raises FirmwareError."""
    if name.startswith("_") or name == "NDEBUG":  # those are for the headers of a C library
        return
    if not any(re.search(rf"\b{name}\b".encode(), content) for content in contents.values()):
        known = {word.decode() for content in contents.values() for word in re.findall(_DEFAULT, content)}
        raise FirmwareError(f"{name} is defined, but no source of {project.name} reads it{did_you_mean(name, known)}")


def _key(command: Sequence[str], contents: Mapping[str, bytes]) -> str:
    """Give a hash of all that the result depends on."""
    digest = hashlib.sha256("\0".join([*command, platform.system(), platform.machine()]).encode())
    for name, content in contents.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _sources_below(root: pathlib.Path) -> Iterator[str]:
    """Name all that a compiler may read: headers and linker scripts include each other."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(_SUFFIXES):
                yield pathlib.Path(folder, name).relative_to(root).as_posix()


def is_kept(file: pathlib.Path) -> bool:
    """Tell whether a file is in the cache, and note that it is in use."""
    try:
        os.utime(file)
    except OSError:  # another process has removed it, or it is another user's
        return os.access(file, os.R_OK)
    return True


def _kept_sizes(elf: pathlib.Path) -> Sizes | None:
    """Give the sizes of what is in the cache; None where it is not, or is no whole file, as after a power cut."""
    with contextlib.suppress(FirmwareError):
        return read_sizes(elf) if is_kept(elf) else None
    return None


def _make(
    project: Project,
    prepare: Callable[[pathlib.Path], tuple[list[str], pathlib.Path]],
    more: Mapping[str, bytes],
    elf: pathlib.Path,
    timeout_s: float | None,
    stop: threading.Event | None,
) -> None:
    """Build what `prepare` lays out in a directory of its own; move the result into its place when it is whole."""
    try:
        elf.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=elf.parent, prefix=_TEMPORARY) as directory:
            for name, content in more.items():
                pathlib.Path(directory, name).write_bytes(content)
            command, result = prepare(pathlib.Path(directory))
            done = run(command, project.root, _BUILD_S if timeout_s is None else timeout_s, stop)
            if done.code and any(words in done.stderr for words in _DISK_IS_FULL):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if done.code:
                lines = (done.stderr.strip() or done.stdout.strip()).replace(f"{directory}{os.sep}", "").splitlines()
                rest = [f"... and {len(lines) - _MOST_LINES} lines more"] if len(lines) > _MOST_LINES else []
                said = "\n".join([*lines[:_MOST_LINES], *rest]) or f"it {done.failure}"
                raise FirmwareError(f"{project.name} cannot be built, the compiler says:\n{said}")
            os.replace(result, elf)
    except OSError as error:
        raise FirmwareError(
            f"{elf.parent}: cannot be written: {reason_of(error)}. What is built is kept there: "
            "make it writable, or name another directory in XDG_CACHE_HOME"
        ) from error


def _remove_old(directory: pathlib.Path) -> None:
    """Remove what was not used for long, and what a build that was killed left behind."""
    oldest = time.time() - _KEEP_S
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # somebody else does the same
            if path.suffix in _KEPT_SUFFIXES and path.stat().st_mtime < oldest:
                path.unlink()
    for path in directory.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path)
