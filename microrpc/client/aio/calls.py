"""A call that goes on in a task of its own, while the program does something else."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

from microrpc.client.aio.pump import AsyncPump
from microrpc.client.cancelling import Cancelling, cancellable
from microrpc.client.refusals import not_done_error
from microrpc.errors import CallCancelledError, ClosedError
from microrpc.host.board import BoardOperations
from microrpc.host.handles import AnyFunction
from microrpc.host.job import Progress
from microrpc.host.operation import Operation
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.wire.checks import check_seconds


class AsyncCall:
    """A call that was begun; `AsyncRemoteFunction.start` makes it. `await call` is `await call.result()`."""

    def __init__(
        self,
        pump: AsyncPump,
        operations: BoardOperations[Any, Any, Any],
        function: AnyFunction[Any],
        args: tuple[Any, ...],
        *,
        timeout_s: float | None,
        on_progress: Progress | None,
    ) -> None:
        pump.check_loop()
        self._pump = pump
        self._operations = operations
        self._function = function
        self._args = args
        self._on_progress = on_progress
        self._cancelling = Cancelling(function.name)
        loop = pump.loop
        self._future: asyncio.Future[Any] = loop.create_future()
        self._task = loop.create_task(self._run(timeout_s))

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    async def _run(self, timeout_s: float | None) -> None:
        try:
            result = await self._pump.run(self._make, timeout_s=timeout_s)
        except asyncio.CancelledError:
            self._future.cancel()
            raise
        except BaseException as error:
            if not self._future.done():
                self._settle(error)
        else:
            self._future.set_result(result)

    def _settle(self, error: BaseException) -> None:
        self._future.set_exception(error)
        if isinstance(error, CallCancelledError | ClosedError):  # as the program wished: it need not ask for that
            self._future.exception()

    def _make(self, timeout_s: float | None) -> Operation[Any]:
        function, operations = self._function, self._operations
        return cancellable(
            lambda: operations.call(function, self._args, timeout_s, on_progress=self._on_progress),
            operations.connection,
            self._cancelling,
        )

    def done(self) -> bool:
        """Tell whether it has ended, in whatever way."""
        return self._future.done()

    async def result(self, timeout_s: float | None = None) -> Any:
        """Wait for its end, and give or raise what the call came to.

        Where it is not done within `timeout_s`, that is CallTimeoutError, and the call goes on, as it does where this
        is cancelled. CallCancelledError: see `cancel`. Raises RequestError, ClosedError in a fork.
        """
        if timeout_s is not None:
            timeout_s = check_seconds(timeout_s, "timeout_s", may_be_zero=True)
        if not self.done():
            self._pump.check_process()
        await asyncio.wait([self._future], timeout=timeout_s)
        if not self.done():
            raise not_done_error(self._function.name, timeout_s or 0.0)
        return self._future.result()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    def cancel(self) -> None:
        """Have it end, which `result` waits for: soon, whatever the board does.

        Where it waits for its turn, nothing is sent. Where the board can be told (docs/events.md), the function ends
        early or not as it likes, for a second at most; else the host waits no more. `result` raises CallCancelledError
        then; where the call was done all the same, it gives what came of it.
        """
        if not self._cancelling.ask() and not self._future.done():
            self._settle(self._cancelling.unsent_error())
            self._task.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._function.name!r}, {'done' if self.done() else 'under way'}>"
