"""A call that goes on in a thread of its own, while the program does something else."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

from microrpc.client.cancelling import Cancelling, cancellable
from microrpc.client.pump import Pump
from microrpc.client.refusals import not_done_error
from microrpc.host.board import BoardOperations
from microrpc.host.handles import AnyFunction
from microrpc.host.job import Progress
from microrpc.host.operation import Operation
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.wire.checks import check_seconds


class Call:
    """A call that was begun; `RemoteFunction.start` makes it. It waits for its turn, and runs, in its own thread."""

    def __init__(
        self,
        pump: Pump,
        operations: BoardOperations[Any, Any, Any],
        function: AnyFunction[Any],
        args: tuple[Any, ...],
        *,
        timeout_s: float | None,
        on_progress: Progress | None,
    ) -> None:
        self._pump = pump
        self._operations = operations
        self._function = function
        self._args = args
        self._on_progress = on_progress
        self._cancelling = Cancelling(function.name)
        self._future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        threading.Thread(
            target=self._run, args=(timeout_s,), name=f"microrpc calls {function.name}", daemon=True
        ).start()

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    def _run(self, timeout_s: float | None) -> None:
        try:
            self._settle(self._pump.run(self._make, timeout_s=timeout_s), None)
        except BaseException as error:
            self._settle(None, error)

    def _make(self, timeout_s: float | None) -> Operation[Any]:
        function, operations = self._function, self._operations
        return cancellable(
            lambda: operations.call(function, self._args, timeout_s, on_progress=self._on_progress),
            operations.connection,
            self._cancelling,
        )

    def _settle(self, result: Any, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._future.set_exception(error)
            else:
                self._future.set_result(result)
        except concurrent.futures.InvalidStateError:
            pass  # it was cancelled before it began

    def done(self) -> bool:
        """Tell whether it has ended, in whatever way."""
        return self._future.done()

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for its end, and give or raise what the call came to.

        Where it is not done within `timeout_s`, that is CallTimeoutError, and the call goes on. CallCancelledError:
        see `cancel`. Raises RequestError from within a request of this thread, ClosedError in a fork.
        """
        if timeout_s is not None:
            check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        if not self.done():
            self._pump.check_process()
            self._pump.check_turn()
        concurrent.futures.wait([self._future], timeout_s)
        if not self.done():
            raise not_done_error(self._function.name, timeout_s or 0.0)
        return self._future.result()

    def cancel(self) -> None:
        """Have it end, which `result` waits for: soon, whatever the board does.

        Where it waits for its turn, nothing is sent. Where the board can be told (docs/events.md), the function ends
        early or not as it likes, for a second at most; else the host waits no more. `result` raises CallCancelledError
        then; where the call was done all the same, it gives what came of it.
        """
        if not self._cancelling.ask():
            self._settle(None, self._cancelling.unsent_error())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._function.name!r}, {'done' if self.done() else 'under way'}>"
