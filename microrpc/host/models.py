"""What models firmware has: tables, read once an epoch, and functions that run them (docs/using_models.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from microrpc.errors import FeatureMissingError, ProtocolError, RemoteError, RequestError
from microrpc.host.handles import Owned
from microrpc.host.job import CopyJob
from microrpc.host.making import Maker
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests
from microrpc.wire.checks import check_text, did_you_mean, show
from microrpc.wire.datatypes import TypeCode, Value
from microrpc.wire.model import MOST_TABLE_BYTES, ModelTable, decode_model, untrue
from microrpc.wire.names import (
    MODEL_LAYER_FUNCTION,
    MODEL_PROFILE_FUNCTION,
    MODEL_RUN_FUNCTION,
    MODELS_FUNCTION,
)
from microrpc.wire.packets import CallFunc, CopyAck, Return, decode_result

_MOST_MODELS = 256
_LEAST_PAGE_BYTES = 32  # of any board, but at the end
_RUNS = (MODEL_RUN_FUNCTION, MODEL_PROFILE_FUNCTION, MODEL_LAYER_FUNCTION)
_OF_A_RESET = ("BoardResetError: ", "StaleHandleError: ")  # how a server that shares its board begins (docs/sharing.md)
_NO_MODELS = (
    "has no models: its firmware was built without any, or without MICRORPC_MODELS. `microrpc tvm build` makes "
    "firmware that has some (docs/models.md)"
)

T = TypeVar("T")


class Models:
    """The models of the board behind `requests`.

    epoch: the one that `tables` belong to, -1 where nothing is known yet.
    """

    def __init__(self, requests: Requests, maker: Maker[Any, Any, Any]) -> None:
        self.epoch = -1
        self.tables: tuple[ModelTable, ...] = ()
        self._requests = requests
        self._connection = requests.connection
        self._maker = maker
        self._functions: dict[str, Owned] = {}

    @property
    def call_s(self) -> float:
        """How long a reply is waited for where nothing else is said, in seconds."""
        return self._requests.call_s

    def read(self) -> Operation[tuple[ModelTable, ...]]:
        """Give the tables of all models, in the order of their numbers; they are asked for once an epoch.

        Raises FeatureMissingError where the firmware has no models, ProtocolError where a table is not as it must be,
        else as a call does.
        """
        yield from self._connection.begin(None)
        if self.epoch != self._connection.trust.epoch:
            handle, epoch = yield from self._look_up(MODELS_FUNCTION)
            if not self._connection.session_id:  # of a server, which refuses them after a reset that nobody else tells
                for name in _RUNS:
                    yield from self._look_up(name)
            tables: list[ModelTable] = []
            left_bytes = MOST_TABLE_BYTES
            while (read := (yield from self._read_table(len(tables), handle, epoch, left_bytes))) is not None:
                table, size_bytes = read
                tables.append(table)
                left_bytes -= size_bytes
                if len(tables) > _MOST_MODELS:
                    raise untrue(f"{MODELS_FUNCTION} tells of more than {_MOST_MODELS} models")
            self.tables, self.epoch = tuple(tables), epoch
        return self.tables

    def _read_table(
        self, model: int, handle: int, epoch: int, left_bytes: int
    ) -> Operation[tuple[ModelTable, int] | None]:
        data = bytearray()
        while True:
            page = yield from self._requests.call(handle, (model, len(data)), epoch=epoch, function=MODELS_FUNCTION)
            if page is None and not data:
                return None
            if not isinstance(page, bytes):
                raise untrue(f"{MODELS_FUNCTION} returned {show(page)}, not bytes")
            data += page
            if len(data) > left_bytes:
                before = " and those before it" if model else ""
                raise untrue(f"{MODELS_FUNCTION} tells more of model {model}{before} than {MOST_TABLE_BYTES} bytes")
            if len(page) < _LEAST_PAGE_BYTES:  # the last one, or of a board that would never come to an end
                return decode_model(bytes(data)), len(data)

    def find(self, name: str | None) -> Operation[tuple[int, ModelTable]]:
        """Give a model's number and table: of that name, or the only one.

        Raises RequestError where there is none such, or several, and says which there are; else as `read`.
        """
        if name is not None:
            check_text(name, "the name of a model")
        tables = yield from self.read()
        port = self._maker.client.name
        if not tables:
            raise FeatureMissingError(f"{port} {_NO_MODELS}")
        names = [table.name for table in tables]
        found = [index for index, known in enumerate(names) if name is None or known == name]
        if len(found) == 1:
            return found[0], tables[found[0]]
        listed = ", ".join(map(show, names))
        if name is None:
            raise RequestError(f"{port} has {len(names)} models: say which by its name: {listed}")
        if found:
            raise RequestError(f"{port} has {len(found)} models of the name {show(name)}; it has {listed}")
        hint = did_you_mean(name, names) or ";"
        raise RequestError(f"{port} has no model {show(name)}{hint} it has {listed}")

    def check(self, model: int, table: ModelTable) -> Operation[int]:
        """Give the epoch in which the board has that model. Raises RequestError where it has another now."""
        tables = yield from self.read()
        if model >= len(tables) or tables[model] != table:
            raise RequestError(
                f"{self._maker.client.name} has other firmware now, whose model {model} is not {show(table.name)} as "
                f"it was: ask for it again with `model()` of the board"
            )
        return self.epoch

    def call(
        self,
        function: str,
        args: tuple[Value, ...],
        epoch: int,
        take: Callable[[object], T],
        *,
        timeout_s: float | None,
        beside: CopyJob | None = None,
    ) -> Operation[T]:
        """Call a function of the models, with handles of `epoch`, and give what `take` makes of its result.

        beside: as `Connection.exchange` has it.
        """
        handle, _ = yield from self._look_up(function)

        def finish(reply: Return | CopyAck, name: str) -> T:
            if not isinstance(reply, Return):
                raise ProtocolError("3", f"{name} returned {type(reply).__name__}")
            return take(decode_result(reply.values))

        call = CallFunc(handle, args)
        return (
            yield from self._requests.request(
                call, timeout_s=timeout_s, epoch=epoch, function=function, finish=finish, beside=beside
            )
        )

    def note(self, error: RemoteError) -> bool:
        """Forget all where `error` is a server's, which tells of a reset of its board; give whether it is."""
        if not error.message.startswith(_OF_A_RESET):
            return False
        self.epoch, self.tables = -1, ()
        self._functions.clear()
        return True

    def _look_up(self, name: str) -> Operation[tuple[int, int]]:
        trust = self._connection.trust
        found = self._functions.get(name)
        if found is None or found.epoch != trust.epoch:
            handle = yield from self._requests.look_up(name)
            if not handle:
                raise FeatureMissingError(f"{self._maker.client.name} {_NO_MODELS}; there is no function {name!r}")
            self._functions[name] = found = Owned(handle, TypeCode.FUNCTION, trust.reply_epoch)
        return found.handle, found.epoch

    @property
    def owned(self) -> list[Owned]:
        """What was looked up for that, and is to be given back."""
        return list(self._functions.values())
