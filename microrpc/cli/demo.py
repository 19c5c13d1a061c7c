"""`microrpc demo`: the whole of it on a simulated or emulated board, and everything that is shown is checked."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microrpc.cli.common import (
    BoardFileOption,
    BoardOption,
    ExitCode,
    JsonOption,
    find_profile,
    format_size,
    format_time,
    print_json,
    reporting,
)
from microrpc.cli.demo_talk import show_description, show_events, show_long_calls
from microrpc.cli.figures import stats_pairs
from microrpc.cli.screen import Screen
from microrpc.errors import RemoteError, RequestError
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES

if TYPE_CHECKING:
    from firmware_sim.board.device import Device
    from firmware_sim.line.uart import UartLine
    from microrpc.boards.schema import BoardProfile
    from microrpc.capture.trace import Trace
    from microrpc.capture.words import Frame
    from microrpc.client.board import Board
    from microrpc.connecting.openers import Opened
    from microrpc.ports.channel import Channel

_COPY_BYTES = 65536
_TERMINAL_BAUD = 921600
_PACKET_S, _FUNCTION_S = 100e-6, 20e-6  # what a board on a UART takes: of the order of a Cortex-M at 100 MHz
_LOG_TEXT = "hello from the board"
_SHOWN_FRAMES = (  # kind, whether it goes to the board, what it says, and how many frames follow it: the first of each
    ("TERMINATE", True, "", 0),
    ("INIT", True, "", 0),
    ("REPLY", False, "", 0),
    ("GetGlobalFunc", True, '"add"', 1),
    ("CallFunc", True, "add(2, 3)", 1),
    ("WRITE", True, "", 2),
    ("READ", True, "", 2),
    ("CallFunc", True, "log(", 2),
    ("CallFunc", True, "fail(", 1),
    ("EVENT", False, "", 0),
    ("PROGRESS", False, "", 0),
    ("CANCEL", True, "", 0),
    ("Exception", False, '"cancelled"', 0),
)


def demo(
    board: BoardOption = None,
    board_file: BoardFileOption = None,
    baud: Annotated[
        int | None,
        typer.Option(
            "--baud",
            metavar="N",
            min=0,
            help="Put the board on a UART of N bits a second; 0: on a line without length. "
            f"[default: {_TERMINAL_BAUD} on a terminal, else 0]",
        ),
    ] = None,
    real_time: Annotated[
        bool, typer.Option("--real-time", help="Put the board on the UART that it really has, as its profile says.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show it all on a simulated board, in a few seconds; or on an emulated one, whose firmware is built first.

    Everything that is shown is checked: it exits with 1, and names what differs, unless all is as it should be.
    """
    with reporting(as_json=as_json):
        from microrpc.connecting.address import is_started_here

        profile = find_profile(board, board_file=board_file)
        if is_started_here(profile) and (baud or real_time):
            raise typer.BadParameter(
                f"{profile.name} is emulated, on no UART that could be slow: no --baud, --real-time"
            )
        screen = Screen(is_silent=as_json)
        if real_time:
            if baud is not None:
                raise typer.BadParameter("--baud and --real-time: give one of them")
            baud = profile.baud
        elif is_started_here(profile):
            baud = baud or 0
        elif baud is None:
            baud = _TERMINAL_BAUD if screen.is_live else 0
        figures = _run(profile, baud, screen)
        failed = [check for check in screen.checks if not check.holds]
        if as_json:
            checks = [{"name": check.name, "ok": check.holds, "shown": check.shown} for check in screen.checks]
            print_json({"ok": not failed, "board": profile.name, **figures, "checks": checks})
        elif failed:
            screen.failed(f"{len(failed)} of {len(screen.checks)} checks fail: " + "; ".join(c.name for c in failed))
        else:
            frames = figures["frames_sent"] + figures["frames_received"]
            size_bytes = figures["bytes_sent"] + figures["bytes_received"]
            passed = f"all {len(screen.checks)} checks hold; {frames} frames, {size_bytes} bytes in"
            screen.passed(f"{passed} {format_time(figures['seconds'])}")
        if failed:
            raise typer.Exit(ExitCode.DIFFERS)


def _run(profile: BoardProfile, baud: int, screen: Screen) -> dict[str, Any]:
    """Bring a board up, show everything; give the figures that --json has."""
    from microrpc.capture.trace import Trace
    from microrpc.connecting.blocking import open_session
    from microrpc.connecting.wrap import tapped

    start = time.perf_counter()
    logs: list[str] = []
    trace = Trace()
    kind, opened, device = _open(profile, baud)
    with contextlib.closing(opened):
        screen.title("microrpc demo", f"{kind}, {profile.name}, on {opened.channel.name}")
        opening = time.perf_counter()
        with open_session(opened, profile.timeouts, logs.append, wrap=tapped(trace)) as board:
            opened_s = time.perf_counter() - opening
            show = _Demo(profile, device, board, trace, logs, screen)
            show.handshake(opened_s)
            with show.part("What the board tells of itself"):
                show_description(board, screen)
            show.functions()
            show.copies(baud)
            show.tensors()
            show.logs_and_errors()
            with show.part("Events, and functions that take long"):
                show_events(board, screen)
                show_long_calls(board, screen)
            show.memory()
            session_id = board.session_id
    stats = board.stats
    show.frames()
    screen.section("Statistics")
    for name, value in stats_pairs(stats):
        screen.row(name, value)
    taken_s = time.perf_counter() - start
    sent = sum(frame.to_board for frame in trace.frames)
    received = len(trace.frames) - sent
    return {
        "session_id": session_id,
        "frames_sent": sent,
        "frames_received": received,
        "bytes_sent": trace.bytes_to_board,
        "bytes_received": trace.bytes_to_host,
        **show.figures,
        "stats": stats.as_dict(),
        "seconds": taken_s,
    }


def _open(profile: BoardProfile, baud: int) -> tuple[str, Opened[Channel], Device | None]:
    """Give what it is, the open channel to it, and for a simulated board its inside."""
    from microrpc.connecting.address import find_target, is_started_here
    from microrpc.connecting.openers import open_target

    if is_started_here(profile):
        return "an emulated board", open_target(find_target(None, board=profile, baud=None, timeouts=None)), None
    from microrpc.connecting.openers.sim import open_served

    device, line = _simulate(profile, baud)
    return "a simulated board", open_served(line or device, profile, baud=baud or None), device


def _simulate(profile: BoardProfile, baud: int) -> tuple[Device, UartLine | None]:
    from firmware_sim.board.clock import VirtualClock
    from firmware_sim.line.settings import FirmwareTime, Rate
    from firmware_sim.line.uart import UartLine
    from firmware_sim.running.simulate import simulate, uart_of

    if not baud:
        return simulate(profile), None
    uart = dataclasses.replace(
        uart_of(profile),
        to_board=Rate(baud),
        to_host=Rate(baud),
        power_up_s=0.0,
        firmware=FirmwareTime(packet_s=_PACKET_S, function_s=_FUNCTION_S),
    )
    device = simulate(profile, clock=VirtualClock())
    return device, UartLine(device, uart)


@dataclass
class _Demo:
    """The parts of the demonstration, in the order in which they are shown."""

    profile: BoardProfile
    device: Device | None
    board: Board
    trace: Trace
    logs: list[str]
    screen: Screen
    figures: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def part(self, title: str) -> Iterator[None]:
        """Begin a section. An error that the board answers with is a difference too, and the rest goes on."""
        self.screen.section(title)
        try:
            yield
        except (RemoteError, RequestError) as error:
            self.screen.check(title, f"{type(error).__name__}: {error}", False)

    def handshake(self, opened_s: float) -> None:
        """Show the session and the board's limit."""
        with self.part("Handshake"):
            session_id = self.board.session_id
            nonces = f"nonces 0x{session_id & 0xFF:02x} and 0x{session_id >> 8:02x}"
            replies = [frame.payload[:2] for frame in self.trace.frames if frame.kind == "REPLY"]
            holds = session_id.to_bytes(2, "little") in replies
            self.screen.check("session", f"0x{session_id:04x} ({nonces}), in {format_time(opened_s)}", holds)
            limit = self.board.max_packet_bytes()
            buffer = f"{limit} bytes, so its receive buffer has {limit + MESSAGE_OVERHEAD_BYTES}"
            self.screen.check(
                "largest packet", buffer, limit + MESSAGE_OVERHEAD_BYTES == self.profile.packet_size_bytes
            )
            link = self.board.link
            window = f"{link.window_requests} requests, {link.window_bytes} bytes" if link else "none"
            self.screen.check("window of the link", window, link is not None)

    def functions(self) -> None:
        """Look functions up and call them."""
        calls: list[tuple[str, Callable[[], Any], Any]] = [
            ("add(2, 3)", lambda: self._call("add", 2, 3), 5),
            ("fadd(0.5, -0.25)", lambda: self._call("fadd", 0.5, -0.25), 0.25),
            ('echo_str("hello, board")', lambda: self._call("echo_str", "hello, board"), "hello, board"),
            ("reverse(bytes:0102ff)", lambda: self._call("reverse", b"\1\2\xff"), b"\xff\2\1"),
            ("adder(40)(2)", self._call_adder, 42),
        ]
        with self.part("Functions, looked up by name and called"):
            for label, call, expected in calls:
                try:
                    result = call()
                except (RemoteError, RequestError) as error:
                    result = error
                self._compare(label, result, expected)

    def _call(self, name: str, *args: Any) -> Any:
        return self.board.function(name)(*args)

    def _call_adder(self) -> Any:
        """Call a function that gives a function."""
        add_40 = self._call("adder", 40)
        return add_40(2) if callable(add_40) else add_40

    def _compare(self, label: str, result: Any, expected: Any) -> None:
        from microrpc.cli.literals import format_value

        holds = type(result) is type(expected) and result == expected
        shown = format_value(result)
        self.screen.check(label, shown if holds else f"{shown}, expected {format_value(expected)}", holds)

    def copies(self, baud: int) -> None:
        """Copy random bytes there and back, in the chunks that the board can take."""
        import numpy as np

        from microrpc.wire.link import WRITE_OVERHEAD_BYTES

        size_bytes = min(_COPY_BYTES, self.profile.heap_bytes // 2)
        sent = np.random.default_rng().integers(0, 256, size_bytes, np.uint8)
        slowed = f", over a UART of {baud} baud" if baud else ""
        with self.part(f"A tensor of {size_bytes} random bytes, there and back{slowed}"):
            link = self.board.link
            assert link is not None
            chunk_bytes = link.packet_bytes - WRITE_OVERHEAD_BYTES
            count = -(-size_bytes // chunk_bytes)
            if self.device is None:
                self.figures["heap_free_bytes"] = self._largest_block()
            with self.board.empty(sent.shape, sent.dtype) as array:
                there_s = self._time("to the board", lambda on_progress: array.write(sent, on_progress=on_progress))
                self._show_copy("to the board", "WRITE", size_bytes, chunk_bytes, count, there_s)
                back: list[Any] = []
                back_s = self._time("and back", lambda on_progress: back.append(array.numpy(on_progress=on_progress)))
                self._show_copy("and back", "READ", size_bytes, chunk_bytes, count, back_s)
                if self.device is not None:
                    self.figures["heap_used_bytes"] = self.device.memory.used_bytes
            wrong = np.flatnonzero(back[0] != sent)
            shown = "every byte as it was sent" if not wrong.size else f"{wrong.size} differ, the first is {wrong[0]}"
            self.screen.check("bytes back", shown, not wrong.size)
            copy = {"bytes": size_bytes, "chunk_bytes": chunk_bytes, "chunks": count}
            self.figures["copy"] = {**copy, "to_board_s": there_s, "from_board_s": back_s}

    def _time(self, label: str, copy: Callable[[Any], None]) -> float:
        with self.screen.progress(label) as on_progress:
            start = time.perf_counter()
            copy(on_progress)
            return time.perf_counter() - start

    def _show_copy(self, label: str, kind: str, size_bytes: int, chunk_bytes: int, count: int, taken_s: float) -> None:
        seen = sum(frame.kind == kind for frame in self.trace.frames)
        shown = (
            f"{seen} chunks of up to {chunk_bytes} bytes, {format_time(taken_s)}, {format_size(size_bytes / taken_s)}/s"
        )
        # A late answer makes the link repeat a block, which does no harm; fewer than these cannot be.
        self.screen.check(label, shown if seen >= count else f"{shown}; expected {count}", seen >= count)

    def tensors(self) -> None:
        """Compute on the board, and compare with numpy."""
        import numpy as np

        rng = np.random.default_rng(1)
        count = min(1024, self.profile.heap_bytes // 8)  # floats, in half of the heap
        x = rng.standard_normal(count).astype(np.float32)
        side = min(16, math.isqrt(self.profile.heap_bytes // 24))  # three matrices, in half of it
        a, b = (rng.standard_normal((side, side)).astype(np.float32) for _ in range(2))
        with self.part("Tensors, computed on the board and by numpy"):
            with self.board.array(x) as on_board:
                self._call("relu_f32", on_board)
                self._compare_arrays(f"relu_f32(float32[{count}])", on_board.numpy(), np.maximum(x, 0), 0.0)
                self._time_relu(on_board)
            with (
                self.board.array(a) as left,
                self.board.array(b) as right,
                self.board.empty((side, side), a.dtype) as out,
            ):
                self._call("matmul_f32", left, right, out)
                self._compare_arrays(f"matmul_f32(float32[{side},{side}])", out.numpy(), a @ b, 1e-4)

    def _compare_arrays(self, label: str, result: Any, expected: Any, tolerance: float) -> None:
        difference = float(abs(result - expected).max())
        shown = (
            f"differs from numpy's by {difference:.2g}, {tolerance:g} is allowed" if difference else "as numpy has it"
        )
        self.screen.check(label, shown, difference <= tolerance)

    def _time_relu(self, array: Any) -> None:
        timing = self.board.time_evaluator("relu_f32", number=10, repeat=5)(array)
        shown = f"mean {format_time(timing.mean)}, least {format_time(timing.min)} (5 x 10 runs)"
        holds = len(timing.results) == 5 and all(0 < seconds < 1 for seconds in timing.results)
        self.screen.check("time_evaluator(relu_f32)", shown, holds)
        self.figures["relu_mean_s"] = timing.mean

    def logs_and_errors(self) -> None:
        """Show a line of the board's log, and an error of it."""
        with self.part("What the board says"):
            self._call("log", _LOG_TEXT)
            self.screen.check("a line of its log", ", ".join(self.logs) or "(nothing)", self.logs == [_LOG_TEXT])
            try:
                shown, holds = f"no error, but {self._call('fail')!r}", False
            except RemoteError as error:
                shown, holds = f'RemoteError "{error.message}"', "always fails" in error.message
            self.screen.check("fail()", shown, holds)
            self._compare("add(1, 1), after the error", self._call("add", 1, 1), 2)

    def memory(self) -> None:
        """Show that nothing is left on the board."""
        with self.part("Memory of the board"):
            if self.device is None:
                before, now = self.figures["heap_free_bytes"], self._largest_block()
                self.screen.row("before the copy", f"{before} bytes free in one piece")
                self.screen.check("now", f"{now} bytes free in one piece", now == before)
                return
            used_before = self.figures.get("heap_used_bytes", 0)
            used, heap = self.device.memory.used_bytes, self.profile.heap_bytes
            self.screen.row("during the copy", f"{used_before} of {heap} bytes in use")
            self.screen.check("now", f"{used} bytes in use", used == 0)

    def _largest_block(self) -> int:
        """Find out how much the board can allocate in one piece: whatever is left there makes it less."""
        self.board.collect()
        low, high = 0, (self.profile.ram_bytes or 2**31) + 1  # `low` fits, `high` does not
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self.board.empty((middle,), "uint8").free()
                low = middle
            except RemoteError:
                high = middle
        return low

    def frames(self) -> None:
        """Show a few of the frames, each with its reply."""
        frames = self.trace.frames
        shown: set[int] = set()
        for kind, to_board, meaning, followers in _SHOWN_FRAMES:
            for index, frame in enumerate(frames):
                if (frame.kind, frame.to_board) == (kind, to_board) and frame.meaning.startswith(meaning):
                    shown.update(range(index, min(index + followers + 1, len(frames))))
                    break
        self.screen.section(f"On the wire, {len(shown)} of {len(frames)} frames")
        self.screen.frames([self._frame_row(frames[index]) for index in sorted(shown)])

    def _frame_row(self, frame: Frame) -> tuple[str, bool, int, str, str]:
        since_start_ms = (frame.time_s - self.trace.frames[0].time_s) * 1e3
        return f"{since_start_ms:.1f} ms", frame.to_board, len(frame.payload), frame.kind, frame.meaning
