"""The board's system library: the module that its functions are looked up in (docs/protocol.md 6)."""

from __future__ import annotations

from typing import Any, Generic

from microrpc.errors import RequestError
from microrpc.host.handles import AnyFunction, AnyModule, Owned
from microrpc.host.making import ArrayT, FunctionT, Maker, ModuleT
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests
from microrpc.wire.checks import check_text, show
from microrpc.wire.datatypes import TypeCode
from microrpc.wire.names import MODULE_GET_FUNCTION
from microrpc.wire.packets import CallFunc


class Library(Generic[FunctionT, ModuleT, ArrayT]):
    """The system library of one board, and what finds functions in it: both are asked for once a boot."""

    def __init__(self, requests: Requests, maker: Maker[FunctionT, ModuleT, ArrayT]) -> None:
        self._requests = requests
        self._maker = maker
        self._module: Owned | None = None
        self._get_function: Owned | None = None

    @property
    def owned(self) -> list[Owned]:
        """What is this board's own, and is given back when it is closed."""
        return [owned for owned in (self._module, self._get_function) if owned is not None]

    def give(self) -> Operation[ModuleT | None]:
        """Give the board's system library, None where it has none."""
        if not self._is_known(self._module):
            handle = yield from self._requests.system_library()
            self._module = self._keep(handle, TypeCode.MODULE)
        if self._module is None:
            return None
        return self._maker.module(self._module.handle, "system library", owned=False)

    def find(self, module: AnyModule[Any], name: str) -> Operation[FunctionT | None]:
        """Look a function up in a module. Raises RequestError for what is no module, or no name."""
        check_text(name, "the name of a function")
        if not isinstance(module, AnyModule):
            raise RequestError(f"functions are looked up in a module of the board, not in {show(module)}")
        module.as_value()  # refuses one that is stale before anything is sent
        if not self._is_known(self._get_function):
            handle = yield from self._requests.look_up(MODULE_GET_FUNCTION)
            self._get_function = self._keep(handle, TypeCode.FUNCTION)
        if self._get_function is None:
            return None
        get_function, _, epoch = self._get_function
        found: FunctionT | None = yield from self._requests.request(
            CallFunc(get_function, (self._maker.to_value(module), name, 1)),
            epoch=epoch,
            function=MODULE_GET_FUNCTION,
            finish=self._maker.finish_call,
        )
        if not isinstance(found, AnyFunction):
            return None
        found.name = name
        return found

    def _is_known(self, owned: Owned | None) -> bool:
        return owned is not None and owned.epoch == self._requests.connection.trust.epoch

    def _keep(self, handle: int, type_code: TypeCode) -> Owned | None:
        """Note what is this board's own, and is given back when it is closed."""
        return Owned(handle, type_code, self._requests.connection.trust.reply_epoch) if handle else None
