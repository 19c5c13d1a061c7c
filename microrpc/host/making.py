"""Between a board's values and what users hold: handles become arguments, and results become handles."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from microrpc.errors import ProtocolError, RequestError
from microrpc.host.handles import AnyArray, AnyFunction, AnyHandle, AnyModule, Keeper
from microrpc.wire.datatypes import ArrayResult, FunctionHandle, ModuleHandle, Tensor, Value
from microrpc.wire.packets import CopyAck, Return, decode_result


class Teller(Protocol):
    """What is told of the end of a board."""

    def tell_left(self, count: int) -> None:
        """Take note that it is closed before `count` arrays and handles could be freed on the board."""


class Client(Keeper, Protocol):
    """What the operations need of the client that hands their results out."""

    @property
    def name(self) -> str:
        """The port as the user gave it, for messages."""

    @property
    def pump(self) -> Teller:
        """What drives the operations, and is told what became of them."""


FunctionT = TypeVar("FunctionT", bound=AnyFunction[Any])
ModuleT = TypeVar("ModuleT", bound=AnyModule[Any])
ArrayT = TypeVar("ArrayT", bound=AnyArray[Any])


class Maker(Generic[FunctionT, ModuleT, ArrayT]):
    """Makes what a client hands out, of the classes `function`, `module` and `array`.

    They are called like those in `microrpc.host.handles`.
    """

    def __init__(
        self,
        client: Client,
        *,
        function: Callable[..., FunctionT],
        module: Callable[..., ModuleT],
        array: Callable[..., ArrayT],
    ) -> None:
        self._client_ref = weakref.ref(client)  # it has this: a circle would keep its port open until it is collected
        self._function, self._module, self._array = function, module, array

    @property
    def client(self) -> Client:
        """Whom it makes things for."""
        client = self._client_ref()
        assert client is not None  # whoever asks for an operation holds it
        return client

    def function(self, handle: int, name: str) -> FunctionT:
        """Make a function; `name` is for messages."""
        return self._function(self.client, handle, name)

    def module(self, handle: int, name: str, *, owned: bool = True) -> ModuleT:
        """Make a module, which gives its handle back where it is `owned`; `name` is for messages."""
        return self._module(self.client, handle, name, owned=owned)

    def array(self, tensor: Tensor, *, result_handle: int | None = None) -> ArrayT:
        """Make an array, of memory that was allocated or of a result."""
        return self._array(self.client, tensor, result_handle=result_handle)

    def to_value(self, arg: AnyHandle[Any]) -> Value:
        """Give what stands for a handle among the arguments of a call. Raises RequestError for one of another board."""
        if arg.board is not self.client:
            raise RequestError(f"{arg!r} belongs to another board")
        return arg.as_value()

    def finish_call(self, reply: Return | CopyAck, function: str) -> Any:
        """Make, of the reply of a call of `function`, what the user gets. Raises ProtocolError."""
        if not isinstance(reply, Return):
            raise ProtocolError("3", f"{function} returned {type(reply).__name__}")
        value = decode_result(reply.values)
        if isinstance(value, FunctionHandle):
            return self.function(int(value), f"{function}()")
        if isinstance(value, ModuleHandle):
            return self.module(int(value), f"{function}()")
        if isinstance(value, ArrayResult):
            return self.array(value.tensor, result_handle=int(value.handle))
        return value
