"""What the demonstration shows of one conversation with a board, part by part, each compared with what it should be."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from microrpc.cli.common import format_size, format_time
from microrpc.errors import RemoteError, RequestError
from microrpc.wire.names import MESSAGE_OVERHEAD_BYTES

if TYPE_CHECKING:
    from firmware_sim.board.device import Device
    from microrpc.boards.schema import BoardProfile
    from microrpc.capture.trace import Trace
    from microrpc.capture.words import Frame
    from microrpc.cli.demo.screen import Screen
    from microrpc.client.board import Board

_COPY_BYTES = 65536
_BRIEF_CALLS = ("add(2, 3)",)
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


def copied_bytes(profile: BoardProfile) -> int:
    """How much is copied to a board and back: what half of its heap holds, at most 64 KiB."""
    return min(_COPY_BYTES, profile.heap_bytes // 2)


@dataclass
class Parts:
    """The parts of the demonstration, in the order in which they are shown."""

    profile: BoardProfile
    """Of the board."""
    device: Device | None
    """The inside of a simulated board, None of an emulated one."""
    board: Board
    """Connected to it."""
    trace: Trace
    """What crossed the line until now."""
    logs: list[str]
    """What the board said until now."""
    screen: Screen
    """Where it is shown."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What is measured, for --json."""

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
        expectation = "" if holds else f", expected {format_value(expected)}"
        self.screen.check(label, shown + expectation, holds, is_brief=label in _BRIEF_CALLS)

    def copies(self, baud: int) -> None:
        """Copy random bytes there and back, in the chunks that the board can take."""
        import numpy as np

        from microrpc.wire.link import WRITE_OVERHEAD_BYTES

        size_bytes = copied_bytes(self.profile)
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
            self.screen.check("bytes back", shown, not wrong.size, is_brief=True)
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
        expectation = "" if seen >= count else f"; expected {count}"
        self.screen.check(label, shown + expectation, seen >= count)

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
        self.screen.check(label, shown, difference <= tolerance, is_brief=not tolerance)

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
