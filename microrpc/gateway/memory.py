"""The memory of one client of a shared board: what it allocated or was given, under addresses of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from microrpc.client.aio.remote import AsyncRemoteArray
from microrpc.gateway.regions import Regions
from microrpc.gateway.shared import RefusedError, SharedBoard
from microrpc.wire.checks import show
from microrpc.wire.datatypes import CPU, DataType, Device, OpaqueHandle, Tensor
from microrpc.wire.packets import PacketCode

# Clients see the memory of later boots at other addresses (the count of resets since they connected stands above these
# bits), because a stream has no epochs: an array from before a reset must not be taken for one from after it.
_ADDRESS_BITS = 48
_MOST_BYTES = 1 << 32  # no microcontroller has so much, and what is larger is a slip
_MOST_ALIGNMENT = 1 << 16
_BYTE = DataType.parse("uint8")


@dataclass(eq=False, frozen=True, slots=True)
class Block:
    """Memory of a client, that of `array`: at `address` on the board, and higher by `shift` for the client."""

    array: AsyncRemoteArray
    address: int
    shift: int

    @property
    def visible(self) -> int:
        """The address that the client knows."""
        return self.address + self.shift


class ClientMemory:
    """What memory of `shared` one client may use, and the way from its addresses to the board's.

    Raises RefusedError for what it may not, and StaleHandleError for what is from before a reset.
    """

    def __init__(self, shared: SharedBoard) -> None:
        self._shared = shared
        self._board = shared.board
        self._first_epoch = shared.board.epoch
        self._allocated: dict[int, Block] = {}
        self._blocks: Regions[Block] = Regions()
        self._allocating: set[asyncio.Task[AsyncRemoteArray]] = set()

    def move(self) -> None:
        """Go on with the board that took the shared one's place: what there is is as from before a reset."""
        self._first_epoch = self._shared.board.epoch - (self._board.epoch - self._first_epoch)
        self._board = self._shared.board

    def release(self) -> None:
        """Free what the client allocated."""
        for visible in list(self._allocated):
            self._free(visible)

    def own(self, array: AsyncRemoteArray) -> Block:
        """Give the client an array that the board gave out."""
        tensor = array.tensor
        block = Block(array, tensor.data, (array.epoch - self._first_epoch) << _ADDRESS_BITS)
        self._blocks.add(block.visible, tensor.size_bytes, block)
        self._shared.own(self, array)
        return block

    def check_result(self, array: AsyncRemoteArray) -> None:
        """Raise RefusedError for what no board can give: it would take the memory of others."""
        tensor = array.tensor
        _check_size("a result", tensor.size_bytes)
        if tensor.data + tensor.size_bytes > 1 << _ADDRESS_BITS:
            raise RefusedError(f"a result: the board gave memory at 0x{tensor.data:x}, where none can be")

    def disown(self, block: Block) -> None:
        """Take it from the client; it is not freed."""
        self._blocks.remove(block.visible)
        self._shared.disown(block.array, block.address)

    def tensor(self, tensor: Tensor, size_bytes: int) -> Tensor:
        """Give the board's tensor for one of the client's, of which `size_bytes` are used."""
        _check_size("a tensor", tensor.size_bytes)
        address = self._address(tensor, size_bytes)
        return Tensor(address - tensor.byte_offset, tensor.device, tensor.dtype, tensor.shape, tensor.byte_offset)

    def view(self, tensor: Tensor, size_bytes: int) -> AsyncRemoteArray:
        """Give the first `size_bytes` of a tensor of the client, to read and write."""
        return self._board.array_at(self._address(tensor, size_bytes), size_bytes, _BYTE)

    async def allocate(self, tensor: Tensor, scope: str | None) -> OpaqueHandle:
        """Allocate what has the shape and type of `tensor`; give its address for the client."""
        _check_device(tensor.device)
        _check_size("DevAllocDataWithScope", tensor.size_bytes)
        # On a stock board an array without bytes has the address of the next one, which may be another client's.
        shape, dtype = (tensor.shape, tensor.dtype) if tensor.size_bytes else ((1,), _BYTE)
        return self._allocated_at(await self._to_its_end(self._board.empty(shape, dtype, scope=scope)))

    async def allocate_bytes(self, device: Device, size_bytes: int, alignment: int, hint: DataType) -> OpaqueHandle:
        """Allocate `size_bytes`; give their address for the client."""
        _check_device(device)
        _check_size("DevAllocData", size_bytes)
        if not 0 <= alignment <= _MOST_ALIGNMENT:
            raise RefusedError(f"DevAllocData: an alignment is from 0 to {_MOST_ALIGNMENT} bytes, not {alignment}")
        return self._allocated_at(await self._to_its_end(self._ask_for(device, size_bytes, alignment, hint)))

    async def _ask_for(self, device: Device, size_bytes: int, alignment: int, hint: DataType) -> AsyncRemoteArray:
        args = device, max(size_bytes, 1), alignment, hint
        address = await self._board.syscall(PacketCode.DEV_ALLOC_DATA, *args)
        if not isinstance(address, OpaqueHandle) or not address:
            raise RefusedError(f"DevAllocData: the board gave {show(address)}, not an address")
        return AsyncRemoteArray(self._board, Tensor(address, CPU, _BYTE, (size_bytes,)))

    async def _to_its_end(self, allocating: Coroutine[Any, Any, AsyncRemoteArray]) -> AsyncRemoteArray:
        """Allocate, to the end also where the client goes meanwhile: else nobody would know what there is to free."""
        task = asyncio.ensure_future(allocating)
        self._allocating.add(task)
        task.add_done_callback(self._allocating.discard)
        try:
            return await asyncio.shield(task)
        finally:
            del task  # or a traceback keeps what it gave

    async def settle(self) -> None:
        """Wait for what was being allocated when the client went; it is garbage then."""
        await asyncio.gather(*self._allocating, return_exceptions=True)

    def free(self, device: Device, visible: int) -> None:
        """Let go of what the client allocated and knows at the address `visible`."""
        _check_device(device)
        self._free(visible, first=True)

    def _free(self, visible: int, *, first: bool = False) -> None:
        block = self._allocated.pop(visible, None)
        if block is None:
            raise RefusedError(f"DevFreeData: this client allocated nothing that begins at 0x{visible:x}")
        self.disown(block)
        block.array.discard(first=first)

    def _allocated_at(self, array: AsyncRemoteArray) -> OpaqueHandle:
        block = self.own(array)
        self._allocated[block.visible] = block
        return OpaqueHandle(block.visible)

    def _address(self, tensor: Tensor, size_bytes: int) -> int:
        """Give the board's address of the first byte of `size_bytes` in a tensor of the client.

        Memory that nobody allocated is everybody's: it may be a register, or what a function told the address of.
        """
        visible = tensor.data + tensor.byte_offset
        block = next(self._blocks.overlapping(visible, 1), None)
        if block is None and visible >> _ADDRESS_BITS:
            raise RefusedError(f"there is no memory of this client at 0x{visible:x} any more: it was freed")
        # The property `tensor` raises StaleHandleError for what is from before a reset.
        address = visible - block.shift if block is not None and block.array.tensor else visible
        if not self._shared.may_use(self, address, size_bytes):
            raise RefusedError(f"{size_bytes} bytes at 0x{address:x} reach into memory of another client")
        return address


def _check_size(what: str, size_bytes: int) -> None:
    if not 0 <= size_bytes <= _MOST_BYTES:
        raise RefusedError(f"{what}: no board has {show(size_bytes)} bytes: a size is from 0 to {_MOST_BYTES}")


def _check_device(device: Device) -> None:
    if device != CPU:
        raise RefusedError(f"only memory of the CPU (1, 0) can be had here, not of ({device.type}, {device.id})")
