"""A board that several clients share: what they have in common, and who owns what (docs/sharing.md).

What the board gave out are objects of `microrpc.client.aio`: they know the epoch that they belong to, and give
themselves back when the last client has let go of them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakValueDictionary

from microrpc.client.aio.board import AsyncBoard
from microrpc.client.aio.remote import AsyncRemoteArray, AsyncRemoteFunction, AsyncRemoteModule
from microrpc.errors import ClosedError, MicroRpcError, PortLostError
from microrpc.gateway.regions import Regions

_FIRST_HANDLE = 0x5000_0001

Held: TypeAlias = AsyncRemoteFunction | AsyncRemoteModule | AsyncRemoteArray
"""What a client may hold of the board."""


class RefusedError(Exception):
    """A request that this process does not pass on; the text is for the client."""


@dataclass(eq=False)
class Kept:
    """One thing of the board, with as many handles as the board gave out for it.

    A board may count how often it gave a handle out, or free it for everybody at the first word. So all are given
    back together, when no client holds this object any more.
    """

    handles: list[Held] = field(default_factory=list)

    @property
    def one(self) -> Held:
        """Any of the handles: they are all the same."""
        return self.handles[0]


class SharedBoard:
    """A board and what its clients have in common; `limit_bytes` is the largest packet that is taken from them."""

    def __init__(self, board: AsyncBoard, limit_bytes: int) -> None:
        self.board = board
        self.limit_bytes = limit_bytes
        self.failure: MicroRpcError | None = None
        """Why the board can be used no more."""
        self._numbers = itertools.count(_FIRST_HANDLE)
        self._begin(board)

    def _begin(self, board: AsyncBoard) -> None:
        self._named: WeakValueDictionary[tuple[bool, str], Kept] = WeakValueDictionary()
        self._kept: WeakValueDictionary[tuple[type, int, int], Kept] = WeakValueDictionary()
        self._memory: Regions[object] = Regions()
        self._memory_epoch = board.epoch
        if board.trust.on_reset is None:  # each client is told by its own handles, not one of them for all
            board.trust.on_reset = lambda: None

    def move(self, board: AsyncBoard) -> None:
        """Let another board take this one's place, which is closed: what clients have of it is as from before a reset.

        Each of their sessions is to be told (`ClientSession.move`).
        """
        self.board.trust.forget_handles()
        self.board = board
        self.failure = None
        self._begin(board)

    # --- who owns which of the board's addresses -------------------------------------------------

    def own(self, owner: object, array: AsyncRemoteArray) -> None:
        """Note that memory of this boot is one client's alone."""
        self._forget_other_boots()
        self._memory.add(array.tensor.data, array.size_bytes, owner)

    def disown(self, array: AsyncRemoteArray, address: int) -> None:
        """Note that the array at `address` is no more; what is from another boot, or board, is forgotten anyway."""
        self._forget_other_boots()
        if array.board is self.board and array.epoch == self._memory_epoch:
            self._memory.remove(address)

    def may_use(self, owner: object, address: int, size_bytes: int) -> bool:
        """Tell whether none of these bytes belongs to another client."""
        self._forget_other_boots()
        return all(other is owner for other in self._memory.overlapping(address, size_bytes))

    def _forget_other_boots(self) -> None:
        if self._memory_epoch != self.board.epoch:
            self._memory = Regions()
            self._memory_epoch = self.board.epoch

    # --- handles -------------------------------------------------------------------------------

    def number(self) -> int:
        """Give a number that no handle has yet."""
        return next(self._numbers)

    def keep(self, thing: Held) -> Kept:
        """Put a handle that the board just gave out beside those that it gave out for the same thing."""
        key = type(thing), thing.handle, thing.epoch
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept()
        kept.handles.append(thing)
        return kept

    async def look_up(self, name: str, *, in_library: bool = False) -> Kept | None:
        """Find a function, globally or in the system library; one that a client holds is not asked for again."""
        known = self._named.get((in_library, name))
        if known is not None and known.one.is_live:
            return known
        found: AsyncRemoteFunction | None
        if in_library:
            library = await self.board.system_library()
            found = await self.board.find_in_module(library, name) if library is not None else None
        else:
            found = await self.board.global_function(name)
        if found is None:
            return None
        kept = self._named[in_library, name] = self.keep(found)
        return kept

    async def free_garbage(self) -> bool:
        """Give back on the board a portion of what no client holds any more; give whether more can be given back."""
        board, disposal = self.board, self.board.operations.disposal
        if not disposal.has_any or board.pump.closed:
            return False
        try:
            return await board.pump.run(disposal.collect) is None and disposal.has_any
        except MicroRpcError as error:
            self.note(error)
            return False

    def note(self, error: MicroRpcError) -> None:
        """Remember an error after which nothing can be asked any more; a port that may come back is no such."""
        if isinstance(error, PortLostError | ClosedError) and not self.board.pump.comes_back:
            self.failure = self.failure or error
