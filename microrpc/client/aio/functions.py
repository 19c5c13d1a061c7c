"""The functions of a board by their names, as its description has them: `board.f.scale(x, 2.0)` (docs/functions.md)."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Self, overload

from microrpc.client.aio.remote import Owner
from microrpc.errors import FunctionAttributeError, FunctionNotFoundError
from microrpc.host.described import dress, is_attribute
from microrpc.host.job import Progress
from microrpc.host.uncopyable import LOOK_UP_THERE, uncopyable
from microrpc.wire.checks import check_callable, check_seconds
from microrpc.wire.description import Description


class AsyncFunctions:
    """What `board.f` is: each function that the board tells of is an attribute, as Python's own functions are.

    They have a signature, a docstring, and take arguments by name, `timeout_s` and `on_progress` as any call;
    `board.function(name).start` begins one that goes on by itself. Names that are none of Python are had by
    `board.f["a.b"]`, as are those that begin with a `_`. Names are known once the board was asked:
    `await board.functions()`. A call looks its function up when it is called first. A board that tells nothing has
    functions of every name here, unchecked.
    """

    def __init__(self, board: Owner) -> None:
        self._board = board

    __reduce_ex__ = uncopyable(LOOK_UP_THERE)

    def _known(self) -> Description | None:
        """What is known of the board."""
        return self._board.operations.described.known

    def __getitem__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Give the function of that name. Raises FunctionNotFoundError where the board is known not to have it."""
        self._known()
        board, operations = self._board, self._board.operations
        described = operations.described
        told = described.find(name)

        async def call(
            *args: Any, timeout_s: float | None = None, on_progress: Progress | None = None, **named: Any
        ) -> Any:
            if timeout_s is not None:
                check_seconds(timeout_s, "timeout_s")
            invoke = operations.call
            if on_progress is not None:
                check_callable(on_progress, "on_progress")
                invoke = functools.partial(invoke, on_progress=on_progress)
            look_up = operations.function
            return await board.pump.run(described.call, look_up, invoke, name, args, named, timeout_s=timeout_s)

        dress(call, name, told)
        return call

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Give the function of that name. Raises FunctionNotFoundError, which is an AttributeError here."""
        if name.startswith("_"):  # what Python and its tools ask of every object
            raise AttributeError(f"{name} is no function of the board; if it is, it is board.f[{name!r}]")
        try:
            return self[name]
        except FunctionNotFoundError as error:
            raise FunctionAttributeError(*error.args) from None

    def __dir__(self) -> list[str]:
        """Give the names of the functions, those that Python has as such."""
        known = self._known()
        names = [] if known is None else [function.name for function in known.functions]
        return sorted(name for name in names if is_attribute(name))

    def _ipython_key_completions_(self) -> list[str]:
        """Give all names, for completion of `board.f["`."""
        known = self._known()
        return [] if known is None else [function.name for function in known.functions]

    def __repr__(self) -> str:
        described = self._board.operations.described
        if described.known is None:
            return "<functions of the board, which was not asked yet>"
        return "\n".join(map(str, described.known.functions)) or "<functions of a board that tells of none>"


class AsyncFunctionsOf:
    """What gives a board its `f`. It is no property, since IPython does not look into those to complete a name."""

    @overload
    def __get__(self, board: None, kind: type[object]) -> Self: ...

    @overload
    def __get__(self, board: Owner, kind: type[object]) -> AsyncFunctions: ...

    def __get__(self, board: Owner | None, kind: type[object]) -> AsyncFunctions | Self:
        return self if board is None else AsyncFunctions(board)
