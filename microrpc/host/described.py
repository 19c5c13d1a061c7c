"""What a board tells of itself, as it is asked for, kept, and held against what is called (docs/description.md).

It is read once in an epoch of the board, and not again where its hash is known: of the last one, or of a `Store`.
"""

from __future__ import annotations

import contextlib
import inspect
import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from microrpc.errors import ArgumentError, FunctionNotFoundError, ProtocolError
from microrpc.host.handles import AnyFunction, AnyHandle, Owned
from microrpc.host.making import Maker
from microrpc.host.operation import Operation
from microrpc.host.requests import Requests
from microrpc.wire.checks import check_text, did_you_mean, show
from microrpc.wire.datatypes import TypeCode
from microrpc.wire.description import NOTHING, Description, FunctionDescription, parse_description, parse_head
from microrpc.wire.names import DESCRIBE_FUNCTION
from microrpc.wire.parameters import Signature

_LEAST_PAGE_BYTES = 32  # of any board, but at the end (docs/description.md 1)
_MOST_READINGS = 3
_NOTHING_SENT = "nothing was sent"


class Store(Protocol):
    """Where descriptions are kept by their hash, 8 digits in hex. It raises nothing."""

    def load(self, hash: str) -> bytes | None:
        """Give what was kept, None where nothing was; it may be damaged."""

    def keep(self, hash: str, data: bytes) -> None:
        """Keep a description."""

    def note(self, hash: str) -> None:
        """Take note of which description is that of the board at hand."""


class Callee(Protocol):
    """What is called: an `AnyFunction`, or what stands for one here."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def handle(self) -> int:
        """The handle. Raises StaleHandleError."""

    @property
    def epoch(self) -> int:
        """The epoch that it belongs to."""

    @property
    def described_as(self) -> str:
        """The name by which the board describes it; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A function that was looked up by its name, and is kept as long as its epoch lasts."""

    name: str
    handle: int
    epoch: int

    @property
    def described_as(self) -> str:
        return self.name


class Described:
    """The description of the board behind `requests`, and calls by the names that stand there.

    epoch: the one that `description` belongs to, -1 where nothing is known yet. store: where it is kept besides.
    """

    def __init__(self, requests: Requests, maker: Maker[Any, Any, Any]) -> None:
        self.epoch = -1
        self.description = NOTHING
        self.store: Store | None = None
        self._requests = requests
        self._connection = requests.connection
        self._maker = maker
        self._by_name: Mapping[str, FunctionDescription] = {}
        self._named: dict[str, _Named] = {}

    # --- reading -------------------------------------------------------------------------------

    @property
    def known(self) -> Description | None:
        """What is known of the board as it is now, None where it must be asked."""
        return self.description if self.epoch == self._connection.trust.epoch else None

    def read(self) -> Operation[Description]:
        """Give the description, that of a board that tells nothing where there is none.

        Raises ProtocolError where it is not as it must be, else as a look-up does.
        """
        yield from self._connection.begin(None)
        if self.known is not None:
            return self.description
        told = self._connection.features.description_hash
        kept = self._find_kept(f"{told:08x}" if told else "")
        if kept is not None:
            return self._know(kept, self._connection.trust.epoch)
        handle = yield from self._requests.look_up(DESCRIBE_FUNCTION)
        epoch = self._connection.trust.reply_epoch
        return self._know((yield from self._read_all(handle, epoch)) if handle else NOTHING, epoch)

    def _read_all(self, handle: int, epoch: int) -> Operation[Description]:
        for _ in range(_MOST_READINGS):  # what does not belong together is of several boots
            data, head = bytearray(), None
            while head is None or len(data) < head.end:
                page = yield from self._requests.call(handle, (len(data),), epoch=epoch, function=DESCRIBE_FUNCTION)
                if not isinstance(page, bytes):
                    raise ProtocolError("3", f"{DESCRIBE_FUNCTION} returned {show(page)}, not bytes")
                data += page
                if head is None and (head := parse_head(bytes(data))) is not None:
                    if not head.is_known:
                        return NOTHING
                    kept = self._find_kept(head.hash)
                    if kept is not None:
                        return kept
                if len(page) < _LEAST_PAGE_BYTES:
                    break
            if not data:
                return NOTHING
            whole = bytes(data[: head.end]) if head is not None else b""
            if head is not None and head.fits(whole):
                if self.store is not None:
                    self.store.keep(head.hash, whole)
                return parse_description(whole, head)
        raise ProtocolError(
            "3",
            f"what {DESCRIBE_FUNCTION} gave has not the size and the hash that it tells of, {_MOST_READINGS} times "
            f"(docs/description.md 2)",
        )

    def _find_kept(self, hash: str) -> Description | None:
        """Give the description with that hash, where it is known from before."""
        last = self.description.identity
        if last is not None and last.hash == hash:
            return self.description
        data = self.store.load(hash) if self.store is not None and hash else None
        if data is not None:
            with contextlib.suppress(ProtocolError):
                head = parse_head(data)
                if head is not None and head.hash == hash and head.fits(data):
                    return parse_description(data, head)
        return None

    def _know(self, description: Description, epoch: int) -> Description:
        self.description, self.epoch = description, epoch
        self._by_name = description.by_name()
        if self.store is not None and description.identity is not None:
            self.store.note(description.identity.hash)
        return description

    # --- names ---------------------------------------------------------------------------------

    def find(self, name: str) -> FunctionDescription | None:
        """Give what is told of a function; None where nothing is known, or the board tells nothing.

        Raises FunctionNotFoundError.
        """
        check_text(name, "the name of a function")
        found = self._by_name.get(name) if self.known is not None else None
        if found is None and (hint := self.hint(name)):
            raise FunctionNotFoundError(f"{self._maker.client.name} tells of no function {name!r}{hint}")
        return found

    def hint(self, name: str) -> str:
        """Give the end of a message on a name that does not exist; "" where nothing is known."""
        if self.known is None or self.description.identity is None:
            return ""
        count = len(self._by_name)
        told = "one function" if count == 1 else f"{count} functions"
        guess = did_you_mean(name, self._by_name) or "."
        return f"{guess} It tells of {told} (`board.functions()`)"

    # --- calls ---------------------------------------------------------------------------------

    def check(self, function: Callee, values: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
        """Give what is sent for `values`, what became of what was `given`. Raises ArgumentError.

        Where the function's signature is not known, they are sent as they are.
        """
        signature = self._signature(function.described_as)
        return tuple(values) if signature is None else signature.check(values, function.name, given)

    def _signature(self, name: str) -> Signature | None:
        found = self._by_name.get(name)
        return None if found is None else found.parsed

    def call(
        self,
        look_up: Callable[[str], Operation[AnyFunction[Any]]],
        call: Callable[[Callee, tuple[Any, ...], float | None], Operation[Any]],
        name: str,
        args: tuple[Any, ...],
        named: Mapping[str, Any],
        timeout_s: float | None = None,
    ) -> Operation[Any]:
        """Call a function by its name, with arguments some of which may be `named`; all are checked first.

        Raises FunctionNotFoundError, ArgumentError, else as `look_up` and `call` do.
        """
        yield from self.read()
        self.find(name)
        signature = self._signature(name)
        if signature is not None:
            args = signature.bind(args, named, name)
            values = [self._maker.to_value(arg) if isinstance(arg, AnyHandle) else arg for arg in args]
            signature.check(values, name, args)
        elif named:
            raise ArgumentError(
                f"{name}: arguments have names where the board tells them, and it does not; {_NOTHING_SENT}"
            )
        found = self._named.get(name)
        if found is None or found.epoch != self._connection.trust.epoch:
            owned = _take_over((yield from look_up(name)))
            self._named[name] = found = _Named(name, owned.handle, owned.epoch)
        return (yield from call(found, args, timeout_s))

    @property
    def owned(self) -> list[Owned]:
        """What was looked up for that, and is to be given back."""
        return [Owned(function.handle, TypeCode.FUNCTION, function.epoch) for function in self._named.values()]


def _take_over(function: AnyFunction[Any]) -> Owned:
    """Have a function's handle be given back by somebody else."""
    owned = Owned(function.handle, TypeCode.FUNCTION, function.epoch)
    function._release.detach()
    function.board.live.discard(function)
    return owned


# --- shown ------------------------------------------------------------------------------------------


class _Annotation:
    """A type as the board's signature has it, for `help`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def is_attribute(name: str) -> bool:
    """Whether a function of that name is had by `board.f.NAME`."""
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def dress(function: Callable[..., Any], name: str, told: FunctionDescription | None) -> None:
    """Let a function of Python look like the board's, for help(), dir() and completion."""
    signature = told.parsed if told is not None else None
    looks: dict[str, object] = {"__name__": name, "__qualname__": name, "__module__": "board.f", "__annotations__": {}}
    looks["__doc__"] = told.doc if told is not None else None
    if signature is not None:
        looks["__signature__"] = _as_python_has_it(signature)
    else:
        looks["__signature__"] = inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])
    if signature is None and told is not None and told.signature:
        looks["__doc__"] = f"{told.doc}\n\nIts signature, which is not checked: {told.signature}".strip()
    for key, value in looks.items():
        setattr(function, key, value)


def _as_python_has_it(signature: Signature) -> inspect.Signature:
    parameters = [
        inspect.Parameter(
            parameter.python_name,
            inspect.Parameter.VAR_POSITIONAL if parameter.is_many else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if parameter.default is None else parameter.default.value,
            annotation=_Annotation(parameter.annotation),
        )
        for parameter in signature.parameters
    ]
    return inspect.Signature(parameters, return_annotation=_Annotation(signature.annotation))
