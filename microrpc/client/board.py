"""The blocking client: a `Board` pumps the operations of `microrpc.host.board` over a channel that blocks.

`microrpc.connect` opens one; what it hands out is in `microrpc.client.remote`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy.typing as npt

from microrpc.client.remote import RemoteArray, RemoteFunction, RemoteModule, RemoteStream
from microrpc.errors import ClosedError, MicroRpcError, PortLostError
from microrpc.host.board import BoardOperations, PumpedConversation
from microrpc.host.handles import Timing, describe
from microrpc.host.operation import AT_ONCE, Operation
from microrpc.host.requests import Progress
from microrpc.host.stats import Stats
from microrpc.ports.channel import Channel
from microrpc.wire.datatypes import CPU, DataType, Device, Value
from microrpc.wire.link import LinkParameters
from microrpc.wire.packets import PacketCode, Reply, Request

T = TypeVar("T")


class Board:
    """A connection to one board. All methods wait, and all waits end; any thread may call them, one runs at a time.

    `on_close` is called last, when the board is closed. `reopen` waits for a port that went away and opens it, raising
    PortError where it does not come back; without it a lost port is the end. `on_reconnect` is told then whether the
    board lost its memory; it must not use the board.
    """

    def __init__(
        self,
        channel: Channel,
        conversation: PumpedConversation,
        *,
        call_s: float,
        on_close: Callable[[], None] = lambda: None,
        reopen: Callable[[], Channel] | None = None,
        on_reconnect: Callable[[bool], None] = lambda memory_is_lost: None,
    ) -> None:
        self.name = channel.name
        self._channel = channel
        self._conversation = conversation
        self._operations = BoardOperations(
            self, conversation, call_s=call_s, function=RemoteFunction, module=RemoteModule, array=RemoteArray
        )
        self.garbage = self._operations.garbage
        self.live = self._operations.live
        self._on_close = on_close
        self._reopen = reopen
        self._on_reconnect = on_reconnect
        self._lock = threading.RLock()

    # --- the pump ------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the session; `microrpc.connect` does it. Raises HandshakeTimeoutError."""
        self._run(self._conversation.open())

    def _run(self, operation: Operation[T]) -> T:
        """Drive one operation to its end: send what it wants sent, wait for what it waits for."""
        conversation = self._conversation
        with self._lock:
            try:
                if self._operations.closed:
                    operation = self._reconnect(operation)
                channel = self._channel
                send, take_output = operation.send, conversation.take_output
                deadline = send(None)  # type: ignore[arg-type]  # a generator starts with None
                while True:
                    data = channel.read(deadline)
                    now = channel.now()
                    deadline = send((data, now))
                    output = take_output()
                    if output:
                        channel.write(output, conversation.write_by(deadline, now))
            except StopIteration as stop:
                output = conversation.take_output()
                if output:
                    channel.write(output, conversation.write_by(AT_ONCE, channel.now()))
                result: T = stop.value
                return result
            except PortLostError as error:
                self._operations.closed = "the port went away"
                text = str(error)
                if self._reopen is not None:
                    self._channel.close()  # held open, its name would not be free for the port that comes back
                    text += " (the next request looks for it)"
                raise PortLostError(error.port, text, may_have_run=True) from error
            finally:
                operation.close()

    def _reconnect(self, operation: Operation[T]) -> Operation[T]:
        """Open the port that went away, and give `operation` with a new session before it."""
        if self._reopen is None:
            raise self._operations.closed_error()
        self._channel = self._reopen()
        self.name = self._channel.name
        return self._operations.resume(operation, self._on_reconnect)

    # --- functions -----------------------------------------------------------------------------

    def function(self, name: str) -> RemoteFunction:
        """Look a function up: in the global registry first, then in the system library.

        Raises FunctionNotFoundError.
        """
        return self._run(self._operations.function(name))

    def global_function(self, name: str) -> RemoteFunction | None:
        """Look a function up in the global registry alone; None where there is none of that name."""
        return self._run(self._operations.global_function(name))

    def system_library(self) -> RemoteModule | None:
        """Give the board's system library, None where it has none."""
        return self._run(self._operations.system_library())

    def find_in_module(self, module: RemoteModule, name: str) -> RemoteFunction | None:
        """Look a function up in a module; `RemoteModule.find` does it."""
        return self._run(self._operations.find_in_module(module, name))

    def call(self, function: RemoteFunction, args: Sequence[Any], *, timeout_s: float | None = None) -> Any:
        """Call a function; `RemoteFunction` does it."""
        return self._run(self._operations.call(function, args, timeout_s=timeout_s))

    def time_evaluator(
        self,
        name: str,
        *,
        number: int = 10,
        repeat: int = 1,
        min_repeat_ms: int = 0,
        timeout_s: float | None = None,
    ) -> Callable[..., Timing]:
        """Give a function that times the board's function `name` by the board's own clock.

        Called with that function's arguments, it runs it `number` times for each of `repeat` figures, more often until
        a figure took `min_repeat_ms`. `timeout_s` must cover all of it.
        """
        timed = self._run(
            self._operations.time_evaluator(name, number=number, repeat=repeat, min_repeat_ms=min_repeat_ms)
        )

        def evaluate(*args: Any) -> Timing:
            return self._run(self._operations.timing(timed, args, repeat=repeat, timeout_s=timeout_s))

        return evaluate

    # --- memory --------------------------------------------------------------------------------

    def array(self, data: npt.ArrayLike, *, on_progress: Progress | None = None, verify: bool = False) -> RemoteArray:
        """Allocate an array on the board and copy `data` into it, of any shape and any dtype that a board can have.

        `on_progress` is called with (bytes done, bytes in all) after each block. `verify` compares what is in the array
        then with what was sent (docs/copies.md), and raises VerifyError.
        """
        return self._run(self._operations.array(data, on_progress=on_progress, verify=verify))

    def empty(
        self, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str, *, scope: str | None = None
    ) -> RemoteArray:
        """Allocate an array on the board, its contents undefined; `scope` names a memory scope that the board has.

        `dtype` is a numpy dtype, or a `DataType` or its name ("float32x4", "bfloat16") where numpy has none.
        """
        return self._run(self._operations.empty(shape, dtype, scope=scope))

    def array_at(self, address: int, shape: int | Sequence[int], dtype: npt.DTypeLike | DataType | str) -> RemoteArray:
        """Give access to memory of the board by its address; it is not freed."""
        return RemoteArray(self, describe(address, shape, dtype), owned=False)

    def copy(self, source: RemoteArray, target: RemoteArray) -> None:
        """Copy one array of the board into another, on the board."""
        self._run(self._operations.copy(source, target))

    def write_bytes(
        self, data: memoryview, array: RemoteArray, *, on_progress: Progress | None, verify: bool = False
    ) -> None:
        """Copy bytes into an array; `RemoteArray.write` does it."""
        self._run(self._operations.write(data, array, on_progress=on_progress, verify=verify))

    def read_bytes(
        self, array: RemoteArray, into: memoryview, *, on_progress: Progress | None, verify: bool = False
    ) -> None:
        """Copy bytes out of an array; `RemoteArray.numpy` does it."""
        self._run(self._operations.read(array, into, on_progress=on_progress, verify=verify))

    # --- the rest ------------------------------------------------------------------------------

    def max_packet_bytes(self) -> int:
        """Give the largest packet that the board takes, in bytes; 2**64 - 1 where it knows none."""
        return self._run(self._operations.max_packet_bytes())

    def create_stream(self) -> RemoteStream:
        """Create a stream on the board. Raises RemoteError where it cannot."""
        return RemoteStream(self, self._run(self._operations.create_stream()))

    def set_device(self, device: Device = CPU) -> None:
        """Choose the device for what follows. Raises RemoteError on a stock board."""
        self.syscall(PacketCode.DEV_SET_DEVICE, device)

    def attribute(self, kind: int, device: Device = CPU) -> Value:
        """Give an attribute of a device. Raises RemoteError on a stock board."""
        return self.syscall(PacketCode.DEV_GET_ATTR, device, kind)

    def syscall(self, code: PacketCode, *args: Value, epoch: int | None = None) -> Value:
        """Send a syscall and give the value that it returns."""
        return self._run(self._operations.syscall(code, *args, epoch=epoch))

    def request(self, request: Request) -> Reply:
        """Send any request and give the reply as it is; a proxy serves a board to others with it."""
        return self._run(self._operations.request(request))

    @property
    def session_id(self) -> int:
        """The id of the session, both nonces in it; 0 where there is none, as over TCP."""
        return self._conversation.session_id

    @property
    def link(self) -> LinkParameters | None:
        """What the board told of its reliable link (docs/link.md); None without one, and before the first request."""
        linked = self._conversation.linked
        return linked.parameters if linked is not None else None

    @property
    def stats(self) -> Stats:
        """What crossed the line since the connection was opened, and how fast (docs/copies.md). It asks nothing."""
        return self._conversation.stats

    @property
    def epoch(self) -> int:
        """How often the board was seen to reset; what it handed out belongs to one epoch."""
        return self._conversation.epoch

    @property
    def reply_epoch(self) -> int:
        """The epoch in which the last request was sent."""
        return self._conversation.reply_epoch

    # --- handles -------------------------------------------------------------------------------

    def collect(self) -> None:
        """Free on the board what was freed or garbage collected here; stop at the first sign of trouble.

        Trouble is not raised here, where it would be blamed on another request: the next one meets it again.
        """
        if self.garbage and not self._operations.closed:  # nothing is worth freeing that a port must come back for
            with contextlib.suppress(ClosedError):
                self._run(self._operations.collect())

    def close(self, *, shutdown: bool = False) -> None:
        """Free everything on the board, leave the session and release the port; never fails, closing twice is fine.

        `shutdown` sends Shutdown too, as TVM's host does: a stock board is deaf from then on, until it is reset.
        """
        with self._lock:
            self._reopen = None
            try:
                with contextlib.suppress(MicroRpcError, OSError):
                    self._run(self._operations.close(shutdown))
            finally:
                self._operations.closed = self._operations.closed or "it was closed here"
                self._channel.close()
                on_close, self._on_close = self._on_close, lambda: None
                on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Board {self.name}{' closed' if self._operations.closed else ''}>"
